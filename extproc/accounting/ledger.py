"""The one place where an exchange that has ended is accounted for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from extproc.accounting.estimator import OUTLIER, Estimator
from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.payload.usage import Usage

Sink = Callable[[ExchangeRecord], None]

_logger = logging.getLogger("sluice.accounting")


class UsageLedger:
    """Completes records and hands each to every sink, by name, in the order given.

    `failed` is told the name of a sink that raised; the exchange and the other sinks do not notice.
    """

    def __init__(
        self,
        estimator: Estimator,
        sinks: Mapping[str, Sink],
        *,
        failed: Callable[[str], None] = lambda _sink: None,
    ) -> None:
        self._estimator = estimator
        self._sinks = tuple(sinks.items())
        self._failed = failed
        self.failures: Counter[str] = Counter()
        """Records that a sink did not take, by its name."""

    def settle(self, record: ExchangeRecord) -> None:
        """Fill in the usage or learn from it, then pass the record on. Called from the exchange's one exit.

        Never raises.
        """
        self._complete(record)
        for name, sink in self._sinks:
            try:
                sink(record)
            except Exception:
                if self._count(name):
                    _logger.exception("%s did not take a record (failure %d)", name, self.failures[name])

    def _complete(self, record: ExchangeRecord) -> None:
        model = record.target_model or record.requested_model
        if not record.consumes:
            record.usage = None
        elif record.usage is None:
            if _consumed_tokens(record):
                record.usage = self._estimated(record, model)
                record.usage_estimated = True
        elif record.ending is Ending.COMPLETED:
            # Only a whole answer's bytes belong to the whole answer's tokens.
            if model and not record.usage_estimated:
                sizes = record.prompt_bytes, record.completion_bytes if record.answers_text else 0
                self._estimator.learn(model, *sizes, record.usage, events=record.events)
        elif record.ending is Ending.CLIENT_GONE and record.answers_text:
            self._extend(record, model, record.usage)

    def _estimated(self, record: ExchangeRecord, model: str) -> Usage:
        if record.unseen:  # nothing is known of the answer's size: it counts as one of the model's usual length
            prompt, answer = self._estimator.expect(model, record.prompt_bytes)
            return Usage(prompt_tokens=prompt, completion_tokens=max(1, answer))
        sizes = record.prompt_bytes, record.completion_bytes if record.answers_text else 0
        return self._estimator.estimate(model, *sizes, events=record.events)

    def _extend(self, record: ExchangeRecord, model: str, usage: Usage) -> None:
        """Some providers state a first usage before the first token; the rest never came if the client left."""
        flowed = self._estimator.estimate(model, 0, record.completion_bytes, events=record.events).completion_tokens
        if flowed > OUTLIER * usage.completion_tokens:
            record.usage = msgspec.structs.replace(usage, completion_tokens=flowed)
            record.usage_estimated = True

    def _count(self, sink: str) -> bool:
        """Count a failure. True at powers of two: a broken sink must not fill the log."""
        count = self.failures[sink] = self.failures[sink] + 1
        try:
            self._failed(sink)
        except Exception:
            _logger.exception("the failure of %s could not be counted", sink)
        return count & (count - 1) == 0

    def __repr__(self) -> str:
        return f"<UsageLedger to {', '.join(name for name, _ in self._sinks) or 'nobody'}>"


def _consumed_tokens(record: ExchangeRecord) -> bool:
    """Whether a destination worked on tokens for an answer that reports none."""
    if not 200 <= record.status < 300:
        return False
    if record.ending is Ending.COMPLETED:
        return record.prompt_bytes > 0 or record.completion_bytes > 0
    return record.ending is Ending.CLIENT_GONE and (record.completion_bytes > 0 or record.unseen)
