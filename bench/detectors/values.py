"""Invented structured values, checksummed by arithmetic of their own: nothing here is shared with the recognisers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from faker import Faker

Make = Callable[[random.Random], str]

_DISTRICTS = ("110101", "310115", "440305", "330106", "510104", "420111", "320505", "610113", "500103", "350203")
_PLATE = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def _digits(random_: random.Random, count: int) -> str:
    return "".join(random_.choice("0123456789") for _ in range(count))


def _luhn_digit(body: str) -> str:
    total = 0
    for index, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if index % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str((10 - total % 10) % 10)


def card(random_: random.Random) -> str:
    """Visa, Mastercard, American Express, JCB, Discover, UnionPay with 16 and 19 digits."""
    prefix, length = random_.choice(
        [
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("34", 15),
            ("37", 15),
            ("3530", 16),
            ("6011", 16),
            ("62", 16),
            ("6222", 19),
            ("6217", 19),
            ("6228", 19),
            ("6225", 16),
        ]
    )
    body = prefix + _digits(random_, length - 1 - len(prefix))
    return body + _luhn_digit(body)


def resident_id(random_: random.Random) -> str:
    """Eighteen characters by GB 11643."""
    born = f"{random_.randint(1945, 2012)}{random_.randint(1, 12):02}{random_.randint(1, 28):02}"
    body = random_.choice(_DISTRICTS) + born + _digits(random_, 3)
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(a) * b for a, b in zip(body, weights, strict=True)) % 11]


def credit_code(random_: random.Random) -> str:
    """Eighteen characters by GB 32100, with an organisation code by GB 11714 inside."""
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    organisation = "MA" + "".join(random_.choice("0123456789ABCDEFGHJKLMNPQRTUWXY") for _ in range(6))
    full = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    check = 11 - sum(full.index(a) * b for a, b in zip(organisation, (3, 7, 9, 10, 5, 8, 4, 2), strict=True)) % 11
    body = "91" + random_.choice(_DISTRICTS) + organisation + {10: "X", 11: "0"}.get(check, str(check))
    weights = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
    last = 31 - sum(alphabet.index(a) * b for a, b in zip(body, weights, strict=True)) % 31
    return body + alphabet[last % 31]


def iban(random_: random.Random) -> str:
    """German, British, French, Spanish, Italian and Dutch ones."""
    country, pattern = random_.choice(
        [
            ("DE", "d" * 18),
            ("GB", "aaaa" + "d" * 14),
            ("FR", "d" * 23),
            ("ES", "d" * 20),
            ("IT", "a" + "d" * 22),
            ("NL", "aaaa" + "d" * 10),
        ]
    )
    body = "".join(random_.choice("ABCDEFGHJKLMNPQRSTUVWXYZ" if each == "a" else "0123456789") for each in pattern)
    number = "".join(str(ord(each) - 55) if each.isalpha() else each for each in f"{body}{country}00")
    return f"{country}{98 - int(number) % 97:02}{body}"


def wallet(random_: random.Random) -> str:
    """Bitcoin with a version byte of 0 or 5, or Ethereum."""
    if random_.random() < 0.4:
        return "0x" + "".join(random_.choice("0123456789abcdef") for _ in range(40))
    data = bytes([random_.choice((0, 5))]) + random_.randbytes(20)
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def plate(random_: random.Random) -> str:
    """Ordinary and new-energy plates."""
    area = random_.choice("京沪粤浙苏川鄂陕闽渝") + random_.choice(_PLATE)
    if random_.random() < 0.4:
        return area + random_.choice("DF") + _digits(random_, 5)
    tail = [*_digits(random_, 4), random_.choice(_PLATE)]
    random_.shuffle(tail)
    return area + "".join(tail)


def cn_address(random_: random.Random) -> str:
    """From the city or province to the room."""
    area = random_.choice(
        [
            "北京市朝阳区",
            "上海市浦东新区",
            "广东省深圳市南山区",
            "浙江省杭州市西湖区",
            "四川省成都市武侯区",
            "湖北省武汉市洪山区",
            "江苏省苏州市吴中区",
            "陕西省西安市雁塔区",
            "福建省厦门市思明区",
            "重庆市渝北区",
        ]
    )
    road = random_.choice(
        ["建国路", "世纪大道", "科技南路", "文三路", "天府大道", "人民街", "中山北路", "学院路", "和平巷"]
    )
    number = f"{random_.randint(1, 999)}号"
    rest = random_.choice(
        [
            "",
            f"{random_.randint(1, 30)}栋{random_.randint(101, 2805)}室",
            f"阳光花园{random_.randint(1, 20)}号楼{random_.randint(1, 5)}单元{random_.randint(101, 1802)}",
            f"金茂大厦{random_.randint(2, 60)}层",
        ]
    )
    return area + road + number + rest


def en_address(random_: random.Random, faker: Faker) -> str:
    """A street, sometimes a unit, town, state and ZIP code."""
    kind = random_.choice(["Street", "Avenue", "Road", "Lane", "Drive", "Blvd"])
    street = f"{random_.randint(1, 9999)} {faker.last_name()} {kind}"
    unit = random_.choice(["", "", f", Apt {random_.randint(1, 99)}", f" Suite {random_.randint(100, 999)}"])
    return (
        f"{street}{unit}, {faker.last_name()}ville, {faker.state_abbr(include_territories=False)} {_digits(random_, 5)}"
    )


def _phone(random_: random.Random) -> str:
    return random_.choice(["13", "15", "17", "18", "19"]) + _digits(random_, 9)


def _landline(random_: random.Random) -> str:
    area, length = random_.choice([("010", 8), ("021", 8), ("0755", 8), ("0571", 8), ("0913", 7)])
    return f"{area}-{random_.choice('2345678')}{_digits(random_, length - 1)}"


def _north_american(random_: random.Random) -> str:
    area = random_.choice(["212", "415", "206", "312", "617", "713"])
    exchange, line = f"{random_.randint(2, 9)}{_digits(random_, 2)}", _digits(random_, 4)
    form = random_.choice(["({}) {}-{}", "{}-{}-{}", "+1 {} {} {}", "+1-{}-{}-{}", "{}.{}.{}"])
    return form.format(area, exchange, line)


def _ssn(random_: random.Random) -> str:
    return f"{random_.randint(100, 665)}-{random_.randint(10, 99)}-{random_.randint(1000, 9999)}"


def _dni(random_: random.Random) -> str:
    number = random_.randint(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _nino(random_: random.Random) -> str:
    prefix = random_.choice(["AB", "CE", "JK", "PR", "SX", "WM"])
    return f"{prefix} {_digits(random_, 2)} {_digits(random_, 2)} {_digits(random_, 2)} {random_.choice('ABCD')}"


def _mac(random_: random.Random) -> str:
    return random_.choice(":-").join(f"{each:02x}" for each in random_.randbytes(6))


def _ip(random_: random.Random) -> str:
    if random_.random() < 0.3:
        return ":".join(f"{random_.randint(0x1000, 0xFFFF):x}" for _ in range(8))
    first = random_.choice([10, 14, 36, 58, 101, 118, 172, 192, 203, 219])
    return f"{first}.{random_.randint(0, 255)}.{random_.randint(40, 255)}.{random_.randint(1, 254)}"


def _handle(random_: random.Random) -> str:
    return random_.choice(["wxid_", "li_", "Zhang-", "sunny"]) + _digits(random_, random_.randint(3, 8))


def generators(seed: int) -> dict[str, tuple[str, Make]]:
    """Kind of value to its category and its generator."""
    english, chinese, italian = Faker("en_US"), Faker("zh_CN"), Faker("it_IT")
    for each in (english, chinese, italian):
        each.seed_instance(seed)
    return {
        "email_en": ("EMAIL", lambda _: english.email()),
        "email_zh": ("EMAIL", lambda _: chinese.free_email()),
        "mobile": ("PHONE", _phone),
        "landline": ("PHONE", _landline),
        "phone_na": ("PHONE", _north_american),
        "card": ("BANK_CARD", card),
        "card_faker": ("BANK_CARD", lambda _: english.credit_card_number()),
        "iban": ("IBAN", iban),
        "iban_faker": ("IBAN", lambda _: english.iban()),
        "resident_id": ("ID_CARD", resident_id),
        "ssn_zh": ("ID_CARD", lambda _: chinese.ssn()),
        "ssn": ("ID_CARD", _ssn),
        "codice_fiscale": ("ID_CARD", lambda _: italian.ssn()),
        "nino": ("ID_CARD", _nino),
        "dni": ("ID_CARD", _dni),
        "passport": ("PASSPORT", lambda each: each.choice("EG") + _digits(each, 8)),
        "credit_code": ("CREDIT_CODE", credit_code),
        "plate": ("LICENSE_PLATE", plate),
        "wechat": ("WECHAT", _handle),
        "qq": ("QQ", lambda each: each.choice("123456789") + _digits(each, each.randint(5, 9))),
        "account": ("BANK_ACCOUNT", lambda each: each.choice("17") + "0" + _digits(each, each.randint(9, 16))),
        "ip": ("IP_ADDRESS", _ip),
        "mac": ("MAC_ADDRESS", _mac),
        "wallet": ("CRYPTO_WALLET", wallet),
        "address_zh": ("ADDRESS", cn_address),
        "address_en": ("ADDRESS", lambda each: en_address(each, english)),
    }
