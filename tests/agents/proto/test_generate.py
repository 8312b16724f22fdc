from __future__ import annotations

from pathlib import Path

from extproc.agents import proto
from extproc.agents.proto.generate import modules


def test_the_compiled_messages_are_current() -> None:
    """`make proto` writes them."""
    found = modules()
    assert found
    for name, text in found.items():
        assert (Path(proto.__path__[0]) / name).read_text() == text, f"{name}: run `make proto`"


def test_proto_hides_no_installed_package() -> None:
    root = Path(proto.__path__[0]).parents[2] / "proto"
    assert list(root.rglob("*.proto"))
    assert not list(root.rglob("__init__.py"))
