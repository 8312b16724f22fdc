"""What of a client's own request a provider may see: no credential, and nothing of the network inside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_plus

from extproc.steps.head import CLIENT_CREDENTIALS

KEPT = frozenset(("idempotency-key", "sec-websocket-key", "anthropic-version", "anthropic-beta", "openai-beta"))
"""Go on whatever their names look like."""
_OF_ENVOY = ("x-envoy-", "x-forwarded-proto")
"""Envoy's own: it finds no route without them, and its routes to providers take them away."""
_NAMED = frozenset((*CLIENT_CREDENTIALS, "openai-organization", "openai-project", "x-goog-user-project", "via", "from"))
_CREDENTIAL = re.compile(r"auth|token|secret|cookie|passw|credential|signature|jwt|api-?key|(?:^|[-_])key$|-key-")
_NETWORK = re.compile(
    r"forward|proxy|^cf-|^fastly-|^true-|^x-azure-|^x-appengine-|^x-amzn?-|^x-original-|^x-cluster-|^x-vercel-"
    r"|(?:real|client|remote|source|peer|cluster|connecting)[-_](?:ip|addr|port|host)|(?:^|[-_])ip$|^x-host$"
)
_PARAMETER = re.compile(
    r"(?:[\w.-]*[_-])?(?:key|apikey|token|secret|password|passwd|signature|sig|auth|authorization|credential|jwt)"
    r"|x-amz-.*|x-goog-.*",
    re.IGNORECASE,
)


def withheld(names: Iterable[str]) -> Iterator[str]:
    """Of a request's headers those that no provider gets."""
    for name in names:
        if name in _NAMED or (name not in KEPT and not name.startswith(":") and _is_private(name)):
            yield name


def without_credentials(query: str) -> str:
    """A query without the parameters that hold a credential."""
    if not query:
        return query
    return "&".join(part for part in query.split("&") if not _PARAMETER.fullmatch(unquote_plus(part.partition("=")[0])))


def _is_private(name: str) -> bool:
    if name.startswith(_OF_ENVOY):
        return False
    return _CREDENTIAL.search(name) is not None or _NETWORK.search(name) is not None
