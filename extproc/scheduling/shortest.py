"""Shortest job first inside one flow, by predicted duration, with a bound on how long anybody is passed over.

A request that came at `a` is expected to take T = C + K*N seconds; N is its predicted output, C and K are learned for
each endpoint. The guard against starvation says how far its length counts:

- `slack`: served by `a + slack * W * F(T)`, where W is the usual wait, the mean of those who had to, and F(T) is the
  share of recent requests that are expected to be shorter. It is ordered as if the longest had come `slack * W` later
  than the shortest: nobody is overtaken by a request that came more than that later, and who comes first among equals
  is first. Without waits it is first come, first served.
- `responseRatio`: the highest (wait + T) / T is next, so that a request that waits gains on all that are shorter.
- `none`: the shortest is next. Under load the longest wait for as long as shorter ones come.

An `Order` of `fair.FairQueue`: flows still share by what they cost, so a tenant that appears to be short only reorders
its own requests.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque

import msgspec

from extproc.scheduling.job import Job
from extproc.scheduling.workloads import Guard

_KEPT = 512
"""Recent durations that F is made of, and waits that the usual one is a mean of."""


class Shortness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings. Raises ValueError for numbers that make no sense."""

    guard: Guard = "slack"
    slack: float = 4.0
    """Usual waits by which the longest may be passed over. Chosen on one half of the recorded answers, by prompt, for
    at least 40 % of the unguarded gain and at most 1.25 of the 99th percentile; `bench/flow` shows the other half."""
    max_endpoints: int = 1024

    def __post_init__(self) -> None:
        if not 0 < self.slack < math.inf:
            raise ValueError("slack must be above 0")
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

    __slots__ = ("_came", "_everywhere", "_sorted", "_times", "_usual", "_waits", "by_ratio", "settings")

    def __init__(self, settings: Shortness | None = None) -> None:
        self.settings = settings or Shortness()
        self.by_ratio = self.settings.guard == "responseRatio"
        self._everywhere = ServiceTime()
        self._times: OrderedDict[str, ServiceTime] = OrderedDict()
        self._came: deque[float] = deque()
        self._sorted: list[float] = []
        self._usual = 0.0
        self._waits = 0

    def __repr__(self) -> str:
        return f"<Shortest {self.settings.guard} {self._usual:.2f} s {len(self._times)} endpoints {self._everywhere!r}>"

    @property
    def patience(self) -> float:
        """Seconds by which `slack` lets the longest request be passed over."""
        return self.settings.slack * self._usual

    def expected(self, job: Job) -> float:
        """Seconds that the request is expected to take once it is sent. What it asks for at most is a bound only."""
        return self._times.get(job.endpoint, self._everywhere).seconds(job.expected_output)

    def key(self, job: Job, now: float) -> float:
        seconds = self.expected(job)
        if self.settings.guard != "slack":
            return seconds
        rank = bisect_left(self._sorted, seconds) / len(self._sorted) if self._sorted else 0.5
        self._remember(seconds)
        return now + self.patience * rank

    def learn(self, endpoint: str, tokens: int, seconds: float, waited: float = 0.0) -> None:
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
        if waited > 0:
            self._waits = min(self._waits + 1, _KEPT)
            self._usual += (waited - self._usual) / self._waits

    def fit(self, endpoint: str) -> tuple[float, float]:
        """C and K of an endpoint, seconds; those of all together where it is not known."""
        return self._times.get(endpoint, self._everywhere).fit()

    def _remember(self, seconds: float) -> None:
        self._came.append(seconds)
        insort(self._sorted, seconds)
        if len(self._came) > _KEPT:
            del self._sorted[bisect_left(self._sorted, self._came.popleft())]
