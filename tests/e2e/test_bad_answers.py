"""Answers that are huge, compressed into bombs or broken off, and clients that do not wait for theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.hostile import ANSWER_LIMIT, CHAT, CLOUD, GPUS, IMPATIENT, NAMED, STREAM, Stage
from tests.e2e.hostile import stage as hostile_stage
from tests.support.far_side import FarSide
from tests.support.gateway import Gateways
from tests.support.processes import wait_until
from tests.support.raw import NoReplyError, RawConnection, request

MIB = 2**20
ENCODINGS = ("gzip", "deflate", "br", "zstd")


@pytest.fixture(scope="module")
def stage(far_side: FarSide, gateways: Gateways) -> Iterator[Stage]:
    with hostile_stage(far_side, gateways) as found:
        yield found


def models(stream: bytes) -> set[str]:
    """Names of models in a stream's events."""
    data = [frame.removeprefix(b"data: ") for frame in stream.split(b"\n\n") if frame]
    return {json.loads(item)["model"] for item in data if item != b"[DONE]"}


@pytest.mark.parametrize(("host", "model"), [(CLOUD, "qwen-turbo"), (NAMED, "qwen3-8b")])
def test_a_line_of_ten_megabytes_passes(stage: Stage, host: str, model: str) -> None:
    """One event over the limit is not looked into, so it keeps the provider's name; all others are edited."""
    reply = stage.post(STREAM, host, x_sim="big-line:10000000")
    assert reply.status == 200
    assert b'"' + b"x" * 10_000_000 + b'"' in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert models(reply.body) == {model, "qwen-turbo"}
    assert b'"usage"' not in reply.body, "it was not asked for"


def test_a_json_answer_too_large_to_edit_passes_unedited(stage: Stage) -> None:
    reply = stage.post(CHAT, NAMED, x_sim=f"big-line:{2 * ANSWER_LIMIT}")
    assert reply.json["model"] == "qwen-turbo"
    assert len(reply.body) > 2 * ANSWER_LIMIT


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_that_is_only_counted_passes(stage: Stage, encoding: str) -> None:
    reply = stage.post(CHAT, x_sim=f"big-line:{3 * ANSWER_LIMIT},{encoding}")
    assert (reply.status, reply.headers["content-encoding"]) == (200, encoding)
    assert 0 < len(reply.body) < 100_000


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "streamed"])
def test_a_bomb_that_has_to_be_edited_breaks_the_answer(stage: Stage, encoding: str, body: bytes) -> None:
    """The client must not take what came before for a complete answer; where nothing did, it gets an error."""
    try:
        reply = stage.post(body, NAMED, x_sim=f"big-line:{3 * ANSWER_LIMIT},{encoding}")
    except NoReplyError as broken:
        assert len(broken.args[0]) < ANSWER_LIMIT
    else:
        assert (reply.status, reply.error["code"]) == (502, "unreadable_answer")
    assert stage.gateway.metric("sluice_exchanges_total", ending="unreadable_answer") > 0


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "streamed"])
def test_an_answer_that_breaks_off_is_a_502_or_a_broken_answer(stage: Stage, body: bytes) -> None:
    for host in (CLOUD, NAMED):
        try:
            reply = stage.post(body, host, x_sim="reset-mid,events:200")
        except NoReplyError:
            continue
        assert (reply.status, reply.error["code"]) == (502, "upstream_unavailable")


def test_a_destination_that_falls_silent_is_a_504_or_a_broken_answer(stage: Stage) -> None:
    reply = stage.post(STREAM, IMPATIENT, x_sim="delay:20000")
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
    with pytest.raises(NoReplyError, match="data: "):
        stage.post(STREAM, IMPATIENT, x_sim="slow-stream:20000")


LONG = CHAT[:-1] + b',"stream":true,"max_tokens":20000}'
HEAD = request(CHAT, host=CLOUD)[: -len(CHAT)]
Client = Callable[[RawConnection], object]
ABORTS: dict[str, Client] = {
    "within the headers": lambda c: c.send(HEAD[:40]),
    "behind the headers": lambda c: c.send(HEAD),
    "within the body": lambda c: c.send(HEAD + CHAT[:20]),
    "within a chunk": lambda c: c.send(
        HEAD.replace(b"content-length", b"transfer-encoding: chunked\r\nx") + b"ff\r\nabc"
    ),
    "right after the request": lambda c: c.send(request(CHAT, host=CLOUD, x_sim="delay:20000")),
    "right after a request to the pool": lambda c: c.send(request(LONG, host=GPUS)),
    "between pipelined requests": lambda c: c.send(request(LONG, host=GPUS) + request(CHAT, host=CLOUD)[:-3]),
    "within an answer": lambda c: c.send(request(STREAM, host=CLOUD, x_sim="slow-stream:20000")).interim(),
    "within an edited answer": lambda c: c.send(request(STREAM, host=NAMED, x_sim="slow-stream:20000")).interim(),
    "within an answer of the pool": lambda c: c.send(request(LONG, host=GPUS)).interim(),
}


def abort_all(stage: Stage, times: int) -> None:
    """Every abort so many times, in turns with a FIN and with a RST."""
    for i in range(times):
        for abort in ABORTS.values():
            with stage.connect() as connection:
                abort(connection)
                if i % 2:
                    connection.reset()
    wait_until(lambda: stage.in_flight() == 0, "every exchange to end")


def test_two_hundred_aborted_connections_leave_nothing_behind(stage: Stage) -> None:
    abort_all(stage, 2)  # what is made once, such as connections to destinations, exists from here on
    files, memory = stage.open_files(), stage.resident()
    abort_all(stage, 20)
    wait_until(lambda: sum(stage.open_files()) <= sum(files) + 8, f"files to be closed, {files} were open", 20)
    for before, after in zip(memory, stage.resident(), strict=True):
        assert after - before < 24 * MIB
    [pool] = json.loads(stage.gateway.admin_text("/endpoints"))
    assert [endpoint["in_flight"] for endpoint in pool["endpoints"]] == [0]
    assert stage.gateway.metric("sluice_exchanges_total", ending="client_gone") >= 22 * (len(ABORTS) - 1)
