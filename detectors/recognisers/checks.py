"""Checksums and other plausibility of values. Each takes the value as matched, separators included."""

from __future__ import annotations

import hashlib
import re
from calendar import monthrange
from collections.abc import Callable, Sequence

Check = Callable[[str], bool]

_SEPARATORS = re.compile(r"[\s.\-/()]+")
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bare(value: str) -> str:
    """The value without separators, in capitals."""
    return _SEPARATORS.sub("", value).upper()


def weighted(digits: str, weights: Sequence[int]) -> int:
    """Sum of digits times weights."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def luhn(value: str) -> bool:
    """ISO/IEC 7812-1 Annex B."""
    digits = [int(each) for each in reversed(bare(value))]
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * each, 10)) for each in digits[1::2]) % 10


def looks_like_date(value: str) -> bool:
    """Whether the digits read as a day, such as 20240131, 2024-01-31 or 31.01.2024, rather than as a number."""
    text = re.sub(r"\D", "", value)[:8]
    if len(text) < 8:
        return False
    return date(int(text[:4]), int(text[4:6]), int(text[6:])) or date(int(text[4:]), int(text[2:4]), int(text[:2]))


def date(year: int, month: int, day: int) -> bool:
    """Whether there is such a day, between 1850 and 2099."""
    return 1850 <= year < 2100 and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]


def mod97(value: str) -> bool:
    """ISO 7064 mod 97-10, as used by IBAN: the first four characters go last, letters count from 10."""
    text = bare(value)
    return int("".join(str(int(each, 36)) for each in text[4:] + text[:4])) % 97 == 1


_PROVINCES = frozenset(
    [
        "11",
        "12",
        "13",
        "14",
        "15",
        "21",
        "22",
        "23",
        "31",
        "32",
        "33",
        "34",
        "35",
        "36",
        "37",
        "41",
        "42",
        "43",
        "44",
        "45",
        "46",
        "50",
        "51",
        "52",
        "53",
        "54",
        "61",
        "62",
        "63",
        "64",
        "65",
        "71",
        "81",
        "82",
        "83",
    ]
)


def resident_id(value: str) -> bool:
    """GB 11643-1999, 18 characters: region, birthday, order, ISO 7064 mod 11-2."""
    text = bare(value)
    if text[:2] not in _PROVINCES or not date(int(text[6:10]), int(text[10:12]), int(text[12:14])):
        return False
    weights = [pow(2, 17 - index, 11) for index in range(17)]
    return "10X98765432"[weighted(text[:17], weights) % 11] == text[17]


def resident_id_15(value: str) -> bool:
    """The number issued before 1999, without a check digit."""
    text = bare(value)
    return text[:2] in _PROVINCES and date(1900 + int(text[6:8]), int(text[8:10]), int(text[10:12]))


_CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def credit_code(value: str) -> bool:
    """GB 32100-2015: authority, kind, region, organisation code, check character modulo 31."""
    text = bare(value)
    if len(text) != 18 or text[2:4] not in _PROVINCES | {"10"} or any(each not in _CREDIT for each in text):
        return False
    total = sum(_CREDIT.index(each) * pow(3, index, 31) for index, each in enumerate(text[:17]))
    return _CREDIT[-total % 31] == text[17]


def hong_kong_id(value: str) -> bool:
    """Letters count from 10, a missing first one 36; weights 9 to 1, modulo 11."""
    text = bare(value)
    body = text[:-1].rjust(8)
    numbers = [36 if each == " " else int(each, 36) for each in body]
    total = sum(number * weight for number, weight in zip(numbers, range(9, 1, -1), strict=True))
    return (total + (10 if text[-1] == "A" else int(text[-1]))) % 11 == 0


def taiwan_id(value: str) -> bool:
    """The letter counts as a two-digit number, then weights 1 9 8 7 6 5 4 3 2 1 1 modulo 10."""
    text = bare(value)
    number = str(10 + "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0]))
    return weighted(number + text[1:], (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)) % 10 == 0


def social_security(value: str) -> bool:
    """US: no group of zeros, no area 666 or from 900, and none of the numbers of advertisements."""
    text = bare(value)
    return (
        text[:3] not in {"000", "666"}
        and text[0] != "9"
        and text[3:5] != "00"
        and text[5:] != "0000"
        and text not in {"078051120", "219099999"}
        and len(set(text)) > 1
    )


def routing_number(value: str) -> bool:
    """US bank routing number: weights 3 7 1 modulo 10."""
    text = bare(value)
    return int(text[:2]) in {*range(1, 13), *range(21, 33), *range(61, 73), 80} and (
        weighted(text, (3, 7, 1) * 3) % 10 == 0
    )


def national_insurance(value: str) -> bool:
    """UK: prefixes that are never issued."""
    return bare(value)[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def national_health(value: str) -> bool:
    """UK NHS number: weights 10 to 2, modulo 11."""
    text = bare(value)
    return (weighted(text[:9], range(10, 1, -1)) + int(text[9])) % 11 == 0 and len(set(text)) > 1


def spanish_id(value: str) -> bool:
    """DNI and NIE: the letter is the number modulo 23."""
    text = bare(value)
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


_FISCAL_ODD = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)) | dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def fiscal_code(value: str) -> bool:
    """Italy, DM 12/3/1974: odd and even characters count differently, modulo 26."""
    text = bare(value)
    odd = sum(_FISCAL_ODD[each] for each in text[0:15:2])
    even = sum(int(each) if each.isdigit() else ord(each) - 65 for each in text[1:15:2])
    return chr(65 + (odd + even) % 26) == text[15]


def pesel(value: str) -> bool:
    """Poland: the month carries the century; weights 1 3 7 9 modulo 10."""
    text = bare(value)
    month = int(text[2:4])
    century = {0: 1900, 1: 2000, 4: 1800}.get(month // 20 if month < 80 else 4)
    if century is None or not date(century + int(text[:2]), month % 20, int(text[4:6])):
        return False
    return (weighted(text[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) + int(text[10])) % 10 == 0


def german_tax_id(value: str) -> bool:
    """ISO 7064 mod 11,10; among the first ten digits one occurs twice or three times."""
    text = bare(value)
    if text[0] == "0" or max(text[:10].count(each) for each in text[:10]) not in {2, 3}:
        return False
    product = 10
    for each in text[:10]:
        product = ((int(each) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(text[10])


def french_nir(value: str) -> bool:
    """France: 97 minus the first 13 digits modulo 97; Corsica's 2A and 2B count as 19 and 18."""
    text = bare(value).replace("2A", "19").replace("2B", "18")
    month = int(text[3:5])
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and 97 - int(text[:13]) % 97 == int(text[13:])


