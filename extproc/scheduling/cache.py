"""Which answers may be given again, and what makes two requests the same.

Answers are kept as the JSON of the unstreamed API. Identical requests in flight become one: the first is sent, the
others wait for its answer (`Flight`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec

from extproc.scheduling.job import Job
from extproc.scheduling.labels import compile_match
from extproc.scheduling.outcome import Kind, Tally
from extproc.scheduling.policy import Caching
from extproc.scheduling.state.claims import CacheBounds, Lookup, Store
from extproc.scheduling.status import Explanation, PolicyState, Says, Subject

Leader = TypeVar("Leader")
Follower = TypeVar("Follower")
IGNORED = frozenset(
    {"stream", "stream_options", "user", "safety_identifier", "prompt_cache_key", "metadata", "store", "service_tier"}
)
"""Top-level keys that do not change what is answered."""
_STOPS = frozenset({"stop", "length", "end_turn", "stop_sequence", "max_tokens", "tool_calls", "tool_use"})
"""Endings of a whole answer. `content_filter` and `refusal` are refusals."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def cache_key(body: bytes, *, target: str, operation: str) -> str:
    """The normalised request: model, messages and every parameter but `IGNORED`; empty where it cannot be cached.

    `target` is where it would be sent, with the model that it would be sent for; `operation` is the API's. The order
    of keys, white space, explicit nulls and how a character is escaped make no difference; the order of messages does.
    Never raises: what is no JSON object has no key.
    """
    try:
        request = _decode(body)
        if not isinstance(request, dict):
            return ""
        kept = {name: value for name, value in request.items() if value is not None and name not in IGNORED}
        normal = _encode([operation, target, kept])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
        return ""
    return _digest(normal)


def _digest(data: bytes) -> str:
    """Cryptographic, as a collision that a client could construct would show it another's answer."""
    return blake2b(data, digest_size=16).hexdigest()


def forbids_storing(cache_control: str) -> bool:
    """Whether a request's or an answer's `cache-control` rules the cache out."""
    said = {part.partition("=")[0].strip().lower() for part in cache_control.split(",")}
    return not said.isdisjoint({"no-store", "no-cache", "private"})


def keepable(answer: bytes, safe_tools: tuple[str, ...] = ()) -> bool:
    """Whether a whole 200 answer, as JSON, may be given again: no error, no refusal, no call of a tool that may have
    side effects, nothing unfinished. An answer in a shape that is not known is not kept. Never raises."""
    try:
        found = _decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not isinstance(found, dict) or found.get("error"):
        return False
    if isinstance(choices := found.get("choices"), list):
        return bool(choices) and all(_whole_choice(choice, safe_tools) for choice in choices)
    if found.get("type") == "message" and isinstance(content := found.get("content"), list):
        return found.get("stop_reason") in _STOPS and all(_plain_block(block, safe_tools) for block in content)
    return found.get("object") == "list" and isinstance(found.get("data"), list)


def _whole_choice(choice: Any, safe_tools: tuple[str, ...]) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason") not in _STOPS:
        return False
    message = choice.get("message")
    if message is None:
        return isinstance(choice.get("text"), str)
    if not isinstance(message, dict) or message.get("refusal") or message.get("function_call"):
        return False
    calls = message.get("tool_calls") or []
    return isinstance(calls, list) and all(_is_safe(call, safe_tools) for call in calls)


def _is_safe(call: Any, safe_tools: tuple[str, ...]) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return isinstance(function, dict) and function.get("name") in safe_tools


def _plain_block(block: Any, safe_tools: tuple[str, ...]) -> bool:
    if not isinstance(block, dict):
        return False
    return block.get("type") != "tool_use" or block.get("name") in safe_tools


class AnswerCache:
    """One CachingPolicy: scope, bounds, and the identical requests in flight here."""

    kind: Kind = "cache"

    def __init__(self, policy: Caching) -> None:
        self.policy = policy
        self.match = compile_match(policy.match)
        self.tally = Tally()
        self.bounds = CacheBounds(policy.max_entries, policy.max_bytes)
        self.flights: dict[str, Flight[Any, Any]] = {}

    def __repr__(self) -> str:
        return f"<AnswerCache {self.policy.name} {len(self.flights)} in flight {self.tally!r}>"

    def status(self, store: Store, _now: float) -> PolicyState:
        entries, size = store.cached(self.policy.name)
        return PolicyState(
            name=self.policy.name,
            kind=self.kind,
            dry_run=self.policy.dry_run,
            counts=self.tally.counts(),
            entries=entries,
            bytes=size,
            joined=sum(len(flight.followers) for flight in self.flights.values()),
        )

    def explain(self, store: Store, job: Job, now: float) -> Explanation:
        says: Says = "bypass"
        if job.cache_key:
            lookup = self.lookup(job)
            found = store.look_up(lookup, now)
            says = "hit" if found is not None else "join" if lookup.key in self.flights else "miss"
        return Explanation(policy=self.policy.name, kind=self.kind, says=says, dry_run=self.policy.dry_run)

    def subject(self, job: Job | None) -> Subject | None:
        looks = job is not None and bool(job.cache_key) and self.match(job.labels)
        return Subject(lookups=(self.lookup(job),) if job is not None and looks else ())

    def lookup(self, job: Job) -> Lookup:
        """Where the job's answer would be. Scope values are part of the key, so tenants never share by accident."""
        scope = [job.labels.get(label) for label in self.policy.scope_label_keys]
        return Lookup(self.policy.name, _digest(_encode([scope, job.cache_key])))


class Flight(Generic[Leader, Follower]):
    """One request that is sent, and those that wait for its answer."""

    __slots__ = ("followers", "leader")

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.followers: dict[Follower, None] = {}

    def __repr__(self) -> str:
        return f"<Flight with {len(self.followers)} followers>"
