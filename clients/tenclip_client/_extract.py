"""Features of many videos into one Parquet file, resumable at any point.

videos -> (server, many at once) -> journal in `F.parquet.partial/` -> merged in the order of the videos -> F.parquet
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError, InvalidRequest, NoFrames, Overloaded, ServerUnavailable, TenclipError
from tenclip_client._aio import AsyncClient
from tenclip_client._concurrent import retry_with_backoff, run_bounded
from tenclip_client._extraction import ClipChoice, EarlierRows, ExtractionReport, Progress
from tenclip_client._inputs import VideoInput
from tenclip_client._samplers import pin_sampler
from tenclip_client._types import ModelInfo, VideoFeatures
from tenclip_features.journal import ExtractionJournal, check_same_settings
from tenclip_features.rows import ClipRow, VideoFailure, VideoRows
from tenclip_features.stamps import VideoStamp, is_gone, is_unchanged, stamp_file
from tenclip_features.weights import weights_hash

# A server that restarts is back within this; a batch of hours should not die of it.
PATIENCE_SECONDS = 120.0

Stamps = Mapping[str, VideoStamp | None]


async def extract_to_parquet(
    client: AsyncClient,
    videos: Sequence[VideoInput],
    out: Path,
    *,
    choice: ClipChoice = ClipChoice(),
    concurrency: int = 4,
    retry_failed: bool = False,
    overwrite: bool = False,
    earlier: EarlierRows = EarlierRows(),
    pictures: int = 0,
    progress: Progress = Progress(),
) -> ExtractionReport:
    """Extract features of `videos` into `out`; see `tenclip features`.

    Stopped at any moment and called again with the same arguments, it goes on and ends with the same bytes. The model
    version is fixed at the beginning: a server that moves on to another one meanwhile makes the next run stop.
    A file that an earlier run finished is brought up to date: videos that are new or have changed are extracted, rows
    of videos that are gone or not asked for any more are kept and reported, see `EarlierRows`.
    Videos that fail are kept in the journal with their reason; a later call leaves them alone unless `retry_failed`.
    pictures: how many thumbnails to ask for with each video, and then its timeline, for `progress.on_result`.
    Raises DatasetError where `out` holds something else, and what `get_model` raises.
    """
    if out.is_dir():
        raise DatasetError(f"{out}: is a directory; --out is the Parquet file to write")
    model = await client.get_model(choice.model)
    _check_protocol(choice, model)
    progress.on_model(model)
    choice, salience = await pin_sampler(client, choice, model)
    settings = {**_settings(choice, model), **salience}
    folder = out.with_name(f"{out.name}.partial")
    read_finished = cache(partial(_read_finished, out, settings, videos, earlier))
    if overwrite:
        ExtractionJournal.discard(folder)
    elif out.exists() and not folder.exists():
        finished = read_finished()
        if finished.is_current:
            return finished.report(settings)
    # A new journal begins with the rows of the finished table, in one transaction: a kill loses none of them.
    begin_with = None if overwrite or not out.exists() else lambda: read_finished().rows()
    with ExtractionJournal(folder, settings, begin_with=begin_with) as journal:
        plan = _plan(videos, journal.done(), journal.failed(), earlier, retry_failed=retry_failed)
        progress.on_start(len(videos), len(videos) - len(plan.todo))
        shown = {"timeline": True, "thumbnails": pictures} if pictures else {}
        arguments = {**vars(choice), "model": f"{settings['model']}:{settings['version']}", **shown}
        damaged = await _run(client, plan.todo, journal, arguments, concurrency, earlier, progress)
        report = _merge(out, journal, videos, settings, plan, damaged)
        if not report.failures:
            journal.remove()
    return report


def _check_protocol(choice: ClipChoice, model: ModelInfo) -> None:
    # Once and here, or every video would fail with it.
    if choice.protocol and choice.protocol not in model.protocols:
        raise InvalidRequest(
            f"protocol {choice.protocol!r} is none of {model.ref}'s: {', '.join(model.protocols) or '(none)'}"
        )


def _settings(choice: ClipChoice, model: ModelInfo) -> dict[str, Any]:
    """Everything that the numbers depend on; it is stored in the file's metadata, too."""
    return {
        "model": model.name,
        "version": model.version,
        "weights": weights_hash(model.bundle),
        "protocol": choice.protocol or model.default_protocol,
        "clip_selection": choice.clips,
        "num_clips": choice.num_clips,
        "window_step": choice.window_step,
        "start": choice.start,
        "end": choice.end,
        "fully_convolutional": choice.fully_convolutional,
    }


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Videos to extract, and the names in `ExtractionReport`'s terms."""

    todo: tuple[VideoInput, ...]
    reused: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    pruned: tuple[str, ...]


