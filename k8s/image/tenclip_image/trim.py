"""Takes out of an environment what nothing in the server's and the batch client's images reads.

Headers, stubs, sources and tests of packages; of OpenVINO what is for other devices and other formats than ONNX and
its own; of ONNX Runtime the library for C, which its Python module has in itself; of Arrow its RPC. `RECORD` of each
package is rewritten, so that it lists what is there.
"""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = frozenset({".a", ".c", ".cmake", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".pc", ".pxd", ".pxi", ".pyi", ".pyx"})
FOLDERS = frozenset({"include", "tests"})
# Glob patterns below site-packages. Graphs run on OpenVINO's CPU plugin only, from ONNX or OpenVINO's own files.
PATTERNS = (
    "openvino/libs/libopenvino_intel_[gn]pu_*",
    "openvino/libs/cache.json",  # of the GPU plugin's kernels
    *(f"openvino/libs/libopenvino_{name}_frontend.so*" for name in ("gguf", "jax", "paddle", "pytorch", "tensorflow*")),
    *(f"openvino/frontend/{name}" for name in ("jax", "paddle", "pytorch", "tensorflow")),
    "onnxruntime/capi/libonnxruntime.so.*",
    "pyarrow/*flight*",
)


def unwanted(site_packages: Path) -> Iterator[Path]:
    """Files and folders to remove; what lies in such a folder is not named again."""
    for pattern in PATTERNS:
        yield from site_packages.glob(pattern)
    for path in site_packages.rglob("*"):
        inside = bool(FOLDERS & set(path.relative_to(site_packages).parts[:-1]))
        if not inside and (path.suffix in SUFFIXES or (path.name in FOLDERS and path.is_dir())):
            yield path


def trim(site_packages: Path) -> int:
    """Bytes that were freed."""
    before = size(site_packages)
    for path in sorted(set(unwanted(site_packages))):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for record in site_packages.glob("*.dist-info/RECORD"):
        with record.open(newline="") as file:
            rows = [row for row in csv.reader(file) if (site_packages / row[0]).exists()]
        with record.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return before - size(site_packages)


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {trim(Path(name)) / 1e6:.1f} MB trimmed")
