"""Features of many videos into one Parquet file, resumable at any point.

videos -> (server, many at once) -> ledger in `F.parquet.partial/` -> merged in the order of the videos -> F.parquet
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError, InvalidRequest, Overloaded, ServerUnavailable, TenclipError
from tenclip_client._aio import AsyncClient
from tenclip_client._concurrent import retry_with_backoff, run_bounded
from tenclip_client._extraction import ClipChoice, ExtractionReport, Progress
from tenclip_client._inputs import VideoInput
from tenclip_client._ledger import ClipRow, Failure, Ledger, check_same_settings
from tenclip_client._parquet import read_settings, read_videos, write_features
from tenclip_client._types import ModelInfo, VideoFeatures

# A server that restarts is back within this; a batch of hours should not die of it.
PATIENCE_SECONDS = 120.0


async def extract_to_parquet(
    client: AsyncClient,
    videos: Sequence[VideoInput],
    out: Path,
    *,
    choice: ClipChoice = ClipChoice(),
    concurrency: int = 4,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: Progress = Progress(),
) -> ExtractionReport:
    """Extract features of `videos` into `out`; see `tenclip features`.

    Stopped at any moment and called again with the same arguments, it goes on and ends with the same bytes. The model
    version is fixed at the beginning: a server that moves on to another one meanwhile makes the next run stop.
    Videos that fail are kept in the ledger with their reason; a later call leaves them alone unless `retry_failed`.
    Raises DatasetError where `out` holds something else, and what `get_model` raises.
    """
    if out.is_dir():
        raise DatasetError(f"{out}: is a directory; --out is the Parquet file to write")
    model = await client.get_model(choice.model)
    _check_protocol(choice, model)
    settings = _settings(choice, model)
    folder = out.with_name(f"{out.name}.partial")
    if overwrite:
        Ledger.discard(folder)
    elif out.exists() and not folder.exists():
        return _finished(out, settings, videos)
    with Ledger(folder, settings) as ledger:
        todo = [v for v in videos if _is_open(v, ledger, retry_failed)]
        reused = len(videos) - len({v.name for v in todo} | ledger.failures.keys() & {v.name for v in videos})
        progress.on_start(len(videos), len(videos) - len(todo))
        await _run(client, todo, ledger, choice, settings, concurrency, progress)
        report = _merge(out, ledger, videos, settings, reused=reused)
        if not report.failures:
            ledger.remove()
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
        "weights": _weights_hash(model.bundle),
        "protocol": choice.protocol or model.default_protocol,
        "clip_selection": choice.clips,
        "num_clips": choice.num_clips,
        "window_step": choice.window_step,
        "start": choice.start,
        "end": choice.end,
        "fully_convolutional": choice.fully_convolutional,
    }


def _weights_hash(bundle: Mapping[str, Any]) -> str:
    """Tells two models apart that were exported under the same name and version; "" where the bundle says nothing."""
    files = [v.get("files", {}) for v in bundle.get("variants", [])]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16] if any(files) else ""


def _finished(out: Path, settings: Mapping[str, Any], videos: Sequence[VideoInput]) -> ExtractionReport:
    """The report on a file that an earlier run completed; DatasetError if it is not what is asked for now."""
    check_same_settings(out, read_settings(out), settings)
    held = read_videos(out)
    names = [v.name for v in videos]
    if held != names:
        missing = [n for n in names if n not in set(held)]
        what = f"lacks {len(missing)} of these videos, {missing[0]} first" if missing else "holds other videos, too"
        raise DatasetError(f"{out}: is complete and {what}; use another --out, or --overwrite to begin again")
    rows = _count_rows(out)
    return ExtractionReport(
        out=out,
        model=settings["model"],
        version=settings["version"],
        videos=len(held),
        clips=rows,
        reused=len(held),
        failures=(),
    )


def _count_rows(out: Path) -> int:
    import pyarrow.parquet

    return int(pyarrow.parquet.read_metadata(out).num_rows)


def _is_open(video: VideoInput, ledger: Ledger, retry_failed: bool) -> bool:
    if video.name in ledger.failures:
        return retry_failed
    return not ledger.is_done(video.name, _fingerprint(video))


def _fingerprint(video: VideoInput) -> list[int]:
    """[bytes, nanoseconds of the last change]; [] where there is no file to look at."""
    if not isinstance(video.source, Path):
        return []
    try:
        status = video.source.stat()
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]


async def _run(
    client: AsyncClient,
    todo: Sequence[VideoInput],
    ledger: Ledger,
    choice: ClipChoice,
    settings: Mapping[str, Any],
    concurrency: int,
    progress: Progress,
) -> None:
    arguments = {**vars(choice), "model": f"{settings['model']}:{settings['version']}"}

    async def extract(video: VideoInput) -> tuple[list[int], VideoFeatures]:
        if video.error is not None:
            raise video.error
        # Before it is read: if it changes meanwhile, the next run sees that.
        fingerprint = _fingerprint(video)
        result = await retry_with_backoff(
            lambda: client.extract_features(video.source, name=video.name, **arguments),
            max_wait_seconds=PATIENCE_SECONDS,
            waits_for=(Overloaded, ServerUnavailable),
            on_pause=progress.on_pause,
        )
        return fingerprint, result

    async with aclosing(run_bounded(todo, extract, concurrency=concurrency)) as finished:
        async for video, outcome in finished:
            if isinstance(outcome, TenclipError):
                failure = Failure(video.name, outcome.reason, outcome.message)
                ledger.fail(failure)
                progress.on_video(video.name, 0, failure)
            else:
                fingerprint, result = outcome
                rows = _rows(result)
                ledger.add(video.name, rows, protocol=result.provenance.protocol, fingerprint=fingerprint)
                progress.on_video(video.name, len(rows), None)


def _rows(result: VideoFeatures) -> list[ClipRow]:
    return [ClipRow(c.clip.index, c.clip.start_seconds, c.clip.end_seconds, c.values) for c in result.features.clips]


def _merge(
    out: Path, ledger: Ledger, videos: Sequence[VideoInput], settings: Mapping[str, Any], *, reused: int
) -> ExtractionReport:
    failures = tuple(ledger.failures[v.name] for v in videos if v.name in ledger.failures)
    clips = 0
    if len(failures) < len(videos):
        done = [v.name for v in videos if v.name not in ledger.failures]
        tables = ((name, ledger.rows(name)) for name in done)
        draft = ledger.folder / "merged.parquet"
        clips = write_features(out, draft, tables, settings, protocol=ledger.protocol(done[0]))
    return ExtractionReport(
        out=out,
        model=settings["model"],
        version=settings["version"],
        videos=len(videos) - len(failures),
        clips=clips,
        reused=reused,
        failures=failures,
    )
