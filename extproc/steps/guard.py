"""Sensitive content in a request: look at what is new in it, then refuse, mask, or let it pass and count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import msgspec

from detectors.findings import Finding
from detectors.guard import Check, Verdict
from detectors.judge import Opinion
from detectors.masking import Vault, VaultFull
from detectors.occurrences import Occurrences
from detectors.reasons import explain, is_chinese
from detectors.text import Text
from extproc.exchange.endings import Ending
from extproc.exchange.values import LocalReply
from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.guard.request import Passage, PassageKind, passages, with_texts
from extproc.steps.head import UNKNOWN
from extproc.steps.request import Request, refuse
from extproc.steps.wait import Waiting, beside
from extproc.steps.watch import Guarding, Watch

_encode = msgspec.json.encode

COMPATIBLE_TEXT = b"request was denied by asm llm proxy"
COMPATIBLE_JUDGE = b"external service returned deny: "

_INLINE = 8192
"""Bytes of a body whose texts are found and masked at once; more are in a thread."""
_UNREACHED = Opinion(True, "The judge that has to be asked cannot be reached.")


def guard(request: Request) -> Waiting[LocalReply | None]:
    """Fills `guarding`; edits `body` and `document` where something is masked."""
    watches = request.backend.watches if request.backend is not None else ()
    if not watches:
        return None
    state = request.guarding = Guarding(watches)
    refusal = yield from _off_loop(request, state, lambda: _begin(request, state))
    if refusal is not None:
        return refusal
    if _missing(state):
        yield from beside(lambda: _look(state), sum(watch.longest for watch in watches))
    answer = yield from _off_loop(request, state, lambda: _conclude(request, state))
    state.forget()
    return answer


def _off_loop(request: Request, state: Guarding, work: Callable[[], LocalReply | None]) -> Waiting[LocalReply | None]:
    """Does work on all texts of a request: on the event loop where that takes no time, else in a thread."""
    if len(request.body) <= _INLINE:
        return work()
    watch = state.watches[0]
    return (yield from beside(lambda: watch.examine(work, watch.longest), watch.longest))


def _begin(request: Request, state: Guarding) -> LocalReply | None:
    """Finds the texts, and refuses what cannot be looked at."""
    media = request.head.is_websocket or (request.document is None and bool(request.raw))
    if request.document is not None:
        try:
            found = passages(request.document)
        except PayloadError as error:
            return refuse(Ending.INVALID_BODY, str(error), code=error.code, param=error.param)
        state.found, media = found, found.media
    for watch in state.watches:
        if media and not watch.media:
            state.seen[watch.name, "UNCHECKED", "would_deny" if watch.dry_run else "deny", "request"] += 1
            if not watch.dry_run:
                verdict = Verdict("deny", "UNCHECKED", "The request holds content that cannot be looked into.")
                return _refuse(state, watch, verdict)
        known = state.checks[watch.name] = {}
        for passage in _inspected(watch, state.passages):
            if (check := watch.guard.look_up(passage.text)) is not None:
                known[passage.text] = check
    return None


def _inspected(watch: Watch, found: Iterable[Passage]) -> list[Passage]:
    return [passage for passage in found if passage.kind in watch.kinds]


def _missing(state: Guarding) -> bool:
    """Whether anything has still to be examined, or asked of a judge."""
    for watch in state.watches:
        known = state.checks[watch.name]
        if any(passage.text not in known for passage in _inspected(watch, state.passages)):
            return True
        if watch.judge is not None and _questions(watch, state):
            return True
    return False


def _questions(watch: Watch, state: Guarding) -> list[str]:
    """Texts to ask the judge about: the user's own, unless they are denied anyway. Of earlier turns as well, because
    what it denied there must not leave with the history."""
    known = state.checks[watch.name]
    asked: dict[str, None] = {}
    for each in _inspected(watch, state.passages):
        check = known[each.text]
        if each.kind not in (PassageKind.USER, PassageKind.LAST_USER) or not (
            watch.judge_always or watch.guard.unsure(check)
        ):
            continue
        pair = [(each.text, check)]
        verdict = watch.guard.judge((), pair) if each.past else watch.guard.judge(pair)
        if verdict.action != "deny":
            asked[each.text] = None
    return list(asked)


async def _look(state: Guarding) -> None:
    for watch in state.watches:
        known = state.checks[watch.name]
        new = list(dict.fromkeys(each.text for each in _inspected(watch, state.passages) if each.text not in known))
        if new:
            known.update(zip(new, await _examined(watch, new), strict=True))
        if watch.judge is not None:
            texts = _questions(watch, state)
            state.opinions[watch.name] = dict(zip(texts, await watch.judge(texts), strict=True))


async def _examined(watch: Watch, texts: Sequence[str]) -> list[Check]:
    """Checks of texts that are new. Those over the budget of the request are not looked at."""
    budget = watch.guard.policy.budget
    room, within = budget.characters, len(texts)
    for i, text in enumerate(texts):
        room -= len(text)
        if room < 0 and i:
            within = i
            break
    deadline = watch.guard.deadline()
    inside = texts[:within]

    def work() -> list[Check]:
        return [watch.guard.examine(text, deadline=deadline) for text in inside]

    try:
        checks = await watch.examine(work, budget.milliseconds / 1000)
    except TimeoutError:
        return [watch.guard.unchecked(text, "budget") for text in texts]
    for text, check in zip(inside, checks, strict=True):
        watch.guard.keep(text, check)
    return checks + [watch.guard.unchecked(text, "budget") for text in texts[within:]]


def _conclude(request: Request, state: Guarding) -> LocalReply | None:
    masks: dict[int, list[Finding]] = {}
    for watch in state.watches:
        known = state.checks[watch.name]
        found = _inspected(watch, state.passages)
        _count(state, watch, found)
        pairs = [(passage.text, known[passage.text]) for passage in found if not passage.past]
        past = [(passage.text, known[passage.text]) for passage in found if passage.past]
        verdict = watch.guard.judge(pairs, past)
        opinion = _opinion(watch, state, found)
        if verdict.action != "deny" and opinion is not None:
            category = "JUDGE" if opinion is not _UNREACHED else "UNCHECKED"
            verdict = Verdict(
                "deny",
                category,
                opinion.reason or explain(category, chinese=any(is_chinese(each.text) for each in found)),
            )
            state.seen[watch.name, category, "would_deny" if watch.dry_run else "deny", "request"] += 1
        if watch.dry_run:
            continue
        if verdict.action == "deny":
            return _refuse(state, watch, verdict, opinion)
        for place, spans in _masked(watch, state, found).items():
            masks.setdefault(place, []).extend(spans)
    if masks:
        try:
            _mask(request, state, masks)
        except VaultFull as error:
            return refuse(Ending.CONTENT_DENIED, f"The request cannot be masked: {error}.", code="unchecked")
    return None


def _masked(watch: Watch, state: Guarding, found: Sequence[Passage]) -> dict[int, list[Finding]]:
    """What is masked in each text: what was found there, and every other place where one of these values stands."""
    policy, known = watch.guard.policy, state.checks[watch.name]
    masks: dict[int, list[Finding]] = {}
    values: dict[str, str] = {}
    for passage in found:
        spans = [
            each
            for each in watch.guard.spans(known[passage.text].findings)
            if policy.action(each.category, past=passage.past) == "mask"
        ]
        if passage.past and _judged(watch, state, passage.text):
            spans = [Finding(0, len(passage.text), "JUDGE", 1.0, "judge")]
        if spans:
            masks[passage.place] = spans
            values |= {Text(passage.text[each.start : each.end]).plain: each.category for each in spans}
    if values:
        everywhere = Occurrences(values)
        for passage in found:
            seen = Text(passage.text)
            for each in everywhere.find(seen.plain):
                start, end = seen.span(each.start, each.end)
                masks.setdefault(passage.place, []).append(msgspec.structs.replace(each, start=start, end=end))
    return masks


def _judged(watch: Watch, state: Guarding, text: str) -> bool:
    """Whether the judge denies a text."""
    opinion = state.opinions.get(watch.name, {}).get(text)
    return opinion is not None and opinion.denied and watch.guard.policy.action("JUDGE") == "deny"


def _opinion(watch: Watch, state: Guarding, found: Iterable[Passage]) -> Opinion | None:
    """The judge's denial, if it denies any text of this turn, or if one cannot be had and the policy is closed."""
    opinions = state.opinions.get(watch.name, {})
    current = {passage.text for passage in found if not passage.past}
    for text, opinion in opinions.items():
        if opinion is None:
            state.failures[watch.name, "judge"] += 1
            if watch.judge_closed and watch.guard.policy.action("UNCHECKED") == "deny":
                return _UNREACHED
        elif text in current and _judged(watch, state, text):
            return opinion
    return None


