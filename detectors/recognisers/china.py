"""Chinese identity numbers, travel documents, credit codes and licence plates."""

from __future__ import annotations

import re
from collections.abc import Iterable

from detectors.recognisers import checks, ids
from detectors.recognisers.rules import Rule

_S = r"[ .\-]?"
_BORN = rf"(?:18|19|20)[0-9]{{2}}{_S}(?:0[1-9]|1[0-2]){_S}(?:0[1-9]|[12][0-9]|3[01])"
_IDENTITY = "身份证|身份號|证件|证号|公民|居民|\\bid\\b|identity|id[_ -]?(?:card|no|num)"
_TRAVEL = (
    "护照|通行证|回乡证|台胞证|旅行证|港澳证"
    r"|(?<!import )passport(?!\.[a-z(]|-(?!no|num|id|card)|\(|[\"']\s?[;)]|js)"
    "|travel doc|travel permit|reisepass|passeport|pasaporte|passaporto|paszport"
)
_DRIVING = (
    r"驾驶证|驾照|驾驶执照|驾驶證|driver.{0,3}licen[cs]e|driving.{0,2}licen[cs]e|\bdl ?(?:no|num|#|:)|führerschein|"
    "fuehrerschein|permis de conduire|permiso de conduc|patente di guida|prawo jazdy|rijbewijs"
)


def _number(value: str) -> bool:
    """Enough digits for a document's number, and no date."""
    digits = sum(each.isdigit() for each in value)
    return digits >= 5 and not (value.isdigit() and checks.looks_like_date(value)) and not _day(value)


def _day(value: str) -> bool:
    return "-" in value and len(value) <= 10 and checks.looks_like_date(value)


IDENTITY = (
    Rule(
        name="cn_resident_id",
        category="ID_CARD",
        first="[1-9]",
        rest=rf"(?:[0-9]{{5}}{_S}{_BORN}{_S}[0-9]{{3}}{_S}[0-9Xx]"
        rf"|[0-9]{{2}}[ .\-](?:[0-9]{{4}}[ .\-]){{3}}[0-9]{{2}}[0-9Xx]"
        r"|[0-9]{3}[ .\-](?:[0-9]{4}[ .\-]){3}[0-9][0-9Xx])",
        longest=24,
        score=0.95,
        check=checks.resident_id,
        context=_IDENTITY,
    ),
    Rule(
        name="cn_resident_id_15",
        category="ID_CARD",
        first="[1-8]",
        rest=r"[0-9]{7}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}",
        longest=15,
        score=0.65,
        check=checks.resident_id_15,
        context=_IDENTITY,
        required=True,
    ),
    Rule(
        name="hk_id",
        category="ID_CARD",
        first="[A-Z]",
        rest=r"[A-Z]?[0-9]{6}\([0-9A]\)",
        right="",
        longest=11,
        score=0.9,
        check=checks.hong_kong_id,
    ),
    Rule(
        name="hk_id_bare",
        category="ID_CARD",
        first="[A-Z]",
        rest=r"[A-Z]?[0-9]{6}[0-9A]",
        longest=9,
        score=0.65,
        check=checks.hong_kong_id,
        context="香港|身份证|身份證|hkid|hong kong id",
        required=True,
    ),
    Rule(
        name="tw_id",
        category="ID_CARD",
        first="[A-Z]",
        rest="[1289][0-9]{8}",
        longest=10,
        score=0.7,
        check=checks.taiwan_id,
        context="身分證|身分证|身份證|身份证|统一编号|統一編號|居留證|居留证|台湾|taiwan|identity",
        required=True,
    ),
)

DOCUMENTS = (
    Rule(
        name="passport",
        category="PASSPORT",
        first="[0-9A-Z]",
        rest=r"(?:(?<=[A-Z])(?:[A-Z]{0,2}[0-9]{6,10}|[0-9A-Z]{8})|(?<=[0-9])(?:[0-9]{7,8}|[0-9][A-Z]{2}[0-9]{5}))",
        gate="(?i)(?:[A-Z][0-9]{6}|[0-9]{8}|[0-9]{2}[A-Z]{2}[0-9]{5}|[0-9A-Z]{9})",
        longest=13,
        score=0.7,
        check=_number,
        context=_TRAVEL,
        after=10,
        required=True,
    ),
    Rule(
        name="driver_license",
        category="DRIVER_LICENSE",
        first="[0-9A-Z]",
        rest="(?:-?[A-Z0-9]){5,20}",
        gate=f"(?i)(?:{_DRIVING})",
        longest=41,
        score=0.65,
        check=_number,
        context=_DRIVING,
        required=True,
    ),
)


def _code(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    return () if ids.drawn(match.string, *match.span(), _is_code) else (match.span(),)


def _is_code(value: str) -> bool:
    return len(value) == 18 and checks.credit_code(value)


_CODE = "[0-9A-HJ-NPQRTUWXY]"
CREDIT_CODE = Rule(
    name="cn_credit_code",
    category="CREDIT_CODE",
    first="[1-9ANYGanyg]",
    rest=rf"(?:[1-9A-GNa-gn]{_S}[0-9]{{6}}{_S}(?:{_CODE}{{4}}{_S}{_CODE}{{4}}{_S}{_CODE}{_S}{_CODE})"
    rf"|[0-9A-GNa-gn][0-9]{{2}}[ \-][0-9]{{4}}[ \-]{_CODE}{{4}}[ \-]{_CODE}{{4}}[ \-]{_CODE}{{2}})".replace(
        "A-HJ-NPQRTUWXY", "A-HJ-NPQRTUWXYa-hj-npqrtuwxy"
    ),
    longest=24,
    score=0.9,
    check=checks.credit_code,
    trim=_code,
    context="信用代码|统一社会|税号|纳税|营业执照|税务|机构代码|credit code|uscc",
)


def _plate(value: str) -> bool:
    return sum(each.isdigit() for each in value) >= 2


_TRAITS = "[0-9A-HJ-NP-Z]"
PLATE = Rule(
    name="cn_plate",
    category="LICENSE_PLATE",
    first="[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]",
    rest=rf"[A-HJ-NP-Z][·・•.\- ]?(?:[0-9]{{5}}[DF]|[A-HJK][0-9A-HJ-NP-Z][0-9]{{4}}"
    rf"|{_TRAITS}{{4}}[学警港澳挂领]|{_TRAITS}{{5}})",
    left="",
    longest=9,
    score=0.85,
    check=_plate,
    context="车牌|号牌|牌照|车辆|车号|plate",
)

RULES = (*IDENTITY, *DOCUMENTS, CREDIT_CODE, PLATE)
