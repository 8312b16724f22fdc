"""The command."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from bench.detectors.__main__ import main, prepare


def test_a_folder_without_data_is_an_error_that_names_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--data", str(tmp_path)])
    assert done.exit_code == 2
    assert str(tmp_path.resolve()) in done.output


def test_a_model_that_is_missing_leaves_the_other_detectors(tmp_path: Path) -> None:
    bench = prepare(tmp_path, tmp_path / "none", quick=True)
    assert (bench.full, bench.model) == (None, None)
    assert bench.fast.examine("write to ann.lee@example.org").findings
