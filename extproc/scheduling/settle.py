"""What goes back when a request ends: tokens by real usage, slots, signals for the policies that learn."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from extproc.scheduling.job import spent_tokens
from extproc.scheduling.state.claims import BucketClaim, Return, Store
from extproc.scheduling.ticket import End, Ticket


def give_back(ticket: Ticket, store: Store, now: float) -> None:
    """Everything that the ticket took from the store, in full: the request was never sent."""
    if ticket.claims:
        store.settle(
            [Return(claim, claim.amount if isinstance(claim, BucketClaim) else 0.0) for claim in ticket.claims], now
        )
        ticket.claims = []


def settle_claims(ticket: Ticket, end: End, tokens: AbstractSet[str], store: Store, now: float) -> None:
    """Token buckets get back what was not used, or pay what was used beyond; requests stay counted; slots are free.

    `tokens` names the policies that count tokens.
    """
    spent = spent_tokens(end.usage) if ticket.cache_status != "hit" else 0
    returns: list[Return] = []
    for claim in ticket.claims:
        if not isinstance(claim, BucketClaim):
            returns.append(Return(claim))
        elif claim.table in tokens and claim.amount != spent:
            returns.append(Return(claim, claim.amount - spent))
    ticket.claims = []
    if returns:
        store.settle(returns, now)
    for line, standing in ticket.charged:
        if standing.estimated:
            line.queue.correct(standing.flow, standing.priority, spent - standing.cost)
    for line, standing in zip(ticket.lines[: ticket.stage], ticket.standings, strict=False):
        line.served(standing.cost, now)


def settle_signals(ticket: Ticket, end: End, now: float) -> None:
    """Latencies and failures, to the ramps and adaptive policies that the request went through. A hit shows nothing."""
    if ticket.cache_status == "hit":
        return
    for ramp in ticket.ramps:
        ramp.observe(now, failed=end.failed, latency=end.latency)
    if end.failed:
        return
    if end.completed and end.usage is not None and end.latency is not None:
        for passed in ticket.lines:
            if passed.order is not None:
                job, tokens = ticket.job, end.usage.completion_tokens
                passed.order.learn(job.endpoint, tokens, end.latency, ticket.waited)
    for line, _ in ticket.adaptive:
        signal = line.loop.policy.signal
        value = end.latency if signal == "latency" else end.ttft if signal == "ttft" else None
        if value is not None:
            line.loop.observe(value, now, ticket.admitted_at)
