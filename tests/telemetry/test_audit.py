import json
import logging
from collections.abc import Iterator

import pytest

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.payload.usage import Usage
from extproc.telemetry.audit import LOGGER, AuditLog


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    audit = logging.getLogger(LOGGER)
    audit.setLevel(logging.NOTSET)
    yield audit
    audit.setLevel(logging.NOTSET)


def test_it_is_silent_until_its_own_level_is_set(caplog: pytest.LogCaptureFixture, logger: logging.Logger) -> None:
    caplog.set_level(logging.DEBUG)
    audit = AuditLog()
    audit(ExchangeRecord(ending=Ending.COMPLETED))
    assert caplog.records == []
    logger.setLevel(logging.INFO)
    audit(ExchangeRecord(ending=Ending.COMPLETED))
    assert len(caplog.records) == 1
    assert AuditLog()._logger.level == logging.INFO


def test_one_json_line_tells_the_decision_and_leaves_out_what_is_unknown(
    caplog: pytest.LogCaptureFixture, logger: logging.Logger
) -> None:
    logger.setLevel(logging.INFO)
    audit = AuditLog(now=lambda: 1_700_000_000.25)
    audit(
        ExchangeRecord(
            operation="chat_completions",
            route="demo/rule\n1",
            target="provider/qwen",
            requested_model="x\ud800" + "y" * 500,
            status=200,
            ending=Ending.CLIENT_GONE,
            usage=Usage(prompt_tokens=3, completion_tokens=0, cached_tokens=1),
            usage_estimated=True,
            started=5.0,
            first_token=5.25,
            ended=6.5,
        )
    )
    (entry,) = caplog.records
    message = entry.getMessage()
    assert "\n" not in message
    assert json.loads(message) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "ending": "client_gone",
        "status": 200,
        "operation": "chat_completions",
        "route": "demo/rule\ufffd1",
        "target": "provider/qwen",
        "requested_model": "x\ufffd" + "y" * 126,
        "prompt_tokens": 3,
        "completion_tokens": 0,
        "cached_tokens": 1,
        "tokens_estimated": True,
        "seconds": 1.5,
        "first_token_seconds": 0.25,
    }
