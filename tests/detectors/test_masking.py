"""Placeholders: consistent, free of collisions, found again whatever a model makes of them."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.findings import Finding
from detectors.masking import Restorer, Vault, VaultFull, cover
from tests.detectors import pieces


def masked(vault: Vault, text: str) -> str:
    return vault.mask(text, pieces.find(text))


def vault_with(*values: tuple[str, str]) -> Vault:
    vault = Vault()
    for category, value in values:
        vault.placeholder(category, value)
    return vault


def test_the_same_value_has_the_same_placeholder_in_every_message() -> None:
    vault = Vault()
    assert masked(vault, "Bob met 王小明.") == "<PERSON_1> met <PERSON_2>."
    assert masked(vault, f"王小明 wrote to {pieces.EMAIL}, not Bob") == "<PERSON_2> wrote to <EMAIL_1>, not <PERSON_1>"
    assert vault.placeholder("EMAIL", "Bob") == "<EMAIL_2>"
    assert vault.restore("<PERSON_1>/<EMAIL_2>/<PERSON_3>") == "Bob/Bob/<PERSON_3>"


@pytest.mark.parametrize(
    "mangled",
    [
        "<PERSON_1>",
        "<person_1>",
        "< PERSON_1 >",
        "<PERSON 1>",
        "<PERSON-1>",
        "<Person _ 1>",
        "<PERSON\\_1>",
        "<PERSON\\\\_1>",
        "&lt;PERSON_1&gt;",
        "\\u003cPERSON_1\\u003e",
        "\\u003CPERSON_1\\u003E",
        "＜PERSON_1＞",
        "<PERSON_01>",
        "[PERSON_1]",
        "[person_1]",
        "[PERSON 1]",
        "[PERSON1]",
        "［PERSON_1］",
        "【PERSON_1】",
        "〔PERSON_1〕",
        "「PERSON_1」",
        "《PERSON_1》",
        "〈PERSON_1〉",
        "＜PERSON＿１＞",
        "<PERSON_１>",
        "<PERSON1>",
        "<person1>",
        "\\<PERSON\\_1\\>",
        "\\<PERSON_1\\>",
        "\\[PERSON\\_1\\]",
        "%3CPERSON_1%3E",
        "%3cPERSON%5F1%3e",
        "%5BPERSON_1%5D",
    ],
)
def test_what_models_make_of_a_placeholder(mangled: str) -> None:
    vault = vault_with(("PERSON", "王小明"))
    assert vault.restore(f"a{mangled}b {mangled}") == "a王小明b 王小明"
    for at in range(len(mangled) + 1):
        restorer = Restorer(vault)
        assert restorer.feed("a" + mangled[:at]) + restorer.feed(mangled[at:] + "b", end=True) == "a王小明b"


@pytest.mark.parametrize(
    "text",
    [
        "<PERSON_2>",
        "<PERSON_>",
        "<PERSON>",
        "person_1",
        "PERSON1",
        "MY_PERSON_1",
        "PERSON_1x",
        "PERSON_1_2",
        "<EMAIL_1>",
        "<1>",
        "PERSON_12",
        "xPERSON_1",
        "PERSON__1",
        "[PERSON]",
        "<\n>",
        "PERSON\xa01",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert vault_with(("PERSON", "Bob")).restore(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("问", "吧"), ("**", "**"), ("`", "`"), ("(", ")"), ('"', '",'), ("<", ""), ("\\n", "\\n")],
)
def test_a_placeholder_without_brackets(before: str, after: str) -> None:
    vault = vault_with(("PERSON", "王小明"), ("ID_CARD", pieces.ID_CARD))
    for bare, value in (("PERSON_1", "王小明"), ("PERSON\\_1", "王小明"), ("ID_CARD_1", pieces.ID_CARD)):
        text = f"{before}{bare}{after}"
        assert vault.restore(text) == f"{before}{value}{after}"
        for at in range(len(text) + 1):
            restorer = Restorer(vault)
            assert restorer.feed(text[:at]) + restorer.feed(text[at:], end=True) == f"{before}{value}{after}"


def test_a_longer_name_than_the_placeholders_stays_however_it_comes() -> None:
    for text in ("MY_PERSON_1 x", "aPERSON_1 x", "PERSON_1A x", "PERSON_12 x"):
        for at in range(len(text) + 1):
            restorer = Restorer(vault_with(("PERSON", "Bob")))
            assert restorer.feed(text[:at]) + restorer.feed(text[at:], end=True) == text


def test_a_link_keeps_its_brackets_and_an_address_its_escapes() -> None:
    vault = vault_with(("PHONE", "+86 139 1724"), ("EMAIL", "a@b.cn"))
    assert vault.restore("[PHONE_1](tel:PHONE_1)") == "[+86 139 1724](tel:+86 139 1724)"
    assert (
        vault.restore("https://x.cn/?p=%3CPHONE_1%3E&m=%3CEMAIL_1%3E") == "https://x.cn/?p=%2B86%20139%201724&m=a@b.cn"
    )


def test_names_in_code_that_a_user_writes_are_left_alone() -> None:
    vault = Vault()
    out = masked(vault, "EMAIL_1 = env; [EMAIL 2]; <email3>; write to " + pieces.EMAIL)
    assert out == "EMAIL_1 = env; [EMAIL 2]; <email3>; write to <EMAIL_4>"
    assert vault.restore(out) == "EMAIL_1 = env; [EMAIL 2]; <email3>; write to " + pieces.EMAIL


def test_a_category_of_several_words() -> None:
    vault = vault_with(("ID_CARD", pieces.ID_CARD))
    assert vault.placeholder("ID_CARD", pieces.ID_CARD) == "<ID_CARD_1>"
    assert vault.restore("<id\\_card\\_1> <ID CARD 1>") == f"{pieces.ID_CARD} {pieces.ID_CARD}"


@pytest.mark.parametrize("category", ["客户", "A1", "a b", "", "X" * 99])
def test_a_category_that_is_no_word(category: str) -> None:
    vault = Vault()
    assert vault.placeholder(category, "v") == "<VALUE_1>"
    assert vault.restore("<VALUE_1>") == "v"


def test_literals_come_back_unharmed() -> None:
    vault = Vault()
    out = masked(vault, "In the template, <PERSON_1> and &lt;person_2&gt; stand for Bob")
    assert out == "In the template, <PERSON_1> and &lt;person_2&gt; stand for <PERSON_3>"
    assert vault.restore(out) == "In the template, <PERSON_1> and &lt;person_2&gt; stand for Bob"


def test_a_literal_that_comes_after_the_placeholder_is_in_use() -> None:
    vault = Vault()
    assert masked(vault, "Bob") == "<PERSON_1>"
    later = masked(vault, "what is < person_1 > ?")
    assert "1 >" not in later
    assert vault.restore(later + "<PERSON_1>") == "what is < person_1 > ?Bob"


def test_overlapping_findings_leave_nothing_behind() -> None:
    findings = [Finding(2, 9, "ADDRESS"), Finding(7, 12, "PERSON"), Finding(11, 13, "PHONE"), Finding(13, 14, "QQ")]
    assert cover(findings) == [Finding(2, 13, "ADDRESS"), Finding(13, 14, "QQ")]
    vault = Vault()
    assert vault.mask("0123456789abcdef", findings) == "01<ADDRESS_1><QQ_1>ef"
    assert vault.restore("<ADDRESS_1>") == "23456789abc"


NASTY = 'Al "ice" \\ \n\t</b> 王\u2028\x00'


def test_values_are_escaped_inside_json() -> None:
    vault = vault_with(("PERSON", NASTY))
    arguments = r'{"to":"<PERSON_1>","x":"\u003cPERSON_1\u003e","y":"a\\\u003cPERSON_1\u003e"}'
    assert json.loads(vault.restore(arguments, in_json=True)) == {"to": NASTY, "x": NASTY, "y": "a\\" + NASTY}
    # an escaped backslash before `u003c` is text, not a bracket
    assert vault.restore(r'{"x":"\\u003cPERSON_1>"}', in_json=True) == r'{"x":"\\u003cPERSON_1>"}'


def test_values_of_json_source_are_remembered_without_escapes() -> None:
    vault = Vault()
    source = json.dumps({"name": NASTY})
    raw = json.dumps(NASTY)[1:-1]
    at = source.index(raw)
    assert vault.mask(source, [Finding(at, at + len(raw), "PERSON")], in_json=True) == '{"name": "<PERSON_1>"}'
    assert vault.restore("<PERSON_1>") == NASTY
    assert vault.restore('"<PERSON_1>"', in_json=True) == json.dumps(NASTY, ensure_ascii=False)


def test_a_full_vault_refuses_and_adds_nothing() -> None:
    vault = Vault(max_entries=2, max_characters=10)
    vault.placeholder("PERSON", "12345")
    with pytest.raises(VaultFull):
        vault.placeholder("PERSON", "123456")
    vault.placeholder("PERSON", "54321")
    vault.placeholder("PERSON", "54321")
    with pytest.raises(VaultFull):
        vault.placeholder("PERSON", "")
    assert len(vault) == 2


def test_more_literals_than_can_be_reserved_are_masked_themselves() -> None:
    vault = Vault(max_entries=2)
    text = "<A_1> <A_2> <A_3>"
    out = vault.mask(text, [])
    assert out == "<A_1> <A_2> <LITERAL_1>"
    assert vault.restore(out) == text


def test_representations_show_no_value() -> None:
    vault = vault_with(("PERSON", "Bob"))
    restorer = Restorer(vault)
    restorer.feed("<PERSON")
    assert "Bob" not in repr(vault) + repr(restorer) and "PERSON" not in repr(restorer)


def test_only_what_may_become_a_placeholder_is_held() -> None:
    restorer = Restorer(vault_with(("PERSON", "Bob"), ("ID_CARD", "1")))
    for text in ("a < b", "if x <y", "&amp;", "<div", "\\n", "<person x", "<PERSON_1234567", "<id_card_x", "&lt;p>"):
        restorer.feed("", end=True)
        assert restorer.feed(text) == text, text
    for text in ("<", "&l", "\\u00", "<per", "< ID", "<ID_", "<ID_CARD", "&lt;person_1", "<person_1&g", "<PERSON\\"):
        assert restorer.feed(text) == "", text
        assert restorer.held == len(text)
        assert restorer.feed("", end=True) == text
    assert Restorer(Vault()).feed("<PERSON_") == "<PERSON_"


PARTS = st.sampled_from(
    [
        *("<", ">", "PERSON_1", "<PERSON_1>", "<person_2>", "&lt;", "&gt;", "\\u003c", "\\u003E", "\\", "_", " ", "1"),
        *(
            "[",
            "]",
            "(",
            "%3C",
            "%3e",
            "１",
            "【",
            "MY_",
            "\\n",
            "2",
            "PERSON1>",
            "[PERSON_1](",
            "\\_1\\>",
            "\\<PERSON",
        ),
        *("PERSON", "ID_CARD", "<ID\\_CARD_1>", "x", "王", "\\\\u003cPERSON_1>", "&", "u003c", "-", "<PERSON_3>"),
    ]
)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=14).map("".join), st.lists(st.integers(0, 120), max_size=10), st.booleans())
def test_any_cut_restores_the_same(text: str, cuts: list[int], in_json: bool) -> None:
    vault = vault_with(("PERSON", 'B"ob'), ("PERSON", "<PERSON_1>"), ("ID_CARD", "\\"))
    restorer = Restorer(vault, in_json=in_json)
    out = [restorer.feed(piece) for piece in pieces.cut(text, cuts)]
    assert "".join(out) + restorer.feed("", end=True) == vault.restore(text, in_json=in_json)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*pieces.VALUES, "<PERSON_1>", "<", " and ", "，"]), max_size=12).map("".join))
def test_round_trip(text: str) -> None:
    vault = Vault()
    vault.reserve(text)
    out = masked(vault, text)
    left = re.sub("<(?!PERSON_1>)[A-Z_]+_[0-9]+>" if "<PERSON_1>" in text else "<[A-Z_]+_[0-9]+>", "", out)
    assert left == pieces.without(text, cover(pieces.find(text)))
    assert vault.restore(out) == text
    assert masked(vault, text) == out


def test_what_is_held_is_bounded() -> None:
    restorer = Restorer(vault_with(("PERSON", "Bob")))
    total = "".join(restorer.feed(piece) for piece in ["<" * 50, *["person_" * 10] * 20])
    assert restorer.held <= 160
    assert len(total) + restorer.held == 50 + 1400
