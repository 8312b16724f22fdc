"""`LLMSecurityPolicy`: what must not leave in a request or come back in an answer, and what happens to it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from detectors.alarms import LEVEL, Level
from extproc.resources.base import Duration, Metadata, Spec
from extproc.resources.kinds.provider import Port

Probability = Annotated[float, Meta(ge=0, le=1)]
SecurityAction = Literal["deny", "mask", "report"]
FailureMode = Literal["closed", "open"]

COMPATIBLE_NAMES = {
    "allow_patterns": "allowPatterns",
    "deny_patterns": "denyPatterns",
    "intelligent_guard": "judge",
    "intelligentGuard": "judge",
    "api_key": "apiKey",
}
"""Field names printed in the documents, and what they are called here."""


class SecurityTargets(Spec, frozen=True, kw_only=True):
    """What a policy is attached to: a request is looked at if any entry fits, or if there is no entry at all."""

    hosts: list[str] = []
    """Hosts of routes, written as there."""
    routes: list[str] = []
    """Names of `LLMRoute` resources, or `ROUTE/RULE` for one named rule."""
    providers: list[str] = []
    """Names of `LLMProvider` resources."""
    pools: list[str] = []
    """Names of `InferencePool` resources."""

    def fit(self, *, host: str, route: str, rule: str, target: str) -> bool:
        """Whether a request of this rule to this target is looked at. `rule` is `ROUTE/RULE`, `target` is
        `provider/NAME` or `pool/NAME`."""
        if not (self.hosts or self.routes or self.providers or self.pools):
            return True
        room, _, name = target.partition("/")
        return (
            host.lower() in (each.lower() for each in self.hosts)
            or route in self.routes
            or rule in self.routes
            or name in (self.providers if room == "provider" else self.pools)
        )


class Inspection(Spec, frozen=True, kw_only=True):
    """Which texts are looked at."""

    messages: Literal["all", "lastUser", "none"] = "all"
    """`lastUser` leaves earlier turns out; with `all` they cost next to nothing, as results are remembered."""
    system_prompt: bool = True
    """System and developer messages of the client. What a rule's `systemPrompt` adds is never looked at."""
    tools: bool = True
    """Arguments of tool calls, results of tools, and descriptions of tools."""
    response: bool = False
    """The answer, streamed or not. Such answers fail closed: without the filter they break off."""
    response_statements: bool = False
    """Have the classifier look at whole sentences of the answer as well, for internal business and injections: each
    sentence is then held until it is complete."""
    media: Literal["allow", "deny"] = "allow"
    """Images, audio, files, token arrays and bodies that are no JSON: nothing here can look into them."""


class DetectorSwitch(Spec, frozen=True, kw_only=True):
    """One detector."""

    enabled: bool = True
    failure_mode: FailureMode = "closed"
    """What it means when the detector fails: `closed` refuses the request, `open` goes on without it. Both count."""


class ClassifierSettings(Spec, frozen=True, kw_only=True):
    """The local classifier."""

    enabled: bool = True
    failure_mode: FailureMode = "closed"
    """What it means when the classifier fails."""
    model: str | None = None
    """Directory of another local Hugging Face model (sequence or token classification, ONNX or torch), relative to
    the manifest. Default: the model that comes with Sluice."""
    labels: dict[str, str] = {}
    """Label of another model to the category that it means; an empty string for a label that is no finding."""
    thresholds: dict[str, Probability] = {}
    """Category to the probability from which it counts, in place of the model's own threshold."""
    level: Level = LEVEL
    """Which thresholds of the model that comes with Sluice count: `strict` finds most and is wrong about one harmless
    text in a hundred, `balanced` about one in four hundred, `quiet` about one in two thousand, each for business
    information and for attacks. `sluice check` prints what was measured."""


class CustomRecogniser(Spec, frozen=True, kw_only=True):
    """A recogniser of your own."""

    name: str
    category: str
    """A category of Sluice's or a new one: capital letters, digits and `_`."""
    pattern: str
    """RE2 syntax."""
    score: Probability = 0.6
    context: list[str] = []
    """Words that raise the score where they stand near a match."""
    longest: Annotated[int, Meta(ge=1, le=1024)] = 64
    """Characters of the longest match. Streamed answers wait for so many; a longer match may be cut there."""


