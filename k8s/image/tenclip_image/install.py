"""Installs the wheel and extras of it into a fresh environment: `python -m tenclip_image.install /opt/tenclip WHEEL`.

Runs inside of the build, on the base image's Python and pip. Extras that have a lock are installed from it, by hash and
from wheels only, and trimmed; others by the versions of constraints.txt, whole, and the build's output says so. What
comes out of locks follows from them, the wheel and SOURCE_DATE_EPOCH alone: bytecode checks no times, and every file
has the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tenclip_image.locks import LOCKS
from tenclip_image.trim import size, trim


def pip(environment: Path, *arguments: str | Path) -> None:
    command = ["pip", "--python", environment, "--disable-pip-version-check", "install", "--no-compile", *arguments]
    subprocess.run([str(word) for word in command], check=True)


def install_lock(environment: Path, *names: str) -> None:
    """Raises CalledProcessError where a file's hash is not in the locks, or the base image's Python has no wheel."""
    locks = [word for name in names for word in ("-r", LOCKS / f"{name}.lock")]
    pip(environment, "--require-hashes", "--only-binary", ":all:", *locks)


def install(environment: Path, wheel: Path, extras: list[str], constraints: Path) -> None:
    unlocked = [name for name in extras if not (LOCKS / f"{name}.lock").exists()]
    if unlocked:
        print(f"NOT BY HASH: {', '.join(unlocked)} has no lock; versions are those of {constraints.name}", flush=True)
        pip(environment, "--constraint", constraints, f"{wheel}[{','.join(extras)}]")
        return
    install_lock(environment, *extras)
    pip(environment, "--no-deps", wheel)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    print(f"{trim(site_packages) / 1e6:.1f} MB trimmed, {size(site_packages) / 1e6:.1f} MB left", flush=True)


def make_reproducible(environment: Path, epoch: int) -> None:
    # Some packages carry templates that are not valid Python: those do not compile, here as with pip.
    python, library = str(environment / "bin" / "python"), str(environment / "lib")
    subprocess.run([python, "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash", library], check=False)
    for path in [*environment.rglob("*"), environment]:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tenclip_image.install", description=__doc__.partition("\n")[0])
    parser.add_argument("environment", type=Path)
    parser.add_argument("wheel", type=Path, nargs="?", help="without it, only the locks are installed")
    parser.add_argument("--extras", default="serve", help="names, separated by commas (%(default)s)")
    parser.add_argument("--constraints", type=Path, default=Path("/image/constraints.txt"))
    parser.add_argument("--sbom", type=Path, help="an environment with cyclonedx-bom, which writes sbom.cdx.json")
    options = parser.parse_args(argv)
    environment, extras = options.environment.absolute(), options.extras.split(",")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    if options.wheel is None:
        install_lock(environment, *extras)
        return
    install(environment, options.wheel, extras, options.constraints)
    if options.sbom:
        python, out = options.sbom / "bin" / "python", environment / "sbom.cdx.json"
        subprocess.run([python, "-m", "tenclip_image.sbom", environment, "--out", out], check=True)
    make_reproducible(environment, int(os.environ.get("SOURCE_DATE_EPOCH") or 0))


if __name__ == "__main__":
    main(sys.argv[1:])
