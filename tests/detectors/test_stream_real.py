"""Guarded streams with the recognisers and secrets that ship."""

from base64 import b64encode
from hashlib import sha256
from statistics import median

import pytest

from detectors.findings import Finding
from detectors.recognisers.engine import Recognisers
from detectors.secrets import Secrets
from detectors.stream import Action, StreamGuard, on_plain
from detectors.text import Text
from tests.detectors.pieces import cut, delays

RECOGNISERS = Recognisers()
SECRETS = Secrets()


def find(text: str) -> list[Finding]:
    seen = Text(text)
    return [*RECOGNISERS.find(seen), *SECRETS.find(seen)]


OPEN_FROM = on_plain(RECOGNISERS.open_from, lambda plain, _: SECRETS.open_from(plain))


def guard(what: Action) -> StreamGuard:
    return StreamGuard(find, OPEN_FROM, action=lambda _: what)


def run(stream: StreamGuard, chunks: list[str]) -> tuple[str, bool]:
    out = "".join(stream.feed(chunk).text for chunk in chunks)
    return out + stream.feed("", end=True).text, stream.denied


_BODY = b64encode(b"0\x82" + b"".join(sha256(bytes([n])).digest() for n in range(12))).decode()
_LINES = "\n".join(_BODY[at : at + 64] for at in range(0, len(_BODY), 64))
PEM = "-----BEGIN " + f"RSA PRIVATE KEY-----\n{_LINES}\n-----END " + "RSA PRIVATE KEY-----"
VALUES = [
    "zhang.wei@example.com",
    "4111 1111 1111 1111",
    "6222021234567890128",
    "11010519491231002X",
    "１３８１２３４５６７８",
    "138\u200b1234\u200b5678",
    "GB82 WEST 1234 5698 7654 32",
    "192.168.20.131",
    "ghp_" + "a8Bc3dEf6GhI9jKl2MnO5pQr8StU1vWx4YzA",
    "AKIA" + "Y34FZKBOKMUTVV7A",
    "s3cr3tPazz9" + "xQ",
    PEM,
]
GLUES = [
    ("postgres://admin:", "@db.internal:5432/prod"),
    ("联系方式是", "，谢谢。"),
    ("Contact: ", " please."),
    ("", ""),
]


@pytest.mark.parametrize("glue", GLUES)
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_no_cut_lets_a_value_through(value: str, glue: tuple[str, str]) -> None:
    text = glue[0] + value + glue[1]
    if not any(f.start <= len(glue[0]) and f.end >= len(glue[0]) + len(value) for f in find(text)):
        pytest.skip("not a value that the detectors report there")
    whole = run(guard("mask"), [text])
    assert value[2:] not in whole[0]
    denied = run(guard("deny"), [text])
    assert denied == (glue[0], True) or glue[0].startswith(denied[0])
    for at in range(0, len(text) + 1, 1 if len(text) < 80 else 11):
        assert run(guard("mask"), cut(text, [at])) == whole
        assert run(guard("deny"), cut(text, [at])) == denied
    assert run(guard("mask"), list(text)) == whole
    assert run(guard("deny"), list(text)) == denied


LONG = "".join(
    f"第{n}点：请把资料发给 {value}，然后回电。 Then wait for {n} days, the result of step {n * 7} comes by mail.\n"
    for n, value in enumerate(VALUES * 3)
)


@pytest.mark.parametrize("step", [1, 4, 17, 300])
def test_a_long_text_does_not_depend_on_the_cuts(step: int) -> None:
    whole = run(guard("mask"), [LONG])
    assert run(guard("mask"), cut(LONG, range(0, len(LONG), step))) == whole


def test_prose_waits_for_two_words_or_eight_chinese_characters_at_most() -> None:
    text = "The committee met in the morning and agreed that the new library opens in spring. Readers like it. " * 6
    tokens = [word + " " for word in text.split(" ")]
    assert median(delays(guard("mask"), tokens)) <= 2
    assert median(delays(guard("mask"), list("图书馆将在春天开放，读者们都很高兴。大家讨论了新的阅览室。" * 10))) <= 8
