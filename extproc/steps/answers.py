"""What an answer needs, and what happens to its texts: policies look at them, then masked values are put back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from detectors.findings import Finding
from detectors.masking import Restorer
from detectors.stream import StreamGuard
from extproc.exchange.values import HeaderList, ResponsePlan
from extproc.payload.guard.fields import OpenFilter, TextChannel
from extproc.steps.request import Request
from extproc.steps.watch import Guarding, Watch

CACHE_HEADER = "x-sluice-cache"

REFUSAL = "\n\n[This answer was ended by a security policy.]"
"""What the client reads where an answer is denied."""


def response_plan(request: Request) -> ResponsePlan:
    """After `route` and `guard`; with what `admit` says of the cache, if it has been asked already."""
    rule = request.rule
    if rule is None:
        raise AssertionError("a plan comes after route")
    guarding, admission = request.guarding, request.admission
    restore = rule.restore_model and request.requested_model not in ("", request.target_model)
    cache: HeaderList = ()
    if admission is not None and admission.cache:
        cache = ((CACHE_HEADER, admission.cache.encode()),)
    open_filter = None if guarding is None else answer_filter(guarding)
    keep = 0 if admission is None else admission.keep
    return ResponsePlan(
        envoy_counts=_envoy_counts(request) and not (restore or keep or open_filter),
        model=request.requested_model if restore else None,
        strip_usage=request.strip_usage,
        set_headers=rule.response_set + cache,
        remove_headers=rule.response_remove,
        open_filter=open_filter,
        fail_closed=guarding is not None and fails_closed(guarding),
        watch_only=guarding is not None and watches_only(guarding),
        refusal=REFUSAL,
        count=request.head.operation.consumes,
        operation=request.head.operation,
        stream=request.stream,
        keep=keep,
    )


def _envoy_counts(request: Request) -> bool:
    """Whether Envoy can count this answer, if it is an event stream: OpenAI's kind, from a pool that it counts for."""
    backend = request.backend
    return backend is not None and backend.envoy_counts and request.stream and request.head.operation.usage_option


def answer_filter(state: Guarding) -> OpenFilter | None:
    """Makes the filters of one answer; None where nothing has to look at it."""
    looking = [watch for watch in state.watches if watch.reader is not None]
    vault = state.vault if any(watch.restore for watch in state.watches) else None
    if not looking and not vault:
        return None

    def open_filter(channel: TextChannel, /) -> _Filter:
        # what the API repeats of the client's own request was looked at with the request
        guards = [] if channel.kind == "echo" else [(watch, _guard(watch, state)) for watch in looking]
        restorer = Restorer(vault, in_json=channel.kind == "arguments") if vault else None
        return _Filter(guards, restorer, state)

    return open_filter


def watches_only(state: Guarding) -> bool:
    """Whether answers are looked at and pass unchanged: every policy that does so runs dry, and nothing was masked."""
    return not fails_closed(state) and not (state.vault and any(watch.restore for watch in state.watches))


def fails_closed(state: Guarding) -> bool:
    """Whether an answer that cannot be looked into must not pass."""
    return any(watch.reader is not None and not watch.dry_run for watch in state.watches)


class _Piece(msgspec.Struct, frozen=True, gc=False):
    text: str
    denied: bool


class _Filter:
    """One text: every policy in turn, then the placeholders."""

    __slots__ = ("_guards", "_restorer", "_state")

    def __init__(self, guards: Sequence[tuple[Watch, StreamGuard]], restorer: Restorer | None, state: Guarding) -> None:
        self._guards = guards
        self._restorer = restorer
        self._state = state

    def __repr__(self) -> str:
        return f"<_Filter of {len(self._guards)} policies>"

    def feed(self, text: str, *, end: bool) -> _Piece:
        denied = False
        for watch, guard in self._guards:
            released = guard.feed(text, end=end or denied)
            _count(self._state, watch, released.findings)
            if released.denied and not self._state.denied_by:
                self._state.denied_by = f"{watch.name}/{_denied_category(watch, released.findings)}"
            text, denied = released.text, denied or released.denied
        if self._restorer is not None:
            text = self._restorer.feed(text, end=end or denied)
        return _Piece(text, denied)


def _guard(watch: Watch, state: Guarding) -> StreamGuard:
    if watch.reader is None:
        raise AssertionError("only policies that look at answers have guards")

    def failed(detector: str) -> None:
        state.failures[watch.name, detector] += 1

    return watch.reader.open(watch_only=watch.dry_run, failed=failed)


def _count(state: Guarding, watch: Watch, findings: Iterable[Finding]) -> None:
    for found in findings:
        state.seen[watch.name, found.category, watch.says(found.category), "response"] += 1


def _denied_category(watch: Watch, findings: Sequence[Finding]) -> str:
    denied = [each.category for each in findings if watch.guard.policy.action(each.category) == "deny"]
    return denied[0] if denied else "UNCHECKED"
