"""One run of a batch: lock, plan, work by the engine that was asked for, and the sums at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tenclip_batch.bundle import BatchBundle, open_bundle
from tenclip_batch.dataset import SHARDS, Dataset, open_dataset
from tenclip_batch.extractor import VideoExtractor, engine_config, open_model, remote_files
from tenclip_batch.files import file_names, twice_held
from tenclip_batch.options import ClipChoices, OutputOptions, ResumeOptions, RuntimeOptions
from tenclip_batch.parts import PartFormat
from tenclip_batch.plan import Plan, make_plan
from tenclip_batch.rows import Facts, VideoResult, facts_of
from tenclip_batch.settings import part_format, protocol_of, settings_of
from tenclip_batch.shards import ListedShards, list_shards
from tenclip_batch.sources import BatchVideo, RemoteCell, RemoteMember, RemoteShard, Uri
from tenclip_batch.worker import PartBuffer, WorkerPlan, work_through
from tenclip_features.rows import VideoFailure
from tenclip_serving.models.repository import ServedModel

# Failures that a report names one by one; all of them are in videos/.
MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """Result of a run. videos, clips, done, failed, failures (by kind): of the whole dataset as it is now.

    reused: videos whose rows are of an earlier run; worked: of this one. named: the first failures.
    """

    out: Path
    model: str
    version: str
    variant: str
    runtime: str
    videos: int
    clips: int
    done: int
    failed: int
    failures: dict[str, int]
    reused: int
    worked: int
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    named: tuple[VideoFailure, ...] = ()


@dataclass(frozen=True)
class Watching:
    """Callbacks; each does nothing by default.

    on_model(bundle, runtime, variant): when it is known what runs. on_start(total, before): numbers of videos.
    on_result(name, clips, failure): after each video. on_shown(facts): the same, with what `rows.facts_of` says of it;
    None where nobody asks. on_note(text): what else is worth a line.
    """

    on_model: Callable[[BatchBundle, str, str], None] = lambda bundle, runtime, variant: None
    on_start: Callable[[int, int], None] = lambda total, before: None
    on_result: Callable[[str, int, VideoFailure | None], None] = lambda name, clips, failure: None
    on_shown: Callable[[Facts], None] | None = None
    on_note: Callable[[str], None] = lambda note: None


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """All that a run is asked for."""

    bundle: Path
    out: Path
    videos: Sequence[BatchVideo]
    choices: ClipChoices = field(default_factory=ClipChoices)
    output: OutputOptions = field(default_factory=OutputOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    resume: ResumeOptions = field(default_factory=ResumeOptions)

    @property
    def with_uris(self) -> bool:
        return any(isinstance(v.source, Uri | RemoteShard | RemoteMember | RemoteCell) for v in self.videos)


def run_local(job: BatchJob, watching: Watching = Watching()) -> BatchReport:
    """Work on all videos in this process, which loads the model once.

    Raises DatasetError, BundleError, InvalidRequest, NoClassifier.
    """
    bundle = open_bundle(job.bundle, job.choices)
    check(job, bundle)
    model = open_model(bundle, job.runtime)

    def work(plan: WorkerPlan, todo: Sequence[BatchVideo], dataset: Dataset, count: Count) -> None:
        _run_until_signal(_work_local(job, model, plan, todo, PartBuffer(plan, dataset.new_stem), count))

    return run_with(job, bundle, model.runtime.name, model.variant, work, watching)


def check(job: BatchJob, bundle: BatchBundle) -> None:
    """What is wrong with the request, before a model is loaded. Raises InvalidRequest."""
    protocol_of(bundle, job.choices, job.runtime)
    engine_config(job.runtime, bundle.path, with_uris=job.with_uris)


async def _work_local(
    job: BatchJob,
    model: ServedModel,
    plan: WorkerPlan,
    todo: Sequence[BatchVideo],
    buffer: PartBuffer,
    count: Count,
) -> None:
    async with VideoExtractor(model, job.choices, job.runtime, with_uris=job.with_uris) as extractor:
        await work_through(extractor, todo, plan, buffer, on_result=count.result)


Work = Callable[[WorkerPlan, Sequence[BatchVideo], Dataset, "Count"], None]


def run_with(
    job: BatchJob, bundle: BatchBundle, runtime: str, variant: str, work: Work, watching: Watching
) -> BatchReport:
    """The run around `work`, which makes a row of every video that it is given."""
    watching.on_model(bundle, runtime, variant)
    protocol = protocol_of(bundle, job.choices, job.runtime)
    settings = settings_of(bundle, job.choices, job.output, protocol, runtime=runtime, variant=variant)
    form = part_format(bundle, job.output, settings)
    with open_dataset(job.out, form, settings, overwrite=job.resume.overwrite) as dataset:
        shards = _listed(job, bundle, dataset)
        job = replace(job, videos=shards.videos)
        twice = twice_held(dataset.files)
        todo = make_plan(job.videos, dataset.ledger, job.resume, lost=twice | dataset.lost())
        files = _files(job, dataset, twice.union(todo.pruned))
        dataset.drop(todo.stale)
        shards.keep()  # not earlier: rows of another state of a shard would be taken for those of this one
        plan = WorkerPlan(job.out, form, job.output, job.resume.by_content, files)
        count = Count(watching, _known_failures(dataset), form)
        watching.on_start(len(job.videos), len(job.videos) - len(todo.todo))
        if todo.todo:
            work(plan, todo.todo, dataset, count)
        dataset.join_small_parts(clips=job.output.part_clips, videos=job.output.part_videos)
        return _report(job, settings, todo, count, dataset.finish())


def _listed(job: BatchJob, bundle: BatchBundle, dataset: Dataset) -> ListedShards:
    """The videos, those in shards at URLs among them."""
    folder = dataset.folder / SHARDS
    if not any(isinstance(v.source, RemoteShard) for v in job.videos):
        return ListedShards(job.videos, (), folder)
    remote = partial(remote_files, engine_config(job.runtime, bundle.path, with_uris=True), job.runtime)
    return asyncio.run(list_shards(job.videos, remote, folder, dataset.ledger))


def _files(job: BatchJob, dataset: Dataset, free: Collection[str]) -> dict[str, str]:
    """Where features go, by video. free: videos whose files others may have."""
    if job.output.format == "parquet":
        return {}
    held = {name: file for name, file in dataset.files.items() if name not in free}
    return file_names([v.name for v in job.videos], job.output.format, held)


def _known_failures(dataset: Dataset) -> list[VideoFailure]:
    """The first of those that are left as they are."""
    failures = (VideoFailure(n, e.kind, e.message) for n, e in dataset.ledger.items() if not e.done)
    return list(itertools.islice(failures, MOST_NAMED))


class Count:
    """Passes on what became of each video, and keeps the first failures. named: those of earlier runs."""

    def __init__(self, watching: Watching, named: list[VideoFailure], form: PartFormat) -> None:
        self._watching, self._form = watching, form
        self.num_videos = 0
        self.named = named

    def result(self, result: VideoResult) -> None:
        facts = facts_of(result, self._form.labels, self._form.top_k) if self._watching.on_shown else None
        self.row(result.name, result.num_clips, result.failure, facts)

    def row(self, name: str, clips: int, failure: VideoFailure | None, facts: Facts | None) -> None:
        """facts: of `rows.facts_of`; None where nothing is shown."""
        self.num_videos += 1
        if failure is not None and len(self.named) < MOST_NAMED:
            self.named.append(failure)
        self._watching.on_result(name, clips, failure)
        if facts is not None and self._watching.on_shown is not None:
            self._watching.on_shown(facts)


def _report(job: BatchJob, settings: dict[str, Any], plan: Plan, count: Count, summary: dict[str, Any]) -> BatchReport:
    return BatchReport(
        out=job.out,
        model=settings["model"],
        version=settings["version"],
        variant=settings["variant"],
        runtime=settings["runtime"],
        reused=plan.reused,
        worked=count.num_videos,
        changed=plan.changed,
        removed=plan.removed,
        pruned=plan.pruned,
        named=tuple(count.named),
        **summary,
    )


def _run_until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run it; SIGTERM ends it as Ctrl-C does, so that what is finished is written first."""

    async def until_signal() -> None:
        task = asyncio.ensure_future(work)
        with contextlib.suppress(RuntimeError, ValueError):  # not the main thread: whoever runs this has the signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    try:
        asyncio.run(until_signal())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
