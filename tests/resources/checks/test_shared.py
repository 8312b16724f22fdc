"""Where shared state and what was learned are kept: what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.resources.load import examine, load
from extproc.resources.redact import to_builtins

GATEWAY = """\
apiVersion: sluice.dev/v1alpha1
kind: Gateway
metadata: {{name: g}}
spec: {spec}
"""


def said(directory: Path, spec: str, **environ: str) -> list[str]:
    (directory / "g.yaml").write_text(GATEWAY.format(spec=spec))
    return [
        f"{problem.severity} {problem.path} {problem.message}"
        for problem in examine(directory, environ=environ).problems
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{sharedState: {redis: 'localhost:6379'}}", "error $.spec.sharedState.redis expected an address"),
        ("{sharedState: {redis: '${NOWHERE}'}}", "error $.spec.sharedState.redis environment variable"),
        ("{sharedState: {redis: '${REDIS}', timeout: 0s}}", "error $.spec.sharedState.timeout"),
        ("{sharedState: {redis: '${REDIS}', prefix: ''}}", "error $.spec.sharedState.prefix must not be empty"),
        ("{sharedState: {redis: 'redis://:pw@h'}}", "warning $.spec.sharedState.redis a password"),
        ("{predictor: {file: nowhere/lengths.bin}}", "error $.spec.predictor.file there is no directory"),
        ("{predictor: {file: lengths.yaml}}", "error $.spec.predictor.file a file of this name"),
        ("{predictor: {file: .}}", "error $.spec.predictor.file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, spec: str, expected: str) -> None:
    (found,) = said(tmp_path, spec, REDIS="redis://h")
    assert found.startswith(expected)


@pytest.mark.parametrize(
    "spec",
    [
        "{sharedState: {redis: '${REDIS}'}}",
        "{sharedState: {redis: 'redis://h:1/2'}}",
        "{predictor: {file: lengths.bin}}",
    ],
)
def test_what_is_right_passes(tmp_path: Path, spec: str) -> None:
    assert said(tmp_path, spec, REDIS="rediss://u:p@h") == []


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    said(tmp_path, "{sharedState: {redis: 'redis://:hidden-word@h'}}")
    assert "hidden-word" not in str(to_builtins(load(tmp_path, environ={})))
