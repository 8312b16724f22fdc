"""What users install: the product with its data, and nothing that only serves its making."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_product_and_its_papers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"extproc", "detectors"}
    assert not [name for name in names if "/training/" in name or name.startswith(("tests/", "bench/"))]
    for needed in ("extproc/shared/lua/common.lua", "detectors/recognisers/data/cn_places.txt", "LICENSE", "NOTICE"):
        assert any(name.endswith(needed) for name in names), needed
