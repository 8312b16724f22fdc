"""Which values the recognisers find, and which look-alikes they leave alone."""

import functools

import pytest

from detectors.findings import without_overlap
from detectors.recognisers.engine import RULES, Recognisers
from detectors.text import Text


@functools.cache
def recognisers() -> Recognisers:
    return Recognisers()


def found(text: str) -> list[tuple[str, str]]:
    return [(each.category, text[each.start : each.end]) for each in without_overlap(recognisers().find(Text(text)))]


VALUES = [
    ("EMAIL", "li.ming+work@mail.acme.com.cn"),
    ("EMAIL", "foo_bar@sub.acme.co.uk"),
    ("EMAIL", "lihua%40gmail.com"),
    ("PHONE", "13800138000"),
    ("PHONE", "138-1234-5678"),
    ("PHONE", "139.1234.5678"),
    ("PHONE", "+86 138 1234 5678"),
    ("PHONE", "0086 138 1234 5678"),
    ("PHONE", "(+86)13912345678"),
    ("PHONE", "010-88889999"),
    ("PHONE", "(0755)88889999"),
    ("PHONE", "0755-8888 9999转801"),
    ("PHONE", "400-820-8820"),
    ("PHONE", "(415) 555-2671"),
    ("PHONE", "+1 (650) 253-0000 ext. 12"),
    ("PHONE", "+44 20 7946 0958"),
    ("PHONE", "+49 (0)30 901820"),
    ("PHONE", "+33 6 12 34 56 78"),
    ("BANK_CARD", "4111111111111111"),
    ("BANK_CARD", "5500 0000 0000 0004"),
    ("BANK_CARD", "3782 822463 10005"),
    ("BANK_CARD", "6222-0200-0000-0000-000"),
    ("IBAN", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "GB82WEST12345698765432"),
    ("CRYPTO_WALLET", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("CRYPTO_WALLET", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    ("CRYPTO_WALLET", "TJRabPrwbZy45sbavfcjinPJC18kjpRTv8"),
    ("CRYPTO_WALLET", "0x742d35Cc6634C0532925a3b844Bc454e4438f44e"),
    ("IP_ADDRESS", "192.168.31.7"),
    ("IP_ADDRESS", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
    ("IP_ADDRESS", "2001:db8::1"),
    ("MAC_ADDRESS", "00-1A-2B-3C-4D-5E"),
    ("MAC_ADDRESS", "e1:56:e3:75:b0:4a"),
    ("MAC_ADDRESS", "001A.2B3C.4D5E"),
    ("ID_CARD", "11010519491231002X"),
    ("ID_CARD", "110101 19900307 2316"),
    ("ID_CARD", "A123456(3)"),
    ("ID_CARD", "536-90-4399"),
    ("ID_CARD", "AB123456C"),
    ("ID_CARD", "12345678Z"),
    ("ID_CARD", "X1234567L"),
    ("ID_CARD", "RSSMRA85T10A562S"),
    ("ID_CARD", "2 55 08 14 168 025 38"),
    ("ID_CARD", "131052-308T"),
    ("CREDIT_CODE", "91110000802100433B"),
    ("CREDIT_CODE", "9144 0300 7084 6113 6T"),
    ("LICENSE_PLATE", "京A12345"),
    ("LICENSE_PLATE", "沪A·12345"),
    ("LICENSE_PLATE", "京AD12345"),
    ("LICENSE_PLATE", "粤B12345D"),
    ("WECHAT", "wxid_a1b2c3d4e5"),
    ("ADDRESS", "江苏省南京市鼓楼区中山路18号德基广场2期1201室"),
    ("ADDRESS", "虹口区四川北路1318号盛邦国际大厦8楼"),
    ("ADDRESS", "742 Evergreen Terrace, Springfield, IL 62704"),
    ("ADDRESS", "48764 Howard Forge Apt. 421\nVanessaside, PA 19763"),
    ("ADDRESS", "P.O. Box 1234, Austin, TX 78701"),
]


@pytest.mark.parametrize(("category", "value"), VALUES)
@pytest.mark.parametrize("carrier", ["{}", "请核对{}谢谢", "值：{}，请翻译。", '{{"v":"{}"}}', "x, {}, y", "\\n{}\\n"])
def test_value_is_found_exactly(category: str, value: str, carrier: str) -> None:
    if category == "EMAIL" and carrier.startswith("\\n"):
        pytest.skip("covered by test_escapes")
    if category == "ADDRESS" and carrier.startswith("x"):
        carrier = "for {} ok"
    assert found(carrier.format(value)) == [(category, value)]


@pytest.mark.parametrize(("category", "value"), [each for each in VALUES if "\n" not in each[1] and "%" not in each[1]])
def test_wide_and_interrupted_values_are_found(category: str, value: str) -> None:
    wide = "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in value)
    middle = len(value) // 2
    hidden = f"{value[:middle]}\u200b{value[middle:]}"
    assert found(f"是{wide}。") == [(category, wide)]
    assert found(f"是{hidden}。") == [(category, hidden)]


LABELLED = [
    ("护照号码 E12345678", "PASSPORT", "E12345678"),
    ("持G12345678号护照", "PASSPORT", "G12345678"),
    ("my passport is C01X00T47", "PASSPORT", "C01X00T47"),
    ("港澳通行证C12345678", "PASSPORT", "C12345678"),
    ("driver's license D1234567", "DRIVER_LICENSE", "D1234567"),
    ("驾驶证档案编号440300123456", "DRIVER_LICENSE", "440300123456"),
    ("身份证130503670401001", "ID_CARD", "130503670401001"),
    ("香港身份证A1234563", "ID_CARD", "A1234563"),
    ("社保号 SSN: 536904399", "ID_CARD", "536904399"),
    ("PESEL 44051401359", "ID_CARD", "44051401359"),
    ("BSN 111222333", "ID_CARD", "111222333"),
    ("NHS number 943 476 5919", "ID_CARD", "943 476 5919"),
    ("personnummer 811228-9874", "ID_CARD", "811228-9874"),
    ("Steuer-ID 86095742719", "TAX_ID", "86095742719"),
    ("EIN 12-3456789", "TAX_ID", "12-3456789"),
    ("VAT DE123456789", "TAX_ID", "DE123456789"),
    ("开户行：招商银行 账号：110 9012 3456 7890 12", "BANK_ACCOUNT", "110 9012 3456 7890 12"),
    ("bank account number 12345678", "BANK_ACCOUNT", "12345678"),
    ("routing number 021000021", "BANK_ACCOUNT", "021000021"),
    ("sort code: 12-34-56", "BANK_ACCOUNT", "12-34-56"),
    ("微信：zhangsan_2020", "WECHAT", "zhangsan_2020"),
    ("微信号lihua520", "WECHAT", "lihua520"),
    ("加V: lily8899", "WECHAT", "lily8899"),
    ("wechat id: johnny-wang", "WECHAT", "johnny-wang"),
    ("name,wechat\nMei,li_735727\n", "WECHAT", "li_735727"),
    ("QQ号是12345678", "QQ", "12345678"),
    ("加Q987654321吧", "QQ", "987654321"),
    ('{"qq": "123456789"}', "QQ", "123456789"),
    ("电话 80762688", "PHONE", "80762688"),
    ("tel 020 8765 4321", "PHONE", "020 8765 4321"),
    ("my address is 221B Baker Street", "ADDRESS", "221B Baker Street"),
    ("postcode SW1A 2AA", "ADDRESS", "SW1A 2AA"),
    ("plate number 7ABC123", "LICENSE_PLATE", "7ABC123"),
]


@pytest.mark.parametrize(("text", "category", "value"), LABELLED)
def test_value_with_its_label(text: str, category: str, value: str) -> None:
    assert found(text) == [(category, value)]


@pytest.mark.parametrize(("text", "category", "value"), LABELLED)
def test_label_alone_is_no_finding(text: str, category: str, value: str) -> None:
    assert found(text.replace(value, "")) == []


@pytest.mark.parametrize(
    "text",
    [
        "版本1.2.3.4发布",
        "时间2024-01-31 12:30:45，订单号2024013112345678",
        "uuid 550e8400-e29b-41d4-a716-446655440000",
        "sha 13800138000abcdef, 2^31=2147483648",
        "3.1415926535897932384626 and 2.718281828459045",
        "timestamp 1700000000000, 1,234,567,890",
        "10.0.0.0/8 and 127.0.0.1",
        "std::vector a::b at 12:30:45",
        "ISBN 978-3-16-148410-0",
        "QQ音乐好用吗，QQ 2010版，微信小程序开发教程",
        "WeChat mini-program tutorial, WeChat is popular",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "git@github.com:foo/bar.git icon@2x.png lodash@4.17.21 x = a@b.transpose",
        "https://user:pass@host.com/",
        "write to john@example.com",
        "中山路很热闹，人民路站，第3号楼道，以保护同一组织",
        "order #123-4567890-1234567",
        "护照办理需要 20240131 之前",
        "1980, Mount St. Helens",
        "Windows 10.0.19045.1234 Chrome/120.0.6099.130",
        "0x0000000000000000000000000000000000000000",
        "11010519491231002Y 110105194912310021 991105194912310023",
        "4111111111111112 91110000802100433C DE88370400440532013000 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
    ],
)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_escapes() -> None:
    assert found("a\\nli@acme.com\\n") == [("EMAIL", "li@acme.com")]
    assert found("q=%2B8613800138000&e=1") == [("PHONE", "8613800138000")]


def test_context_raises_the_score() -> None:
    bare, labelled = (recognisers().find(Text(text))[0].score for text in ("4111111111111111", "卡号 4111111111111111"))
    assert bare < labelled <= 1


def test_names_of_rules_are_different() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
