"""Telephone numbers: Chinese, North American, British, French, and any with a country's prefix or a label."""

from __future__ import annotations

import re
from collections.abc import Iterable

import phonenumbers

from detectors.recognisers.checks import looks_like_date
from detectors.recognisers.rules import LABEL, Rule, labels


def _possible(value: str) -> bool:
    """Whether the plan of the country that the prefix names has numbers of this length."""
    try:
        number = phonenumbers.parse(re.sub(r"\A\(?(?:00|\+)", "+", value))
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(number)


def _british(value: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(value, "GB"))
    except phonenumbers.NumberParseException:
        return False


def _no_date(value: str) -> bool:
    return not looks_like_date(value) or len(re.sub(r"\D", "", value)) > 8


_CLOSES = {"(": ")", "[": "]", "【": "】", "〔": "〕"}


def _unbracketed(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    """The number without the bracket that encloses more than it."""
    start, end = match.span("v" if "v" in match.re.groupindex else 0)
    value = match.string[start:end]
    close = _CLOSES.get(value[0])
    return ((start + (close is not None and close not in value), end),)


_ALONE = r"(?<![0-9][.\-].)"
"""Not the later part of a longer number with dots or dashes."""
_END = r"(?![0-9A-Za-z])(?![.\-][0-9])"
_EXTENSION = r"(?:(?: ?转 ?| ?ext\.? ?| ?x)[0-9]{1,6})?"
_PHONE_WORDS = (
    r"电话|手机|座机|热线|传真|联系|致电|拨打|来电|号码|電話|手機|傳真|聯[絡繫]|携帯|전화|телефон"
    r"|phone|\btel|mobile|cell|\bcall|\bfax|contact|whatsapp|\bsms|\btext"
)
_MOBILE = r"[3-9][0-9](?:[ .\-()]{0,2}[0-9]{4}){2}"
_LABELS = (
    *(
        "电话",
        "手机",
        "座机",
        "热线",
        "传真",
        "联系方式",
        "電話番号",
        "電話",
        "手機",
        "傳真",
        "聯絡方式",
        "携帯電話",
        "携帯",
        "致電",
        "致电",
        "拨打",
    ),
    *(
        "전화번호",
        "전화",
        "휴대폰",
        "연락처",
        "Телефон",
        "телефон",
        "Тел",
        "тел",
        "phone",
        "telephone",
        "telefone",
        "telefono",
    ),
    *("telefon", "tel", "mobile", "mobil", "cellphone", "cell", "fax", "whatsapp", "handy", "teléfono", "téléphone"),
    *("móvil", "portable", "celular"),
)
"""Words for a telephone in several languages; the longer of two goes first."""
_FIRST = "".join(sorted({word[0] for word in _LABELS}))

RULES = (
    Rule(
        name="cn_mobile",
        category="PHONE",
        trim=_unbracketed,
        first="1",
        rest=_ALONE + _MOBILE,
        right=_END,
        gate=f"1{_MOBILE}",
        longest=16,
        context=_PHONE_WORDS,
    ),
    Rule(
        name="cn_mobile_bracketed",
        category="PHONE",
        first=r"[(\[【〔]",
        rest=r"1[3-9][0-9][)\]】〕][ \-]{0,2}[0-9]{4}[ \-]?[0-9]{4}",
        left="0-9A-Za-z_",
        right=_END,
        gate=r"[(\[【〔]1[3-9][0-9][)\]】〕]",
        longest=18,
        context=_PHONE_WORDS,
    ),
    Rule(
        name="cn_mobile_international",
        category="PHONE",
        trim=_unbracketed,
        first="[+(08]",
        rest=r"(?:(?<=8)6|(?<=\+) ?86|(?<=\()\+?86|(?<=0)086)\)?[ \-]{0,2}\(?1" + _MOBILE,
        right=_END,
        gate=rf"86\)?[ \-]{{0,2}}\(?1{_MOBILE}",
        longest=24,
        score=0.95,
    ),
    Rule(
        name="cn_landline",
        category="PHONE",
        trim=_unbracketed,
        first="[(0]",
        rest=_ALONE + r"(?:(?<=\()0)?(?:(?:10|2[0-57-9])(?:\) ?-?|[ \-]{1,3})[2-9][0-9]{3}"
        r"|[3-9][0-9]{2}(?:\) ?-?|[ \-]{1,3})[2-9][0-9]{2,3})" + r"[ \-]?[0-9]{4}(?:-[0-9]{1,5})?" + _EXTENSION,
        right=_END,
        gate=r"0[0-9]{2,3}[)\- ]{1,3}[2-9][0-9]{2,3}[ \-]?[0-9]{4}",
        longest=36,
        score=0.8,
        context=_PHONE_WORDS,
    ),
    Rule(
        name="cn_landline_bare",
        category="PHONE",
        trim=_unbracketed,
        first="0",
        rest=r"(?:10|2[0-57-9]|[3-9][0-9]{2})[2-9][0-9]{6,7}",
        right=_END,
        longest=12,
        score=0.6,
        context=_PHONE_WORDS,
        required=True,
    ),
    Rule(
        name="cn_service",
        category="PHONE",
        trim=_unbracketed,
        first="[48]",
        rest=_ALONE + r"00(?:[ \-][0-9]{3}[ \-]?[0-9]{4}|[ \-][0-9]{4}[ \-]?[0-9]{3})",
        right=_END,
        gate=r"[48]00[ \-][0-9]{3}",
        longest=14,
        score=0.75,
        context=_PHONE_WORDS,
    ),
    Rule(
        name="cn_service_bare",
        category="PHONE",
        trim=_unbracketed,
        first="[48]",
        rest=r"00[0-9]{7}",
        right=_END,
        longest=10,
        score=0.6,
        context=_PHONE_WORDS,
        required=True,
    ),
    Rule(
        name="north_america",
        category="PHONE",
        trim=_unbracketed,
        first="[+(0-9]",
        rest=_ALONE
        + r"(?:(?<=\+)1[ .\-]?\(?[2-9]|(?<=1)[ .\-]?\(?[2-9]|(?<=0)01[ .\-]\(?[2-9]|(?<=\()[2-9]|(?<=[2-9]))"
        r"[0-9]{2}(?:\) ?-?|[ .\-])" + r"[2-9][0-9]{2}[ .\-][0-9]{4}(?: ?(?:x|ext\.?|#) ?[0-9]{1,6})?",
        right=_END,
        gate=r"[0-9]{3}[). \-]{1,3}[0-9]{3}[ .\-][0-9]{4}",
        longest=34,
        score=0.75,
        context=_PHONE_WORDS,
    ),
    Rule(
        name="international",
        category="PHONE",
        trim=_unbracketed,
        first=r"[+(0]",
        rest=r"(?:(?<=\+)|(?<=\()\+|(?<=0)0(?=[1-9][0-9]{0,2}[ \-]))[1-9](?:[ .\-()]{0,2}[0-9]){6,14}" + _EXTENSION,
        left="0-9A-Za-z)",
        right=_END,
        gate=r"(?:\+|00)[1-9](?:[ .\-()]{0,2}[0-9]){6}",
        longest=56,
        score=0.8,
        check=_possible,
    ),
    Rule(
        name="uk_national",
        category="PHONE",
        trim=_unbracketed,
        first="[(0]",
        rest=_ALONE + r"(?:(?<=\()0)?(?:[27][0-9]|1[0-9]{1,4}|[27][0-9]{2,3})(?:\) ?|[ \-])[0-9]{3,4}[ \-]?[0-9]{3,4}",
        right=_END,
        gate=r"0[127][0-9]{1,4}[) \-]{1,2}[0-9]{3,4}",
        longest=18,
        score=0.6,
        check=_british,
        context=_PHONE_WORDS,
        required=True,
    ),
    Rule(
        name="french_national",
        category="PHONE",
        trim=_unbracketed,
        first="0",
        rest=_ALONE + r"[1-9](?: [0-9]{2}){4}|0(?<![0-9][.\-].)[1-9](?:\.[0-9]{2}){4}",
        right=_END,
        gate=r"0[1-9][ .][0-9]{2}[ .][0-9]{2}[ .][0-9]{2}",
        longest=14,
        score=0.65,
        context=_PHONE_WORDS + "|téléphone|joindre",
        required=True,
    ),
    Rule(
        name="labelled_phone",
        category="PHONE",
        trim=_unbracketed,
        first=f"[{_FIRST}]",
        left="",
        rest=LABEL + rf"(?:{labels(*_LABELS)})"
        r"(?:号码?|番号|號碼?|번호|[ _]?number|[ _]?num|[ _]?no\.?|#)?(?: is| at)?[\"'\s:=,|是为為は.\-]{0,5}"
        r"(?P<v>[+(\[【]?[0-9](?:[ .\-()\[\]】]{0,2}[0-9]){6,14})",
        right=_END,
        gate=rf"(?i)(?:{'|'.join(_LABELS)})[^0-9]{{0,20}}[0-9]",
        longest=80,
        score=0.65,
        check=_no_date,
        flags=re.IGNORECASE,
    ),
)
