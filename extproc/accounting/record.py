"""What is known of an exchange once it has ended: the input of metrics, ledger and audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from extproc.exchange.endings import Ending
from extproc.payload.usage import Usage


@dataclass(slots=True, kw_only=True)
class ExchangeRecord:
    """Times are seconds of one monotonic clock. Strings are empty where a fact never became known."""

    operation: str = ""
    """`chat_completions`, `embeddings`, …: the name of an `Operation`."""
    consumes: bool = True
    """Whether tokens are used for it, so that they are estimated where its answer states none."""
    answers_text: bool = True
    """Whether the size of its answer tells its tokens: not that of media, vectors and files."""
    host: str = ""
    route: str = ""
    """`ROUTE/RULE` as named in the resources."""
    source: str = ""
    target: str = ""
    """`provider/NAME` or `pool/NAME`."""
    requested_model: str = ""
    target_model: str = ""
    endpoint: str = ""
    """Pool endpoint that served the request."""
    stream: bool = False
    status: int = 0
    ending: Ending = Ending.CLIENT_GONE
    usage: Usage | None = None
    usage_estimated: bool = False
    prompt_bytes: int = 0
    """Bytes of the request that count as prompt."""
    completion_bytes: int = 0
    """Bytes of the answer that count as completion."""
    unseen: bool = False
    """The answer did not pass the filter: Envoy counted it, and nothing is known of its bytes."""
    events: bool = False
    """Whether these bytes are server-sent events, a frame around each token included."""
    started: float = 0.0
    first_token: float | None = None
    last_token: float | None = None
    ended: float = 0.0
    seen: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)
    """Findings by security policy, category, action, and `request` or `response`."""
    guard_failures: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Texts that a detector failed on, by security policy and detector."""
    denied_by: str = ""
    """`POLICY/CATEGORY` of what was refused."""
    policy: str = ""
    """Traffic policy that refused the request."""
    waited: float = 0.0
    """Seconds that traffic policies let it wait."""
    cache: str = ""
    """`hit`, `miss` or `bypass`; empty where no policy for it applies."""
    saved: Usage | None = None
    """What an answer out of the cache had cost once; `usage` is None then."""
    messages: int = 0
    """ext_proc messages handled."""