def _plan(
    videos: Sequence[VideoInput],
    done: Stamps,
    failed: Stamps,
    earlier: EarlierRows,
    *,
    retry_failed: bool = False,
) -> _Plan:
    todo: list[VideoInput] = []
    reused: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    for video in videos:
        name = video.name
        if name in failed:
            todo += [video] if retry_failed or _is_mended(video, failed[name]) else []
        elif name not in done:
            todo.append(video)
        elif not earlier.prune and isinstance(video.source, Path) and is_gone(video.source):
            removed.append(name)
            reused.append(name)
        elif _is_current(video, done[name], earlier):
            reused.append(name)
        else:
            todo.append(video)
            changed.append(name)
    asked = {v.name for v in videos}
    others = [name for name in done if name not in asked]
    return _Plan(
        todo=tuple(todo),
        reused=tuple(reused),
        changed=tuple(changed),
        removed=tuple(removed if earlier.prune else [*removed, *others]),
        pruned=tuple(others if earlier.prune else ()),
    )


def _is_current(video: VideoInput, stamp: VideoStamp | None, earlier: EarlierRows) -> bool:
    if not isinstance(video.source, Path):
        return stamp is None  # on the server: nobody here can look at the file
    return stamp is not None and is_unchanged(video.source, stamp, by_content=earlier.by_content)


def _is_mended(video: VideoInput, stamp: VideoStamp | None) -> bool:
    """Whether the file of a video that failed is another one now, so that the failure says nothing of it."""
    if video.error is not None or not isinstance(video.source, Path):
        return False
    return stamp_file(video.source) is not None if stamp is None else not is_unchanged(video.source, stamp)


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """A table that an earlier run completed. restamped: some of `stamps` are not in it yet."""

    out: Path
    stamps: Stamps
    plan: _Plan
    restamped: bool

    @property
    def is_current(self) -> bool:
        return not (self.plan.todo or self.plan.pruned or self.restamped)

    def report(self, settings: Mapping[str, Any]) -> ExtractionReport:
        """The report of a table that is left as it is."""
        from tenclip_features.table import count_rows

        return ExtractionReport(
            out=self.out,
            model=settings["model"],
            version=settings["version"],
            videos=len(self.stamps),
            clips=count_rows(self.out),
            reused=len(self.plan.reused),
            failures=(),
            removed=self.plan.removed,
        )

    def rows(self) -> tuple[str, Iterator[VideoRows]]:
        """(the protocol that was run, the videos)."""
        from tenclip_features.table import read_protocol, read_videos

        videos = (VideoRows(v.video, self.stamps[v.video], v.clips) for v in read_videos(self.out))
        return read_protocol(self.out), videos


def _read_finished(
    out: Path, settings: Mapping[str, Any], videos: Sequence[VideoInput], earlier: EarlierRows
) -> _Finished:
    """Raises DatasetError where `out` is something else than what is asked for now."""
    from tenclip_features.table import read_names, read_settings, read_stamps

    check_same_settings(out, read_settings(out), settings)
    stamps: Stamps | None = read_stamps(out)
    known = stamps
    paths = {v.name: v.source for v in videos if isinstance(v.source, Path)}
    if stamps is None:
        if not earlier.trust_unstamped:
            raise DatasetError(
                f"{out}: was written by an earlier version of tenclip, without the sizes and times of its videos, so "
                "nobody can tell whether they have changed since; --overwrite extracts all of them again, "
                "--trust-unstamped takes its rows for current"
            )
        stamps = {name: stamp_file(paths[name]) if name in paths else None for name in read_names(out)}
    plan = _plan(videos, stamps, {}, earlier)
    if earlier.by_content:
        current = {name: paths[name] for name in plan.reused if name in paths}
        stamps = {name: _with_hash(stamp, current.get(name)) for name, stamp in stamps.items()}
    return _Finished(out=out, stamps=stamps, plan=plan, restamped=stamps != known)


