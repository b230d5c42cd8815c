"""`python3 -m tests.gpu_check --minutes 8`: everything that only a GPU can show, within that time.

Examples:
    make gpu-check                                    # on a machine with an NVIDIA GPU
    make gpu-check ARGS=--dry-run                     # every step at tiny sizes, on the CPU
    python3 -m tests.gpu_check --steps machine speed  # where nothing is installed but torch
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.gpu_check.page import write_page
from tests.gpu_check.paths import PROJECT, WHEELS, missing_packages, prepare_paths
from tests.gpu_check.steps import BY_NAME, choose
from tests.gpu_check.supervisor import Run


def main(argv: list[str]) -> int:
    options = parse(argv)
    try:
        steps = choose(options.steps)
    except ValueError as err:
        return refuse(str(err))
    if options.dry_run:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny sizes only lose by more
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name:
        folder = Path(name)
        prepare_paths(folder, options.wheels)
        problem = what_is_missing(dry=options.dry_run)
        if problem is not None:
            return refuse(problem)
        results: dict[str, Any] = {
            "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": describe(dry=options.dry_run),
            "dry_run": options.dry_run,
            "minutes": options.minutes,
            "steps": {},
        }
        save = saver(options.out, options.page, results, folder)
        prepare = start_preparing(folder, dry=options.dry_run)
        try:
            end = time.time() + 60 * options.minutes
            Run(folder=folder, end=end, dry=options.dry_run, save=save, say=say).run(steps)
        finally:
            prepare.kill()
            prepare.wait()
    say(f"written to {options.out}" + (f" and {options.page}" if options.page else ""))
    return 0 if all(step["status"] in ("done", "not run") for step in results["steps"].values()) else 1


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=minutes, default=8.0, help="of all steps; what does not fit is listed")
    parser.add_argument("--steps", nargs="*", default=[], metavar="STEP", help=f"only these: {', '.join(BY_NAME)}")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU: every branch but CUDA's")
    parser.add_argument("--out", type=Path, default=PROJECT / "results" / "gpu.json", help="where the JSON goes")
    parser.add_argument("--page", type=Path, help="page for the tables; docs/gpu.md, but none in a dry run")
    parser.add_argument("--wheels", type=Path, default=WHEELS, help="folder of wheels for what is not installed")
    options = parser.parse_args(argv)
    if options.page is None and not options.dry_run:
        options.page = PROJECT / "docs" / "gpu.md"
    return options


def minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0 and up to 600")
    return value


def what_is_missing(*, dry: bool) -> str | None:
    """Why the check cannot begin on this machine, and what would help; None where it can."""
    if importlib.util.find_spec("torch") is None:
        return (
            "torch is not installed for this Python: the check needs Python 3.11 or newer with torch (CUDA) and numpy"
        )
    absent = missing_packages()
    if absent:
        return (
            f"not installed here: {', '.join(absent)}. Install them, or run `make gpu-wheels` on a machine with a "
            f"package index and carry {WHEELS.name}/ along"
        )
    if dry:
        return None
    from importlib.metadata import version

    from tenclip_serving.runtimes import cuda

    if cuda.gpu_name() is None:
        return (
            f"no NVIDIA GPU here, or no driver for it (libcuda.so.1); torch is {version('torch')}. Run it on a machine "
            "with one, or try every step at tiny sizes on the CPU with --dry-run"
        )
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", code], check=False).returncode:
        return f"torch {version('torch')} cannot use the {cuda.gpu_name()} that is here: install its build for CUDA"
    return None


def describe(*, dry: bool) -> str:
    """The machine, in words."""
    from tenclip_serving.runtimes import cuda
    from tests.benchmarks.machine import describe_machine

    gpu = None if dry else cuda.gpu_name()
    return describe_machine() if gpu is None else f"a machine with an {gpu}, {describe_machine()}"


def start_preparing(folder: Path, *, dry: bool) -> subprocess.Popen[bytes]:
    """References, bundle and videos, beside the steps, without the GPU."""
    command = [sys.executable, "-m", "tests.gpu_check.prepare", str(folder), *(["--dry-run"] if dry else [])]
    with (folder / "prepare.log").open("w") as log:
        return subprocess.Popen(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, stdout=log, stderr=log)


def saver(out: Path, page: Path | None, results: dict[str, Any], folder: Path) -> Callable[[dict[str, Any]], None]:
    """Writes what is known so far, whole or not at all, and without the paths of this machine."""
    out.parent.mkdir(parents=True, exist_ok=True)

    def save(steps: dict[str, Any]) -> None:
        results["steps"] = dict(steps)
        aside = out.with_name(f".{out.name}.part")
        text = json.dumps(results, indent=1).replace(f"{folder}/", "").replace(f"{PROJECT}/", "")
        aside.write_text(text + "\n", encoding="utf-8")
        aside.replace(out)
        if page is not None:
            write_page(page, json.loads(text))

    return save


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def refuse(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
