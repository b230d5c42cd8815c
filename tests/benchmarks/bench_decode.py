"""Decoding: every frame against OpenCV, and only the frames of a plan against every frame. One thread each.

The video is 340x256 H.264 made on the spot: a camera that pans over a textured picture, a disc that runs over it,
x264's defaults but for the distance between keyframes. CPU time is compared, repetitions of all sides taking turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from tenclip_video.sampling import ClipSelection, frames_needed, plan_clips
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import open_video

WIDTH, HEIGHT, FPS = 340, 256, 30
REPETITIONS = 5
KEYFRAME_INTERVALS = (30, 60, 250)


def write_video(path: Path, *, seconds: float, keyframe_interval: int) -> Path:
    rng = np.random.default_rng(0)
    coarse = (rng.random((40, 60, 3)) * 255).astype(np.uint8)
    scene = cv2.resize(coarse, (1200, 800), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    scene = np.clip(scene + rng.integers(-12, 12, scene.shape), 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": str(keyframe_interval)})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(int(seconds * FPS)):
            x, y = int(300 + 250 * np.sin(i / 60)), int(200 + 150 * np.cos(i / 83))
            picture = scene[y : y + HEIGHT, x : x + WIDTH].copy()
            center = (int(170 + 100 * np.cos(i / 10)), int(128 + 80 * np.sin(i / 7)))
            cv2.circle(picture, center, 20, (255, 0, 0), -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def ours_dense(path: Path, resize: Resize) -> None:
    with open_video(path) as video:
        count = sum(1 for _ in video.iter_frames(resize))
        assert count == video.info.num_frames


def ours_sparse(path: Path, resize: Resize) -> None:
    with open_video(path) as video:
        spec = ClipSpec(num_frames=8, resize=resize)
        clips = plan_clips(video.times, video.info.duration_seconds, spec, ClipSelection(num_clips=10))
        video.read_frames(frames_needed(clips), resize)


def opencv_dense(path: Path, resize: Resize) -> None:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    count = 0
    while True:
        found, frame = capture.read()
        if not found:
            break
        cv2.resize(frame, (resize.width, resize.height))
        count += 1
    assert count > 1


def seconds_of(work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median CPU seconds of each, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for repetition in range(REPETITIONS + 1):
        for name, run in work.items():
            start = time.process_time()
            run()
            if repetition:  # the first one warms caches
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def main(argv: list[str]) -> dict[str, Any]:
    cv2.setNumThreads(1)
    results: dict[str, Any] = {"every_frame": [], "plan": []}
    small, full = Resize(height=128, width=171), Resize(height=HEIGHT, width=WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        videos = {
            interval: write_video(Path(folder) / f"{interval}.mp4", seconds=60, keyframe_interval=interval)
            for interval in KEYFRAME_INTERVALS
        }
        frames = 60 * FPS
        for resize in (small, full):
            path = videos[250]
            taken = seconds_of(
                {"ours": partial(ours_dense, path, resize), "opencv": partial(opencv_dense, path, resize)}
            )
            results["every_frame"].append(
                {
                    "size": f"{resize.height}x{resize.width}",
                    "ours_fps": frames / taken["ours"],
                    "opencv_fps": frames / taken["opencv"],
                    "ratio": taken["opencv"] / taken["ours"],
                }
            )
        for interval, path in videos.items():
            sides = {"plan": ours_sparse, "all": ours_dense, "opencv": opencv_dense}
            taken = seconds_of({name: partial(run, path, small) for name, run in sides.items()})
            results["plan"].append(
                {
                    "keyframe_interval": interval,
                    "plan_ms": 1000 * taken["plan"],
                    "all_ms": 1000 * taken["all"],
                    "opencv_all_ms": 1000 * taken["opencv"],
                    "ratio": taken["all"] / taken["plan"],
                    "ratio_opencv": taken["opencv"] / taken["plan"],
                }
            )
    _print(results)
    return results


def _print(results: dict[str, Any]) -> None:
    console = Console()
    table = Table(title="decode and resize every frame of 60 s at 340x256, one thread", title_justify="left")
    for column in ("to", "tenclip frames/s", "OpenCV frames/s", "ratio"):
        table.add_column(column, justify="right")
    for row in results["every_frame"]:
        table.add_row(row["size"], f"{row['ours_fps']:.0f}", f"{row['opencv_fps']:.0f}", f"{row['ratio']:.2f}")
    console.print(table)
    table = Table(title="10 clips of 8 frames of the same 60 s, against all of it", title_justify="left")
    for column in ("keyframe every", "plan ms", "all ms", "OpenCV all ms", "all / plan", "OpenCV / plan"):
        table.add_column(column, justify="right")
    for row in results["plan"]:
        table.add_row(
            str(row["keyframe_interval"]),
            f"{row['plan_ms']:.0f}",
            f"{row['all_ms']:.0f}",
            f"{row['opencv_all_ms']:.0f}",
            f"{row['ratio']:.1f}",
            f"{row['ratio_opencv']:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main([])
