"""`generate(config, out_dir)`: the videos or images, their manifest and their configuration, in a folder.

    OUT/synth.json                       the configuration, the encoder, the classes' tags
    OUT/manifest.csv                     one row a video or image, in a fixed order
    OUT/videos/CLASS/CLASS_00000.mp4     or OUT/images/CLASS/CLASS_00000.jpg

Every file appears whole or not at all, so a run that was stopped goes on where it was: what is there is kept.
"""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import write_text
from tenclip_training.processes import end_with_parent
from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.encode import PART_SUFFIX, Encoder, available_encoder, write_image, write_video
from tenclip_training.synth.manifest import description, differences, manifest_csv
from tenclip_training.synth.plan import VideoSpec, plan_videos, site_of
from tenclip_training.synth.renderer import render
from tenclip_video.cpus import usable_cpus

_log = logging.getLogger(__name__)

_BATCH = 4  # files a worker takes at once
_WORTH_A_WORKER = {"videos": 16, "images": 200}  # a process takes as long to start as so many files to make

Progress = Callable[[int, int], None]


def generate(
    config: SynthConfig, out_dir: str | Path, *, workers: int | None = None, progress: Progress | None = None
) -> Path:
    """Make the videos or images of `config` in `out_dir` and return the path of their manifest.

    workers: processes (None: one a core). `progress(done, total)` is called as videos are finished, those already
    there included. The files do not depend on `workers`. Workers are spawned: a script that calls this needs
    `if __name__ == "__main__":`.

    Raises ValueError for workers below 1, and DatasetError when `out_dir` holds videos of another configuration or
    something else under the same names, when another run is writing there, and when a file cannot be written.
    """
    out = Path(out_dir)
    encoder = available_encoder()
    if encoder != "libx264" and config.kind == "videos":
        _log.warning("FFmpeg has no libx264 here: the videos are MPEG-4 part 2 (encoder mpeg4), not H.264")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    specs = plan_videos(config)
    try:
        with _locked(out):
            _claim(out, config, encoder)
            _make_all(specs, out, config, encoder, workers or usable_cpus(), progress)
            write_text(out / "manifest.csv", manifest_csv(specs))
    except (OSError, av.FFmpegError) as error:
        raise DatasetError(f"{out}: cannot write the videos: {error}") from error
    except BrokenProcessPool as error:
        raise DatasetError(
            f"{out}: a worker process died, perhaps of too little memory; the same command goes on from here"
        ) from error
    return out / "manifest.csv"


def _claim(out: Path, config: SynthConfig, encoder: Encoder) -> None:
    """Write `synth.json`, or check that the one there asks for the same videos."""
    wanted = description(config, encoder)
    path = out / "synth.json"
    if not path.exists():
        taken = [name for name in ("manifest.csv", "videos", "images") if (out / name).exists()]
        if taken:
            raise DatasetError(f"{out} already holds {' and '.join(taken)} of something else; choose another folder")
        write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON ({error}); choose another folder, or remove this one") from error
    differ = differences(found, json.loads(json.dumps(wanted)))
    if differ:
        raise DatasetError(
            f"{out} holds videos of another configuration: {'; '.join(differ)}; "
            "choose another folder, or remove this one"
        )


def _make_all(
    specs: Sequence[VideoSpec],
    out: Path,
    config: SynthConfig,
    encoder: Encoder,
    workers: int,
    progress: Progress | None,
) -> None:
    for name in {Path(spec.path).parent for spec in specs}:
        (out / name).mkdir(parents=True, exist_ok=True)
    for left_over in out.glob(f"{config.kind}/*/.*{PART_SUFFIX}"):  # of a run that was killed; the lock is ours
        left_over.unlink()
    missing = [spec for spec in specs if not _is_there(out / spec.path)]
    done = len(specs) - len(missing)
    if progress and done:
        progress(done, len(specs))
    for made in _made(missing, out, config, encoder, min(workers, -(-len(missing) // _WORTH_A_WORKER[config.kind]))):
        done += made
        if progress:
            progress(done, len(specs))


def _made(specs: Sequence[VideoSpec], out: Path, config: SynthConfig, encoder: Encoder, workers: int) -> Iterator[int]:
    """Make the videos; yields how many more are finished."""
    job = _Job(out=out, encoder=encoder, crf=site_of(config).crf, gop=config.gop, quality=config.image_quality)
    if workers <= 1:
        yield from (_make([spec], job) for spec in specs)
        return
    context = multiprocessing.get_context("spawn")  # fork copies other threads' locks, held or not
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        try:
            batches = [pool.submit(_make, batch, job) for batch in _batches(specs)]
            yield from (batch.result() for batch in as_completed(batches))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _batches(specs: Sequence[VideoSpec]) -> Iterator[Sequence[VideoSpec]]:
    return (specs[i : i + _BATCH] for i in range(0, len(specs), _BATCH))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is the same for every file of a folder. crf, gop: of videos; quality: of JPEG images."""

    out: Path
    encoder: Encoder
    crf: int
    gop: int
    quality: int


def _make(specs: Sequence[VideoSpec], job: _Job) -> int:
    for spec in specs:
        if spec.is_image:
            write_image(job.out / spec.path, next(render(spec)), quality=job.quality)
        else:
            _make_video(spec, job)
    return len(specs)


def _make_video(spec: VideoSpec, job: _Job) -> None:
    end = round(spec.duration / float(spec.time_base))
    write_video(
        job.out / spec.path,
        render(spec),
        ticks=(*spec.ticks, end),
        time_base=spec.time_base,
        frame_rate=spec.frame_rate,
        encoder=job.encoder,
        crf=job.crf,
        gop=job.gop,
    )


def _begin_worker() -> None:
    import cv2

    cv2.setNumThreads(1)  # one core each
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    end_with_parent()  # one that is killed cannot


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if need be) against other runs; the lock goes with the process, however it ends."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; name a folder to write the videos to")
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"another run is writing to {folder}; wait for it or choose another folder") from error
        yield
    finally:
        os.close(handle)