def belgian_number(value: str) -> bool:
    """97 minus the first nine digits modulo 97, with a 2 in front for those born since 2000."""
    text = bare(value)
    return int(text[9:]) in {97 - int(text[:9]) % 97, 97 - int("2" + text[:9]) % 97}


def swedish_number(value: str) -> bool:
    """Birthday and Luhn; coordination numbers add 60 to the day."""
    text = re.sub(r"\D", "", value)[-10:]
    return date(2000 + int(text[:2]), int(text[2:4]), int(text[4:6]) % 60) and luhn(text)


def finnish_code(value: str) -> bool:
    """Birthday and the number modulo 31."""
    if not date(2000 + int(value[4:6]), int(value[2:4]), int(value[:2])):
        return False
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(value[:6] + value[7:10]) % 31] == value[10].upper()


def dutch_number(value: str) -> bool:
    """BSN: weights 9 to 2 and -1, modulo 11."""
    text = bare(value)
    return weighted(text, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and len(set(text)) > 1


def irish_number(value: str) -> bool:
    """PPS number: weights 8 to 2, an optional second letter 9, modulo 23."""
    text = bare(value)
    extra = (ord(text[8]) - 64) * 9 if len(text) > 8 and text[8] != "W" else 0
    return "WABCDEFGHIJKLMNOPQRSTUV"[(weighted(text[:7], range(8, 1, -1)) + extra) % 23] == text[7]


def portuguese_number(value: str) -> bool:
    """NIF: weights 9 to 2, modulo 11."""
    text = bare(value)
    return (11 - weighted(text[:8], range(9, 1, -1)) % 11) % 11 % 10 == int(text[8])


def base58check(value: str) -> bool:
    """Bitcoin, Litecoin, Dogecoin, Tron and Dash: 21 bytes and the first four of their double SHA-256."""
    number = 0
    for each in value:
        number = number * 58 + _BASE58.index(each)
    if number >= 1 << 200:
        return False
    data = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(data[:21]).digest()).digest()[:4] == data[21:]


def bech32(value: str) -> bool:
    """BIP-173 and BIP-350."""
    if value not in {value.lower(), value.upper()}:
        return False
    prefix, _, data = value.lower().rpartition("1")
    if any(each not in _BECH32 for each in data):
        return False
    checksum = 1
    words = [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]
    for word in words + [_BECH32.index(each) for each in data]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> bit & 1:
                checksum ^= generator
    return checksum in {1, 0x2BC830A3}
