"""What a request holds of a pool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import PickRequest, Policy


class LeasingPool(Protocol):
    """What a lease needs of the pool that gave it."""

    policy: Policy

    def find(self, address: str) -> Endpoint | None: ...

    def suspect(self, address: str) -> None: ...

    def serve_waiting(self, now: float) -> None: ...

    def settle(self, endpoint: Endpoint) -> None: ...


class Lease:
    """The load of one request on one endpoint, from `pick` to `release`, and what the policy learns of it.

    Where another endpoint computes the prompt, the request also counts there, until `served`.
    """

    __slots__ = ("_endpoint", "_now", "_pool", "_served", "_tokens", "prefill", "released", "request")

    def __init__(
        self, pool: LeasingPool, endpoint: Endpoint, request: PickRequest, now: float, prefill: Endpoint | None = None
    ) -> None:
        self._pool = pool
        self._endpoint: Endpoint | None = endpoint
        self._tokens = request.prompt_tokens + request.expected_output_tokens
        self._now = now
        self._served = False
        self.request = request
        self.prefill = prefill
        """The endpoint that computes the prompt, while it does and is not the one of the answer."""
        self.released = False
        endpoint.take(self._tokens)
        if prefill:
            prefill.take(request.prompt_tokens)
        pool.policy.chosen(self, endpoint, now)
        if request.prompt is not None:
            request.prompt.forget_text()

    def __repr__(self) -> str:
        return f"<Lease {self.address} tokens={self._tokens}{' released' if self.released else ''}>"

    @property
    def address(self) -> str | None:
        """Where the load counts; None after `release`, or where the pool does not know the address."""
        return self._endpoint.address if self._endpoint else None

    def move(self, address: str, now: float | None = None) -> None:
        """Another endpoint serves the request than the one it was last known at: the load counts there. An address that
        the pool does not know takes it off all of its endpoints. Nothing happens after `release`.
        """
        if self.released or address == self.address:
            return
        self._now = self._now if now is None else now
        self._leave()
        self._endpoint = self._pool.find(address)
        if self._endpoint:
            self._endpoint.take(self._tokens)
            self._pool.policy.chosen(self, self._endpoint, self._now)

    def suspect(self, addresses: Iterable[str]) -> None:
        """The request broke off at these endpoints of the pool, or had to leave them: somebody should take a look."""
        for address in addresses:
            self._pool.suspect(address)

    def served(self, now: float) -> None:
        """The first token has arrived, or the whole answer where it comes in one piece: the prompt has been computed.
        Every call after the first does nothing.
        """
        if self._served or self.released:
            return
        self._served = True
        self._now = now
        self.count_tokens(min(self._tokens, self.request.expected_output_tokens))
        if self._endpoint:
            self._pool.policy.served(self, self._endpoint, now)
        self._end_prefill()

    def count_tokens(self, tokens: int) -> None:
        """Says how many tokens of work the request still holds, as they get done or a better estimate comes in."""
        if self.released:
            return
        if self._endpoint:
            self._endpoint.tokens += tokens - self._tokens
        self._tokens = tokens

    def release(self, now: float) -> None:
        """The exchange is over. Every call after the first does nothing."""
        if not self.released:
            self.released = True
            self._now = now
            if self._endpoint:
                self._endpoint.used_at = now
            self._leave()
            self._end_prefill()
            self._pool.serve_waiting(now)

    def _leave(self) -> None:
        endpoint, self._endpoint = self._endpoint, None
        if endpoint:
            endpoint.give_back(self._tokens)
            self._pool.policy.released(self, endpoint, self._now)
            self._pool.settle(endpoint)

    def _end_prefill(self) -> None:
        prefill, self.prefill = self.prefill, None
        if prefill:
            prefill.give_back(self.request.prompt_tokens)
            self._pool.settle(prefill)
