from __future__ import annotations

import copy
import io
import json
import logging
import pickle
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.resources.secrets import Secret, SecretStore, parse_reference

VALUE = "sk-very-private"


def test_no_way_of_printing_shows_the_value() -> None:
    secret = Secret(VALUE)
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("%s %r %20s", secret, secret, secret)
    logger.warning("in a list %s", [secret, {"k": secret}])
    printed = [repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret:>30}", f"{secret!s:^9}", "%s" % secret]  # noqa: UP031
    printed += [f"{secret}", f"{(secret,)}", json.dumps({"k": secret}, default=str), stream.getvalue()]
    assert not any(VALUE in text for text in printed)
    assert secret.reveal() == VALUE


@pytest.mark.parametrize(
    "encode", [pickle.dumps, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, json.dumps]
)
def test_encoders_refuse_it(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(TypeError) as caught:
        encode(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_it_has_no_state_to_be_read() -> None:
    secret = Secret(VALUE)
    with pytest.raises(TypeError):
        vars(secret)
    with pytest.raises(TypeError):
        secret.__getstate__()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)
    assert copy.deepcopy([secret])[0] is secret is copy.copy(secret)


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert Secret("a") != "a"


@given(st.text(st.characters(exclude_characters="}"), min_size=1))
def test_any_text_can_name_a_variable(name: str) -> None:
    reference = parse_reference(f"${{{name}}}")
    assert reference.source == ("file" if name.startswith("file:") else "environment")
    assert reference.name == name.removeprefix("file:")


def revealed(store: SecretStore, reference: str) -> str | None:
    secret = store.resolve(reference)
    return None if secret is None else secret.reveal()


def test_where_keys_come_from(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\ufeffsk-file \n")
    store = SecretStore({"dashscope的API_KEY": "sk-env", "EMPTY": " "}, tmp_path)
    assert revealed(store, "${dashscope的API_KEY}") == "sk-env"
    assert revealed(store, "${file:key}") == "sk-file"
    assert revealed(store, f"${{file:{tmp_path / 'key'}}}") == "sk-file"
    assert revealed(store, "sk-literal") == "sk-literal"
    assert revealed(store, "${NONE}") is None
    assert revealed(store, "${EMPTY}") is None
    assert revealed(store, "${file:none}") is None


def test_a_lookup_is_the_same_object_again(tmp_path: Path) -> None:
    store = SecretStore({"A": "a"}, tmp_path)
    store.load(["${A}", "${B}"])
    assert store.resolve("${A}") is store.resolve("${A}")
    assert store.files() == set()


def test_a_file_rotates(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("one")
    store = SecretStore({}, tmp_path)
    store.load(["${file:key}"])
    assert store.files() == {key}
    assert not store.refresh()
    key.write_text("two\n")
    assert revealed(store, "${file:key}") == "one"
    assert store.refresh()
    assert revealed(store, "${file:key}") == "two"


@pytest.mark.parametrize("raw", [b"", b"  \n", b"\xff", b"a\nb", None])
def test_a_file_that_fails_keeps_its_last_good_key_and_says_so(tmp_path: Path, raw: bytes | None) -> None:
    key = tmp_path / "key"
    key.write_text("good")
    store = SecretStore({}, tmp_path)
    store.load(["${file:key}"])
    key.unlink() if raw is None else key.write_bytes(raw)
    assert not store.refresh()
    assert revealed(store, "${file:key}") == "good"
    assert list(store.failures()) == ["${file:key}"]
    key.write_text("better")
    assert store.refresh()
    assert store.failures() == {}


def test_a_key_that_appears_later(tmp_path: Path) -> None:
    store = SecretStore({}, tmp_path)
    assert store.resolve("${file:late}") is None
    (tmp_path / "late").write_text("here")
    assert store.refresh()
    assert revealed(store, "${file:late}") == "here"


def test_reports_never_hold_a_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{VALUE}\nsecond line")
    store = SecretStore({"BAD": f"{VALUE}\x00"}, tmp_path)
    store.load(["${file:key}", "${BAD}", f"{VALUE}\nliteral"])
    assert len(store.failures()) == 3
    assert VALUE not in repr(store) + repr(store.failures())
