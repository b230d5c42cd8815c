"""A worker whose steps end in every way there is: for tests of the supervisor."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.gpu_check import worker
from tests.gpu_check.steps import BY_NAME, Step


def fine(context: Any) -> dict[str, Any]:
    return {"earlier": sorted(context.earlier)}


def raises(context: Any) -> None:
    context.report({"rows": [1]})
    raise RuntimeError("CUDA error: something is wrong")


def crashes(context: Any) -> None:
    context.report({"rows": [1, 2]})
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(context: Any) -> None:
    context.report({"rows": [1, 2, 3]})
    time.sleep(100)


def prints(context: Any) -> str:
    """What libraries print is no event."""
    print("not JSON")
    os.write(1, b"nor this\n")
    return "done"


WAYS: tuple[Callable[[Any], Any], ...] = (fine, raises, crashes, hangs, prints)
STEPS = tuple(Step(name=run.__name__, what="", limit=0.2 if run is hangs else 30.0, least=0.0) for run in WAYS)


def install() -> None:
    for run, step in zip(WAYS, STEPS, strict=True):
        BY_NAME[step.name] = step
        sys.modules[step.module] = SimpleNamespace(run=run)  # type: ignore[assignment]


if __name__ == "__main__":
    install()
    sys.exit(worker.main(sys.argv[1:]))
