from __future__ import annotations

import pytest

from detectors.secrets.entropy import entropy, is_chosen, is_random, is_reference, is_word
from detectors.secrets.standins import is_placeholder
from tests.detectors.secrets.made import HEX, draw


def test_entropy_counts_bits_per_character() -> None:
    assert entropy("") == 0
    assert entropy("aaaa") == 0
    assert entropy("abab") == pytest.approx(1)
    assert entropy("0123456789abcdef") == pytest.approx(4)


@pytest.mark.parametrize(
    "value", ["your-api-key", "YOUR_TOKEN", "xxxxxxxx", "change-me", "<token>...", "insert your key", "my_secret"]
)
def test_stand_ins(value: str) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize("value", ["hunter22", "mystery77", "fuller99", "Tr0ub4dor"])
def test_passwords_are_no_stand_ins(value: str) -> None:
    assert not is_placeholder(value)


@pytest.mark.parametrize(
    "value", ["${DB}", "{{ x }}", "$PASSWORD", "os.environ['X']", "get_secret(1)", "self.token", "config.db.password"]
)
def test_references(value: str) -> None:
    assert is_reference(value)


@pytest.mark.parametrize("value", ["p$ssw0rd", "a1!b.c", "Abc123"])
def test_values_are_no_references(value: str) -> None:
    assert not is_reference(value)


def test_random_values_mix_letters_and_digits_and_are_no_words() -> None:
    assert is_random(draw(32, HEX), 2.8, 16)
    assert is_random(draw(40), 3.2, 16)
    for value in (
        "configuration-manager-2",
        "https://host/a1b2c3d4e5f6",
        "2024-01-02",
        "src/module7/file.py",
        "1234567890123456",
    ):
        assert not is_random(value, 2.8, 10)


def test_chosen_passwords_have_more_than_letters() -> None:
    assert is_chosen("hunter2", 6)
    assert is_chosen("open!sesame", 6)
    for value in ("required", "12:30", "6-20", "/etc/passwd1", "bob@host.org"):
        assert not is_chosen(value, 4)


def test_words_of_forms_are_no_passwords() -> None:
    assert is_word("Required")
    assert is_word("aaaa")
    assert not is_word("swordfish")
    assert not is_word("888888")
