"""The examples in `envoy/`, written from the samples beside them: `python -m extproc.render.examples envoy`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from extproc.render.bootstrap import static_bootstrap, to_yaml
from extproc.render.config import render
from extproc.resources.load import load

_ENVIRONMENT = dict.fromkeys(("DASHSCOPE_API_KEY", "MOONSHOT_API_KEY"), "example-key")
"""Keys are the filter's business: none of them reaches Envoy's configuration."""


class _Example(msgspec.Struct, frozen=True):
    title: str
    filter_address: str
    admin: str


_EXAMPLES: Mapping[str, _Example] = {
    "gateway": _Example("A gateway of its own.", "unix:/run/sluice/filter.sock", "127.0.0.1:9901"),
    "sidecar": _Example(
        "A sidecar for calls of model providers, filter and Envoy in one pod.",
        "unix:/run/sluice/filter.sock",
        "127.0.0.1:15000",
    ),
    "egress-gateway": _Example(
        "An egress gateway that shares its filters, found by DNS, with others.",
        "sluice.gateways.svc.cluster.local:18080",
        "127.0.0.1:9901",
    ),
}


def examples(directory: Path) -> dict[str, str]:
    """File name to content, from the samples in `directory`/samples."""
    return {f"{name}.yaml": _example(name, example, directory) for name, example in _EXAMPLES.items()}


def _example(name: str, example: _Example, directory: Path) -> str:
    snapshot = load(directory / "samples" / f"{name}.yaml", environ=_ENVIRONMENT)
    config = render(snapshot, example.filter_address)
    header = f"""\
{example.title}
Written from samples/{name}.yaml by `make render`: change that file, not this one.
The filter is `sluice serve` with the same resources, listening on {example.filter_address}.
Start with: envoy -c {name}.yaml
"""
    return to_yaml(static_bootstrap(config, example.admin), header)


def main() -> None:
    directory = Path(sys.argv[1])
    for name, text in examples(directory).items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
