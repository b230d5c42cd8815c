"""The process that runs steps, one after the other: `python -m tests.gpu_check.worker`, started by the supervisor.

It tells the supervisor on its standard output, one JSON object a line; whatever libraries print goes to standard error.
A step that fails is one object more; only a device that answers no more ends the process, so that another one begins
with a new context.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tests.gpu_check.steps import BY_NAME

DEVICE_LOST = 3
# A dry run may share a busy machine, and nobody pays for it.
DRY_PATIENCE = 3
TRACEBACK_CHARACTERS = 3000


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="+")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--end", type=float, required=True, help="on time.time: nothing runs longer")
    parser.add_argument("--earlier", type=Path, required=True, help="results of steps that are done")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(argv)
    events = _take_stdout()
    earlier = json.loads(options.earlier.read_text(encoding="utf-8"))

    def tell(event: str, step: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, "step": step, **fields}) + "\n")
        events.flush()

    def tell_partly(step: str, result: Any) -> None:
        tell("partial", step, result=result)

    from tests.gpu_check.context import Context

    for name in options.steps:
        step, now = BY_NAME[name], time.time()
        if options.end - now < step.least:
            why = f"{max(0.0, options.end - now):.0f} s were left, and it needs {step.least:.0f}"
            tell("skipped", name, why=why)
            continue
        limit = min(step.limit * (DRY_PATIENCE if options.dry_run else 1), options.end - now)
        tell("started", name, limit=limit)
        context = Context(
            folder=options.folder,
            dry=options.dry_run,
            deadline=time.monotonic() + limit,
            report=partial(tell_partly, name),
            earlier=earlier,
        )
        try:
            result = importlib.import_module(step.module).run(context)
        except Exception:  # whatever a library raises; the other steps go on
            tell("failed", name, error=traceback.format_exc()[-TRACEBACK_CHARACTERS:])
            if not device_lives(options.dry_run):
                return DEVICE_LOST
        else:
            earlier[name] = result
            tell("done", name, result=result)
        _clear()
    return 0


def _take_stdout() -> TextIO:
    """Standard output for events alone; what else is written there goes to standard error from now on."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def device_lives(dry: bool) -> bool:
    """Can the device still compute? After an illegal access no call in this process ever works again."""
    if dry:
        return True
    import torch

    try:
        return bool(torch.ones(8, device="cuda").sum().item() == 8)
    except RuntimeError:
        return False


def _clear() -> None:
    """Nothing of one step is left for the next one."""
    import gc

    import torch

    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
