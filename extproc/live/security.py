"""Security policies in force: built once per policy, kept over reloads that do not change them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detectors.answers import AnswerReader
from detectors.guard import Guard
from detectors.policy import Budget, ClassifierSwitch, Policy, PresidioSettings, Recogniser, Switch
from extproc.live.conversations import Conversations
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
from extproc.steps.watch import Result, Watch

THREADS = 4
"""Texts that are examined at one time; further ones wait for a thread."""
_GRACE = 1.0
"""Seconds beyond a request's budget after which a detector is taken for stuck."""
_LINGER = 60.0
"""Seconds after which a replaced policy's judge is closed, so that running requests keep its connections."""

Guards = dict[str, tuple[Policy, Guard]]
Judges = dict[str, tuple[Judge, JudgeClient]]
"""By the policy's name, with the settings that they were made of."""


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
            level=classifier.level,
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
    if kinds:  # names and settings are nobody's message, and nobody may hide behind them
        kinds.add(PassageKind.SETTING)
    return frozenset(kinds)


class Security:
    """Builds and keeps what requests need of every `LLMSecurityPolicy`."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._guards: Guards = {}
        self._judges: Judges = {}
        self._secrets: SecretStore | None = None
        self._conversations = Conversations()
        self._closing: set[asyncio.Task[None]] = set()

    async def prepare(self, snapshot: Snapshot, secrets: SecretStore) -> SecurityChange:
        """The live form of every policy. Raises SecurityError."""
        guards: Guards = {}
        for name, resource in snapshot.security.items():
            policy = policy_of(resource.spec, snapshot.directory)
            known = self._guards.get(name)
            if known is not None and known[0] == policy:
                guards[name] = known
            else:
                guards[name] = policy, await asyncio.to_thread(_load, name, policy)
        judges: Judges = {}
        for name, resource in snapshot.security.items():
            settings = resource.spec.judge
            if settings is None:
                continue
            if settings.api_key is not None:
                secrets.load([settings.api_key])
            known_judge = self._judges.get(name)
            same = known_judge is not None and known_judge[0] == settings
            judges[name] = known_judge if known_judge and same else (settings, self._judge_client(settings))
        clients = {name: client for name, (_, client) in judges.items()}
        watches = {
            name: self._watch(name, resource, guards[name][1], clients.get(name))
            for name, resource in sorted(snapshot.security.items())
        }
        return SecurityChange(self, watches, guards, judges, secrets)

    def use(self, guards: Guards, judges: Judges, secrets: SecretStore) -> None:
        """These are in force from here on. Judges that are not among them are closed a little later."""
        before = self._judges
        self._guards, self._judges, self._secrets = guards, judges, secrets
        for client in _without(judges, before):
            self._close_later(client)

    def unused(self, judges: Judges) -> list[JudgeClient]:
        """Those that are not in force."""
        return _without(self._judges, judges)

    async def stop(self) -> None:
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for _, client in self._judges.values():
            await client.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """Runs in a thread of its own kind. Raises TimeoutError; the thread then finishes for nobody."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="detect")
        found = asyncio.get_running_loop().run_in_executor(self._threads, work)
        return await asyncio.wait_for(found, seconds + _GRACE)

    def _watch(self, name: str, resource: LLMSecurityPolicy, guard: Guard, judge: JudgeClient | None) -> Watch:
        spec = resource.spec
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
            judge=judge.ask_all if judge else None,
            judge_always=spec.judge is not None and spec.judge.when == "always",
            judge_closed=spec.judge is None or spec.judge.failure_mode == "closed",
            restore=spec.masking.restore,
            conversation_header=header.lower() if header else None,
            vaults=(lambda key, now: self._conversations.vault(key, now, ttl)) if header else None,
        )

    def _judge_client(self, settings: Judge) -> JudgeClient:
        tls = settings.port == 443 if settings.tls is None else settings.tls
        reference = settings.api_key

        def key() -> str | None:
            """As the configuration in force has it: a judge outlives many."""
            secret = self._secrets.resolve(reference) if reference is not None and self._secrets is not None else None
            return None if secret is None else secret.reveal()

        return JudgeClient(
            f"{'https' if tls else 'http'}://{settings.host}:{settings.port}{settings.path}",
            settings.model,
            key=key,
            language=settings.language,
            timeout=settings.timeout,
            max_concurrent=settings.max_concurrent,
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


class SecurityChange:
    """A configuration's security policies, made ready."""

    def __init__(
        self,
        security: Security,
        watches: Mapping[str, Watch],
        guards: Guards,
        judges: Judges,
        secrets: SecretStore,
    ) -> None:
        self.watches = watches
        """The live form of every policy, by name."""
        self._security = security
        self._guards = guards
        self._judges = judges
        self._secrets = secrets

    def commit(self) -> None:
        self._security.use(self._guards, self._judges, self._secrets)

    async def undo(self) -> None:
        for client in self._security.unused(self._judges):
            await client.close()


def _without(kept: Judges, judges: Judges) -> list[JudgeClient]:
    used = {client for _, client in kept.values()}
    return [client for _, client in judges.values() if client not in used]


def _load(name: str, policy: Policy) -> Guard:
    from detectors.load import GuardError, load_guard

    try:
        return load_guard(policy, clock=time.perf_counter)
    except GuardError as error:
        raise SecurityError(f"LLMSecurityPolicy/{name}: {error}") from error


def _reader(guard: Guard, inspect: Inspection) -> AnswerReader | None:
    return AnswerReader(guard, statements=inspect.response_statements) if inspect.response else None
