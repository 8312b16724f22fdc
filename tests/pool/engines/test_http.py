"""Answers as servers send them, cut anywhere, and answers that no server should send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.pool.engines.http import BadResponse, Response, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
LIMIT = 1000


def read(*parts: bytes, ends: bool = False) -> Response | None:
    """What comes of these parts, given one after the other."""
    reader = ResponseReader(LIMIT)
    for part in parts:
        if response := reader.feed(part):
            return response
    return reader.end() if ends else None


ANSWERS = [
    (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    (OK + b"content-length:0\r\n\r\n", b"", True),
    (OK + b"Content-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", b"hello", False),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"hello", True),
    (OK + b"transfer-encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n", b"0123456789", True),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok", True),
    (b"HTTP/1.1 204\r\n\r\n", b"", True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
]


@pytest.mark.parametrize(("answer", "body", "reusable"), ANSWERS)
def test_a_response_wherever_it_is_cut(answer: bytes, body: bytes, reusable: bool) -> None:
    status = 204 if b" 204" in answer else 200
    assert read(*(answer[n : n + 1] for n in range(len(answer)))) == Response(status, body, reusable)
    for cut in range(len(answer) + 1):
        assert read(answer[:cut], answer[cut:]) == Response(status, body, reusable)


@pytest.mark.parametrize("answer", [answer for answer, _, _ in ANSWERS])
def test_what_follows_a_response_ends_the_connection(answer: bytes) -> None:
    response = read(answer + b"HTTP/1.1 200 OK\r\n")
    assert response is not None
    assert not response.reusable


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    assert read(OK + b"\r\n", b"hel", b"lo") is None
    assert read(OK + b"\r\n", b"hel", b"lo", ends=True) == Response(200, b"hello", reusable=False)
    assert read(OK + b"\r\n", ends=True) == Response(200, b"", reusable=False)


@pytest.mark.parametrize("answer", [answer for answer, _, _ in ANSWERS])
def test_a_connection_that_ends_too_early(answer: bytes) -> None:
    for cut in range(len(answer)):
        with pytest.raises(BadResponse, match="within the answer"):
            read(answer[:cut], ends=True)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 1001\r\n\r\n",
        OK + b"\r\n" + b"x" * 1001,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + (b"\r\n64\r\n" + b"x" * 100) * 10,
        OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * 1001,
    ],
)
def test_a_body_beyond_the_limit_is_let_go(answer: bytes) -> None:
    assert read(answer) == Response(200, None, reusable=False)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\r\n\r\n",
        b"x" * 70_000,
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 5, 5\r\n\r\n",
        OK + b"Content-Length: \r\n\r\n",
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 2000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"x" * 70_000,
    ],
)
def test_what_is_no_response(answer: bytes) -> None:
    with pytest.raises(BadResponse):
        read(answer)


def test_many_tiny_chunks_are_refused() -> None:
    reader = ResponseReader(1_000_000)
    with pytest.raises(BadResponse, match="bad chunk"):
        reader.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000)


_SHREDS = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 100\r\n\r\n",
        b"\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"3\r\n",
        b"0\r\n",
    ]
)


@given(st.lists(_SHREDS | st.binary(max_size=8), max_size=30))
def test_any_bytes_are_a_response_or_none(parts: list[bytes]) -> None:
    try:
        response = read(*parts, ends=True)
    except BadResponse:
        return
    assert response is not None
    assert 0 <= response.status <= 999
    assert response.body is None or len(response.body) <= LIMIT
