"""Security policies in force: built once per policy, kept over reloads that do not change them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detectors.answers import AnswerReader
from detectors.guard import Check, Guard
from detectors.masking import Vault
from detectors.policy import Budget, ClassifierSwitch, Policy, PresidioSettings, Recogniser, Switch
from extproc.live.judge import JudgeClient
from extproc.payload.guard.request import PassageKind
from extproc.resources.kinds.security import (
    Inspection,
    Judge,
    LLMSecurityPolicy,
    LLMSecurityPolicySpec,
    PresidioSource,
)
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot
from extproc.steps.watch import Watch

THREADS = 4
"""Texts that are examined at one time; further ones wait for a thread."""
_GRACE = 1.0
"""Seconds beyond a request's budget after which a detector is taken for stuck."""
_LINGER = 60.0
"""Seconds after which a replaced policy's judge is closed, so that running requests keep it."""
MOST_CONVERSATIONS = 10_000
"""Conversations whose placeholders are kept; the one longest unused goes first."""


class SecurityError(ValueError):
    """A policy that cannot be put in force, such as one whose model cannot be loaded."""


def policy_of(spec: LLMSecurityPolicySpec, directory: Path = Path()) -> Policy:
    """What the detectors need to know of a resource. File names in it are relative to `directory`."""
    classifier = spec.classifier
    return Policy(
        allow_patterns=tuple(spec.allow_patterns),
        deny_patterns=tuple(spec.deny_patterns),
        recognisers=tuple(
            Recogniser(
                name=each.name,
                category=each.category,
                pattern=each.pattern,
                score=each.score,
                context=tuple(each.context),
                longest=each.longest,
            )
            for each in spec.recognisers
        ),
        presidio=_presidio(spec.presidio, directory) if spec.presidio is not None else None,
        patterns=Switch(enabled=spec.patterns.enabled, failure_mode=spec.patterns.failure_mode),
        secrets=Switch(enabled=spec.secrets.enabled, failure_mode=spec.secrets.failure_mode),
        classifier=ClassifierSwitch(
            enabled=classifier.enabled,
            failure_mode=classifier.failure_mode,
            model=directory / classifier.model if classifier.model else None,
            thresholds=classifier.thresholds,
            labels=classifier.labels,
        ),
        actions=spec.actions,
        allowed_values=tuple(spec.allowed_values),
        minimum_score=spec.minimum_score,
        budget=Budget(
            characters=spec.budget.characters,
            milliseconds=spec.budget.time * 1000,
            exceeded=spec.budget.exceeded,
        ),
    )


def _presidio(source: PresidioSource, directory: Path) -> PresidioSettings:
    return PresidioSettings(
        recognisers=tuple(source.recognisers),
        registry=directory / source.registry if source.registry else None,
        nlp_engine=directory / source.nlp_engine if source.nlp_engine else None,
        categories=source.categories,
        longest=source.longest,
        failure_mode=source.failure_mode,
    )


def kinds_of(inspect: Inspection) -> frozenset[PassageKind]:
    """The texts that a policy looks at."""
    kinds: set[PassageKind] = set()
    if inspect.messages != "none":
        kinds.add(PassageKind.LAST_USER)
    if inspect.messages == "all":
        kinds |= {PassageKind.USER, PassageKind.ASSISTANT}
    if inspect.system_prompt:
        kinds.add(PassageKind.SYSTEM)
    if inspect.tools:
        kinds.add(PassageKind.TOOL)
    return frozenset(kinds)


