"""Bank cards, IBANs, other accounts, cryptocurrency wallets."""

from __future__ import annotations

import re
from collections.abc import Iterable

from detectors.recognisers import ids
from detectors.recognisers.checks import base58check, bech32, luhn, mod97, routing_number
from detectors.recognisers.rules import LABEL, Rule, words

_NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|095|[68]\d)\d{11,16}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d{2})\d{12,15}"  # Discover
    r"|35\d{14,17}|(?:2131|1800)\d{11}"  # JCB
    r"|62\d{14,17}|81\d{14,17}"  # UnionPay
    r"|(?:5018|5020|5038|5[678]\d{2}|6[0137]\d{2}|6[49]\d{2})\d{9,15}"  # Maestro and older Chinese cards
    r"|220[0-4]\d{12,15}|9792\d{12}"  # Mir, Troy
    r"|(?:9558|9559|9400|9111|9843|9988|9896|9966|4[05]\d{2}|103\d)\d{12,15}"  # older Chinese cards
)
_GROUPS = re.compile("[0-9]+")


def _whole(groups: list[int]) -> bool:
    """Whether digits are grouped the way cards are printed or typed."""
    return len(groups) == 1 or (
        min(groups[:-1]) >= 3
        and groups[-1] >= 1
        and (len(set(groups[:-1])) == 1 or groups[1:] in ([6, 5], [6, 4], [13], [6]))
    )


