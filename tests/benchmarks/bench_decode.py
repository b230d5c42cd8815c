"""Decoding: every frame against OpenCV, only the frames of a plan against every frame, and what opening costs.

    python -m tests.benchmarks.bench_decode [--json]

One thread each. The video is 340x256 H.264 made on the spot: a camera that pans over a textured picture, a disc
that runs over it, x264's defaults but for the distance between keyframes. With test data at hand, two real clips of ten
seconds and x264's default distance (250) are read as well, six times over. CPU time is compared, repetitions of all
sides taking turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
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
from tenclip_video.video import open_video, probe
from tests.conftest import DATA_DIR
from tests.videos import repeat_packets

WIDTH, HEIGHT, FPS = 340, 256, 30
REPETITIONS = 5
KEYFRAME_INTERVALS = (30, 60, 250)
REAL_CLIPS = ("arm_wrestling", "cleaning_pool")


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


def measure_every_frame(path: Path, resize: Resize) -> dict[str, Any]:
    taken = seconds_of({"ours": partial(ours_dense, path, resize), "opencv": partial(opencv_dense, path, resize)})
    frames = probe(path).num_frames
    return {
        "size": f"{resize.height}x{resize.width}",
        "ours_fps": frames / taken["ours"],
        "opencv_fps": frames / taken["opencv"],
        "ratio": taken["opencv"] / taken["ours"],
    }


def measure_plan(path: Path, label: str, keyframe_interval: int) -> dict[str, Any]:
    resize = Resize(height=128, width=171)
    sides = {"plan": ours_sparse, "all": ours_dense, "opencv": opencv_dense}
    taken = seconds_of({name: partial(run, path, resize) for name, run in sides.items()})
    info = probe(path)
    return {
        "video": label,
        "keyframe_interval": keyframe_interval,
        "frames": info.num_frames,
        "kbit_per_second": path.stat().st_size * 8 / 1000 / info.duration_seconds,
        "plan_ms": 1000 * taken["plan"],
        "all_ms": 1000 * taken["all"],
        "opencv_all_ms": 1000 * taken["opencv"],
        "ratio": taken["all"] / taken["plan"],
        "ratio_opencv": taken["opencv"] / taken["plan"],
    }


def measure_opening(paths: dict[str, Path]) -> list[dict[str, Any]]:
    def run(path: Path) -> None:
        probe(path)

    taken = seconds_of({label: partial(run, path) for label, path in paths.items()})
    return [
        {"video": label, "frames": probe(path).num_frames, "ms": 1000 * taken[label]} for label, path in paths.items()
    ]


def measure(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    say("encoding a minute for each keyframe interval")
    videos = {
        interval: write_video(folder / f"{interval}.mp4", seconds=60, keyframe_interval=interval)
        for interval in KEYFRAME_INTERVALS
    }
    say("every frame")
    sizes = (Resize(height=128, width=171), Resize(height=HEIGHT, width=WIDTH))
    every_frame = [measure_every_frame(videos[250], resize) for resize in sizes]
    plan = []
    for interval, path in videos.items():
        say(f"a plan, with a keyframe every {interval}")
        plan.append(measure_plan(path, "generated", interval))
    for name in REAL_CLIPS:
        clip = DATA_DIR / "clips" / f"{name}.mp4"
        if clip.exists():
            say(f"a plan of {name}")
            minute = folder / clip.name
            minute.write_bytes(repeat_packets(clip.read_bytes(), 6))
            plan.append(measure_plan(minute, f"{name} x 6", 250))
    say("opening")
    short, long = folder / "short.mp4", folder / "long.mp4"
    write_video(short, seconds=10, keyframe_interval=250)
    long.write_bytes(repeat_packets(videos[250].read_bytes(), 120))
    return {"every_frame": every_frame, "plan": plan, "opening": measure_opening({"10 s": short, "2 h": long})}


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_decode", description="Speed of decoding.")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    errors = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), lambda text: errors.print(text, style="dim"))
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
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
    table = Table(title="10 clips of 8 frames of 60 s, against all of it; ms", title_justify="left")
    for column in ("video", "keyframe every", "kbit/s", "plan", "all", "OpenCV all", "all / plan", "OpenCV / plan"):
        table.add_column(column, justify="left" if column == "video" else "right")
    for row in results["plan"]:
        table.add_row(
            row["video"],
            str(row["keyframe_interval"]),
            f"{row['kbit_per_second']:.0f}",
            f"{row['plan_ms']:.0f}",
            f"{row['all_ms']:.0f}",
            f"{row['opencv_all_ms']:.0f}",
            f"{row['ratio']:.1f}",
            f"{row['ratio_opencv']:.1f}",
        )
    console.print(table)
    table = Table(title="open and probe", title_justify="left")
    for column in ("video", "frames", "ms"):
        table.add_column(column, justify="right")
    for row in results["opening"]:
        table.add_row(row["video"], f"{row['frames']:,}", f"{row['ms']:.1f}")
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
