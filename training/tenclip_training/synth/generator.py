"""`generate(config, out_dir)`: the videos, their manifest and their configuration, in a folder.

    OUT/synth.json                   the configuration, the encoder, the classes' tags
    OUT/manifest.csv                 one row a video, in a fixed order
    OUT/videos/CLASS/CLASS_00000.mp4

Every file appears whole or not at all, so a run that was stopped goes on where it was: what is there is kept.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import av

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import write_text
from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.encode import PART_SUFFIX, Encoder, available_encoder, write_video
from tenclip_training.synth.motions import MOTIONS
from tenclip_training.synth.plan import VideoSpec, plan_videos
from tenclip_training.synth.renderer import render
from tenclip_training.synth.tags import tag_classes
from tenclip_video.cpus import usable_cpus

_log = logging.getLogger(__name__)

# Goes up when the same configuration makes other videos than before.
GENERATOR_VERSION: Final = 1
COLUMNS: Final = (
    *(
        "path",
        "label",
        "split",
        "start",
        "end",
    ),  # start and end of the action in seconds, half open; empty: all of the video
    *("duration", "frame_rate", "variable_frame_rate", "frames"),
    *("family", "axis", "speed", "objects", "shape", "texture", "background", "idle"),
    "tags",  # with blanks between; read_manifest(..., label_column="tags") takes them as several labels
)
_BATCH = 4  # videos a worker takes at once
_WORTH_A_WORKER = 16  # a process takes as long to start as so many videos to make

Progress = Callable[[int, int], None]


def generate(
    config: SynthConfig, out_dir: str | Path, *, workers: int | None = None, progress: Progress | None = None
) -> Path:
    """Make the videos of `config` in `out_dir` and return the path of their manifest.

    workers: processes (None: one a core). `progress(done, total)` is called as videos are finished, those already
    there included. The files do not depend on `workers`. Workers are spawned: a script that calls this needs
    `if __name__ == "__main__":`.

    Raises ValueError for workers below 1, and DatasetError when `out_dir` holds videos of another configuration or
    something else under the same names, when another run is writing there, and when a file cannot be written.
    """
    out = Path(out_dir)
    encoder = available_encoder()
    if encoder != "libx264":
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


def manifest_row(spec: VideoSpec) -> dict[str, str | int | float]:
    """The manifest's row of one video, by column."""
    motion = MOTIONS[spec.label]
    return {
        "path": spec.path,
        "label": spec.label,
        "split": spec.split,
        "start": "" if spec.trimmed else f"{spec.start:.3f}",
        "end": "" if spec.trimmed else f"{spec.end:.3f}",
        "duration": f"{spec.duration:.3f}",
        "frame_rate": f"{float(spec.frame_rate):g}",
        "variable_frame_rate": int(spec.variable_frame_rate),
        "frames": len(spec.times),
        "family": motion.family,
        "axis": motion.axis,
        "speed": spec.speed,
        "objects": spec.objects,
        "shape": spec.shape,
        "texture": spec.texture,
        "background": spec.background,
        "idle": "none" if spec.trimmed else spec.idle,
        "tags": " ".join(spec.tags),
    }


def manifest_csv(specs: Sequence[VideoSpec]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(manifest_row(spec) for spec in specs)
    return text.getvalue()


def _description(config: SynthConfig, encoder: Encoder) -> dict[str, Any]:
    return {
        "generator": GENERATOR_VERSION,
        "encoder": encoder,
        "config": config.to_dict(),
        "mirrored": {name: MOTIONS[name].mirrored for name in config.class_names},
        "tag_classes": tag_classes(config.class_names) if config.noisy_tags else {},
    }


def _claim(out: Path, config: SynthConfig, encoder: Encoder) -> None:
    """Write `synth.json`, or check that the one there asks for the same videos."""
    wanted = _description(config, encoder)
    path = out / "synth.json"
    if not path.exists():
        taken = [name for name in ("manifest.csv", "videos") if (out / name).exists()]
        if taken:
            raise DatasetError(f"{out} already holds {' and '.join(taken)} of something else; choose another folder")
        write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON ({error}); choose another folder, or remove this one") from error
    differences = _differences(found, json.loads(json.dumps(wanted)))
    if differences:
        raise DatasetError(
            f"{out} holds videos of another configuration: {'; '.join(differences)}; "
            "choose another folder, or remove this one"
        )


def _differences(found: Any, wanted: dict[str, Any]) -> list[str]:
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        return ["its synth.json has no configuration"]
    pairs = [(name, found.get(name), wanted[name]) for name in ("generator", "encoder")]
    names = sorted({*found["config"], *wanted["config"]})
    pairs += [(name, found["config"].get(name), wanted["config"].get(name)) for name in names]
    return [f"{name} {there} there, {asked} asked" for name, there, asked in pairs if there != asked]


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
    for left_over in out.glob(f"videos/*/.*{PART_SUFFIX}"):  # of a run that was killed; the lock is ours
        left_over.unlink()
    missing = [spec for spec in specs if not _is_there(out / spec.path)]
    done = len(specs) - len(missing)
    if progress and done:
        progress(done, len(specs))
    for made in _made(missing, out, config, encoder, min(workers, -(-len(missing) // _WORTH_A_WORKER))):
        done += made
        if progress:
            progress(done, len(specs))


def _made(specs: Sequence[VideoSpec], out: Path, config: SynthConfig, encoder: Encoder, workers: int) -> Iterator[int]:
    """Make the videos; yields how many more are finished."""
    job = (out, encoder, config.crf, config.gop)
    if workers <= 1:
        yield from (_make([spec], *job) for spec in specs)
        return
    context = multiprocessing.get_context("spawn")  # fork copies other threads' locks, held or not
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        try:
            batches = [pool.submit(_make, batch, *job) for batch in _batches(specs)]
            yield from (batch.result() for batch in as_completed(batches))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _batches(specs: Sequence[VideoSpec]) -> Iterator[Sequence[VideoSpec]]:
    return (specs[i : i + _BATCH] for i in range(0, len(specs), _BATCH))


def _make(specs: Sequence[VideoSpec], out: Path, encoder: Encoder, crf: int, gop: int) -> int:
    for spec in specs:
        end = round(spec.duration / float(spec.time_base))
        write_video(
            out / spec.path,
            render(spec),
            ticks=(*spec.ticks, end),
            time_base=spec.time_base,
            frame_rate=spec.frame_rate,
            encoder=encoder,
            crf=crf,
            gop=gop,
        )
    return len(specs)


def _begin_worker() -> None:
    import cv2

    cv2.setNumThreads(1)  # one core each
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    # A parent that is killed cannot: end with it.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


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
