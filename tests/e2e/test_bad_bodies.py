"""Request bodies that are malformed, too large, compressed or random, through the real Envoy."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.e2e.hostile import CHAT, CLOUD, GPUS, HEADERS, LIMIT, MODELS, STREAM, Stage
from tests.e2e.hostile import stage as hostile_stage
from tests.support.far_side import FarSide
from tests.support.gateway import Gateways, provider, route, write_manifests
from tests.support.processes import wait_until
from tests.support.raw import request, send

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.fixture(scope="module")
def stage(far_side: FarSide, gateways: Gateways) -> Iterator[Stage]:
    with hostile_stage(far_side, gateways) as found:
        yield found


def message(content: bytes) -> bytes:
    """A chat with a content that is written as it is, between quotes."""
    return b'{"model":"qwen3-8b","messages":[{"role":"user","content":"' + content + b'"}]}'


def padded(size: int) -> bytes:
    return CHAT.ljust(size)


MALFORMED = {
    "truncated": (b'{"messages":', "invalid_json", None),
    "an array": (b"[]", "not_an_object", None),
    "a number": (b"12", "not_an_object", None),
    "nothing": (b"", "empty_body", None),
    "white space": (b" \r\n", "empty_body", None),
    "no messages": (b'{"model":"a"}', "missing_field", "messages"),
    "empty messages": (b'{"messages":[]}', "missing_field", "messages"),
    "messages of the wrong type": (b'{"messages":"hi"}', "wrong_type", "messages"),
    "a message of the wrong type": (b'{"messages":[1]}', "wrong_type", "messages[0]"),
    "a message without role": (b'{"messages":[{}]}', "missing_field", "messages[0].role"),
    "content of the wrong type": (b'{"messages":[{"role":"user","content":1}]}', "wrong_type", "messages[0].content"),
    "model of the wrong type": (CHAT.replace(b'"qwen3-8b"', b"7"), "wrong_type", "model"),
    "an endless model": (CHAT.replace(b"qwen", b"q" * 10_000), "invalid_value", "model"),
    "stream of the wrong type": (STREAM.replace(b"true", b'"yes"'), "wrong_type", "stream"),
    "stream_options of the wrong type": (
        STREAM[:-1] + b',"stream_options":"usage"}',
        "wrong_type",
        "stream_options",
    ),
    "a key twice": (b'{"model":"a",' + CHAT[1:], "duplicate_key", "model"),
    "a NUL in a string": (message(b"a\0b"), "invalid_json", None),
    "a NUL behind": (CHAT + b"\0", "invalid_json", None),
    "deep arrays": (b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "too_deep", None),
    "deep objects": (b'{"x":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, "too_deep", None),
    "deep and unclosed": (b'{"x":' + b"[" * 100_000, "too_deep", None),
    "invalid UTF-8": (message(b"\xff\xfe"), "invalid_utf8", None),
    "a surrogate as bytes": (message(b"\xed\xa0\xbd"), "invalid_utf8", None),
    "half a surrogate pair": (message(rb"\ud83d"), "invalid_json", None),
    "UTF-16": (CHAT.decode().encode("utf-16"), "invalid_json", None),
    "a byte order mark": (b"\xef\xbb\xbf" + CHAT, "invalid_json", None),
    "NaN": (CHAT[:-1] + b',"temperature":NaN}', "invalid_json", None),
    "two documents": (CHAT + CHAT, "invalid_json", None),
    "a form": (b"model=a&messages=b", "invalid_json", None),
}


@pytest.mark.parametrize(("body", "code", "param"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_a_400_that_says_what_is_wrong(
    stage: Stage, body: bytes, code: str, param: str | None
) -> None:
    before = stage.count()
    reply = stage.post(body)
    error = reply.error
    assert (reply.status, error["code"], error["param"]) == (400, code, param)
    assert error["type"] == "invalid_request_error"
    assert len(reply.body) < 1000, "an error quotes little of what caused it"
    assert stage.count() == before


@pytest.mark.parametrize(
    "content",
    [rb"\u0000", rb"\ud83d\ude00", "好\u2028".encode(), rb"1e400", b"\x7f", b'","a":[1,{"a":1,"a":2}],"b":"'],
    ids=["escaped NUL", "a surrogate pair", "line separator", "text", "DEL", "a key twice further down"],
)
def test_unusual_but_valid_bodies_arrive_byte_for_byte(stage: Stage, content: bytes) -> None:
    assert stage.post(message(content)).status == 200
    assert stage.arrived()["body"].encode() == message(content).replace(b"qwen3-8b", b"qwen-turbo")


def test_an_unknown_host_is_named(stage: Stage) -> None:
    reply = stage.post(CHAT, "nobody.test")
    assert (reply.status, reply.error["code"]) == (404, "route_not_found")
    assert "nobody.test" in reply.error["message"]


def test_a_host_without_a_fitting_rule_is_named_with_the_path(stage: Stage) -> None:
    reply = stage.post(CHAT, HEADERS, path="/v1/chat/completions?x=1")
    assert (reply.status, reply.error["code"]) == (404, "route_not_found")
    assert HEADERS in reply.error["message"]
    assert "POST /v1/chat/completions" in reply.error["message"]
    assert stage.post(CHAT, HEADERS, x_tier="gold").status == 200


def test_an_unknown_model_is_named(stage: Stage) -> None:
    reply = stage.post(CHAT.replace(b"qwen3-8b", rb"gpt-\u0000\u00e9"), MODELS)
    error = reply.error
    assert (reply.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "gpt-" in error["message"]
    missing = stage.post(b'{"messages":[{"role":"user","content":"hi"}]}', MODELS)
    assert (missing.status, missing.error["param"]) == (400, "model")


def test_the_limit_is_exact(stage: Stage) -> None:
    assert stage.post(padded(LIMIT)).status == 200
    for host in (CLOUD, GPUS):
        reply = stage.post(padded(LIMIT + 1), host)
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")
        assert str(LIMIT) in reply.error["message"]


def head(*lines: str, host: str = CLOUD) -> bytes:
    return "".join(
        f"{line}\r\n" for line in ("POST /v1/chat/completions HTTP/1.1", f"host: {host}", *lines, "")
    ).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_body_that_is_announced_as_too_large_need_not_be_sent(stage: Stage) -> None:
    for lines in (["content-length: 9000000000"], ["content-length: 9000000000", "expect: 100-continue"]):
        reply = stage.send(head(*lines))
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("size", [LIMIT + 1, 8 * 2**20])
def test_a_chunked_body_is_stopped_at_the_limit(stage: Stage, size: int) -> None:
    before = stage.count()
    reply = stage.send(head("transfer-encoding: chunked") + chunk(padded(size)) + chunk(b""))
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")
    assert stage.count() == before


def test_a_client_may_wait_for_100_continue(stage: Stage) -> None:
    with stage.connect() as connection:
        connection.send(head("expect: 100-continue", f"content-length: {len(CHAT)}"))
        assert connection.interim() == 100
        assert connection.send(CHAT).reply().status == 200


@pytest.mark.parametrize("name", COMPRESS)
class TestCompressed:
    def test_it_is_decoded_for_the_destination(self, stage: Stage, name: str) -> None:
        assert stage.post(COMPRESS[name](CHAT), content_encoding=name).status == 200
        arrived = stage.arrived()
        assert json.loads(arrived["body"])["model"] == "qwen-turbo"
        assert "content-encoding" not in arrived["headers"]
        assert int(arrived["headers"]["content-length"]) == len(arrived["body"])

    def test_a_bomb_is_too_large(self, stage: Stage, name: str) -> None:
        bomb = COMPRESS[name](padded(50_000_000))
        assert len(bomb) < LIMIT
        reply = stage.post(bomb, content_encoding=name)
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")

    @pytest.mark.parametrize("damage", [lambda data: b"\0" + data, lambda data: data[:-3]], ids=["corrupt", "cut"])
    def test_damage_is_named(self, stage: Stage, name: str, damage: Callable[[bytes], bytes]) -> None:
        reply = stage.post(damage(COMPRESS[name](CHAT)), content_encoding=name)
        assert (reply.status, reply.error["code"]) == (400, "invalid_encoding")
        assert name in reply.error["message"]


def test_layers_of_encodings_are_decoded_and_unknown_ones_refused(stage: Stage) -> None:
    layered = gzip.compress(brotli.compress(CHAT))
    assert stage.post(layered, content_encoding="br, gzip").status == 200
    for encoding in ("lzma", "gzip, " * 10, "br, snappy"):
        reply = stage.post(layered, content_encoding=encoding)
        assert (reply.status, reply.error["code"]) == (415, "unsupported_encoding")


def test_what_is_no_json_is_refused_by_its_type(stage: Stage) -> None:
    for kind in ("application/octet-stream", "multipart/form-data; boundary=x", "\xff;;;"):
        reply = stage.post(CHAT, content_type=kind)
        assert (reply.status, reply.error["code"]) == (415, "not_json")


def test_a_key_that_goes_missing_at_run_time_is_replaced_by_the_last_good_one(
    far_side: FarSide, gateways: Gateways, tmp_path: Path
) -> None:
    """A configuration without a key is refused, at the start and at run time, so no request meets one."""
    cloud, key = far_side.provider(), tmp_path / "key"
    key.write_text("sk-simulated")
    found = provider("cloud", CLOUD, port=80, protocol="http", model="m", key=f"${{file:{key}}}")
    manifests = [found, route("cloud", CLOUD, {"backendRefs": [{"provider": "cloud"}]})]
    gateway = gateways.start(*manifests, hostAliases={CLOUD: cloud.address})
    assert send(gateway.port, request(CHAT, host=CLOUD)).status == 200
    key.write_text("")
    added = route("b", "b.test", *manifests[1]["spec"]["rules"])
    write_manifests(gateway.directory, *manifests, added, gateway.gateway_manifest())
    wait_until(lambda: gateway.metric("sluice_config_reloads_total", result="failure"), "the configuration's refusal")
    assert f"file {key} is empty" in gateway.filter.output()
    assert send(gateway.port, request(CHAT, host=CLOUD)).status == 200
    assert send(gateway.port, request(CHAT, host="b.test")).status == 404


ENCODINGS = st.sampled_from(["", "identity", *COMPRESS, "gzip, br", "x", "\xff", ",,"])
TYPES = st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded", "", "a/b", "\xff"])
PIECES = st.sampled_from([CHAT, STREAM, b"{", b"}", b"[", b'"', b":", b",", b"\0", b"\\u", b"\xff", b"1e999", b"null"])
BODIES = st.binary(max_size=400) | st.lists(PIECES, max_size=12).map(b"".join)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, encoding=ENCODINGS, kind=TYPES, packed=st.booleans())
@example(body=CHAT, encoding="zstd", kind="application/json", packed=True)
def test_random_bodies_get_an_answer_that_is_no_fault_of_ours(
    stage: Stage, body: bytes, encoding: str, kind: str, packed: bool
) -> None:
    if packed and encoding in COMPRESS:
        body = COMPRESS[encoding](body)
    reply = stage.send(request(body, host=CLOUD, content_encoding=encoding, content_type=kind))
    assert reply.status == 200 or 400 <= reply.status < 500
    if "x-sluice-reason" in reply.headers:
        assert reply.error["type"] == "invalid_request_error"
