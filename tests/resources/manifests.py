"""Configuration directories for tests, and what the loader says about them."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from extproc.resources.load import examine

PROVIDER = """\
apiVersion: sluice.dev/v1alpha1
kind: LLMProvider
metadata: {name: acme}
spec:
  host: api.acme.example
  configs:
    defaultConfig:
      openAIConfig: {model: m1, apiKey: "${KEY}"}
"""

POOL = """\
apiVersion: sluice.dev/v1alpha1
kind: InferencePool
metadata: {name: gpus}
spec:
  endpoints: [{address: "10.0.0.1:8000"}]
"""

ENVIRON = {"KEY": "sk-environment"}


def route(rules: str, name: str = "r", host: str = "chat.example") -> str:
    """An LLMRoute whose first rule is on line 7."""
    head = f"apiVersion: sluice.dev/v1alpha1\nkind: LLMRoute\nmetadata: {{name: {name}}}\n"
    head += f"spec:\n  host: '{host}'\n  rules:\n"
    return head + textwrap.indent(textwrap.dedent(rules), "    ")


def gateway(spec: str) -> str:
    """A Gateway whose `spec` begins on line 5."""
    head = "apiVersion: sluice.dev/v1alpha1\nkind: Gateway\nmetadata: {name: main}\nspec:\n"
    return head + textwrap.indent(textwrap.dedent(spec), "  ")


def write(directory: Path, **files: str) -> Path:
    """Writes `NAME.yaml` for each file."""
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    return directory


def said(directory: Path, *, environ: Mapping[str, str] = ENVIRON, **files: str) -> list[str]:
    """All findings about these files as they are printed, with names relative to the directory."""
    found = examine(write(directory, **files), environ=environ)
    assert (found.snapshot is None) == any(each.severity == "error" for each in found.problems)
    return [re.sub(re.escape(f"{directory}{os.sep}"), "", str(each)) for each in found.problems]
