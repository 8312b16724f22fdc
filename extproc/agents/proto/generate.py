"""`python -m extproc.agents.proto.generate` compiles the messages of `proto/` into this package. Needs grpcio-tools.

What is written holds the descriptors only, and builds the classes with the public interface of protobuf. So it runs
with every version of protobuf that Sluice allows, where protoc's own Python output asks for its own version or later.
"""

from __future__ import annotations

import sys
import tempfile
from base64 import b64encode
from pathlib import Path
from textwrap import wrap
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2] / "proto"
_SOURCES = ("sluice/agent/v1/report.proto",)
_MODULE = '''"""Messages of `proto/{source}`. Written by `make proto`: change that file, not this one."""

from __future__ import annotations

from base64 import b64decode

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = DescriptorPool().AddSerializedFile(
    b64decode(
{lines}
    )
)
{messages}
'''


def modules() -> dict[str, str]:
    """File name to content of everything that is compiled. Raises RuntimeError where a source is wrong."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # a tool of development, without types

    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "descriptors"
        if protoc.main(["protoc", f"-I{_ROOT}", f"--descriptor_set_out={output}", *_SOURCES]):
            raise RuntimeError("protoc refused a source; its message stands above")
        found = FileDescriptorSet.FromString(output.read_bytes())
    return {f"{Path(file.name).stem}_pb2.py": _module(file) for file in found.file}


def _module(file: Any) -> str:
    text = b64encode(file.SerializeToString(deterministic=True)).decode()
    names = sorted(message.name for message in file.message_type)
    return _MODULE.format(
        source=file.name,
        lines="\n".join(f'        "{line}"' for line in wrap(text, 100)),
        messages="\n".join(f'{name} = GetMessageClass(DESCRIPTOR.message_types_by_name["{name}"])' for name in names),
    )


def main() -> None:
    for name, text in modules().items():
        (_HERE / name).write_text(text)
        sys.stdout.write(f"{_HERE / name}\n")


if __name__ == "__main__":
    main()
