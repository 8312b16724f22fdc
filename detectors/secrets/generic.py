"""Passwords, keys and tokens that only the words around them give away: `password = "…"`, `密码是…`."""

from __future__ import annotations

import re

from detectors.secrets.entropy import UUID, entropy, is_chosen, is_random, is_reference, is_word
from detectors.secrets.standins import is_known_default, is_name_of_a_thing, is_placeholder, is_stand_in

KEYWORDS = ("pass", "pwd", "bindpw", "secret", "token", "credential", "key", "passwort")
CHINESE = ("密码", "口令", "密钥", "秘钥", "密匙", "令牌", "私钥", "凭证", "授权码", "暗号")
PASSWORDS = ("pass", "pwd", "bindpw", "passwort", "密码", "口令", "暗号")
CONTEXT = 64
"""Characters before the keyword that are looked at."""

_SIGN = (
    r"(?:=>|:=|[=!]={1,2}|::?|=|->|\|\||\?\?|>|,(?=\s{0,4}[\"'])|\((?=\s{0,4}[\"'])"
    r"|(?<=[\"'\s])\s?(?:value|default|content)[\"']?\s{0,3}[=:]"
    r"|\{\s{0,12}[\"']?(?:value|default)[\"']?\s{0,4}[=:]|\s(?:value|default)\s?[=:])"
)
_CALL = r"(?:[A-Za-z_][\w.]{0,40}\(\s{0,4}(?:[\"'][^\"'\n]{1,60}[\"']\s{0,4},\s{0,4})?)?"
_PROSE = (
    r"(?:(?:[ \t][^\s=]{1,24}){0,6}?[ \t](?:is|was|to|as|be)[ \t:]{1,3}(?:now[ \t]|set[ \t]to[ \t])?"
    r"|(?:[ \t][^\s=:]{1,24}){1,6}:(?!//)\s{0,8})"
)
_HAN = r"(?:[\u4e00-\u9fff]{0,8}?[ \t]?[是为成叫][ \t]?[:=]?[ \t]?|[\u4e00-\u9fff]{1,8}?[ \t]?[:=,]?[ \t]?)"
_AFTER_HAN = r"(?:[\u4e00-\u9fff]{0,8}?[ \t]?[:=,(]?[ \t]{0,2}|\s{0,3}[:=]\s{0,4})"
_LINKED = re.compile(r"(?:[是为成叫]|[:=])[ \t]{0,2}[:=]?\s{0,4}\Z")
"""How words behind a Chinese keyword end where they lead to its value."""
_VALUE = (
    r"(?:N(?='))?(?:(?P<quote>\\?[\"'`“”「])(?P<quoted>(?:(?!(?P=quote))[!-~ ]){1,256}?)(?:(?P=quote)|[”」])"
    r"|(?P<bare>[!-~]{1,256}))"
)
NAMED = (
    rf"(?P<rest>[\w\-]{{0,40}})(?P<close>[\"'`\])}}\\]{{0,4}})"
    rf"(?:(?P<sign>\s{{0,12}}{_SIGN}\s{{0,12}}[\[({{]?){_CALL}|(?P<han>{_HAN})"
    rf"|(?P<prose>{_PROSE})|(?P<space>[ \t]{{1,4}}))[ \t]{{0,3}}{_VALUE}"
)
NAMED_IN_CHINESE = rf"(?P<rest>)(?P<close>)(?P<han>{_AFTER_HAN}){_VALUE}"
_NAMED = re.compile(NAMED, re.ASCII)
_CHINESE = re.compile(NAMED_IN_CHINESE, re.ASCII)
_HAN_LETTER = re.compile("[\u4e00-\u9fff]")
_MIXED = re.compile(r"[A-Za-z]\d+[A-Za-z]|[^A-Za-z0-9.\-_/]")
_BARE = re.compile(r"[!#$%*+\-./0-9:=?@A-Z^_a-z~]{1,256}")
_OTHER_WORD = re.compile(
    r"(?i)iz|is[ei]|ing|ed(?![a-z])|eng|age|ion|port|ive|ary|ly|board|note|frame|stone|pad|hole|over|through|word[_-]?(?:reset|policy|field|label|hint|input|length)"
)
_NOT_THE_VALUE = re.compile(
    r"(?i).*(?:address|[_\-]id|(?-i:Id)|names?|paths?|urls?|uri|type|file|dir|count|length|len|field|label|limit|size|index|policy"
    r"|expir\w*|ttl|version|endpoint|hint|class|selector|prompt|message|error|text|placeholder|hash(?:er|ing)?s?|validat\w*"
    r"|encod\w*|backend|manager|service|store|provider|helper|utils?|regex\w*|pattern|rules?|strength|algorithm|algo|format"
    r"|strategy|rotation|require\w*|enabled|disabled|rate)\Z"
)
_SECRET_QUALIFIERS = ("api", "access", "auth", "secret", "private", "license", "subscription", "admin", "deploy")
_QUALIFIERS = (
    *_SECRET_QUALIFIERS,
    *(
        "encrypt",
        "encryption",
        "signing",
        "sign",
        "master",
        "service",
        "account",
        "server",
        "app",
        "application",
        "client",
    ),
    *(
        "root",
        "webhook",
        "ssh",
        "jwt",
        "hmac",
        "aes",
        "des",
        "rsa",
        "session",
        "storage",
        "shared",
        "consumer",
        "developer",
    ),
    *(
        "dev",
        "security",
        "integration",
        "write",
        "insert",
        "query",
        "personal",
        "user",
        "project",
        "organization",
        "org",
    ),
    *("bot", "crypt"),
)
"""Words before `key` that make it a key to something."""
_OTHERS = (
    *(
        "public",
        "primary",
        "foreign",
        "cache",
        "sort",
        "partition",
        "hot",
        "short",
        "idempotency",
        "translation",
        "i18n",
    ),
    *(
        "unique",
        "index",
        "max",
        "min",
        "num",
        "total",
        "input",
        "output",
        "prompt",
        "completion",
        "special",
        "pad",
        "eos",
    ),
    *(
        "bos",
        "next",
        "page",
        "csrf",
        "xsrf",
        "site",
        "publishable",
        "publish",
        "anon",
        "measurement",
        "tracking",
        "authenticity",
        "verification",
    ),
)
"""Words before `key` and `token` that make it no secret."""
_ENV = re.compile(r"[A-Z][A-Z0-9_]{2,60}\Z")
_PARAMETERS = re.compile(
    r"(?i)(?:server|data source|host|hostname|driver|provider|uid|user|user ?id|username|database|initial catalog"
    r"|login)[\"']?\s{0,4}="
)
_LOGIN = re.compile(
    r"(?i)(?<![a-z])(?:user(?:_?name)?|login|account|app_?id|access_?id|client_?id|uid|tenant|host(?:name)?|server|endpoint"
    r"|(?:base_?|api_?)?url|account_?name)\\?[\"']?\s{0,3}[:=](?:(?!\bkey\b)[^{}\n]){0,96}\Z"
)
"""Who or what a key belongs to, in the same object before it."""
_IN_PROSE = re.compile(r"(?i)(?:user(?:name)?|login|account|root|admin|sudo)\b[^\n]{0,40}\Z")
_WORD_BEFORE = re.compile(r"[\w\-.]{0,40}\Z", re.ASCII)