class PresidioSource(Spec, frozen=True, kw_only=True):
    """Recognisers of your own Presidio, which then runs beside the built-in ones. Paths are relative to the manifest.
    Nothing is downloaded."""

    recognisers: list[str] = []
    """`module:Class` of an `EntityRecognizer` that Python can import, made without arguments."""
    registry: str | None = None
    """A registry of recognisers in Presidio's YAML, predefined ones included."""
    nlp_engine: str | None = None
    """An NLP engine in Presidio's YAML: installed models, or directories beside the file. Default: tokens alone."""
    categories: dict[str, str] = {}
    """Presidio's entity to the category that it means; an empty string for one that is no finding. Entities such as
    `PERSON` and `CREDIT_CARD` are known, dates and URLs are none, any other entity is a category of its own."""
    longest: Annotated[int, Meta(ge=1, le=1024)] = 64
    """Characters of the longest match, for which streamed answers wait."""
    failure_mode: FailureMode = "closed"


class Judge(Spec, frozen=True, kw_only=True):
    """A model on your own network that decides what the local detectors are unsure about. It is asked by the OpenAI
    API and answers `{"result": "allow" | "deny", "reason": …}`."""

    host: str
    port: Port = 80
    path: str = "/v1/chat/completions"
    model: str
    api_key: str | None = None
    """`${NAME}` from the environment, or `${file:PATH}`. Default: none is sent."""
    tls: bool | None = None
    """Default: `true` for port 443."""
    when: Literal["always", "unsure"] = "always"
    """`always`: about every user message, once. `unsure`: only where the classifier suspects a statement that it does
    not deny by itself."""
    language: Literal["auto", "zh", "en"] = "auto"
    """Language in which it is asked."""
    timeout: Duration = Duration(3)
    max_concurrent: Annotated[int, Meta(ge=1, le=1000)] = 16
    """Questions at one time; further ones wait, within the timeout."""
    failure_mode: FailureMode = "closed"
    """What it means when it is down, slow or answers nonsense."""


class SecurityBudget(Spec, frozen=True, kw_only=True):
    """How much looking at one request may cost. Texts that were seen before cost nothing."""

    characters: Annotated[int, Meta(ge=1, le=16_777_216)] = 262_144
    time: Duration = Duration(2)
    exceeded: Literal["deny", "report"] = "deny"
    """`report` lets a request over the budget pass with what was found so far."""


class Masking(Spec, frozen=True, kw_only=True):
    """How masked values get their placeholders, such as `<PERSON_1>`. They are put back into the answer."""

    restore: bool = True
    """`false` leaves the placeholders in the answer."""
    conversation_header: str | None = None
    """Request header that names a conversation, in which placeholders are then kept. Default: nothing outlives the
    exchange. The history that a client sends again gets the same placeholders in either case."""
    conversation_ttl: Duration = Duration(3600)
    """How long placeholders of a conversation are kept after its last request."""


class LLMSecurityPolicySpec(Spec, frozen=True, kw_only=True):
    targets: SecurityTargets = field(default_factory=SecurityTargets)
    dry_run: bool = False
    """`true` counts and logs what would have happened, and lets everything pass unchanged."""
    inspect: Inspection = field(default_factory=Inspection)
    deny_patterns: list[str] = []
    """RE2 patterns, tried first. A match has the category `DENY_PATTERN`."""
    allow_patterns: list[str] = []
    """RE2 patterns. If there are any, at least one has to match the messages; if none does, `ALLOW_PATTERN` decides."""
    recognisers: list[CustomRecogniser] = []
    presidio: PresidioSource | None = None
    patterns: DetectorSwitch = field(default_factory=DetectorSwitch)
    """The built-in recognisers: numbers and addresses of people, companies and machines."""
    secrets: DetectorSwitch = field(default_factory=DetectorSwitch)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    judge: Judge | None = None
    """Also known as `intelligent_guard`."""
    actions: dict[str, SecurityAction] = {}
    """By category; `default` stands for all that are not named. Built in: secrets and your own patterns are denied,
    personal data is masked; names, places and what the classifier says of whole sentences are reported."""
    allowed_values: list[str] = []
    """Values that are never reported, such as your own public address."""
    minimum_score: Probability = 0.5
    """Findings of recognisers below it do not count. They report nothing below 0.5."""
    message: Literal["openai", "text"] = "openai"
    """How a refusal reads: an OpenAI error object, or the plain text `request was denied by asm llm proxy`."""
    masking: Masking = field(default_factory=Masking)
    budget: SecurityBudget = field(default_factory=SecurityBudget)


class LLMSecurityPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["LLMSecurityPolicy"]
    metadata: Metadata
    spec: LLMSecurityPolicySpec = field(default_factory=LLMSecurityPolicySpec)
