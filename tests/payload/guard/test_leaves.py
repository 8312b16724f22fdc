"""Leaves of JSON: found at any depth, with their keys, and replaced in place."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.payload.errors import PayloadError
from extproc.payload.guard.leaves import (
    DEEPEST,
    MOST_VALUES,
    UNKNOWN,
    LeafKind,
    address_of,
    join_surrogates,
    leaves_of,
    splice,
    string_at,
)
from extproc.payload.guard.schema import TEXT, Schema, array, fields
from tests.payload.streams import LETTERS


def is_of_numbers(value: Any) -> bool:
    """Whether an array begins with a number, or with an array that does."""
    first = value[0] if value else None
    if isinstance(first, list) and first:
        first = first[0]
    return isinstance(first, int | float) and not isinstance(first, bool)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """What `leaves_of` should find."""
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in paths(inner, (*path, key))]
    if isinstance(value, list):
        if is_of_numbers(value):
            return [(path, value)]
        return [each for place, inner in enumerate(value) for each in paths(inner, (*path, place))]
    return [(path, value)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(LETTERS, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(LETTERS, max_size=4), inner, max_size=3),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(LETTERS, max_size=4), VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_all_leaves_with_their_paths(body: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode()
    leaves = [leaf for leaf in leaves_of(data, UNKNOWN, descend=True).items if leaf.kind is not LeafKind.KEY]
    found = [(leaf.path, json.loads(data[leaf.start : leaf.end])) for leaf in leaves]
    assert found == paths(body)
    for leaf in leaves:
        if leaf.kind is LeafKind.STRING:
            assert string_at(data, leaf) == json.loads(data[leaf.start : leaf.end])


def test_containers_taken_whole() -> None:
    data = b'{"input":{"a":[{"input":{}}]},"x":[{"input":[1, 2]},{"input":3}]}'
    item = fields(input=TEXT)
    leaves = leaves_of(data, Schema(fields={"input": TEXT, "x": array(item)})).items
    assert [(leaf.path, data[leaf.start : leaf.end], leaf.kind) for leaf in leaves] == [
        (("input",), b'{"a":[{"input":{}}]}', LeafKind.CONTAINER),
        (("x", 0, "input"), b"[1, 2]", LeafKind.CONTAINER),
        (("x", 1, "input"), b"3", LeafKind.SCALAR),
    ]


def test_elements_by_index_or_id() -> None:
    data = b'{"c":[{"t":"a","index":7},{"id":"z","t":"b"},{"id":"y","t":"c","index":2},{"t":"d"}]}'
    leaves = leaves_of(data, UNKNOWN, descend=True)
    found = [address_of(leaves, leaf) for leaf in leaves.items if leaf.path[-1] == "t" and leaf.kind is LeafKind.STRING]
    assert found == [("c", 7, "t"), ("c", b"z", "t"), ("c", 2, "t"), ("c", 3, "t")]


@pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b'{"x":[{"b":1,"\\u0062":2}]}', b'{"input":{"a":1,"a":2}}'])
def test_a_key_that_comes_twice_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadError) as caught:
        leaves_of(data, UNKNOWN)
    assert caught.value.code == "duplicate_key"


def test_too_many_values_are_refused() -> None:
    with pytest.raises(PayloadError) as caught:
        leaves_of(b'{"a":[' + b"null," * MOST_VALUES + b"1]}", UNKNOWN, descend=True)
    assert caught.value.code == "too_many_values"


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(PayloadError) as caught:
        leaves_of(b'{"a":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}", UNKNOWN)
    assert caught.value.code == "too_deep"


def test_names_that_are_not_known_are_leaves() -> None:
    data = b'{"known":{"b":1},"x y":{"c":2}}'
    leaves = leaves_of(data, Schema(fields={"known": fields(a=TEXT)})).items
    assert [(leaf.path, data[leaf.start : leaf.end], leaf.kind) for leaf in leaves] == [
        (("known", "b"), b'"b"', LeafKind.KEY),
        (("known", "b"), b"1", LeafKind.SCALAR),
        (("x y",), b'"x y"', LeafKind.KEY),
        (("x y",), b'{"c":2}', LeafKind.CONTAINER),
    ]


def test_splicing() -> None:
    assert splice(b"0123456789", [(1, 3, b"x"), (3, 4, b""), (9, 10, b"yz")]) == b"0x45678yz"


def test_surrogates() -> None:
    data = rb'{"a":"x\ud83d"}'
    assert string_at(data, leaves_of(data, fields(a=TEXT)).items[0]) == "x\ud83d"
    assert join_surrogates("\ud83d\ude00 é") == "😀 é"
    assert join_surrogates("\ude00a\ud83d") == "\ufffda\ufffd"
