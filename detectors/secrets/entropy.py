"""Is a value random, a reference to a variable, or a plain word?"""

from __future__ import annotations

import math
import re
from collections import Counter

_REFERENCE = re.compile(
    r"^(?:\$[A-Za-z_]\w*\Z|\$[({\[]|\{\{|#\{|<[^<>]*>|</|<%|%[({]|%[A-Za-z_]\w*%|%[a-z]\Z|&lt;|\{[\w. ]*\}|@[A-Za-z{]"
    r"|!(?:ref|sub|vault|getatt)\b"
    r"|(?:process|os|env|self|this|config|settings|secrets?|args?|options?|params?|request|req|ctx|data|vars?|local|app"
    r"|user|props|state|input|event|response|res|body|opts?|vault|environ|system|server)(?:\.|\[|->|::)[A-Za-z_\[\"'])",
    re.IGNORECASE,
)
_CALL = re.compile(r"^\w+=(?!=)|[A-Za-z_][\w.]{1,64}\(|\]\W?$|\$\{|\{\{|\}\}|#\{")
_PATH = re.compile(r"[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*){1,8}\W{0,3}\Z")
_DRAWN = re.compile(r"[A-Za-z]\d[A-Za-z]|[a-z][A-Z][a-z]{0,2}[A-Z]|\d[A-Za-z]\d")
"""Letters and digits that change places: no name in code."""
_WORD_LIST = """
password passwd passphrase passcode pass pwd secret token key apikey string str text number none null nil true false
undefined required optional hidden invalid incorrect wrong empty missing unknown default confirm confirmed username
user admin login email forgot forgotten reset change changed update create updated generate generated submit value
values object array function return boolean integer int float bytes char varchar field type name label input
placeholder encrypted hashed plaintext correct strong weak expired disabled enabled protected secure security bearer
basic digest oauth auth authentication authorization manager policy validation verification private public primary
foreign database server localhost test testing example sample demo dummy fake foobar xxx abc bar foo baz todo tbd
redacted masked unset notset not-set no-password credentials credential
"""
_WORDS = frozenset(_WORD_LIST.split())
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_LOCATOR = re.compile(
    r"(?:https?:|file:|s3:|arn:|/|\./|\.\./|~/|[A-Za-z]:\\)|[\w.+\-]+@[\w\-]+\.[\w.]+\Z"
    r"|[\w\-/.]+\.(?:js|ts|py|json|ya?ml|xml|html?|css|png|jpe?g|svg|txt|md|go|java|pem|key|crt|conf|ini|sh|cs|php|rb|sql|gz|zip|tar|tgz|bak|log|csv|xlsx?|docx?|pdf|mp[34]|parquet)\Z"
)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?|\d{1,2}:\d{2}|v?\d+(?:\.\d+)+|\d+(?:-\d+)+|[\d.,]+[a-z%]{0,5}\Z"
)
_DIGIT = re.compile(r"[0-9]")
_LETTER = re.compile(r"[A-Za-z]")
_SIGN = re.compile(r"[^A-Za-z0-9_.\-/'’,:;()]")
_HUMP = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}")


def entropy(value: str) -> float:
    """Shannon's entropy of the characters, in bits per character: 0 for one character repeated, 4 for random hex."""
    if not value:
        return 0.0
    total = len(value)
    return -sum(count / total * math.log2(count / total) for count in Counter(value).values())


def is_reference(value: str) -> bool:
    """Names a value instead of being one: a variable, a template, a call."""
    if _REFERENCE.search(value) is not None or _CALL.search(value) is not None:
        return not (value[0] == "$" and _DRAWN.search(value))
    return _PATH.match(value) is not None and _DRAWN.search(value) is None


def is_random(value: str, least: float, shortest: int) -> bool:
    """Letters and digits mixed, long enough, and not made of words: a value that a machine has drawn."""
    if len(value) < shortest or not _DIGIT.search(value) or not _LETTER.search(value):
        return False
    if entropy(value) < least or _LOCATOR.match(value) or _DATE.fullmatch(value):
        return False
    in_words = sum(len(word) for word in _HUMP.findall(value))
    return in_words <= 0.6 * len(value) or len(_DIGIT.findall(value)) >= 5


def is_chosen(value: str, shortest: int) -> bool:
    """A password as people choose them: letters with digits or signs. Nothing else that text holds after the word."""
    if len(value) < shortest or _LOCATOR.match(value) or _DATE.fullmatch(value):
        return False
    letters = _LETTER.search(value) is not None
    return letters and (_DIGIT.search(value) is not None or _SIGN.search(value[1:]) is not None)


def is_word(value: str) -> bool:
    """A word of the language of forms and programs, which no one means as a password."""
    return value.lower() in _WORDS or (len(set(value)) < 3 and not value.isdigit())
