"""Flow control's state in Redis, for several filters; alone with its share of the limits where Redis does not answer.

- One ask is one script, one round trip; asks that come together share the connection without waiting for each other.
- Redis slow (an answer overdue by `limit`) or gone: every ask, those on their way included, is answered here by `Local`
  with the last known number of replicas. An answer that comes too late is given back. If the connection ends before it,
  its slots are released; its tokens stay taken, so that at a break a token may be charged twice and never given twice.
- Redis back: what the local buckets lack to be full is charged to Redis's (into debt if need be), the slots in flight
  are entered in its ledgers whatever their limits, and only then is Redis asked again.
- Redis emptied: buckets start anew; the slots in flight are entered again at the next heartbeat.
- Two configurations: the claim that asks wins for its own decision. A bucket's level is cut to the capacity that was
  asked with last, so together the replicas never have more than the larger capacity and rate.
- Redis's clock: a step back is made up for, a step forward fills buckets at most and frees slots early.

A single Redis server or one with replicas; a Redis Cluster is refused.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from redis.exceptions import RedisError

from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.ramp import Ramp
from extproc.scheduling.state.claims import CacheBounds, CacheEntry, Claims, Grant, Lookup, Return, SlotClaim
from extproc.shared import messages
from extproc.shared.channel import Channel, Lost
from extproc.shared.fallback import HeldClaims, Local, origin
from extproc.shared.link import Link
from extproc.shared.local_view import LocalView
from extproc.shared.options import Counters, RedisOptions
from extproc.shared.outbox import Outbox
from extproc.shared.pending import PendingRequest, slots_of, undone
from extproc.shared.scripts import ASK, BEAT, KEEP, LEAVE, VIEW
from extproc.shared.view import subjects

log = logging.getLogger("sluice.shared")
Mode = Literal["shared", "local"]
_BACKLOG = 1000
"""Unanswered commands from which on answers are not sent to the cache any more."""


class RedisStore:
    """The driver's side: `await ask`; `near` goes into `Flow(store=store.near, remote=True)`. A `Side` of its link."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float],
        options: RedisOptions | None = None,
        password: Callable[[], str | None] | None = None,
        name: str = "",
    ) -> None:
        """`url`: redis://, rediss:// (TLS) or unix://, with user, password and database as usual; `password`, read at
        every connection, wins over the URL's. `clock` must be the one that every `now` is from. `name` is of this
        replica and new in every process, as batches are numbered under it. Raises ValueError for a bad URL.
        """
        self.options = options or RedisOptions()
        self.counters = Counters()
        self.replicas = self.options.replicas
        self.ramps: Callable[[], Sequence[Ramp]] = tuple
        """Those to share at every heartbeat."""
        self.name = name or uuid.uuid4().hex
        self.near = LocalView(self.settle, self.keep)
        self._clock = clock
        self._held = HeldClaims()
        self._outbox = Outbox(self.name, self.options.prefix, most=self.options.most_undelivered, failed=self._on_error)
        self._epoch = 0
        self._local: Local | None = None
        self._asked: set[PendingRequest] = set()
        self._changed = asyncio.Event()
        self._flushing = False
        self._told = False
        self._link = Link(url, password, self.options, self)
        self._go_local()

    def __repr__(self) -> str:
        return f"<RedisStore {self._link.where} {self.mode} of {self.replicas} {self.counters!r}>"

    @property
    def mode(self) -> Mode:
        """Who decides: Redis, or this replica alone."""
        return "shared" if self._local is None else "local"

    @property
    def shared(self) -> bool:
        return self._local is None

    @property
    def undelivered(self) -> tuple[int, int]:
        """Returns that Redis has not confirmed, and those that were dropped."""
        return self._outbox.size, self._outbox.dropped

    async def start(self) -> None:
        """Begins to connect, and waits for the first attempt's outcome, whatever it is: never fails."""
        await self._link.start()

    async def stop(self) -> None:
        """Delivers what it can within `give_up`, says goodbye and disconnects. To be called once nobody asks."""
        channel = self._link.channel
        if channel is not None and self.shared:
            try:
                async with asyncio.timeout(self.options.give_up):
                    self._outbox.flush(channel)
                    await channel.run_once(LEAVE, self.options.prefix, messages.pack_leave(self.name))
            except (Lost, RedisError, TimeoutError) as error:
                log.warning("Redis at %s did not hear the goodbye: %s", self._link.where, error)
        if self.shared:
            self._go_local()
        await self._link.stop()

    async def until(self, mode: Mode) -> None:
        """Waits for the mode."""
        while self.mode != mode:
            self._changed.clear()
            await self._changed.wait()

    async def ask(self, ask: Claims, now: float) -> Grant:
        """The answer, from Redis or from here; no error of Redis is raised. Cancelled, it gives back what was taken."""
        channel = self._link.channel
        if not ask.limits and ask.lookup is None and not any(ask.lines):
            return Grant(lines=len(ask.lines))
        if self._local is not None or channel is None:
            return self._ask_here(ask, now)
        self._outbox.flush(channel)
        item = PendingRequest(ask, now, asyncio.get_running_loop().create_future())
        self._asked.add(item)
        payload = messages.pack_ask(ask, now if self.options.own_time else None)
        channel.run(ASK, self.options.prefix, payload, lambda reply: self._on_answer(item, reply))
        try:
            return await item.future
        except asyncio.CancelledError:
            if item.future.done() and not item.future.cancelled():
                self.settle(undone(item.future.result()), self._clock())
            raise

    def settle(self, returns: Sequence[Return], now: float) -> None:
        """Queued for Redis, before any later ask; what was taken here goes back here. Never waits, never fails."""
        local = self._local
        for item in returns:
            claim = item.claim
            here = local is not None and origin(claim) == local.epoch
            if isinstance(claim, SlotClaim):
                self._held.remove(claim)
                if local is not None:
                    local.settle(claim, 0.0, now)
                if not here:
                    self._outbox.add("free", claim)
            elif here and local is not None:
                local.settle(claim, item.amount, now)
            elif item.amount:
                self._outbox.add("give", msgspec.structs.replace(claim, amount=item.amount))
        if self.options.own_time:
            self._outbox.now = now
        if not self._flushing and self.shared:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def keep(self, lookup: Lookup, entry: CacheEntry, bounds: CacheBounds, now: float) -> None:
        """Sent and forgotten: a cache may lose an entry."""
        channel = self._link.channel
        if self._local is not None:
            self._local.memory.keep(lookup, entry, bounds, now)
        elif channel is None or channel.backlog > _BACKLOG or len(entry.body) > bounds.bytes:
            self.counters.unkept += 1
        else:
            payload = messages.pack_keep(lookup, entry, bounds, now, now if self.options.own_time else None)
            channel.run(KEEP, self.options.prefix, payload, self._on_kept, entry.body)

    async def look(self, flow: Flow, now: float, job: Job | None = None, most: int = 20) -> None:
        """Gets what `report.state(flow, now)`, and `report.explain(flow, job, now)`, will show. Raises nothing: where
        Redis does not answer they show the last picture, or the local state."""
        channel = self._link.channel
        if channel is None or not self.shared:
            return
        tables, claims, lookups = subjects(flow, job)
        payload = messages.pack_view(most, tables, claims, lookups, now if self.options.own_time else None)
        try:
            async with asyncio.timeout(self.options.give_up):
                reply = await channel.run_once(VIEW, self.options.prefix, payload)
        except (Lost, RedisError, TimeoutError) as error:
            log.info("Redis at %s showed nothing: %s", self._link.where, error)
            return
        self.near.picture = messages.read_view(reply, tables, claims, lookups, now)

    async def beat(self) -> None:
        """One heartbeat more than those that come by themselves. Raises Lost or RedisError."""
        if self._link.channel is not None:
            await self.beat_on(self._link.channel)

    async def beat_on(self, channel: Channel) -> None:
        """The number of replicas, the ramps, and whether Redis still has what it was told."""
        now = self._clock()
        ramps = {ramp.policy.name: ramp for ramp in self.ramps()}
        states = [(name, ramp.state) for name, ramp in ramps.items()]
        payload = messages.pack_beat(self.name, self.options.gone_after, states, now)
        found = messages.read_beat(await channel.run_once(BEAT, self.options.prefix, payload))
        self.replicas = max(1, found.replicas)
        for name, state in found.states(self._clock()).items():
            ramps[name].adopt(state)
        if self.shared and not found.known:
            self.counters.emptied += 1
            log.warning("Redis at %s has lost its state; buckets start anew", self._link.where)
            await channel.load()
            self._hold(self._clock())
            self._flush()

    def join(self, channel: Channel) -> None:
        """Charges what was taken here and enters what is in flight; as the connection keeps the order, Redis knows of
        it before it is asked again."""
        now = self._clock()
        charges = list(self._local.deficits(now)) if self._local is not None else []
        for claim in charges:
            self._outbox.add("give", msgspec.structs.replace(claim, amount=-claim.amount))
        self._hold(now)
        self._local = self.near.local = None
        self._told = True
        self._changed.set()
        self._outbox.flush(channel)
        log.info(
            "Redis at %s decides for %d replicas; %d buckets charged", self._link.where, self.replicas, len(charges)
        )

    def part(self, reason: str) -> None:
        """This replica decides by itself from here on, also about the asks on their way."""
        if self.shared:
            self._go_local()
            self.counters.failures += 1
            self._changed.set()
        elif self._told:
            return
        self._told = True
        share = f"1/{self.replicas} of every limit holds here until it answers"
        log.warning("Redis at %s %s; %s", self._link.where, reason, share)

    def _go_local(self) -> Local:
        now = self._clock()
        self._epoch += 1
        local = self._local = self.near.local = Local(self.replicas, self._epoch, self._held.live(now), now)
        for item in self._asked:
            if not item.future.done():
                item.future.set_result(self._ask_here(item.ask, item.now))
        return local

    def _ask_here(self, ask: Claims, now: float) -> Grant:
        self.counters.local += 1
        answer = (self._local or self._go_local()).ask(ask, now)
        self._held.add(answer.taken, now)
        return answer

    def _on_answer(self, item: PendingRequest, reply: Any) -> None:
        self._asked.discard(item)
        try:
            if isinstance(reply, Exception):
                raise reply
            answer = messages.read_answer(reply, item.ask, item.now)
        except (Lost, RedisError, msgspec.MsgspecError) as error:
            self._on_error(error)
            self.counters.unknown += 1
            for claim in slots_of(item.ask):  # slots are known by their ids, tokens are not
                self._outbox.add("free", claim)
            if not item.future.done():
                item.future.set_result(self._ask_here(item.ask, item.now))
            return
        if item.future.done():
            self.counters.late += 1
            self.settle(undone(answer), self._clock())
        else:
            self._held.add(answer.taken, item.now)
            item.future.set_result(answer)

    def _on_kept(self, reply: Any) -> None:
        self.counters.unkept += isinstance(reply, Exception)

    def _on_error(self, error: Exception) -> None:
        """Redis has refused a command, or has gone."""
        self._link.trouble(f"does not decide: {error}")

    def _hold(self, now: float) -> None:
        for claim in self._held.live(now):
            self._outbox.add("hold", claim)

    def _flush(self) -> None:
        self._flushing = False
        if self._link.channel is not None and self.shared:
            self._outbox.flush(self._link.channel)
