from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.resources.source import MAX_BYTES, MAX_DEPTH, parse, read

FILE = Path("f.yaml")


def value(text: str) -> Any:
    source = parse(text, FILE)
    assert source.problems == []
    return source.documents[0].root.plain()


def problems(text: str) -> list[str]:
    return [str(each) for each in parse(text, FILE).problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".", "."),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("True", True),
        ("tRUE", "tRUE"),
        ("~", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("|\n  1", "1"),
        ("${dashscope的API_KEY}", "${dashscope的API_KEY}"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, expected: object) -> None:
    found = value(f"a: {text}")["a"]
    assert found == expected
    assert type(found) is type(expected)


def test_field_names_are_what_is_written() -> None:
    assert value("on: 1\n2: 3\nnull: 4") == {"on": 1, "2": 3, "null": 4}


def test_lines_of_places() -> None:
    (document,) = parse("a:\n  b:\n    - x: 1\n\n    - y:\n        z\n", FILE).documents
    lines = {path: document.root.line_of(path) for path in [(), ("a",), ("a", "b"), ("a", "b", 1), ("a", "b", 1, "y")]}
    assert lines == {(): 1, ("a",): 1, ("a", "b"): 2, ("a", "b", 1): 5, ("a", "b", 1, "y"): 5}
    assert document.root.line_of(("a", "b", 0, "none", 7)) == 3
    assert document.root.line_of(("a", "b", 9)) == 2


def test_duplicate_fields() -> None:
    assert problems("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 4\n") == [
        "f.yaml:5: duplicate field `c`, first on line 3",
        "f.yaml:6: duplicate field `a`, first on line 1",
    ]


def test_aliases_repeat_values() -> None:
    assert value("a: &x {b: [1]}\nc: *x\nd: *x") == {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1]}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &a [*a]", "f.yaml:1: alias `*a` names no anchor before it"),
        ("a: &a 1\n---\nb: *a", "f.yaml:3: alias `*a` names no anchor before it"),
        ("a: !!binary aGk=", "f.yaml:1: tag `tag:yaml.org,2002:binary` is not supported; write the value without it"),
        ("? [a]\n: b", "f.yaml:1: a field name must be a plain string"),
        ("a: b: c", "f.yaml:1: not valid YAML: mapping values are not allowed in this context"),
        (
            "a: 1\n\tb: 2",
            "f.yaml:2: not valid YAML: while scanning a plain scalar, found a tab character",
        ),
        ("a\x00b", "f.yaml:1: not valid YAML: control characters are not allowed"),
        ("[" * (MAX_DEPTH + 2), f"f.yaml:1: nested more than {MAX_DEPTH} levels deep"),
        ("- " * 10_000 + "a", f"f.yaml:1: nested more than {MAX_DEPTH} levels deep"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    (found,) = problems(text)
    assert found.startswith(expected)


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 30)]
    (found,) = problems("\n".join(lines))
    assert found.endswith("holds more than 200000 values")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    assert [str(each) for each in read(file).problems] == [f"{file}:2: not valid UTF-8; save the file as UTF-8"]
    file.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(file).documents[0].root.plain() == {"a": 1}
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    assert [str(each) for each in read(file).problems] == [f"{file}: larger than {MAX_BYTES} bytes"]


WORDS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]) | st.sampled_from("\n\t"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(WORDS, JSON, max_size=4), st.sampled_from([None, 2]))
def test_json_is_read_as_json(written: dict[str, Any], indent: int | None) -> None:
    assert value(json.dumps(written, ensure_ascii=False, indent=indent)) == written


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    parse(text, FILE)
