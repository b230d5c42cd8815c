"""Runs steps in a process of their own, with limits, and writes what is known after each event.

A step that crashes, hangs or loses the device ends its process only: what it had reported is kept, and the steps behind
it run in a new process. Only Python's own modules are imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gpu_check.steps import Step

# A step looks at its deadline itself; this long after it, it is ended by force.
GRACE_SECONDS = 8.0
# Of a worker, for importing torch and making a CUDA context.
START_SECONDS = 90.0
STDERR_CHARACTERS = 2000


@dataclass(kw_only=True)
class Run:
    """The state of a run. save(results) is called after every event. say(text): progress, for a person."""

    folder: Path
    end: float  # on time.time
    dry: bool
    save: Callable[[dict[str, Any]], None]
    say: Callable[[str], None]
    grace_seconds: float = GRACE_SECONDS
    worker: str = "tests.gpu_check.worker"  # a module that is run
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, steps: Sequence[Step]) -> dict[str, dict[str, Any]]:
        """Results by step: status (done, failed, killed, not run), seconds, and result or error."""
        left = [step.name for step in steps]
        while left:
            before = len(left)
            self._one_worker(left)
            left = [name for name in left if name not in self.results]
            if len(left) == before:  # it did not even begin
                self._finish(left.pop(0), "failed", error=f"the process ended at its start: {self._stderr()}")
        return self.results

    def _one_worker(self, names: list[str]) -> None:
        earlier = self.folder / "earlier.json"
        done = {name: r["result"] for name, r in self.results.items() if r["status"] == "done"}
        earlier.write_text(json.dumps(done), encoding="utf-8")
        command = [sys.executable, "-m", self.worker, *names, "--folder", str(self.folder)]
        command += ["--end", str(self.end), "--earlier", str(earlier), *(["--dry-run"] if self.dry else [])]
        with (self.folder / "stderr").open("w") as stderr:
            # A session of its own, so that its decode workers and compilers go with it.
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True)
        lines: queue.Queue[bytes | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        try:
            self._follow(process, lines)
        finally:
            _end(process)
            reader.join()

    def _follow(self, process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None]) -> None:
        """Take events until the process ends, or a step runs past its limit."""
        current, started, partial = "", time.time(), None
        limit = START_SECONDS
        while True:
            try:
                line = lines.get(timeout=max(0.05, started + limit + self.grace_seconds - time.time()))
            except queue.Empty:
                if current:
                    seconds = time.time() - started
                    self._finish(current, "killed", seconds, partial, error=f"it ran past its limit of {limit:.0f} s")
                return
            if line is None:
                if current:
                    code = process.wait()
                    error = f"its process ended with {_ending(code)}: {self._stderr()}"
                    self._finish(current, "failed", time.time() - started, partial, error=error)
                return
            event = json.loads(line)
            name, seconds = event["step"], round(time.time() - started, 1)
            if event["event"] == "started":
                current, started, partial, limit = name, time.time(), None, event["limit"]
                self.say(f"{name}: at most {limit:.0f} s")
            elif event["event"] == "partial":
                partial = event["result"]
                self.results[name] = {"status": "running", "seconds": seconds, "result": partial}
                self.save(self.results)
                del self.results[name]
            elif event["event"] == "skipped":
                self._finish(name, "not run", error=event["why"])
            else:
                status = "done" if event["event"] == "done" else "failed"
                self._finish(name, status, seconds, event.get("result", partial), error=event.get("error"))
                current, started, limit = "", time.time(), START_SECONDS

    def _finish(
        self, name: str, status: str, seconds: float = 0.0, result: Any = None, *, error: str | None = None
    ) -> None:
        self.results[name] = {"status": status, "seconds": round(seconds, 1), "result": result, "error": error}
        self.save(self.results)
        words = "" if error is None else f": {error.strip().splitlines()[-1][:200]}"
        self.say(f"{name}: {status} after {seconds:.1f} s{words}")

    def _stderr(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")[-STDERR_CHARACTERS:].strip()


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and of what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