def _count(state: Guarding, watch: Watch, passages: Iterable[Passage]) -> None:
    for passage in passages:
        check = state.checks[watch.name][passage.text]
        for found in watch.guard.spans(check.findings):
            says = watch.says(found.category, past=passage.past)
            state.seen[watch.name, found.category, says, "request"] += 1
        for name in check.failures:
            state.failures[watch.name, name] += 1


def _mask(request: Request, state: Guarding, masks: dict[int, list[Finding]]) -> None:
    """Puts placeholders into the body, in the order of its texts, so that a history repeated gets the same ones."""
    if request.document is None:
        raise AssertionError("only a JSON body holds texts")
    vault = state.vault = _vault(request, state)
    changes: dict[int, str] = {}
    with vault.lock:
        for passage in state.passages:
            vault.reserve(passage.text)
        for passage in state.passages:
            changed = vault.mask(passage.text, masks.get(passage.place, ()), in_json=passage.source)
            if changed != passage.text:
                changes[passage.place] = changed
    request.body = request.new_body = with_texts(request.document, state.found, changes)
    request.document = Document.parse(request.body)


def _vault(request: Request, state: Guarding) -> Vault:
    for watch in state.watches:
        if watch.conversation_header is not None and watch.vaults is not None:
            head = request.head
            name = head.text(watch.conversation_header)
            if name and head.tenant != UNKNOWN:  # what nobody owns is kept for nobody
                key = _encode([watch.name, head.source, head.identity, name])
                return watch.vaults(blake2b(key, digest_size=16).hexdigest(), request.now)
    return Vault()


def _refuse(state: Guarding, watch: Watch, verdict: Verdict, opinion: Opinion | None = None) -> LocalReply:
    """403, as the policy wants it worded. The body never holds any of the text."""
    state.denied_by = f"{watch.name}/{verdict.category}"
    answer = refuse(Ending.CONTENT_DENIED, verdict.reason, code=verdict.category.lower(), param="messages")
    if not watch.plain_refusal:
        return answer
    body = COMPATIBLE_TEXT if opinion is None or opinion is _UNREACHED else COMPATIBLE_JUDGE + opinion.as_json.encode()
    headers = tuple(pair for pair in answer.headers if pair[0] != "content-type")
    return LocalReply(answer.ending, answer.status, body, (*headers, ("content-type", b"text/plain; charset=utf-8")))
