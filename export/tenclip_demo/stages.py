"""Stages that remember what they did: a demo that was stopped goes on, and one that is done is not done again.

`state.json` holds, for each stage, the key of what it was asked (a hash of its settings and of everything before it),
what it found, and how long it took. A stage with another key begins anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenclip_api.errors import InvalidRequest
from tenclip_data.atomic import write_text
from tenclip_demo.console import StageConsole
from tenclip_demo.report import StageTime

STATE = "state.json"
Result = dict[str, Any]


class Stages:
    """The stages of one run in the folder `out`, done in the order in which they are called.

    what: kind of run, for errors.
    """

    def __init__(self, out: Path, console: StageConsole, *, what: str = "demo") -> None:
        self.out, self.console = out, console
        self.times: list[StageTime] = []
        self._key = ""
        self._state = _read_state(out, what)

    def run(
        self,
        name: str,
        title: str,
        settings: dict[str, Any],
        work: Callable[[bool], Result],
        *,
        intact: Callable[[Result], bool],
    ) -> Result:
        """The result of `work` (plain values for JSON), from this run or an earlier one with the same settings.

        `work` is told whether an earlier run with these settings was stopped in the middle, so that it can go on.
        `intact` says whether what an earlier run left behind is still there.
        """
        self._key = hashlib.sha256(json.dumps([self._key, name, settings], sort_keys=True).encode()).hexdigest()
        before = self._state.get(name, {})
        same = before.get("key") == self._key
        if same and "result" in before and intact(before["result"]):
            self.times.append(StageTime(name=name, title=title, seconds=before["seconds"], reused=True))
            self.console.reused(title, before["seconds"])
            result: Result = before["result"]
            return result
        spent = before.get("seconds", 0.0) if same and "result" not in before else 0.0
        self._remember(name, {"key": self._key, "seconds": spent})
        self.console.start(title)
        start = time.monotonic()
        try:
            result = work(same)
        except BaseException:
            self._remember(name, {"key": self._key, "seconds": spent + time.monotonic() - start})
            raise
        seconds = spent + time.monotonic() - start
        self._remember(name, {"key": self._key, "seconds": seconds, "result": result})
        self._finish(name, title, seconds)
        return result

    def now(self, name: str, title: str, work: Callable[[], Any]) -> Any:
        """A stage that is done in every run."""
        self.console.start(title)
        start = time.monotonic()
        result = work()
        self._finish(name, title, time.monotonic() - start)
        return result

    def _finish(self, name: str, title: str, seconds: float) -> None:
        self.times.append(StageTime(name=name, title=title, seconds=seconds))
        self.console.finish(title, seconds)

    def _remember(self, name: str, entry: dict[str, Any]) -> None:
        self._state[name] = entry
        write_text(self.out / STATE, json.dumps(self._state, indent=1))


def _read_state(out: Path, what: str) -> dict[str, Any]:
    """Raises InvalidRequest for a folder that holds something else than this kind of run: that would be overwritten."""
    path = out / STATE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InvalidRequest(
                f"{out}: holds something that is not a {what}; give --out a new or empty folder"
            ) from None
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, "{}")
        return {}
    except (OSError, ValueError) as err:
        raise InvalidRequest(f"{path}: cannot be read ({err}); remove {out}, or give another --out") from err
    if not isinstance(state, dict):
        raise InvalidRequest(f"{path}: is not a {what}'s; remove {out}, or give another --out")
    return state
