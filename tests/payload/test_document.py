"""Documents: strict at the top level, and edits that leave every other byte alone."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from tests.payload.streams import LETTERS

BLANKS = st.text(alphabet=" \t\r\n", max_size=2).map(str.encode)
LITERALS = st.sampled_from(
    [
        b"1e400",
        b"-0",
        b"12345678901234567890123",
        b"1",
        b"12",
        b'"\\u0041\\/"',
        b'{"a" : [ ]}',
        b"[1,{}]",
        b'"a,\\"b\\":1"',
    ]
)
VALUES = st.one_of(
    LITERALS,
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 10**6) | st.text(LETTERS, max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)
KEYS = st.one_of(st.sampled_from(["a", "b", "model", "é", 'q"', "\\", ""]), st.text(LETTERS, max_size=4))


def written_key(key: str, how: int) -> bytes:
    """The key as one of the ways JSON allows: plain, ASCII only, or every character escaped."""
    if how == 2 and all(ord(c) < 0x10000 for c in key):
        return b'"' + b"".join(b"\\u%04x" % ord(c) for c in key) + b'"'
    return json.dumps(key, ensure_ascii=how == 1).encode()


@st.composite
def members(draw: st.DrawFn, *, unique: bool) -> list[tuple[str, bytes, bytes]]:
    """(key, raw value, the text of the member with white space)."""
    pairs = draw(st.lists(st.tuples(KEYS, VALUES), max_size=6, unique_by=(lambda pair: pair[0]) if unique else None))
    tight = draw(st.booleans())
    out = []
    for key, raw in pairs:
        name = written_key(key, draw(st.integers(0, 2)))
        a, b, c, d = (b"", b"", b"", b"") if tight else (draw(BLANKS), draw(BLANKS), draw(BLANKS), draw(BLANKS))
        out.append((key, raw, a + name + b + b":" + c + raw + d))
    return out


def text_of(parts: list[tuple[str, bytes, bytes]], blank: bytes = b"") -> bytes:
    return blank + b"{" + b",".join(text for _, _, text in parts) + b"}" + blank


def loads(body: bytes) -> dict[str, Any]:
    value = json.loads(body)
    assert isinstance(value, dict)
    return value


@given(members(unique=True), BLANKS)
def test_a_document_hands_out_the_very_bytes(parts: list[tuple[str, bytes, bytes]], blank: bytes) -> None:
    body = text_of(parts, blank)
    document = Document.parse(body)
    assert list(document) == [key for key, _, _ in parts]
    for key, raw, _ in parts:
        assert document.get(key) == raw
        span = document.span(key)
        assert span is not None
        assert body[span[1] : span[2]] == raw
        assert json.loads(body[span[0] : span[1]].rstrip(b" \t\r\n:")) == key


@given(members(unique=False), BLANKS)
def test_a_repeated_key_is_always_found_and_named(parts: list[tuple[str, bytes, bytes]], blank: bytes) -> None:
    keys = [key for key, _, _ in parts]
    body = text_of(parts, blank)
    if len(set(keys)) == len(keys):
        assert len(Document.parse(body)) == len(keys)
        return
    with pytest.raises(PayloadError) as caught:
        Document.parse(body)
    assert caught.value.code == "duplicate_key"
    assert keys.count(caught.value.param or "") > 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":12,"a":1}',
        b'{"a":1,"a":12}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"x":1,"b":2},"a":123456,"b":"........"}',
        b'{"a":["zz,",":1"],"a":"zz,",",":1}',
        b'{"a":"' + b"x" * 200_000 + b'" ,"a":"' + b"x" * 199_999 + b'y"}',
    ],
)
def test_repeated_keys_that_try_to_lead_the_walk_astray(body: bytes) -> None:
    with pytest.raises(PayloadError, match="more than once") as caught:
        Document.parse(body)
    assert (caught.value.code, caught.value.param) == ("duplicate_key", "a")


@given(
    members(unique=True),
    BLANKS,
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.sets(KEYS, max_size=3),
    st.lists(st.integers(0, 5), max_size=4),
)
@example([], b" ", {"a": b"1", "b": b"2"}, set(), [])
@example([("a", b"1", b' "a" : 1 ')], b"", {"b": b"2"}, {"a"}, [])
def test_an_edit_is_a_dict_edit_and_other_members_keep_their_bytes(
    parts: list[tuple[str, bytes, bytes]], blank: bytes, new: dict[str, bytes], drop: set[str], pick: list[int]
) -> None:
    keys = [key for key, _, _ in parts]
    picked = {keys[i] for i in pick if i < len(keys)}
    drop = drop | set(list(picked)[:1])
    new = new | dict.fromkeys(list(picked)[1:], b'"new"')
    body = text_of(parts, blank)
    edited = Document.parse(body).edit(new, drop)

    expected = {key: raw for key, raw, _ in parts if key not in drop}
    expected |= {key: raw for key, raw in new.items() if key not in drop}
    again = Document.parse(edited)
    assert {key: again.get(key) for key in again} == expected
    assert list(again) == list(expected)
    assert edited.startswith(blank + b"{")
    assert edited.endswith(b"}" + blank)
    for key, _, text in parts:
        if key in expected and key not in new:
            assert text.strip(b" \t\r\n") in edited


def test_exact_bytes_of_edits() -> None:
    body = b'{ "model" : "a" , "n":1e400,"big":12345678901234567890, "\\u0073tream":true }\n'
    document = Document.parse(body)
    assert document.edit({"model": b'"b"'}) == body.replace(b'"a"', b'"b"')
    assert document.edit({"stream": b"false"}) == body.replace(b"true", b"false")
    assert document.edit({}, ["n"]) == body.replace(b' , "n":1e400', b"")
    assert document.edit({}, ["model"]) == b'{ "n":1e400,"big":12345678901234567890, "\\u0073tream":true }\n'
    assert document.edit({}, ["stream", "big"]) == b'{ "model" : "a" , "n":1e400 }\n'
    assert document.edit({"x": b"1"}) == body.replace(b"true }", b'true,"x":1 }')
    assert document.edit({"x": b"1"}, ["model", "n", "big", "stream"]) == b'{ "x":1 }\n'
    assert Document.parse(b" { } ").edit({"x": b"1", 'y"': b"2"}) == b' {"x":1,"y\\"":2 } '
    assert Document.parse(b"{}").edit({"x": b"1"}) == b'{"x":1}'


def test_an_edit_without_effect_returns_the_same_object() -> None:
    body = b'{"model":"a","n":1}'
    document = Document.parse(body)
    assert document.edit({}) is body
    assert document.edit({"model": b'"a"'}, ["absent"]) is body
    assert document.edit({"n": b"2"}, ["n"]) == b'{"model":"a"}'


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "empty_body", "empty"),
        (b" \n", "empty_body", "empty"),
        (b'{"a":', "invalid_json", "ends too early (byte 5)"),
        (b'{"a":"\\ud800"}', "invalid_json", "not valid JSON"),
        (b"{} x", "invalid_json", "trailing characters (byte 4)"),
        (b"{}\0", "invalid_json", "byte 3"),
        (b'{"a":"\0"}', "invalid_json", "byte 6"),
        (b"\xef\xbb\xbf{}", "invalid_json", "byte order mark"),
        (b'{"a":NaN}', "invalid_json", "byte 5"),
        (b"[1]", "not_an_object", "expected `object`, got `array`"),
        (b"null", "not_an_object", "got `null`"),
        (b'{"\xff":1}', "invalid_utf8", "key"),
        (b'{"a":"\xff"}', "invalid_utf8", "(byte 6)"),
        (b'{"a":"' + "é".encode() * 70_000 + b'\xc3"}', "invalid_utf8", "(byte 140006)"),
        (b'{"a":"\xed\xa0\x80"}', "invalid_utf8", "(byte 6)"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep", "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep", "nested too deeply"),
    ],
)
def test_bodies_that_are_refused(body: bytes, code: str, words: str) -> None:
    with pytest.raises(PayloadError) as caught:
        Document.parse(body)
    assert caught.value.code == code
    assert words in str(caught.value)


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        assert isinstance(json.loads(Document.parse(data).body), dict)
    except PayloadError as error:
        assert error.code


def test_utf8_is_checked_across_pieces() -> None:
    text = "x" * 65_529 + "好" * 40_000
    document = Document.parse(json.dumps({"a": text}, ensure_ascii=False).encode())
    assert document.text("a") == text


def test_lone_surrogates_are_accepted_where_asked_for() -> None:
    body = b'{"x":"\\ud83d","model":"a","y":"\\\\ud800 \\ud83d\\ude00"}'
    document = Document.parse(body, lone_surrogates=True)
    assert document.edit({"model": b'"b"'}) == body.replace(b'"a"', b'"b"')
    with pytest.raises(PayloadError, match="not valid JSON"):
        Document.parse(b'{"x":"\\ud83d",}', lone_surrogates=True)


@pytest.mark.parametrize("body", [b'{"x":"\\ud83d"}', b'{"x":"\\ud83d and more"}', b'{"\\uDE00":1}'])
def test_an_unpaired_surrogate_is_called_by_its_name(body: bytes) -> None:
    with pytest.raises(PayloadError, match="surrogate escape without its pair") as caught:
        Document.parse(body)
    assert caught.value.code == "invalid_json"


def test_typed_values() -> None:
    document = Document.parse(b'{"s":"\\u0041","t":true,"i":7,"z":null,"f":1.5}')
    assert (document.text("s"), document.boolean("t"), document.integer("i")) == ("A", True, 7)
    assert (document.text("z"), document.boolean("z"), document.integer("z")) == (None, None, None)
    assert (document.text("-"), document.get("-"), document.raw("-"), document.span("-")) == (None,) * 4
    assert "z" in document
    for read, key in ((document.text, "t"), (document.boolean, "i"), (document.integer, "t"), (document.integer, "f")):
        with pytest.raises(PayloadError, match=f"'{key}' must be") as caught:
            read(key)
        assert (caught.value.code, caught.value.param) == ("wrong_type", key)


def test_a_large_body_is_edited_in_place() -> None:
    body = b'{"model":"a", "data":"' + b"x" * 300_000 + b'","k":1}'
    document = Document.parse(body)
    assert document.edit({"model": b'"b"', "k": b"2"}) == body.replace(b'"a"', b'"b"').replace(b":1}", b":2}")


def test_errors_and_documents_show_no_values() -> None:
    document = Document.parse(b'{"apiKey":"sk-secret"}')
    assert repr(document) == "Document(22 bytes, keys=['apiKey'])"
    assert repr(PayloadError("m", "c", "p")) == "PayloadError('m', 'c', param='p')"
