"""How long a prompt sent to an endpoint now would wait: the tokens before it, and the speed the endpoint has shown.

An engine computes prompts roughly in the order in which they arrive. So the prompt tokens of our own requests that have
not brought a first token yet, less what is likely done of the first of them, stand before a new one. The speed is the
tokens done per second during which there was something to do, over the recent past: what a batch of decoding requests
or a slower GPU takes away shows in it.
"""

from __future__ import annotations

from collections import OrderedDict

_HALF_LIFE = 20.0
"""Seconds of work after which a measured speed counts half."""
_PRIOR = 5.0
"""Seconds of work for which the assumed speed counts."""
_ALIKE = 1.25
"""Endpoints whose speeds differ by less are taken for equal: what is measured scatters with the mix of prompts, and a
difference that is none sends more to some than to others."""


class Speed:
    """Tokens per second, weighted by time, the recent past more."""

    __slots__ = ("seconds", "tokens")

    def __init__(self) -> None:
        self.tokens = 0.0
        self.seconds = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        keep = 0.5 ** (seconds / _HALF_LIFE)
        self.tokens = self.tokens * keep + tokens
        self.seconds = self.seconds * keep + seconds

    def estimate(self, assumed: float) -> float:
        return (self.tokens + assumed * _PRIOR) / (self.seconds + _PRIOR)


class Backlog:
    """The prompts that one endpoint has yet to compute. `everywhere` is the speed of its whole pool, which it adds to,
    and `assumed` (tokens per second) what counts until the pool has shown its own.

    A prompt sent at `now` waits `max(free_at - now, least)` seconds, once `catch_up` has been called.
    """

    __slots__ = (
        "_assumed",
        "_everywhere",
        "_since",
        "_told",
        "_waiting",
        "free_at",
        "least",
        "quiet",
        "rate",
        "speed",
        "tokens",
    )

    def __init__(self, everywhere: Speed, assumed: float) -> None:
        self.speed = Speed()
        self.tokens = 0.0
        """Of all prompts that are not known to be done."""
        self.quiet = 0
        """Prompts whose first token will not be told."""
        self.free_at = 0.0
        """When all of them should be done."""
        self.least = 0.0
        """Seconds for those behind the first one."""
        self._everywhere = everywhere
        self._assumed = assumed
        self._waiting: OrderedDict[object, tuple[float, bool]] = OrderedDict()
        """Prompt -> its tokens, and whether its first token will be told."""
        self._since = 0.0
        """When the first of the waiting prompts came to be the first."""
        self._told = 0.0
        """Since when the work done is measured."""
        self.rate = 0.0
        """Tokens per second."""
        self._estimate()

    def __repr__(self) -> str:
        return f"<Backlog prompts={len(self._waiting)} tokens={self.tokens:g} rate={self.rate:g}>"

    def add(self, key: object, tokens: float, now: float, told: bool) -> None:
        """A prompt of `tokens` to compute is on its way. Not `told`: it counts as done when it should be."""
        if not self._waiting:
            self._since = self._told = now
        self._waiting[key] = (tokens, told)
        self.tokens += tokens
        self.quiet += not told
        self._estimate()

    def done(self, key: object, now: float) -> None:
        """The first token of the prompt has arrived."""
        entry = self._waiting.get(key)
        if entry is not None:
            self.speed.add(entry[0], now - self._told)
            self._everywhere.add(entry[0], now - self._told)
            self._told = now
            self.drop(key, now)

    def drop(self, key: object, now: float) -> None:
        """The prompt will not be computed here any more, or nobody knows when it was."""
        if key not in self._waiting:
            return
        if next(iter(self._waiting)) == key:
            self._since = now
        tokens, told = self._waiting.pop(key)
        self.tokens = self.tokens - tokens if self._waiting else 0.0
        self.quiet -= not told
        self._estimate()

    def wait(self, now: float) -> float:
        """Seconds before a prompt that is sent now gets its turn."""
        if self.quiet:
            self.catch_up(now)
        return max(self.free_at - now, self.least, 0.0)

    def catch_up(self, now: float) -> None:
        """Lets go of prompts at the head that must be done by now, of which nobody will tell."""
        while self._waiting:
            key, (tokens, told) = next(iter(self._waiting.items()))
            ends = self._since + tokens / self.rate
            if told or ends > now:
                return
            self.drop(key, ends)
            self._told = ends

    def _estimate(self) -> None:
        usual = self._everywhere.estimate(self._assumed)
        own = self.speed.estimate(usual)
        self.rate = usual if usual / _ALIKE < own < usual * _ALIKE else own
        if self._waiting:
            first, _ = next(iter(self._waiting.values()))
            self.free_at = self._since + self.tokens / self.rate
            self.least = (self.tokens - first) / self.rate
        else:
            self.free_at = self.least = 0.0
