"""Shortest job first inside one flow, by predicted duration, with a bound on how long anybody is passed over.

A request that came at `a` and is expected to take T = C + K*N seconds is served by

    key = a + patience * F(T)

where F(T) is the share of recent requests that are expected to be shorter. So it is ordered as if the longest had come
`patience` later than the shortest: nobody is overtaken by a request that came more than `patience` later, and who comes
first among equals is first. The key is fixed when the request begins to wait.

`patience` follows the load: a part of what the slowest requests took of late, from coming to the end of the answer.
While that is short, so is any delay; while it is long, there is something to gain. N is the predicted output, C and K
are learned for each endpoint. An `Order` of `fair.FairQueue`: flows still share by what they cost, so a tenant that
appears to be short only reorders its own requests.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque

import msgspec

from extproc.scheduling.job import Job

_KEPT = 512
"""Recent durations that F is made of."""


class Shortness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings. Raises ValueError for numbers that make no sense. Seconds."""

    share: float = 0.4
    """Part of the recent slow requests' time that is the patience. More lowers the mean and raises the slowest."""
    max_patience: float = 120.0
    min_patience: float = 0.0
    max_endpoints: int = 1024

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError("share must lie between 0 and 1")
        if not 0 <= self.min_patience <= self.max_patience < math.inf:
            raise ValueError("min_patience must lie between 0 and max_patience")
        if self.max_endpoints < 1:
            raise ValueError("max_endpoints must be at least 1")


class ServiceTime:
    """seconds = C + K * tokens of one endpoint, by least squares over the recent answers.

    Sums fade by `_FADE` an answer. One far off, such as a stall, counts as at most `_FAR` times the usual distance.
    """

    __slots__ = ("_n", "_off", "_x", "_xx", "_xy", "_y")
    _FADE = 0.99
    _FAR = 3.0

    def __init__(self, constant: float = 0.3, per_token: float = 0.02) -> None:
        """Begins with three made-up answers on the given line."""
        self._n, self._x, self._y, self._xx, self._xy = 0.0, 0.0, 0.0, 0.0, 0.0
        self._off = 0.0
        for tokens in (1.0, 200.0, 800.0):
            self._add(tokens, constant + per_token * tokens, 1.0)

    def __repr__(self) -> str:
        constant, per_token = self.fit()
        return f"<ServiceTime {constant:.3f} s + {per_token * 1000:.2f} ms a token>"

    def fit(self) -> tuple[float, float]:
        """C and K, neither below 0."""
        spread = self._n * self._xx - self._x * self._x
        slope = (self._n * self._xy - self._x * self._y) / spread if spread > 1e-9 * self._n * self._xx else 0.0
        slope = max(0.0, slope)
        constant = (self._y - slope * self._x) / self._n
        if constant < 0:
            constant, slope = 0.0, self._xy / self._xx
        return constant, slope

    def seconds(self, tokens: float) -> float:
        constant, slope = self.fit()
        return constant + slope * tokens

    def learn(self, tokens: int, seconds: float) -> None:
        """One answer that came to its end."""
        expected = self.seconds(tokens)
        off = seconds - expected
        usual = self._off or abs(off)
        if abs(off) > self._FAR * usual:
            off = math.copysign(self._FAR * usual, off)
        self._off = 0.95 * usual + 0.05 * abs(off) + 1e-6
        self._add(float(tokens), expected + off, self._FADE)

    def _add(self, x: float, y: float, fade: float) -> None:
        self._n = self._n * fade + 1
        self._x = self._x * fade + x
        self._y = self._y * fade + y
        self._xx = self._xx * fade + x * x
        self._xy = self._xy * fade + x * y


class Shortest:
    """The order of one policy. Bounded: endpoints, durations, two figures."""

    __slots__ = ("_came", "_everywhere", "_slow", "_sorted", "_times", "settings")

    def __init__(self, settings: Shortness | None = None) -> None:
        self.settings = settings or Shortness()
        self._everywhere = ServiceTime()
        self._times: OrderedDict[str, ServiceTime] = OrderedDict()
        self._came: deque[float] = deque()
        self._sorted: list[float] = []
        self._slow = 0.0

    def __repr__(self) -> str:
        return f"<Shortest patience={self.patience:.2f} {len(self._times)} endpoints {self._everywhere!r}>"

    @property
    def patience(self) -> float:
        """Seconds by which the longest request may be passed over."""
        found = self.settings
        return min(found.max_patience, max(found.min_patience, found.share * self._slow))

    def expected(self, job: Job) -> float:
        """Seconds that the request is expected to take once it is sent. What it asks for at most is a bound only."""
        return self._times.get(job.endpoint, self._everywhere).seconds(job.expected_output)

    def key(self, job: Job, now: float) -> float:
        """Lowest first."""
        seconds = self.expected(job)
        rank = bisect_left(self._sorted, seconds) / len(self._sorted) if self._sorted else 0.5
        self._remember(seconds)
        return now + self.patience * rank

    def learn(self, endpoint: str, tokens: int, seconds: float, waited: float = 0.0) -> None:
        """An answer came to its end: its real output, seconds since it was sent, and seconds that it waited before."""
        if tokens <= 0 or not 0 < seconds < math.inf or not 0 <= waited < math.inf:
            return
        self._everywhere.learn(tokens, seconds)
        line = self._times.get(endpoint)
        if line is None:
            line = self._times[endpoint] = ServiceTime(*self._everywhere.fit())
            if len(self._times) > self.settings.max_endpoints:
                self._times.popitem(last=False)
        else:
            self._times.move_to_end(endpoint)
        line.learn(tokens, seconds)
        self._follow(waited + seconds)

    def fit(self, endpoint: str) -> tuple[float, float]:
        """C and K of an endpoint, seconds; those of all together where it is not known."""
        return self._times.get(endpoint, self._everywhere).fit()

    def _remember(self, seconds: float) -> None:
        self._came.append(seconds)
        insort(self._sorted, seconds)
        if len(self._came) > _KEPT:
            del self._sorted[bisect_left(self._sorted, self._came.popleft())]

    def _follow(self, total: float) -> None:
        """The 99th percentile by its own gradient: up by 99 steps for each one above it, down by one for the others."""
        if not self._slow:
            self._slow = total
            return
        step = 0.002 * self._slow
        self._slow += 99 * step * min(1.0, (total - self._slow) / self._slow) if total > self._slow else -step
