from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from extproc.simulate.command import BadWish, Wish, simulate
from tests.simulate.build import conversations


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.jsonl"
    rows = [
        {
            "timestamp": request.arrival * 1000,
            "input_length": request.prompt_tokens,
            "output_length": request.output_tokens,
            "hash_ids": [*request.blocks, 999_999],
        }
        for request in conversations(4, 4).requests
    ]
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows))
    return path


def test_a_comparison_is_said_and_written_as_one_page(file: Path, tmp_path: Path) -> None:
    said: list[str] = []
    report = tmp_path / "report.html"
    policies = ("round-robin", "prefix-cache?ownWeight=2&blockBytes=64")
    found = simulate(Wish(trace=file, policies=policies, engines=2, speed=2.0, slow=(1,)), report, said.append)
    assert [one.policy for one in found] == list(policies)
    text = "\n".join(said)
    assert "16 requests in 4 s" in text
    assert "at half speed: 1" in text
    assert re.search(r"^round-robin +\d+\.\d{3} ", text, re.MULTILINE)
    page = report.read_text(encoding="utf-8")
    assert "prefix-cache?ownWeight=2&amp;blockBytes=64" in page
    assert not re.search(r"(?:src|href)=|https?://|@import", page), "it needs nothing from elsewhere"
    plots = re.findall(r"<svg.*?</svg>", page)
    assert len(plots) == 6
    for plot in plots:
        shapes = list(ElementTree.fromstring(plot))  # noqa: S314 -- what we wrote ourselves
        assert any(shape.tag in ("polyline", "rect") for shape in shapes)
        assert "nan" not in plot


def test_the_same_wish_gives_the_same_page(file: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("a.html", "b.html"):
        simulate(Wish(trace=file, policies=("prefix-cache", "least-token"), engines=3), tmp_path / name, lambda _: None)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": ("nonsense",)}, "unknown policy 'nonsense': use dynamic-pd"),
        ({"policies": ("least-request", "static-pd")}, "static-pd cannot be simulated: .* roles of engines"),
        ({"policies": ("dynamic-pd?borrowAbove=2",)}, "dynamic-pd cannot be simulated: .* roles of engines"),
        ({"policies": ("prefix-cache?nonsense=1",)}, "nonsense"),
        ({"policies": ("prefix-cache?nonsense",)}, "NAME=VALUE"),
        ({"trace": Path("/nowhere.jsonl")}, "nowhere"),
        ({"profile": "z"}, "8b-a100, 8b-h100"),
        ({"settings": ("max_num_seqs=0",)}, "max_num_seqs"),
        ({"settings": ("no_such=1",)}, "no_such"),
        ({"slow": (8,)}, "from 0 to 1"),
        ({"engines": 0}, "at least one engine"),
        ({"speed": 0.0}, "speed"),
    ],
)
def test_an_impossible_wish_is_refused(file: Path, changes: dict[str, object], message: str) -> None:
    wish = msgspec.structs.replace(Wish(trace=file, policies=("least-request",), engines=2), **changes)
    with pytest.raises(BadWish, match=message):
        simulate(wish, None, lambda _: None)


def test_a_report_that_cannot_be_written_is_refused_before_the_work(file: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(BadWish, match="report cannot be written"):
        simulate(Wish(trace=file, policies=("least-request",)), tmp_path / "nowhere" / "out.html", said.append)
    assert not said
