"""Jobs: what an experiment does, as data. A job is named by a hash of its settings and of the jobs that it needs.

So two findings that need the same network train it once, and a run that was stopped does again only what is not done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Output:
    """A file or folder of a job, as a setting of another one; "" is the job's own folder."""

    job: Job
    name: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """One piece of work. kind: a function of this package, as "lab.tasks.train". settings: its arguments, values for
    JSON, with `Output`s of other jobs at any depth. title: for people. clips: training clips that it costs, for the
    time that is left. seconds: of one thread, about, where it is more than training and videos; see `costs`. videos,
    video_seconds: of own data that it chooses, which are decoded.
    """

    kind: str
    settings: Mapping[str, Any]
    title: str = ""
    clips: int = 0
    seconds: float = 0.0
    videos: int = 0
    video_seconds: float = 0.0
    _needs: tuple[Job, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_needs", tuple({o.job.key: o.job for o in _outputs(self.settings)}.values()))

    def __truediv__(self, name: str) -> Output:
        """`job / "last.pt"`: a file of the job."""
        return Output(self, name)

    @property
    def needs(self) -> tuple[Job, ...]:
        """The jobs that come before it."""
        return self._needs

    @cached_property
    def key(self) -> str:
        """Hex digest of everything that decides its result."""
        text = json.dumps([self.kind, _named(self.settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def folder(self, root: Path) -> Path:
        """Where its files are."""
        return root / self.kind / self.key

    def resolved(self, root: Path) -> dict[str, Any]:
        """Its settings, with paths in the place of outputs."""
        values = _resolve(self.settings, root)
        assert isinstance(values, dict)
        return values


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The jobs and all that they need, each once, after what it needs."""
    found: dict[str, Job] = {}

    def visit(job: Job) -> None:
        if job.key in found:
            return
        for need in job.needs:
            visit(need)
        found[job.key] = job

    for job in jobs:
        visit(job)
    return list(found.values())


def _outputs(value: Any) -> Iterator[Output]:
    if isinstance(value, Output):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _outputs(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _outputs(part)


def _named(value: Any) -> Any:
    """The value with names in the place of outputs."""
    if isinstance(value, Output):
        return {"job": value.job.key, "output": value.name}
    if isinstance(value, Mapping):
        return {name: _named(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_named(part) for part in value]
    return value


def _resolve(value: Any, root: Path) -> Any:
    if isinstance(value, Output):
        return str(value.job.folder(root) / value.name)
    if isinstance(value, Mapping):
        return {name: _resolve(part, root) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(part, root) for part in value]
    return value