def find_named(text: str, start: int, keyword: str) -> tuple[int, int, float] | None:
    """The value that the keyword at `start` names: where it stands in `text` and how likely it is a secret."""
    chinese = not keyword.isascii()
    after = start + len(keyword)
    match = (_CHINESE if chinese else _NAMED).match(text, after)
    if match is None or (not chinese and not _names_a_secret(text, start, keyword, match["rest"])):
        return None
    quoted = match["quoted"]
    begin = match.start("quoted" if quoted is not None else "bare")
    if quoted is not None:
        value = quoted
    else:
        bare = _BARE.match(text, begin)
        if bare is None:
            return None
        value = bare[0].rstrip(".:?")
        if not value:
            return None
    if _in_connection_string(text, start, match, value):
        return None if is_stand_in(value) or is_reference(value) else (begin, begin + len(value), 0.6)
    if is_placeholder(value) or is_word(value) or (is_reference(value) if quoted is None else _is_template(value)):
        return None
    if is_known_default(value) or is_name_of_a_thing(value):
        return None
    score = _score(text, start, keyword, match, value)
    return (begin, begin + len(value), score) if score else None


def _is_template(value: str) -> bool:
    return value[0] in "$<{%" and is_reference(value)


def _names_a_secret(text: str, start: int, keyword: str, rest: str) -> bool:
    """The keyword stands for itself: not inside another word such as `passenger`, `tokenizer` or `keyboard`."""
    if _OTHER_WORD.match(rest) or _NOT_THE_VALUE.match(rest) or (keyword == "key" and rest.lower().startswith("word")):
        return False
    before = text[start - 1] if start else " "
    if keyword == "key" or not (before.isascii() and before.isalpha()):
        return True
    camel = text[start].isupper() and before.islower()
    return camel or keyword in ("secret", "pwd") or rest.lower().startswith(("word", "wd", "phrase"))