class Security:
    """Builds and keeps what requests need of every `LLMSecurityPolicy`."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._guards: dict[str, tuple[Policy, Guard]] = {}
        self._judges: dict[str, tuple[Judge, JudgeClient]] = {}
        self._conversations = Conversations()
        self._closing: set[asyncio.Task[None]] = set()

    async def prepare(self, snapshot: Snapshot, secrets: SecretStore) -> Mapping[str, Watch]:
        """The live form of every policy, by name. Raises SecurityError; what was in force stays."""
        guards: dict[str, tuple[Policy, Guard]] = {}
        for name, resource in snapshot.security.items():
            policy = policy_of(resource.spec, snapshot.directory)
            known = self._guards.get(name)
            if known is not None and known[0] == policy:
                guards[name] = known
            else:
                guards[name] = policy, await asyncio.to_thread(_load, name, policy)
        judges: dict[str, tuple[Judge, JudgeClient]] = {}
        for name, resource in snapshot.security.items():
            settings = resource.spec.judge
            if settings is None:
                continue
            known_judge = self._judges.get(name)
            same = known_judge is not None and known_judge[0] == settings
            judges[name] = known_judge if known_judge and same else (settings, _judge_client(settings, secrets))
        for name, (_, client) in self._judges.items():
            if judges.get(name, (None, None))[1] is not client:
                self._close_later(client)
        self._guards, self._judges = guards, judges
        return {
            name: self._watch(name, resource, guards[name][1]) for name, resource in sorted(snapshot.security.items())
        }

    async def stop(self) -> None:
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for _, client in self._judges.values():
            await client.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], list[Check]], seconds: float) -> list[Check]:
        """Runs in a thread of its own kind. Raises TimeoutError; the thread then finishes for nobody."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="detect")
        found = asyncio.get_running_loop().run_in_executor(self._threads, work)
        return await asyncio.wait_for(found, seconds + _GRACE)

    def _watch(self, name: str, resource: LLMSecurityPolicy, guard: Guard) -> Watch:
        spec = resource.spec
        judge = self._judges.get(name)
        ttl = spec.masking.conversation_ttl
        header = spec.masking.conversation_header
        return Watch(
            name=name,
            guard=guard,
            examine=self.run,
            longest=spec.budget.time + _GRACE + (spec.judge.timeout * 2 if spec.judge else 0.0),
            kinds=kinds_of(spec.inspect),
            reader=_reader(guard, spec.inspect),
            media=spec.inspect.media == "allow",
            dry_run=spec.dry_run,
            plain_refusal=spec.message == "text",
            judge=judge[1].ask_all if judge else None,
            judge_always=spec.judge is not None and spec.judge.when == "always",
            judge_closed=spec.judge is None or spec.judge.failure_mode == "closed",
            restore=spec.masking.restore,
            conversation_header=header.lower() if header else None,
            vaults=(lambda key, now: self._conversations.vault(key, now, ttl)) if header else None,
        )

    def _close_later(self, client: JudgeClient) -> None:
        async def close() -> None:
            try:
                await asyncio.sleep(_LINGER)
            finally:
                await client.close()

        task = asyncio.ensure_future(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class Conversations:
    """Placeholders of conversations that asked for them, by name; forgotten some time after their last use."""

    def __init__(self, most: int = MOST_CONVERSATIONS) -> None:
        self._most = most
        self._vaults: OrderedDict[str, tuple[float, Vault]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Conversations: {len(self._vaults)}>"

    def vault(self, key: str, now: float, ttl: float) -> Vault:
        """The vault of this conversation, kept until `now + ttl`."""
        for name, (until, _) in tuple(self._vaults.items())[:8]:
            if until < now:
                del self._vaults[name]
        until, vault = self._vaults.pop(key, (now, Vault()))
        if until < now:
            vault = Vault()
        self._vaults[key] = now + ttl, vault
        if len(self._vaults) > self._most:
            self._vaults.popitem(last=False)
        return vault


def _load(name: str, policy: Policy) -> Guard:
    from detectors.load import GuardError, load_guard

    try:
        return load_guard(policy, clock=time.perf_counter)
    except GuardError as error:
        raise SecurityError(f"LLMSecurityPolicy/{name}: {error}") from error


def _reader(guard: Guard, inspect: Inspection) -> AnswerReader | None:
    return AnswerReader(guard, statements=inspect.response_statements) if inspect.response else None


def _judge_client(settings: Judge, secrets: SecretStore) -> JudgeClient:
    tls = settings.port == 443 if settings.tls is None else settings.tls
    reference = settings.api_key
    if reference is not None:
        secrets.load([reference])

    def key() -> str | None:
        secret = secrets.resolve(reference) if reference is not None else None
        return None if secret is None else secret.reveal()

    return JudgeClient(
        f"{'https' if tls else 'http'}://{settings.host}:{settings.port}{settings.path}",
        settings.model,
        key=key,
        language=settings.language,
        timeout=settings.timeout,
        max_concurrent=settings.max_concurrent,
    )
