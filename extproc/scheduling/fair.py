"""Weighted fair queueing over workloads and, inside a workload, fairness keys.

Start-time virtual clocks (algorithms page, section 3): a flow is one fairness key of one workload. Its head costs
`tokens / priority x flows of that workload that wait` and finishes at `flow.vt + cost`; the earliest finish is next; on
admission `flow.vt` and the global clock move to that finish. A new flow starts at the global clock. Only heads are on
the heap. Dead entries (left, expired, evicted) stay in the heaps until they surface or outnumber the living.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from extproc.scheduling.job import Job

Item = TypeVar("Item")
FlowKey = tuple[str, str]
"""Workload and fairness key."""
_SPARE = 64
"""Dead entries that are not worth a cleaning."""
_DEBTORS = 10_000


class Order(Protocol):
    """Who is first among requests of one flow: the lowest key, then who came first.

    Asked once, when the request starts to wait. It cannot help anybody past another flow: flows are ordered by what
    they cost, corrected by what they really used.
    """

    by_ratio: bool
    """Keys are seconds of service, and the highest (wait + service) / service is first whenever one is served."""

    def key(self, job: Job, now: float) -> float: ...

    def learn(self, endpoint: str, tokens: int, seconds: float, waited: float = 0.0) -> None:
        """An answer came to its end: `job.endpoint`, its real output, how long it took, how long it waited before."""
        ...


class QueueFull(Exception):
    """The request cannot even wait."""


class Entry(Generic[Item]):
    """One waiting request."""

    __slots__ = ("alive", "came", "cost", "deadline", "flow", "item", "key", "number", "seconds")

    def __init__(self, item: Item, flow: _Flow[Item], cost: float, key: float, number: int, deadline: float) -> None:
        self.item = item
        self.flow = flow
        self.cost = cost
        self.key = key
        self.number = number
        self.deadline = deadline
        self.alive = True
        self.came = 0.0
        self.seconds = 0.0
        """Expected service, where the order is that of the response ratio."""

    def __lt__(self, other: Entry[Item]) -> bool:
        return (self.key, self.number) < (other.key, other.number)

    def __repr__(self) -> str:
        return f"<Entry {self.number} of {self.flow.key} cost={self.cost:g} {'waits' if self.alive else 'gone'}>"


class _Workload(Generic[Item]):
    """Flows of one name and priority."""

    __slots__ = ("flows", "latest", "name", "priority", "tokens", "waiting")

    def __init__(self, name: str, priority: float) -> None:
        self.name = name
        self.priority = priority
        self.flows = 0
        self.waiting = 0
        self.tokens = 0.0
        self.latest: list[Entry[Item]] = []


class _Flow(Generic[Item]):
    __slots__ = ("heap", "key", "tokens", "version", "vt", "waiting", "workload")

    def __init__(self, key: FlowKey, workload: _Workload[Item], vt: float) -> None:
        self.key = key
        self.workload = workload
        self.vt = vt
        self.heap: list[Entry[Item]] = []
        self.waiting = 0
        self.tokens = 0.0
        self.version = 0


class FairQueue(Generic[Item]):
    """Bounded. All operations are O(log n), cleaning amortised."""

    def __init__(self, max_size: int, max_per_flow: int) -> None:
        self.max_size = max_size
        self.max_per_flow = max_per_flow
        self.vt = 0.0
        self.waiting = 0
        self.tokens = 0.0
        self._number = 0
        self._flows: dict[tuple[FlowKey, float], _Flow[Item]] = {}
        self._workloads: dict[tuple[str, float], _Workload[Item]] = {}
        self._heads: list[tuple[float, int, int, _Flow[Item]]] = []
        self._deadlines: list[tuple[float, int, Entry[Item]]] = []
        self._debts: OrderedDict[tuple[FlowKey, float], float] = OrderedDict()

    def __len__(self) -> int:
        return self.waiting

    def __repr__(self) -> str:
        return f"<FairQueue {self.waiting} of {self.max_size} in {len(self._flows)} flows, vt={self.vt:g}>"

    def push(
        self, item: Item, flow_key: FlowKey, priority: float, cost: float, deadline: float, key: float = 0.0
    ) -> Entry[Item]:
        """The new entry. Raises QueueFull; `victim` names whom the caller may remove to make room."""
        flow = self._flows.get((flow_key, priority))
        if self.waiting >= self.max_size or (flow is not None and flow.waiting >= self.max_per_flow):
            raise QueueFull
        if flow is None:
            flow = self._new_flow(flow_key, priority)
        self._number += 1
        entry = Entry(item, flow, cost, key, self._number, deadline)
        heappush(flow.heap, entry)
        self._count(flow, 1, cost)
        if flow.heap[0] is entry:
            self._offer(flow)
        workload = flow.workload
        workload.latest.append(entry)
        if len(workload.latest) > 2 * workload.waiting + _SPARE:
            workload.latest = [kept for kept in workload.latest if kept.alive]
        if deadline != math.inf:
            heappush(self._deadlines, (deadline, entry.number, entry))
        return entry

    def head(self) -> Entry[Item] | None:
        """Who is next. The same until an entry comes, leaves or is admitted."""
        heads = self._heads
        while heads:
            finish, number, version, flow = heads[0]
            if version != flow.version:
                heappop(heads)
                continue
            current = self._finish(flow)
            if current > finish:  # flows have joined the workload since
                heappop(heads)
                heappush(heads, (current, number, version, flow))
                continue
            return flow.heap[0]
        return None

    def age(self, now: float) -> None:
        """Puts the highest response ratio first in the flow whose turn it is. Takes time by the length of that flow."""
        head = self.head()
        if head is None:
            return
        flow = head.flow
        flow.heap = [kept for kept in flow.heap if kept.alive]
        for entry in flow.heap:
            entry.key = (entry.came - now) / entry.seconds
        heapify(flow.heap)
        if flow.heap[0] is not head:
            self._offer(flow)

    def admit(self, entry: Entry[Item]) -> None:
        """`entry`, which was the head when it was offered, leaves as served: the clocks move."""
        flow = entry.flow
        flow.vt += entry.cost / flow.workload.priority * flow.workload.flows
        self.vt = max(self.vt, flow.vt)
        self.remove(entry)

    def remove(self, entry: Entry[Item]) -> None:
        """Harmless for an entry that is gone."""
        if not entry.alive:
            return
        entry.alive = False
        flow = entry.flow
        self._count(flow, -1, -entry.cost)
        if len(self._deadlines) > 2 * self.waiting + _SPARE:
            self._deadlines = [kept for kept in self._deadlines if kept[2].alive]
            heapify(self._deadlines)
        if not flow.waiting:
            self._drop(flow)
            return
        heap = flow.heap
        if heap[0] is entry:
            while not heap[0].alive:
                heappop(heap)
            self._offer(flow)
        elif len(heap) > 2 * flow.waiting + _SPARE:
            flow.heap = [kept for kept in heap if kept.alive]
            heapify(flow.heap)

    def expired(self, now: float) -> list[Entry[Item]]:
        """Entries whose deadline has come, removed."""
        gone: list[Entry[Item]] = []
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now or not deadlines[0][2].alive):
            entry = heappop(deadlines)[2]
            if entry.alive:
                self.remove(entry)
                gone.append(entry)
        return gone

    def next_deadline(self) -> float:
        """Infinity while nobody waits for a limited time."""
        while self._deadlines and not self._deadlines[0][2].alive:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def victim(self, priority: float) -> Entry[Item] | None:
        """Who has to go so that a request of `priority` may wait: the latest of the lowest priority below it."""
        lowest = min(
            (found for found in self._workloads.values() if found.priority < priority), key=_rank, default=None
        )
        if lowest is None:
            return None
        while lowest.latest and not lowest.latest[-1].alive:
            lowest.latest.pop()
        return lowest.latest[-1] if lowest.latest else None

    def correct(self, flow_key: FlowKey, priority: float, cost: float) -> None:
        """What a request really used, beyond what it was admitted for (negative: less). Paid by its flow's turn.

        A flow that does not wait at the moment remembers a debt only: credit is not saved up.
        """
        if not cost:
            return
        flow = self._flows.get((flow_key, priority))
        if flow is not None:
            flow.vt += cost / priority * flow.workload.flows
            self._offer(flow)
            return
        known = max(self.vt, self._debts.pop((flow_key, priority), self.vt)) + cost / priority
        if known > self.vt:
            self._debts[flow_key, priority] = known
            if len(self._debts) > _DEBTORS:
                self._debts.popitem(last=False)

    def ahead(self, flow_key: FlowKey, priority: float) -> tuple[int, float]:
        """Requests and tokens that will be served before a newcomer of this flow, by its share; an estimate."""
        shares = 0.0
        for found in self._workloads.values():
            shares += found.priority
        workload = self._workloads.get((flow_key[0], priority))
        flow = self._flows.get((flow_key, priority))
        if workload is None:
            shares += priority
        if flow is None or workload is None:
            return 0, 0.0
        scale = shares / priority * workload.flows
        return min(self.waiting, math.ceil(flow.waiting * scale)), min(self.tokens, flow.tokens * scale)

    def flows(self, most: int) -> list[tuple[FlowKey, float, int, float]]:
        """Flow, priority, waiting requests and tokens; the longest first."""
        rows = [(flow.key, flow.workload.priority, flow.waiting, flow.tokens) for flow in self._flows.values()]
        return sorted(rows, key=lambda row: -row[2])[:most]

    def _new_flow(self, key: FlowKey, priority: float) -> _Flow[Item]:
        workload = self._workloads.get((key[0], priority))
        if workload is None:
            workload = self._workloads[key[0], priority] = _Workload(key[0], priority)
        workload.flows += 1
        flow = _Flow(key, workload, max(self.vt, self._debts.pop((key, priority), self.vt)))
        self._flows[key, priority] = flow
        return flow

    def _drop(self, flow: _Flow[Item]) -> None:
        """Nothing is lost: a flow's clock is behind the global one, unless it owes."""
        workload = flow.workload
        flow.version += 1
        del self._flows[flow.key, workload.priority]
        workload.flows -= 1
        if not workload.flows:
            del self._workloads[workload.name, workload.priority]
        if flow.vt > self.vt:
            self._debts[flow.key, workload.priority] = flow.vt
            if len(self._debts) > _DEBTORS:
                self._debts.popitem(last=False)

    def _finish(self, flow: _Flow[Item]) -> float:
        return flow.vt + flow.heap[0].cost / flow.workload.priority * flow.workload.flows

    def _offer(self, flow: _Flow[Item]) -> None:
        flow.version += 1
        heappush(self._heads, (self._finish(flow), flow.heap[0].number, flow.version, flow))
        if len(self._heads) > 2 * len(self._flows) + _SPARE:
            self._heads = [head for head in self._heads if head[2] == head[3].version]
            heapify(self._heads)

    def _count(self, flow: _Flow[Item], number: int, cost: float) -> None:
        for counter in (flow, flow.workload):
            counter.waiting += number
            counter.tokens += cost
        self.waiting += number
        self.tokens = self.tokens + cost if self.waiting else 0.0


def _rank(workload: _Workload[Item]) -> float:
    return workload.priority
