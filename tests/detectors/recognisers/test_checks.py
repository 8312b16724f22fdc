"""Checksums, against Presidio's own checks, faker's numbers and single wrong digits."""

import random

import pytest
from faker import Faker
from presidio_analyzer import predefined_recognizers as presidio

from bench.detectors import values
from detectors.recognisers import checks

_DIGITS = "0123456789"


def numbers(pattern: str, count: int = 400) -> list[str]:
    """Random numbers: `d` a digit, `A` a letter, anything else itself."""
    chance = random.Random(pattern)
    choices = {"d": _DIGITS, "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    return ["".join(chance.choice(choices.get(each, each)) for each in pattern) for _ in range(count)]


@pytest.mark.parametrize(
    ("ours", "theirs", "pattern"),
    [
        (checks.spanish_id, presidio.EsNifRecognizer(), "ddddddddA"),
        (checks.spanish_id, presidio.EsNieRecognizer(), "XdddddddA"),
        (checks.fiscal_code, presidio.ItFiscalCodeRecognizer(), "AAAAAAddEddAdddA"),
        (checks.national_health, presidio.NhsRecognizer(), "dddddddddd"),
        (checks.luhn, presidio.CreditCardRecognizer(), "4ddddddddddddddd"),
    ],
)
def test_same_as_presidio(ours: checks.Check, theirs: presidio.EsNifRecognizer, pattern: str) -> None:
    candidates = numbers(pattern)
    assert any(map(ours, candidates))
    assert [ours(each) for each in candidates] == [bool(theirs.validate_result(each)) for each in candidates]


@pytest.mark.parametrize(
    ("check", "make"),
    [
        (checks.luhn, values.card),
        (checks.resident_id, values.resident_id),
        (checks.credit_code, values.credit_code),
        (checks.mod97, values.iban),
    ],
)
def test_good_numbers_pass_and_one_wrong_digit_fails(check: checks.Check, make: values.Make) -> None:
    chance = random.Random(3)
    for _ in range(200):
        value = make(chance)
        place = chance.choice([index for index, each in enumerate(value) if each.isdigit() and index > 3])
        wrong = value[:place] + chance.choice(_DIGITS.replace(value[place], "")) + value[place + 1 :]
        assert check(value), value
        assert not check(wrong), wrong


@pytest.mark.parametrize(
    ("locale", "check"),
    [
        ("pl_PL", checks.pesel),
        ("it_IT", checks.fiscal_code),
        ("zh_CN", checks.resident_id),
        ("es_ES", checks.spanish_id),
    ],
)
def test_numbers_of_faker_pass(locale: str, check: checks.Check) -> None:
    faker = Faker(locale)
    faker.seed_instance(4)
    for _ in range(100):
        value = {"pl_PL": lambda: faker.pesel(), "es_ES": lambda: faker.nie()}.get(locale, faker.ssn)()
        assert check(value), value


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.resident_id_15, "130503670401001", "130503671301001"),
        (checks.hong_kong_id, "A123456(3)", "A123456(4)"),
        (checks.taiwan_id, "A123456789", "A123456788"),
        (checks.social_security, "536-90-4399", "666-90-4399"),
        (checks.routing_number, "021000021", "021000022"),
        (checks.national_insurance, "AB123456C", "BG123456C"),
        (checks.german_tax_id, "86095742719", "86095742718"),
        (checks.french_nir, "255081416802538", "255081416802539"),
        (checks.belgian_number, "85.07.30-033.28", "85.07.30-033.29"),
        (checks.swedish_number, "811228-9874", "811228-9875"),
        (checks.finnish_code, "131052-308T", "131052-308U"),
        (checks.dutch_number, "111222333", "111222334"),
        (checks.irish_number, "1234567T", "1234567A"),
        (checks.portuguese_number, "123456789", "123456788"),
        (checks.bech32, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdp"),
        (checks.base58check, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"),
    ],
)
def test_published_example(check: checks.Check, good: str, bad: str) -> None:
    assert check(good)
    assert not check(bad)
