"""E-mail addresses, WeChat and QQ ids."""

from __future__ import annotations

import re
from collections.abc import Iterable

from detectors.recognisers.rules import LABEL, Rule, words

_ENDINGS = words("domain_endings.txt")
"""Endings of a domain with more than two letters that mail addresses have; code such as `a@b.transpose` has none."""
_AUTHORITY = re.compile(r"://[^\s/@]{0,80}\Z")


_SPECIMEN = re.compile(
    r"(?:(?:john|jane)(?:[._]?(?:doe|smith))?|user(?:name)?[0-9]?|test|(?:your?)?[._-]?(?:name|email|mail)?|foo|bar|someone|somebody|admin|info|example|me)"
    r"@(?:example\.(?:com|org|net)|(?:your)?(?:domain|company|email)\.com)",
    re.IGNORECASE,
)
"""Addresses that everybody writes into examples and that belong to nobody."""


def _mail(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    """The address without the end of an escape before it; none for a remote of git or the user of a URL."""
    text, (start, end) = match.string, match.span()
    if text[start - 1 : start] == "\\" and text[start] in "nrt":
        start += 1
    local, _, domain = text[start:end].replace("%40", "@").partition("@")
    ending = domain.rpartition(".")[2].lower()
    if not local or (len(ending) > 2 and ending not in _ENDINGS):
        return ()
    if _SPECIMEN.fullmatch(f"{local}@{domain}"):
        return ()
    if (local == "git" and text[end : end + 1] in {":", "/"}) or _AUTHORITY.search(text, max(0, start - 90), start):
        return ()
    return ((start, end),)


EMAIL = Rule(
    name="email",
    category="EMAIL",
    first="[A-Za-z0-9_]",
    rest=r"[A-Za-z0-9._+\-]{0,63}(?:@|%40)(?:[A-Za-z0-9\-]{1,63}\.){1,6}[A-Za-z]{2,24}",
    left="0-9A-Za-z_",
    right="(?![A-Za-z])",
    gate=r"(?:@|%40)[A-Za-z0-9\-]+\.[A-Za-z]",
    longest=320,
    score=0.95,
    trim=_mail,
)


_COLUMN = r"[^\n]{0,32}\n[^\n]{0,40}\Z"
"""Behind a label: the value stands in the line below, as in a table."""
_ID = r"(?P<v>[A-Za-z][A-Za-z0-9_\-]{5,19})"
_NO_ID = frozenset(
    {
        "wechat",
        "weixin",
        "android",
        "iphone",
        "windows",
        "official",
        "payment",
        "mini-program",
        "miniprogram",
        "applet",
        "whatsapp",
        "telegram",
        "facebook",
        "twitter",
        "instagram",
        "tencent",
        "alipay",
        "string",
        "varchar",
        "integer",
        "undefined",
        "boolean",
        "number",
        "required",
        "optional",
    }
)


def _wechat(match: re.Match[str]) -> Iterable[tuple[int, int]]:
    """Letters alone are an id only where the label says so."""
    value = match["v"]
    if value.lower() in _NO_ID:
        return ()
    plain_word = re.fullmatch("[A-Za-z-]+", value) is not None
    chinese = not match["label"].isascii()
    if plain_word and not (match["id"] or (chinese and match["mark"].strip("\"' ")[:1] in {":", "="})):
        return ()
    if plain_word and match["id"] and not chinese and not match["mark"].strip():
        return ()
    return (match.span("v"),)


WECHAT = Rule(
    name="wechat",
    category="WECHAT",
    first="[微薇威加vwV]",
    left="",
    rest=LABEL + r"(?P<label>(?<=[微薇威vV])信|(?<=加)(?:[vV]信?|微信?)|(?<=v)x|(?<=w)(?:x(?!id_)|echat|eixin))"
    r"(?P<id>号码?|账号|帐号| ?id| account| number|[_\-]id)?"
    r"(?P<mark>[\"'\s]{0,2}(?:[:=,|]|是|为|叫| is )?[\"'\s]{0,3})" + _ID,
    right=r"(?![A-Za-z0-9_\-@]|\.[A-Za-z0-9])",
    gate=r"(?i)(?:微信|薇信|威信|v信|加微|加v|vx|wx|wechat|weixin)[^A-Za-z]{0,8}[a-z]",
    longest=60,
    score=0.8,
    flags=re.IGNORECASE,
    trim=_wechat,
)

QQ = Rule(
    name="qq",
    category="QQ",
    first="[qQ扣企加]",
    left="",
    rest=LABEL + r"(?:(?<=[qQ])(?:[qQ]|号)|(?<=加)[qQ]{1,2}|(?<=扣)扣|(?<=企)鹅)(?:号码?|群号?|群?账号| ?id| number)?"
    r"(?: ?is | ?是| ?为|[\"'\s:=,|]){0,5}(?P<v>[1-9][0-9]{4,10})",
    right=r"(?![0-9A-Za-z@]|[.\-][0-9])",
    gate=r"(?i)(?:qq|扣扣|企鹅|q号|加q)[^0-9]{0,16}[0-9]{5}",
    longest=44,
    score=0.85,
    flags=re.IGNORECASE,
)

NEAR = (
    Rule(
        name="wxid",
        category="WECHAT",
        first="w",
        rest="xid_[a-z0-9_\\-]{3,20}",
        right="(?![A-Za-z0-9_])",
        longest=26,
        score=0.9,
    ),
    Rule(
        name="wechat_column",
        category="WECHAT",
        first="[A-Za-z]",
        rest=r"(?=[A-Za-z_\-]{0,18}[0-9])[A-Za-z0-9_\-]{5,19}",
        left="0-9A-Za-z_",
        right="(?![A-Za-z0-9_@-])",
        gate=r"(?i)(?:微信|wechat)[^\n]{0,32}\n",
        tail=r"[A-Za-z](?<![0-9A-Za-z_].)[A-Za-z0-9_\-]{5,19}",
        longest=20,
        score=0.65,
        context=rf"(?:微信号?|wechat){_COLUMN}",
        required=True,
    ),
    Rule(
        name="qq_column",
        category="QQ",
        first="[1-9]",
        rest="[0-9]{4,10}",
        gate=r"(?i)qq[^\n]{0,32}\n",
        longest=11,
        score=0.65,
        context=rf"qq{_COLUMN}",
        required=True,
    ),
)

RULES = (EMAIL, WECHAT, QQ, *NEAR)
