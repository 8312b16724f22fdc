"""Traffic policies in few words."""

from __future__ import annotations

from typing import Any

from tests.support.gateway import Manifest, manifest


def only(**labels: str) -> list[dict[str, Any]]:
    """Selectors: requests with exactly these labels; an underscore in a name stands for a dot."""
    return [{"labelMatcher": {"matchLabels": {name.replace("__", "."): value for name, value in labels.items()}}}]


def host(name: str) -> list[dict[str, Any]]:
    """Selectors: requests of one route's host."""
    return [{"service": name}]


def rate(name: str, capacity: float, fill: float, selectors: list[dict[str, Any]], **more: Any) -> Manifest:
    """A RateLimitingPolicy; `dryRun` goes to the policy, `unit` and `reserve` to the limiter, the rest to its
    parameters."""
    dry = more.pop("dryRun", False)
    own: dict[str, Any] = {key: more.pop(key) for key in ("unit", "reserve") if key in more}
    limiter = {"bucketCapacity": capacity, "fillAmount": fill, "parameters": more, "selectors": selectors, **own}
    return manifest("RateLimitingPolicy", name, rateLimiter=limiter, dryRun=dry)


def concurrency(name: str, most: int, selectors: list[dict[str, Any]], **parameters: Any) -> Manifest:
    limiter = {"maxConcurrency": most, "parameters": parameters, "selectors": selectors}
    return manifest("ConcurrencyLimitingPolicy", name, concurrencyLimiter=limiter)


def slots(name: str, most: int, selectors: list[dict[str, Any]], **scheduler: Any) -> Manifest:
    inner = {"maxConcurrency": most, "scheduler": scheduler, "selectors": selectors, "unit": "requests"}
    return manifest("ConcurrencySchedulingPolicy", name, concurrencyScheduler=inner)


def workload(name: str, priority: float, timeout: str = "30s", **labels: str) -> dict[str, Any]:
    matcher = {"matchLabels": {key.replace("__", "."): value for key, value in labels.items()}}
    return {"name": name, "labelMatcher": matcher, "parameters": {"priority": priority, "queueTimeout": timeout}}


def ramp(name: str, percentage: float, selectors: list[dict[str, Any]], **sampler: Any) -> Manifest:
    """Stays at a percentage."""
    steps = [{"targetAcceptPercentage": percentage, "duration": "1s"}]
    return manifest(
        "LoadRampingPolicy", name, loadRamp={"sampler": {"selectors": selectors, **sampler}, "steps": steps}
    )


def cache(name: str, selectors: list[dict[str, Any]], **more: Any) -> Manifest:
    return manifest("CachingPolicy", name, cache={"selectors": selectors, **more})
