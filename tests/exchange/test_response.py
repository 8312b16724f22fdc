"""Answers that filters look into, errors included."""

from __future__ import annotations

import gzip
import json

import msgspec
import pytest

from extproc.exchange.exchange import Exchange
from extproc.exchange.values import BodyMode, BodyReply, Decision, HeadersReply, ResponsePlan
from extproc.payload.guard.fields import TextChannel

JSON = {":status": b"500", "content-type": b"application/json"}
ERROR = b'{"error":{"message":"no such user: SECRET","type":"t","code":"c","param":null}}'


class Piece(msgspec.Struct):
    text: str
    denied: bool = False


class Covering:
    """Covers the word SECRET, and denies POISON."""

    def feed(self, text: str, *, end: bool) -> Piece:
        return Piece(text.replace("SECRET", "***"), "POISON" in text)


def covering(_channel: TextChannel, /) -> Covering:
    return Covering()


GUARDED = ResponsePlan(open_filter=covering, fail_closed=True, refusal="no")
RESTORED = ResponsePlan(open_filter=covering)


def answer(plan: ResponsePlan, headers: dict[str, bytes], body: bytes) -> tuple[HeadersReply, BodyReply]:
    exchange = Exchange(1000)
    exchange.request_headers(end=True)
    exchange.decided(Decision({}, plan=plan))
    opened = exchange.response_headers(headers, end=False)
    return opened, BodyReply() if opened.mode is BodyMode.NONE else exchange.response_body(body, end=True, now=0.0)


@pytest.mark.parametrize("plan", [GUARDED, RESTORED])
@pytest.mark.parametrize("status", [b"400", b"429", b"503", b"302"])
def test_the_text_of_an_error_is_filtered(plan: ResponsePlan, status: bytes) -> None:
    opened, reply = answer(plan, {**JSON, ":status": status, "content-length": b"%d" % len(ERROR)}, ERROR)
    assert opened.mode is BodyMode.BUFFERED
    assert reply.body == ERROR.replace(b"SECRET", b"***")
    assert dict(reply.set_headers) == {"content-length": b"%d" % (len(ERROR) - 3)}


def test_a_compressed_error_is_filtered() -> None:
    opened, reply = answer(GUARDED, {**JSON, "content-encoding": b"gzip"}, gzip.compress(ERROR))
    assert "content-encoding" in opened.remove_headers
    assert reply.body == ERROR.replace(b"SECRET", b"***")


def test_an_error_that_is_denied_becomes_another_one() -> None:
    _, reply = answer(GUARDED, JSON, ERROR.replace(b"SECRET", b"POISON"))
    assert reply.body is not None
    assert b"POISON" not in reply.body
    assert json.loads(reply.body)["error"]["code"] == "content_filter"


@pytest.mark.parametrize("content_type", [b"text/html", b"text/plain", b""])
def test_an_error_that_is_no_json_loses_its_text_where_nothing_may_pass_unseen(content_type: bytes) -> None:
    headers = {":status": b"502", "content-type": content_type, "content-length": b"6"}
    opened, reply = answer(GUARDED, headers, b"SECRET")
    assert opened.remove_headers == ("content-length",)
    assert reply == BodyReply(body=b"")
    assert answer(RESTORED, headers, b"SECRET")[0].mode is BodyMode.NONE


def test_an_error_is_never_kept_and_its_other_edits_stay_off() -> None:
    assert answer(ResponsePlan(model="m"), JSON, ERROR)[0].mode is BodyMode.NONE
    exchange = Exchange(1000)
    exchange.request_headers(end=True)
    exchange.decided(Decision({}, plan=ResponsePlan(open_filter=covering, keep=1000)))
    exchange.response_headers(JSON, end=False)
    exchange.response_body(ERROR, end=True, now=0.0)
    assert exchange.kept is None


def test_an_upgraded_connection_is_left_alone() -> None:
    assert answer(GUARDED, {":status": b"101"}, b"")[0].mode is BodyMode.NONE
