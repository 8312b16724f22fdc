from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.secrets import Secrets
from detectors.text import Text
from tests.detectors.secrets.made import NAMED, SHAPED, pem

SECRETS = Secrets()
PROSE = "Please write a short and friendly note about the picnic, "
HAN = "请帮我写一份关于公司野餐的通知，"

TEXTS = [
    *(f"{PROSE}{value} and so on" for value in SHAPED.values()),
    *(f"{HAN}{value}然后发给大家" for value in SHAPED.values()),
    *(f"{HAN}{name}{value}，谢谢" for name, value in NAMED.items()),
    f"{PROSE}\n{pem()}\n{PROSE}",
    'config = {\n  "db_password" : "qwe#rty99",\n}',
    "数据库密码改成了Summer2024!，请记住",
    "The password for the server is hunter2x. Thanks",
    "Authorization: Bearer " + SHAPED["sendgrid-key"] + "\n",
    'new NetworkCredential("bob", "Wint3rmute");',
    "Server=db;Uid=sa;Pwd=letmein;Database=x",
    "mysql -h db -u root -pS3cretPw99 shop",
]


def assert_held(text: str, cuts: range) -> None:
    spans = [(each.start, each.end) for each in SECRETS.find(Text(text))]
    assert spans
    for cut in cuts:
        held = SECRETS.open_from(text[:cut])
        for start, end in spans:
            if start < cut <= end:
                assert held <= start, (text[:cut][-60:], held, start)


@pytest.mark.parametrize("text", TEXTS)
def test_no_cut_lets_the_start_of_a_value_through(text: str) -> None:
    assert_held(text, range(1, len(text)))


@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_no_cut_lets_a_value_through_behind_another_text(first: str, second: str, at: int) -> None:
    text = first + "\n" + second
    start = min(at, len(text) - 2)
    assert_held(text, range(start + 1, min(len(text), start + 12)))


@pytest.mark.parametrize(
    "text", [PROSE, HAN, PROSE * 30, HAN * 30, "The key idea is to pass the ball to your friend on the left. "]
)
def test_prose_is_released_but_for_its_last_word(text: str) -> None:
    assert len(text) - SECRETS.open_from(text) <= 1


def test_the_name_of_a_value_is_held_until_the_value_ends() -> None:
    for begun in ("password", "password =", 'password = "', 'password = "abc12'):
        assert SECRETS.open_from("so: " + begun) <= 4
    assert SECRETS.open_from('so: password = "abc123"; now this is all done and over ') > 20


def test_a_private_key_is_held_until_it_ends() -> None:
    block = pem()
    assert SECRETS.open_from("see " + block[:40]) == 4
    assert SECRETS.open_from("see " + block[:-1]) == 4
    assert SECRETS.open_from("see " + block + "\ndone ") > len(block)


def test_what_is_held_is_bounded() -> None:
    for text in ("a" * 60_000, "-----BEGIN PRIVATE KEY-----\n" + "abc " * 20_000):
        assert len(text) - SECRETS.open_from(text) <= 20_000
