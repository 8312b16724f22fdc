"""What a provider sees of a client's own request."""

import pytest

from extproc.steps.forward import withheld, without_credentials


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key", "x-auth-token"),
        *("proxy-authorization", "cookie", "x-amz-security-token", "x-access-token", "x-csrf-token", "x-my-secret"),
        *("x-forwarded-for", "x-forwarded-host", "forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip"),
        *("cf-connecting-ip", "x-cluster-client-ip", "x-original-host", "openai-organization", "openai-project"),
    ],
)
def test_credentials_and_the_network_stay_here(name: str) -> None:
    assert list(withheld([name])) == [name]


@pytest.mark.parametrize(
    "name",
    [
        *(":path", "content-type", "content-length", "accept", "accept-encoding", "user-agent", "x-request-id"),
        *("anthropic-version", "anthropic-beta", "openai-beta", "idempotency-key", "x-stainless-lang", "traceparent"),
        *("http-referer", "x-title", "sec-websocket-key", "upgrade", "connection"),
    ],
)
def test_what_a_request_needs_goes_on(name: str) -> None:
    assert list(withheld([name])) == []


def test_queries_lose_credentials() -> None:
    query = "api-version=2024-10-21&key=k&access_token=a&alt=sse&api%5Fkey=x&X-Amz-Signature=s&sig=1&subscription-key=z"
    assert without_credentials(query) == "api-version=2024-10-21&alt=sse"
    assert without_credentials("") == ""
