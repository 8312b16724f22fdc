from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.simulate.trace import TraceError, TraceRequest, at_once, compressed, in_bursts, read_trace
from tests.simulate.build import trace

MOONCAKE = (
    b'{"timestamp": 3000, "input_length": 1100, "output_length": 7, "hash_ids": [4, 5, 6]}\n'
    b'{"timestamp": 1000, "input_length": 512, "output_length": 0, "hash_ids": [4]}\n\n'
)
AZURE = (
    b'{"TIMESTAMP": "2023-11-16 18:15:46.6805900", "ContextTokens": "374", "GeneratedTokens": "44"}\n'
    b'{"TIMESTAMP": "2023-11-16 18:15:50.9305900", "ContextTokens": "9", "GeneratedTokens": "1"}\n'
)


def test_mooncake_in_order_with_full_blocks_only(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl.gz"
    path.write_bytes(gzip.compress(MOONCAKE))
    read = read_trace(path)
    assert (read.name, read.block_tokens, read.seconds) == ("talk", 512, 2.0)
    assert read.requests == (TraceRequest(0.0, 512, 1, (4,)), TraceRequest(2.0, 1100, 7, (4, 5)))
    assert len(read_trace(path, limit=1).requests) == 1


def test_azure_without_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "azure.jsonl"
    path.write_bytes(AZURE)
    assert read_trace(path).requests == (TraceRequest(0.0, 374, 44), TraceRequest(4.25, 9, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no requests"),
        (b"{}\n", ":1: "),
        (MOONCAKE + b"nonsense\n", ":4: "),
        (b'{"timestamp": 0, "input_length": 0, "output_length": 7, "hash_ids": []}', "at least one prompt token"),
        (AZURE.replace(b"2023", b"MMXX"), ":1: "),
        (gzip.compress(MOONCAKE, mtime=0)[:-20], "talk"),
    ],
)
def test_what_is_no_trace_is_told_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message):
        read_trace(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_trace_or_a_trace_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(TraceError):
        read_trace(path)


def test_retiming_changes_nothing_but_times() -> None:
    original = trace(*((float(number), 10 + number, 1, ()) for number in range(5)))
    assert [request.arrival for request in compressed(original, 2.0).requests] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert [request.arrival for request in in_bursts(original, 2).requests] == [0.0, 0.0, 2.0, 2.0, 4.0]
    assert at_once(original).seconds == 0.0
    assert [request.prompt_tokens for request in in_bursts(original, 3).requests] == [10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    "text",
    [
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799,48,10\n2023-11-16 18:17:05.4799,31,8\n",
        "\ufeffTimestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\r\n"
        "5,ChatGPT,48,10,58,Conversation log\r\n6.5,GPT-4,31,8,39,API log\r\n",
    ],
)
def test_csv_is_read_by_its_column_names(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(text.encode())
    found = [(one.arrival, one.prompt_tokens, one.output_tokens) for one in read_trace(path).requests]
    assert found == [(0.0, 48, 10), (pytest.approx(1.5), 31, 8)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "mine.csv:1: neither JSON lines nor CSV"),
        ("Timestamp,Request tokens,Response tokens\n1,2\n", ":2: 2"),
    ],
)
def test_csv_of_another_kind_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        read_trace(path)
