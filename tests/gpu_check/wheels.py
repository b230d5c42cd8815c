"""Gather the wheels that a bare machine with a GPU lacks: `make gpu-wheels`, or `python -m tests.gpu_check.wheels`.

They lie in .gpu-wheels/, which git ignores. Tree and wheels together must stay below --limit MiB, as much as is carried
to such a machine; what does not fit is named. openvino (60 MB) and tensorrt (gigabytes) are left out on purpose.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.gpu_check.paths import PROJECT, WHEELS

# The most valuable first. NVDEC is tried through PyAV, whose FFmpeg has it.
PACKAGES = ("av", "grpcio", "protobuf", "msgspec", "grpcio-health-checking", "grpcio-reflection")
GLIBC = (17, 24, 27, 28, 31, 34)  # pip matches the number in a platform's name exactly


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_check.wheels", description=__doc__.split("\n")[0])
    parser.add_argument("--python", default="3.12", help="version of Python on the machine with the GPU")
    parser.add_argument("--out", type=Path, default=WHEELS)
    parser.add_argument("--limit", type=float, default=64.0, help="MiB of tree and wheels together")
    options = parser.parse_args(argv)
    versions = pinned_versions((PROJECT / "constraints.txt").read_text(encoding="utf-8"))
    options.out.mkdir(exist_ok=True)
    for old in options.out.glob("*.whl"):
        old.unlink()
    room = options.limit - tree_mib()
    left_out: list[str] = []
    for package in PACKAGES:
        download(f"{package}=={versions[package]}", options.out, options.python)
        newest = max(options.out.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)
        if wheels_mib(options.out) > room:
            newest.unlink()
            left_out.append(package)
    print(f"{options.out}: {wheels_mib(options.out):.1f} MiB of wheels, {tree_mib():.1f} MiB of tree")
    if left_out:
        print(f"left out, beyond {options.limit:g} MiB: {', '.join(left_out)}", file=sys.stderr)
    return 1 if left_out else 0


def pinned_versions(constraints: str) -> dict[str, str]:
    """Package -> version, of lines NAME==VERSION."""
    pairs = (line.split("#")[0].strip().partition("==") for line in constraints.splitlines())
    return {name.lower(): version for name, equals, version in pairs if equals}


def download(requirement: str, out: Path, python: str) -> None:
    """Fetch one wheel for Linux on x86-64, without what it needs. Raises SystemExit with pip's own words."""
    platforms = [f"--platform=manylinux_2_{number}_x86_64" for number in GLIBC]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [f"--python-version={python}", "--implementation=cp", *platforms, "--platform=manylinux2014_x86_64"]
    done = subprocess.run([*command, "-d", str(out), requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{requirement}: no wheel for Python {python}: {done.stderr.strip()[-800:]}")


def wheels_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.whl")) / 2**20


def tree_mib() -> float:
    """Files that git tracks, and others that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout.split(b"\0")
    paths = [PROJECT / name.decode() for name in names if name]
    return sum(path.lstat().st_size for path in paths if path.exists()) / 2**20


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
