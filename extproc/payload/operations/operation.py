"""What is known of one operation of a provider's API. Everything that differs by operation reads it from here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

import msgspec


class Api(StrEnum):
    """Whose clients call it, and so how an error has to look."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    BEDROCK = "bedrock"
    OLLAMA = "ollama"
    COHERE = "cohere"


class Dialect(StrEnum):
    """The schema of an operation's bodies: which fields there are, and which of them hold text."""

    __hash__ = object.__hash__  # members are singletons; the string's own hash is slower

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    GENERATE_CONTENT = "generate_content"
    EMBED_CONTENT = "embed_content"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    MODERATIONS = "moderations"
    IMAGES = "images"
    SPEECH = "speech"
    TRANSCRIPTION = "transcription"
    TOKENIZE = "tokenize"
    CONVERSE = "converse"
    INVOKE = "invoke"
    OLLAMA_CHAT = "ollama_chat"
    OLLAMA_GENERATE = "ollama_generate"
    OLLAMA_EMBED = "ollama_embed"
    COHERE_CHAT = "cohere_chat"
    COHERE_EMBED = "cohere_embed"
    SGLANG_GENERATE = "sglang_generate"
    BATCH = "batch"
    """Requests to be answered later, each in a dialect of its own."""
    OTHER = "other"


class Body(Enum):
    """What a request brings."""

    JSON = "JSON"
    FORM = "form"
    """`multipart/form-data`, or JSON."""
    OPTIONAL = "JSON or nothing"
    NONE = "nothing"


class Streams(Enum):
    """How one can tell from a request that its answer is streamed."""

    NEVER = "no"
    FIELD = "`stream`"
    UNLESS_FIELD = "unless `stream` is false"
    ALWAYS = "always"
    QUERY = "`?stream=true`"
    UNKNOWN = "as the answer shows"


class System(Enum):
    """Where the text of a system prompt goes."""

    NOWHERE = "-"
    MESSAGES = "messages"
    """A message whose role is `system` or `developer`."""
    INSTRUCTIONS = "instructions"
    SYSTEM = "system"
    """A string or an array of text parts."""
    SYSTEM_PARTS = "system parts"
    """An array of text parts only (Bedrock)."""
    SYSTEM_INSTRUCTION = "systemInstruction"
    """A content with parts (Gemini)."""
    PROMPT = "prompt"
    """Before and after the prompt itself, where there is no other place."""


class UsageForm(Enum):
    """Where answers state their tokens. The value: bytes that every event which states them holds."""

    NONE = b""
    USAGE = b'"usage"'
    GEMINI = b'"usageMetadata"'
    INVOKE = b"nvocationMetrics"
    OLLAMA = b"eval_count"
    COHERE = b'"billed_units"'
    SGLANG = b'"meta_info"'


class ModelIn(Enum):
    """Where a request names its model."""

    BODY = "body"
    PATH = "path"
    NOWHERE = "-"
    """It is renamed where the body names one all the same."""


class Operation(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One row of the table."""

    name: str
    """Label of metrics and records."""
    paths: tuple[str, ...]
    """`METHOD path` each, without the base that a provider puts before it. `{name}` is one segment, `{name+}` one or
    more, and a verb may follow the last segment after a colon."""
    api: Api = Api.OPENAI
    dialect: Dialect = Dialect.OTHER
    consumes: bool = False
    """Whether tokens are used for it: only then its answer's usage counts, and something is reserved for it."""
    estimated: bool = False
    """Whether the size of an answer tells its tokens where it states none. Not that of media, vectors and files."""
    usage: UsageForm = UsageForm.NONE
    usage_option: bool = False
    """Whether usage of a stream has to be asked for by `stream_options`."""
    body: Body = Body.JSON
    required: tuple[str, ...] = ()
    """Fields one of which a request must have."""
    prompt: tuple[str, ...] = ()
    """Fields whose bytes become tokens of the prompt."""
    model: ModelIn = ModelIn.BODY
    versioned: bool = True
    """Whether its path stands below a version, `/v1`, which may be part of a provider's base URL."""
    streams: Streams = Streams.NEVER
    system: System = System.NOWHERE
    limits: tuple[str, ...] = ()
    """Names of the limit on the tokens of an answer, the one to write first. A dot reaches into an object."""
    parameters: frozenset[str] = frozenset()
    """Fields that may be written."""
    open: bool = False
    """Whether fields that are in neither set may be written too: engines and vendors add their own."""
    foreign: frozenset[str] = frozenset()
    """Fields of other operations, which this one refuses."""
    renamed: Mapping[str, str] = {}
    """What a field of OpenAI's chats is called here."""
    cacheable: bool = False
    replayable: bool = False
    """Whether a whole answer can be given as events, and the other way round."""
    predictable: bool = False
    """Whether the length of its answer is worth a prediction."""

    @property
    def own_path(self) -> str:
        """The first of its paths, without the method."""
        return self.paths[0].partition(" ")[2]

    def name_of(self, field: str) -> str | None:
        """What a configured field is called here; None where there is no such thing."""
        if (renamed := self.renamed.get(field)) is not None:
            return renamed
        if field in self.parameters or (self.open and field not in self.foreign):
            return field
        return None

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


class Call(msgspec.Struct, frozen=True, gc=False):
    """What a method and a path ask for."""

    operation: Operation
    path: str | None = None
    """The path in the spelling that destinations know, where the client spelled it otherwise."""
    model: str = ""
    """The model or deployment that the path names."""
    base: str = ""
    """What stands before the operation's own part of the path."""
    own: str = ""
    """The operation's own part, as the table has it."""
