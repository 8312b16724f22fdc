"""The live pools of a configuration: started, carried over a reload with their counts, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from extproc.pool.endpoint import EndpointView, State
from extproc.pool.engines.dns import AddressSource
from extproc.pool.engines.runtime import PoolConfig, PoolRuntime
from extproc.pool.engines.scrape import ScrapeSettings
from extproc.pool.pool import Pool, PoolView
from extproc.pool.waiting import QueueLimits, SaturationLimits
from extproc.resources.kinds.pool import InferencePool
from extproc.telemetry.endpoints import EndpointStatus, PoolStatus


class Pools:
    """Needs a running loop. Pools of one name stay the same object, whatever is loaded anew."""

    def __init__(self, clock: Callable[[], float], on_members: Callable[[], None] = lambda: None) -> None:
        """`on_members` is called whenever endpoints have joined or left a pool."""
        self._clock = clock
        self._on_members = on_members
        self._runtimes: dict[str, PoolRuntime] = {}
        self._coming: dict[str, PoolRuntime] = {}
        """Those of a change that is being made, which Envoy has to know before they are in force."""
        self._leaving: set[asyncio.Task[None]] = set()

    async def prepare(self, pools: Mapping[str, InferencePool]) -> PoolsChange:
        """The pools of a configuration: new ones are started. Raises ValueError for one that cannot be."""
        configs = {name: _config(resource) for name, resource in pools.items()}
        kept = {name: runtime for name, runtime in self._runtimes.items() if name in configs}
        edits = [run.prepare(configs[name]) for name, run in kept.items() if run.config != configs[name]]
        new: dict[str, PoolRuntime] = {}
        try:
            for name in configs.keys() - kept.keys():
                runtime = new[name] = PoolRuntime(configs[name], clock=self._clock, on_members=self._on_members)
                await runtime.start()
        except BaseException:
            await _stop(new.values())
            raise
        self._coming = new
        return PoolsChange(self, kept | new, edits)

    def use(self, runtimes: dict[str, PoolRuntime]) -> None:
        """These are in force from here on. The others stop; requests that still hold one of their endpoints may
        finish."""
        gone = [runtime for name, runtime in self._runtimes.items() if name not in runtimes]
        self._runtimes, self._coming = runtimes, {}
        if gone:
            task = asyncio.ensure_future(_stop(gone))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def drop(self) -> None:
        """The change that is being made is given up."""
        coming, self._coming = self._coming, {}
        await _stop(coming.values())

    async def stop(self) -> None:
        self.use({})
        await asyncio.gather(*self._leaving)

    def find(self, name: str) -> PoolRuntime | None:
        return self._runtimes.get(name)

    def members(self, name: str) -> list[str] | None:
        """Addresses of a pool, those that drain left out; None where there is no such pool."""
        runtime = self._runtimes.get(name) or self._coming.get(name)
        return None if runtime is None else sorted(runtime.pool.addresses())

    def saturation(self, name: str) -> float | None:
        """How full a pool is on average: 1.0 where its endpoints are at a limit that makes them busy. None: unknown."""
        runtime = self._runtimes.get(name)
        if runtime is None:
            return None
        limits = runtime.config.saturation
        found = [
            _fullness(endpoint, limits) for endpoint in runtime.view().endpoints if endpoint.state is State.HEALTHY
        ]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None

    def views(self) -> list[PoolView]:
        return [runtime.view() for runtime in self._runtimes.values()]

    def summaries(self) -> Iterator[PoolStatus]:
        """Every pool as the metrics show it."""
        for pool in self.views():
            index = pool.prefix_index
            yield PoolStatus(
                pool=pool.name,
                waiting=pool.waiting,
                oldest_wait=pool.oldest_wait,
                prefix_blocks=index.blocks if index else None,
                prefix_bytes=index.bytes if index else 0,
            )

    def statuses(self) -> Iterator[EndpointStatus]:
        """Every endpoint as the metrics show it."""
        for pool in self.views():
            for endpoint in pool.endpoints:
                yield EndpointStatus(
                    pool=pool.name,
                    address=endpoint.address,
                    up=endpoint.state is State.HEALTHY,
                    in_flight=endpoint.in_flight,
                    running=endpoint.running,
                    waiting=endpoint.waiting,
                    kv_usage=endpoint.kv_usage,
                    metrics_age=endpoint.metrics_age,
                )


class PoolsChange:
    """A configuration's pools, made ready."""

    def __init__(self, pools: Pools, runtimes: dict[str, PoolRuntime], edits: Sequence[Callable[[], None]]) -> None:
        """`edits` take those that stay over to their new settings."""
        self.pools: Mapping[str, Pool] = {name: runtime.pool for name, runtime in runtimes.items()}
        self._pools = pools
        self._runtimes = runtimes
        self._edits = edits

    def commit(self) -> None:
        for edit in self._edits:
            edit()
        self._pools.use(self._runtimes)

    async def undo(self) -> None:
        await self._pools.drop()


async def _stop(runtimes: Iterable[PoolRuntime]) -> None:
    await asyncio.gather(*(runtime.stop() for runtime in runtimes))


def _fullness(endpoint: EndpointView, limits: SaturationLimits) -> float | None:
    """The part used of the limit that is nearest; None where nothing is known that has a limit."""
    pairs = (
        (endpoint.waiting, limits.queue_depth),
        (endpoint.kv_usage, limits.kv_usage),
        (endpoint.in_flight, limits.in_flight),
    )
    return max((used / limit for used, limit in pairs if used is not None and limit), default=None)


def _config(resource: InferencePool) -> PoolConfig:
    spec = resource.spec
    metrics = spec.metrics
    return PoolConfig(
        name=resource.metadata.name,
        membership=spec.membership,
        sources=tuple(AddressSource(address=endpoint.address, labels=endpoint.labels) for endpoint in spec.endpoints),
        policy=spec.policy_config,
        retry_count=spec.retry_count,
        scrape=ScrapeSettings(path=metrics.path, interval=metrics.interval, timeout=metrics.timeout),
        stale_after=metrics.stale_after,
        saturation=SaturationLimits(
            queue_depth=spec.saturation.queue_depth,
            kv_usage=spec.saturation.kv_cache_utilization,
            in_flight=spec.saturation.max_in_flight,
        ),
        queue=QueueLimits(max_size=spec.queue.max_size, timeout=spec.queue.timeout, try_period=spec.queue.try_period),
    )
