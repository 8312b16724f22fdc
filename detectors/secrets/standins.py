"""Values that stand where a secret would: what documents print, what programs start with, names of things in code."""

from __future__ import annotations

import re

from detectors.secrets.entropy import is_random

_MARKS = re.compile(
    r"example|x{5,}|\*{3,}|\.{3,}|_{4,}|-{6,}|#{4,}|placeholder|redacted|dummy"
    r"|goes[-_ ]?here|[-_ ]here$|1234567890?abcdef"
    r"|change[-_ ]?(?:me|this|it)|replace[-_ ]?(?:me|this|with)|(?:^|[^a-z])(?:sample|fake)(?=[^a-z]|$)"
    r"|(?:^|[^a-z])(?:your|insert|enter|todo|fixme|fill)(?:[^a-z]|(?=your|my|api|key|token|password|secret|access|app)|$)"
    r"|your[-_ ]?(?:api|key|token|pass|pw|secret|access|app|own|client|user|account)"
    r"|^(?:my|the|some|any|new|old)[-_ ]?(?:super[-_ ]?)?(?:api|secret|token|password|passwd|pass|key|pwd)",
    re.IGNORECASE,
)
_SAYS_SO = re.compile(r"EXAMPLE(?:KEY)?\Z|example[-_]?(?:key|token|secret)?\Z|x{8,}|\*{3,}|\.{3,}|here\Z", re.ASCII)
"""Marks that make a stand-in of anything before them, such as the keys that AWS prints."""
_PUBLISHED = frozenset({"00000000-0000-0000-0000-000000000000"})
"""Values that documents print as examples and that open nothing. Those of AWS say EXAMPLE themselves."""

_DEFAULT_WORD = (
    "my|new|old|strong|secure|super|some|the|your|top|very|user|username|app|web|db|database|dev|demo|test|testing|admin|"
    "administrator|root|default|guest|example|sample|service|local|password|passwd|passphrase|pass|pwd|secret|key|token|"
    "postgres|postgresql|pg|mysql|mariadb|mongo|mongodb|redis|rabbitmq|rabbit|minio|minioadmin|elastic|grafana|jenkins|"
    "oracle|docker|nacos|zabbix|wordpress|django|flask|spring|keycloak|sonar|nexus|gitlab|airflow|qwerty|foo|bar|foobar|"
    "hello|world|changeme|change|me|not|so|jwt|session|string|foobared|text|value|dummy|fake|temp"
)
_DEFAULT = re.compile(rf"(?:(?:{_DEFAULT_WORD})[-_.@]?)+")
_NUMBERED = re.compile(r"[-_.@#!]?(?:0?1|12|123|1234|12345|123456|12345678|123!@#|321)?[!@#.]{0,3}\Z")
_LEET = str.maketrans("@$03", "asoe")
_TERM = re.compile(
    r"(?i:RSA|DSA|AES|DES|3DES|SHA|MD|SM|GBK?|UTF|WPA|WEP|ECC|ECDH|ECDSA|ED|X|TLS|SSL|SSH|O?Auth|PKCS|PBKDF|HMAC|HS|RS|ES|PS"
    r"|Argon|b?crypt|scrypt|Base|Win|Windows|Office|iOS|iPhone|Android|Python|Java|JDK|Node|Vue|React|GPT|LLaMA|Qwen|Claude"
    r"|ERC|IEEE|ISO|RFC|FIDO|MFA|zxcvbn|Log4j|HTTP|IPv|Kerberos|Enigma|ChaCha|Poly|Curve|[PKSHBVQ](?=\d{1,4}\Z)|CVE|GPU|RTX"
    r"|USB|Web)-?\d[\d.\-]{0,8}(?:id|ID|crypt|sum|[a-z]{1,2})?"
)
"""Names of algorithms, standards and products with their number."""
_CODE_NAME = re.compile(
    r".{0,200}(?:[Hh]asher|[Vv]alidator|[Ee]ncoder|[Dd]ecoder|[Mm]anager|[Ss]ervice|[Hh]andler|[Pp]rovider|[Ff]actory"
    r"|[Cc]ontroller|[Uu]tils?|[Hh]elper|[Ff]ield|[Ii]nput|[Ff]orm|[Cc]onfig|[Ss]ettings|[Tt]ype|[Cc]lass|[Ee]rror"
    r"|[Ee]xception|[Mm]iddleware|[Bb]ackend|[Aa]dapter|[Rr]epository|(?:[a-z]|_)(?:[Tt]oken|[Kk]ey|[Pp]assword|[Ss]ecret))"
    r"_?[vV]?\d{0,2}\Z"
)
_FORM_RULES = re.compile(r"[a-z_]{3,40}(?:\|[a-z_]{2,40}(?::[\w,.]{1,40})?){1,10}")
_WORDS_OF_A_NAME = re.compile(r"[A-Za-z]{3,}")


def is_placeholder(value: str) -> bool:
    """A stand-in that documents print where the reader's own value goes, or an example that a vendor publishes.

    A word such as `sample` or `my-api` makes none of a value that is random without it.
    """
    if value in _PUBLISHED:
        return True
    if _MARKS.search(value) is None:
        return False
    return _SAYS_SO.search(value) is not None or not is_random(_MARKS.sub("", value), 2.8, 9)


def is_stand_in(value: str) -> bool:
    """A placeholder that could not be anybody's password: `your_password`, `*****`, `xxxxx`."""
    return re.search(r"(?i)your|x{4,}|\*{3,}|\.{3,}|#{4,}|<|\{|example", value) is not None


def is_known_default(value: str) -> bool:
    """A password that tutorials write and programs start with: `postgres123`, `P@ssw0rd!`, `my-secret`."""
    low = _NUMBERED.sub("", value.lower()) or value
    return _DEFAULT.fullmatch(low) is not None or _DEFAULT.fullmatch(low.translate(_LEET)) is not None


def is_name_of_a_thing(value: str) -> bool:
    """An algorithm or product with its number (`RSA2048`, `Argon2id`), a name in code (`Argon2PasswordHasher`), or what
    a form asks of its field (`required|min:8`)."""
    if _TERM.fullmatch(value) is not None or _FORM_RULES.fullmatch(value) is not None:
        return True
    in_words = sum(len(word) for word in _WORDS_OF_A_NAME.findall(value))
    return _CODE_NAME.fullmatch(value) is not None and in_words >= 0.8 * len(value.replace("_", "").replace(".", ""))