def _with_hash(stamp: VideoStamp | None, path: Path | None) -> VideoStamp | None:
    """The stamp of a file that has not changed, with the SHA-256 that it may lack."""
    if stamp is None or stamp.sha256 or path is None:
        return stamp
    return stamp_file(path, with_hash=True) or stamp


async def _run(
    client: AsyncClient,
    todo: Sequence[VideoInput],
    journal: ExtractionJournal,
    arguments: Mapping[str, Any],
    concurrency: int,
    earlier: EarlierRows,
    progress: Progress,
) -> set[str]:
    """Extract and journal every video. Returns the names of those with damaged or substituted frames."""
    stamps: dict[str, VideoStamp | None] = {}
    damaged: set[str] = set()

    async def extract(video: VideoInput) -> VideoFeatures:
        if video.error is not None:
            raise video.error
        # Before it is read: if it changes meanwhile, the next run sees that.
        stamps[video.name] = await _stamp(video, with_hash=earlier.by_content)
        result = await retry_with_backoff(
            lambda: client.extract_features(video.source, name=video.name, **arguments),
            max_wait_seconds=PATIENCE_SECONDS,
            waits_for=(Overloaded, ServerUnavailable),
            on_pause=progress.on_pause,
        )
        if not result.features.clips:
            raise NoFrames(f"{video.name}: the server gave no clips", source=video.name)
        return result

    async with aclosing(run_bounded(todo, extract, concurrency=concurrency)) as finished:
        async for video, outcome in finished:
            stamp = stamps.pop(video.name, None)
            if isinstance(outcome, TenclipError):
                failure = VideoFailure(video.name, outcome.reason, outcome.message)
                journal.fail(failure, stamp)
                progress.on_video(video.name, 0, failure)
            else:
                clips = _rows(outcome)
                journal.add(VideoRows(video.name, stamp, clips), protocol=outcome.provenance.protocol)
                if outcome.report.frames_substituted or outcome.report.frames_corrupt:
                    damaged.add(video.name)
                progress.on_video(video.name, len(clips), None)
            progress.on_result(video.name, outcome)
    return damaged


async def _stamp(video: VideoInput, *, with_hash: bool) -> VideoStamp | None:
    if not isinstance(video.source, Path):
        return None
    if with_hash:
        return await asyncio.to_thread(stamp_file, video.source, with_hash=True)
    return stamp_file(video.source)


def _rows(result: VideoFeatures) -> list[ClipRow]:
    return [ClipRow(c.clip.index, c.clip.start_seconds, c.clip.end_seconds, c.values) for c in result.features.clips]


def _merge(
    out: Path,
    journal: ExtractionJournal,
    videos: Sequence[VideoInput],
    settings: Mapping[str, Any],
    plan: _Plan,
    damaged: Collection[str],
) -> ExtractionReport:
    """Write everything that is done: the videos that are asked for, in their order, then what is kept beside them."""
    from tenclip_features.writer import write_features

    done, failures = journal.done(), journal.failures()
    asked = [v.name for v in videos]
    names = [name for name in dict.fromkeys((*asked, *plan.removed)) if name in done]
    clips = 0
    if names:
        draft = journal.folder / "merged.parquet"
        rows = (journal.rows(name) for name in names)
        clips = write_features(out, draft, rows, settings, protocol=journal.protocol(names[0]))
    return ExtractionReport(
        out=out,
        model=settings["model"],
        version=settings["version"],
        videos=len(names),
        clips=clips,
        reused=len(plan.reused),
        failures=tuple(failures[name] for name in asked if name in failures),
        changed=plan.changed,
        removed=plan.removed,
        pruned=plan.pruned,
        damaged=tuple(name for name in asked if name in damaged),
    )