def _score(text: str, start: int, keyword: str, match: re.Match[str], value: str) -> float:
    groups = match.groupdict()
    quoted = groups["quoted"] is not None
    firm = groups.get("sign") is not None
    if keyword in PASSWORDS:
        return _password(text, start, match, value, quoted=quoted, firm=firm)
    before = text[max(0, start - CONTEXT) : start].rstrip("_-. ").lower()
    if before.endswith(_OTHERS):
        return 0.0
    if keyword == "key" and UUID.match(value) and not before.endswith(_SECRET_QUALIFIERS):
        return 0.0
    if keyword == "key" and not before.endswith(_QUALIFIERS):
        if firm and _LOGIN.search(text, max(0, start - 2 * CONTEXT), start):
            return 0.6 if is_random(value, 2.8, 16) else 0.0
        random = is_random(value, 3.6, 24)
        return 0.5 if random and firm and len(set(value)) > 12 else 0.0
    if groups.get("han") is not None:
        return 0.7 if is_random(value, 2.8, 10) else 0.0
    if firm:
        if is_random(value, 2.8, 12 if quoted else 16):
            return 0.8
        return 0.6 if keyword == "secret" and quoted and _is_strong(value) else 0.0
    return 0.6 if is_random(value, 3.2, 16) else 0.0


def _is_strong(value: str) -> bool:
    return len(value) >= 10 and " " not in value and is_chosen(value, 10) and entropy(value) > 2.8


def _password(text: str, start: int, match: re.Match[str], value: str, *, quoted: bool, firm: bool) -> float:
    groups = match.groupdict()
    if " " in value.strip() or value != value.strip():
        return 0.0
    if groups.get("han") is not None:
        return _said_in_chinese(text, groups["han"], match, value)
    if firm:
        if is_chosen(value, 5 if quoted else 6):
            return 0.8
        if value.isdigit() and len(value) >= 5:
            return 0.6
        return 0.5 if len(value) >= 4 and _as_setting(text, start, match, value, quoted=quoted) else 0.0
    if (
        not firm
        and not match["rest"]
        and text[start : start + 4].lower() == "pass"
        and not _IN_PROSE.search(text, max(0, start - CONTEXT), start)
    ):
        return 0.0  # a press pass, a season pass
    if groups.get("prose") is not None:
        return 0.6 if is_chosen(value, 6) or (quoted and value.isalnum() and len(value) >= 4) else 0.0
    return 0.6 if is_chosen(value, 6) and (quoted or any(map(str.isdigit, value))) else 0.0


def _said_in_chinese(text: str, han: str, match: re.Match[str], value: str) -> float:
    """A value that a word such as 是 or a colon leads to, or that stands right behind the keyword and ends there.
    Behind other words (密码学, 密码管理器) only a random one counts."""
    end = match.end() if match["quoted"] is not None else match.start("bare") + len(value)
    goes_on = _HAN_LETTER.match(text, end) is not None
    if _LINKED.search(han) is not None:
        near = value.isdigit() and 6 <= len(value) <= 18
        return 0.7 if near or is_chosen(value, 6) else 0.0
    if not _HAN_LETTER.search(han) and not goes_on:
        return 0.7 if is_chosen(value, 6) else 0.0
    return 0.7 if is_random(value, 2.8, 8) and _MIXED.search(value) else 0.0


def _as_setting(text: str, start: int, match: re.Match[str], value: str, *, quoted: bool) -> bool:
    """A plain word is a password in quotes, in an environment file, a connection string and the query of an address."""
    sign = match["sign"]
    if quoted:
        return len(value) >= 6 and value.islower() and ("=" in sign or ":" in sign)
    if sign != "=":
        return False
    word = _WORD_BEFORE.search(text, max(0, start - 40), start)
    name = (word[0] if word else "") + text[start : match.end("rest")]
    if _ENV.match(name):
        return True
    return start > 0 and text[start - 1] in "?&"


def _in_connection_string(text: str, start: int, match: re.Match[str], value: str) -> bool:
    """`Server=…;Uid=…;Pwd=…;`: there any word is a password."""
    sign = match.groupdict().get("sign")
    if sign is None or sign.strip() != "=" or match["quoted"] is not None or len(value) < 3:
        return False
    end = match.start("bare") + len(value)
    if text[end : end + 1] not in (";", '"', "'", ""):
        return False
    return (
        _PARAMETERS.search(text, max(0, start - 2 * CONTEXT), start) is not None
        and ";" in text[max(0, start - 2 * CONTEXT) : end + 1]
    )