def _cards(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    """The longest run of groups from the first one on that makes a card: other numbers may stand behind it."""
    text, (start, end) = match.string, match.span("more")
    groups = [(match.start(), start), *(each.span() for each in _GROUPS.finditer(text, start, end))]
    sizes = [after - before for before, after in groups]
    for last in range(len(groups), 0, -1):
        size = sum(sizes[:last])
        if size < 13:
            return ()
        if size <= 19 and _whole(sizes[:last]) and _card(text, groups[:last]):
            span = groups[0][0], groups[last - 1][1]
            return () if ids.drawn(text, *span, _valid) else (span,)
    return ()


def _valid(digits: str) -> bool:
    return digits.isdigit() and _NETWORKS.fullmatch(digits) is not None and luhn(digits)


def _printed(value: str) -> bool:
    """Whether these digits begin like a card's; mistyped ones and those of small issuers have no valid checksum."""
    digits = re.sub("[^0-9]", "", value)
    return _NETWORKS.fullmatch(digits) is not None and len(set(digits)) > 2


def _card(text: str, groups: list[tuple[int, int]]) -> bool:
    digits = "".join(text[start:end] for start, end in groups)
    return _NETWORKS.fullmatch(digits) is not None and len(set(digits)) > 1 and luhn(digits)


CARD = Rule(
    name="bank_card",
    category="BANK_CARD",
    first="[1-9]",
    rest=r"(?<![0-9][.\-].)(?:(?<=[3-6])|(?<=2)[12367]|(?<=8)1|(?<=1)[08]|(?<=9)[0-9])[0-9]{1,18}"
    r"(?![0-9A-Za-z])(?=(?P<more>(?:(?:[ .\-]|  )[0-9]{1,13}(?![0-9A-Za-z])){0,5}))",
    right=r"(?!\.[0-9]{1,2}(?![0-9]))",
    tail=r"[1-9](?<![0-9A-Za-z].)[0-9]{2,18}(?:(?:[ .\-]|  )[0-9]{1,13}){0,5}",
    gate=r"[1-9][0-9]{2}(?:(?:[ .\-]|  )?[0-9]){9}",
    longest=94,
    score=0.9,
    trim=_cards,
    context=r"卡号|银行卡|信用卡|储蓄卡|借记卡|card|visa|master|amex|unionpay|银联|\bcc\b|debit|credit|\bpan\b",
)

LABELLED = Rule(
    name="labelled_card",
    category="BANK_CARD",
    first="[信银储借卡c]",
    left="",
    rest=LABEL + r"(?:(?:(?<=信)用卡|(?<=银)行卡|(?<=储)蓄卡|(?<=借)记卡)(?:卡?号码?)?|(?<=卡)号码?"
    r"|(?<=c)(?:redit|ard)[ _-]?(?:card)?[ _-]?(?:number|num|no\.?|#))"
    r"(?: is)?[\"'\s:=,|是为(]{0,5}(?P<v>[1-9][0-9]{3}(?:[ \-]?[0-9]){9,15})",
    right=r"(?![0-9A-Za-z])(?![.\-][0-9])",
    gate=r"(?i)(?:信用卡|银行卡|储蓄卡|借记卡|卡号|card)[^0-9]{0,24}[0-9]{4}",
    longest=70,
    score=0.8,
    check=_printed,
    flags=re.IGNORECASE,
)

MAESTRO = Rule(
    name="maestro_12",
    category="BANK_CARD",
    first="[56]",
    rest="[0-9]{11}",
    right=r"(?![0-9A-Za-z])(?!\.[0-9])",
    longest=12,
    score=0.7,
    check=luhn,
    context=CARD.context,
    required=True,
)

_LENGTHS = {each[:2]: int(each[3:]) for each in words("iban_lengths.txt")}
"""SWIFT IBAN registry: country to length."""


def _iban(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    """As many characters as the country has; text may follow behind a space."""
    text, start = match.string, match.start()
    length = _LENGTHS.get(match[0][:2].upper(), 0)
    places = [index for index in range(start, match.end()) if text[index].isalnum()]
    if not length or len(places) < length:
        return ()
    end = places[length - 1] + 1
    if text[end : end + 1].isalnum() and text[end : end + 1].isascii():
        return ()
    return ((start, end),) if mod97(text[start:end]) else ()


IBAN = Rule(
    name="iban",
    category="IBAN",
    first="[A-Z]",
    rest=r"[A-Z][0-9]{2}(?:[ \-]?[A-Z0-9]){11,30}",
    right="",
    longest=64,
    score=0.95,
    trim=_iban,
    flags=re.IGNORECASE,
)

_MARK = r"(?: ?号码?| ?编号|[ _]?number|[ _]?num|[ _]?no\.?| ?code| ?#)?(?: is)?[\"'\s:=,|是为(]{0,5}"
ACCOUNTS = (
    Rule(
        name="bank_account",
        category="BANK_ACCOUNT",
        first="[账帐户卡a]",
        left="",
        rest=LABEL
        + r"(?:(?<=[账帐])[号户]|(?<=户)号|(?<=卡)号|(?<=a)ccount|(?<=a)cct\.?|(?<=a)/c)"
        + _MARK
        + r"(?P<v>[0-9](?:[ \-]?[0-9]){5,24})",
        right=r"(?![0-9A-Za-z])(?![.\-][0-9])",
        gate=r"(?i)(?:[账帐][号户]|户号|卡号|account|acct|a/c)[^0-9]{0,24}[0-9]{2}",
        longest=110,
        score=0.6,
        context=r"银行|[建工农中招交]行|开户|对公|收款|汇款|转账|结算|户名|支行|农信|信用社"
        r"|bank|routing|\bwire\b|swift|checking|savings|account n|a/c n|acct n|sort code|deposit",
        required=True,
        flags=re.IGNORECASE,
    ),
    Rule(
        name="bank_account_column",
        category="BANK_ACCOUNT",
        first="[0-9]",
        rest="[0-9]{7,24}",
        gate=r"(?i)(?:银行[账帐卡]|bank[ _]?account|account[ _]?n)[^\n]{0,32}\n",
        longest=25,
        score=0.6,
        context=r"(?:银行[账帐卡][号户]?|bank[ _]?account|account[ _]?(?:no|num))[^\n]{0,32}\n[^\n]{0,40}\Z",
        required=True,
    ),
    Rule(
        name="routing_number",
        category="BANK_ACCOUNT",
        first="[ra]",
        rest=r"(?:(?<=r)outing|(?<=r)tn|(?<=a)ba)" + _MARK + r"(?P<v>[0-9]{9})",
        gate=r"(?i)(?:routing|rtn|aba)[^0-9]{0,24}[0-9]{9}",
        longest=50,
        score=0.8,
        check=routing_number,
        flags=re.IGNORECASE,
    ),
    Rule(
        name="sort_code",
        category="BANK_ACCOUNT",
        first="s",
        rest=r"ort[ \-_]?code" + _MARK + r"(?P<v>[0-9]{2}[ \-]?[0-9]{2}[ \-]?[0-9]{2})",
        longest=40,
        score=0.75,
        flags=re.IGNORECASE,
    ),
)


def _ether(value: str) -> bool:
    return len(set(value[2:].lower())) > 4


WALLETS = (
    Rule(
        name="base58_wallet",
        category="CRYPTO_WALLET",
        first="[13LMDXT]",
        rest="[1-9A-HJ-NP-Za-km-z]{25,33}",
        longest=35,
        score=0.95,
        check=base58check,
    ),
    Rule(
        name="bech32_wallet",
        category="CRYPTO_WALLET",
        first="[bBlt]",
        rest=r"(?:(?<=[bB])[cC]1|(?<=l)tc1|(?<=t)b1)[02-9AC-HJ-NP-Zac-hj-np-z]{11,71}",
        gate="(?i)(?:bc1|ltc1|tb1)[02-9a-z]{11}",
        longest=76,
        score=0.95,
        check=bech32,
    ),
    Rule(
        name="ethereum_wallet",
        category="CRYPTO_WALLET",
        first="0",
        rest="x[0-9a-fA-F]{40}",
        longest=42,
        score=0.8,
        check=_ether,
        context="wallet|eth|钱包|address|地址",
    ),
)

RULES = (CARD, LABELLED, MAESTRO, IBAN, *ACCOUNTS, *WALLETS)
