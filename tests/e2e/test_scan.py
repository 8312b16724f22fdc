"""`sluice scan` as it is called: files, directories, standard input, rows of JSON, policies good and bad."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.commands.scan import DENIED, FAULT, OK, run_scan
from tests.e2e.guarded import EMAIL, PHONE, SECRET, policy


def run(*arguments: str, given: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "extproc", "scan", *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False, timeout=120, cwd=cwd)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A policy file. The host that it is for is in no file."""
    spec = policy("office", "nowhere.test", denyPatterns=["(?i)bluebird"], actions={"PERSON": "report"})
    return written(tmp_path / "policy.yaml", spec)


def written(path: Path, *documents: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump_all(documents, allow_unicode=True), encoding="utf-8")
    return path


class Standard:
    """What stands in for standard input."""

    def __init__(self, given: bytes) -> None:
        self.buffer = io.BytesIO(given)


def rows(given: bytes, rules: Path, capsys: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "stdin", Standard(given))
    status = run_scan([], rules, {}, jsonl=True)
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def jsonl(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


class TestRows:
    def test_one_result_each_in_order(
        self, rules: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = [f"{'x ' * (i % 7 * 400)}number {i}: person{i}@example.org" for i in range(300)]
        status, found = rows(jsonl(*texts), rules, capsysbinary, monkeypatch)
        assert status == OK
        assert len(found) == len(texts)
        for text, result in zip(texts, found, strict=True):
            [finding] = result["findings"]
            assert text[finding["start"] : finding["end"]] == text.rpartition(" ")[2]

    def test_a_row_has_these_fields(
        self, rules: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = ("hello", f"mail {EMAIL}", "the Bluebird plan", f"key {SECRET}")
        _, found = rows(jsonl(*texts), rules, capsysbinary, monkeypatch)
        assert [each["action"] for each in found] == ["allow", "mask", "deny", "deny"]
        assert all(list(each) == ["action", "reason", "findings", "scores"] for each in found)
        assert found[1]["findings"] == [
            {"category": "EMAIL", "start": 5, "end": 5 + len(EMAIL), "score": 0.95, "detector": "patterns"}
        ]
        assert "DENY_PATTERN" in found[2]["reason"]
        assert "Bluebird" not in json.dumps(found)
        assert SECRET not in json.dumps(found)

    def test_offsets_are_characters(
        self, rules: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = [
            f"😀😀好的，电话：{PHONE}。",
            f"\u200b\ufeff{EMAIL}",
            "电话１３８００１３８０００好",
            "e\u0301 " + EMAIL,
        ]
        _, found = rows(jsonl(*texts), rules, capsysbinary, monkeypatch)
        spans = [text[f["start"] : f["end"]] for text, each in zip(texts, found, strict=True) for f in each["findings"]]
        assert spans == [PHONE, EMAIL, "１３８００１３８０００", EMAIL]

    def test_rows_that_cannot_be_read_keep_their_place(
        self, rules: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = b"\n".join(
            [
                jsonl("one").strip(),
                b"not json",
                b'{"other": 1}',
                b'{"text": 5}',
                b'{"text": "\xff"}',
                b"",
                b"[" * 100_000,
                b'{"text": "half of a pair: \\ud800", "more": [1]}',
                jsonl("last").strip(),
            ]
        )
        status, found = rows(given, rules, capsysbinary, monkeypatch)
        assert status == FAULT
        actions = [each["action"] for each in found]
        assert actions == ["allow", "error", "error", "error", "error", "error", "error", "allow"]
        assert all(each["reason"].startswith("line ") for each in found if each["action"] == "error")

    def test_nothing_gives_nothing(
        self, rules: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert rows(b"", rules, capsysbinary, monkeypatch) == (OK, [])

    def test_long_rows(
        self, rules: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No budget holds for a scan: what stands at the end of a long text is found."""
        text = "word " * 80_000 + EMAIL
        status, [result] = rows(jsonl(text), rules, capsysbinary, monkeypatch)
        assert (status, result["action"]) == (OK, "mask")
        assert [text[each["start"] : each["end"]] for each in result["findings"]] == [EMAIL]


class TestFiles:
    def test_a_directory(self, rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tree = tmp_path / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / ".git").mkdir()
        (tree / "a.txt").write_text(f"first\nmail {EMAIL}\n", encoding="utf-8")
        (tree / "sub" / "b.md").write_text("all about bluebird", encoding="utf-8")
        (tree / "sub" / "c.bin").write_bytes(b"\0\1" + EMAIL.encode())
        (tree / ".git" / "d").write_text(EMAIL)
        (tree / "latin").write_bytes(b"caf\xe9 " + EMAIL.encode())
        (tree / "link").symlink_to(tree / "a.txt")
        assert run_scan([tree], rules, {}, jsonl=False) == DENIED
        lines = capsys.readouterr().out.splitlines()
        assert lines == [
            f"{tree}/a.txt:2:6 EMAIL mask 0.95 patterns",
            f"{tree}/latin:1:6 EMAIL mask 0.95 patterns",
            f"{tree}/sub/b.md:1:11 DENY_PATTERN deny 1.00 deny/0",
            f"{tree}/sub/b.md: denied: The message matches a deny pattern (DENY_PATTERN).",
            "3 texts looked at, 1 that hold no text left out",
        ]

    def test_nothing_to_deny(self, rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "t").write_text(f"mail {EMAIL}")
        assert run_scan([tmp_path / "t"], rules, {}, jsonl=False) == OK
        assert EMAIL not in capsys.readouterr().out

    def test_a_file_that_is_not_there(self, rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for as_rows in (False, True):
            assert run_scan([tmp_path / "none"], rules, {}, jsonl=as_rows) == FAULT
            assert str(tmp_path / "none") in capsys.readouterr().err


class TestPolicies:
    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ({"denyPatterns": ["pl(ums"]}, "missing )"),
            ({"denyPatern": ["x"]}, "denyPattern"),
            ({"actions": {"EMAIL": "hide"}}, "$.spec.actions"),
            ({"classifier": {"model": "missing"}}, "missing"),
            ({"recognisers": [{"name": "r", "category": "X", "pattern": "(", "score": 0.5}]}, "$.spec.recognisers[0]"),
        ],
    )
    def test_a_bad_one_is_refused_with_its_place(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: dict[str, Any], said: str
    ) -> None:
        bad = written(tmp_path / "bad.yaml", policy("bad", "x.test", **spec))
        (tmp_path / "t").write_text("hello")
        assert run_scan([tmp_path / "t"], bad, {}, jsonl=False) == FAULT
        told = capsys.readouterr()
        assert not told.out
        assert said in told.err
        assert "Traceback" not in told.err

    @pytest.mark.parametrize(("count", "said"), [(0, "the file is empty"), (2, "found 2")])
    def test_one_policy_is_expected(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, said: str
    ) -> None:
        file = written(tmp_path / "p.yaml", *(policy(f"p{i}", "x.test") for i in range(count)))
        assert run_scan([tmp_path], file, {}, jsonl=False) == FAULT
        assert said in capsys.readouterr().err

    def test_a_file_that_is_no_manifest(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "p.yaml").write_text("{ [")
        assert run_scan([tmp_path], tmp_path / "p.yaml", {}, jsonl=False) == FAULT
        assert "p.yaml" in capsys.readouterr().err

    def test_a_judge_is_not_asked_and_its_key_not_needed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        judge = {"host": "10.0.0.1", "model": "m", "api_key": "${ABSENT}", "when": "always"}
        file = written(tmp_path / "p.yaml", policy("p", "x.test", intelligent_guard=judge))
        (tmp_path / "t").write_text("hello")
        assert run_scan([tmp_path / "t"], file, {}, jsonl=False) == OK


def test_the_command(rules: Path) -> None:
    """Of a process of its own: exit statuses, and nothing but results on standard output."""
    rows = run("--policy", str(rules), "--jsonl", given=jsonl("hello", "bluebird"))
    assert rows.returncode == OK, rows.stderr
    assert [json.loads(line)["action"] for line in rows.stdout.splitlines()] == ["allow", "deny"]
    text = run("--policy", str(rules), "-", given=b"all about bluebird\n")
    assert text.returncode == DENIED
    assert b"standard input:1:11 DENY_PATTERN" in text.stdout
    missing = run("--policy", str(rules.with_name("none.yaml")), given=b"x")
    assert missing.returncode == FAULT
    assert not missing.stdout


MEETING = "我们公司将会在9月10日举行内部高级别会议，会议主题是如何更好的服务客户，请给我一份会议开场白。"


def test_the_default_policy_reports_what_the_classifier_says() -> None:
    found = run("--jsonl", given=jsonl(MEETING, "请给我一份公司年会的开场白", f"mail {EMAIL}"))
    assert found.returncode == OK, found.stderr
    reported, passed, masked = [json.loads(line) for line in found.stdout.splitlines()]
    assert reported["action"] == "allow"
    assert "BUSINESS_MEETING" in {each["category"] for each in reported["findings"]}
    assert passed["action"] == "allow"
    assert masked["action"] == "mask"
    assert reported["scores"]["BUSINESS_MEETING"] > passed["scores"]["BUSINESS_MEETING"]


def test_a_policy_may_deny_what_the_classifier_says(tmp_path: Path) -> None:
    file = written(tmp_path / "p.yaml", policy("p", "x.test", classifier={}, actions={"BUSINESS_MEETING": "deny"}))
    found = run("--jsonl", "--policy", str(file), given=jsonl(MEETING))
    denied = json.loads(found.stdout)
    assert denied["action"] == "deny"
    assert "BUSINESS_MEETING" in denied["reason"]
    assert "会议" in denied["reason"]


def test_a_presidio_registry_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(
        "supported_languages: [en]\nrecognizers:\n"
        "  - {name: ticket, type: custom, supported_language: en, supported_entity: TICKET,\n"
        "     patterns: [{name: ticket, regex: 'T-[0-9]{4}', score: 0.7}]}\n"
    )
    file = written(
        tmp_path / "p.yaml",
        policy("p", "x.test", presidio={"registry": "registry.yaml"}, actions={"TICKET": "mask"}),
    )
    found = run("--jsonl", "--policy", str(file), given=jsonl(f"T-1234 of {EMAIL}"))
    assert found.returncode == OK, found.stderr
    said = json.loads(found.stdout)
    assert said["action"] == "mask"
    assert [(each["category"], each["detector"]) for each in said["findings"]] == [
        ("TICKET", "presidio"),
        ("EMAIL", "patterns"),
    ]
