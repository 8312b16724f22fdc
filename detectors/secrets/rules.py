"""What a rule for secrets is: keywords that open it, and the shape of the value."""

from __future__ import annotations

import msgspec

LEFT = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9a-fA-F]{4})|(?=[^A-Za-z0-9]))"
"""A value starts where no ASCII letter or digit stands before, or after an escape: Chinese text may touch it."""
RIGHT = r"(?![A-Za-z0-9])"
IDENTIFIER = r"[\w.\-]{0,40}"
"""What follows a keyword in its own name, as in `DROPBOX_ACCESS_TOKEN`."""
WORDS = r"(?:[ \t][\w.\-]{1,20}){0,3}"
"""Words between a name and its sign, as in `Unseal Key 2:`."""
SIGN = r"(?:[=:>,(|!\-]|=>|is\b|as\b|值|是|为)"
CLOSE = r"[\"'`\])}\\]{0,4}"
GAP_SPACE = r"\s{0,8}"
OPEN = r"[\"'`\[({<\\\s]{0,8}"
HOLDER = r"(?:(?:value|default|params|secret|password|token|pass|key)[\"']?\s{0,4}[=:]{1,2}\s{0,4}" + OPEN + r")?"
"""`name: X, value: "…"` and `X: {"value": "…"}`: the value of a named entry."""
GAP = rf"{IDENTIFIER}{WORDS}{CLOSE}{GAP_SPACE}{SIGN}{{0,3}}{GAP_SPACE}{OPEN}{HOLDER}"
"""Everything between a keyword and its value. `scan.open_from` relies on the order of these parts."""

LONGEST_VALUE = 512
"""Characters of a value that is found by a keyword before it."""
LONGEST_TOKEN = 20_000
"""Characters of a value that is found by its own shape."""


class SecretRule(msgspec.Struct, frozen=True):
    """One kind of secret.

    A rule is tried only where one of its `keywords` (ASCII or Chinese, in any case, without white space) stands:

    - `keyed` false: the value has a shape of its own and holds its keyword. `pattern` matches the whole of it, from at
      most `before` characters before the keyword.
    - `keyed` true: the keyword names the value, which follows after a sign such as `=`; `pattern` matches the value.

    `pattern` is written for `re`, has bounded repeats only, and matches no white space unless `reach` says how many
    characters a match may have at most. The value is the group `value` if there is one, else the whole match.
    """

    name: str
    keywords: tuple[str, ...]
    pattern: str
    keyed: bool = False
    before: int = 0
    tail: int = 0
    """Printable ASCII characters that follow the keyword at least: the gate stays shut for words of prose."""
    reach: int = 0
    entropy: float = 2.3
    """Bits per character that the value has at least."""
    score: float = 0.95
    chosen: bool = False
    """Whether people choose the value, so that a known default or the name of a variable may stand there."""

    def __post_init__(self) -> None:
        if not self.keywords or any(not word or any(map(str.isspace, word)) for word in self.keywords):
            raise ValueError(f"secret rule {self.name}: keywords are needed, and have no white space")
        if self.keyed and (self.before or self.reach):
            raise ValueError(f"secret rule {self.name}: a keyed rule has neither `before` nor `reach`")


def shaped(
    name: str, keywords: str, pattern: str, *, before: int = 0, entropy: float = 1.5, chosen: bool = False
) -> SecretRule:
    """A value with a shape of its own; `keywords` are divided by spaces."""
    tail = 0 if before else 12
    return SecretRule(name, tuple(keywords.split()), pattern, before=before, tail=tail, entropy=entropy, chosen=chosen)


def keyed(name: str, keywords: str, pattern: str, *, entropy: float = 2.3) -> SecretRule:
    """A value that only its name gives away; `keywords` are divided by spaces."""
    return SecretRule(name, tuple(keywords.split()), pattern, keyed=True, entropy=entropy)
