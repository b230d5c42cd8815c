"""A clip of an image against a clip of a video: 16 frames of 128x171 each, one thread, CPU time, taking turns.

    python -m tests.benchmarks.bench_warp [--json]

The image is a JPEG of 500x375, as web images are, decoded anew each time; the video 10 s of 340x256 H.264 as in
bench_decode, a keyframe every 250 frames (x264's default) or every 30, of which one random clip is decoded. Then the
same with images and videos in the loader's cache.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from tenclip_data.samples import Manifest, Sample
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset
from tenclip_training.omni.homographies import IDENTITY, HomographyGaussian, free_entries
from tenclip_training.omni.motion import Motion
from tenclip_training.omni.pseudo_clips import TRANSFORMS
from tenclip_training.omni.stills import StillClips
from tenclip_video.spec import ClipSpec
from tests.benchmarks.bench_decode import seconds_of, write_video

SPEC = ClipSpec(num_frames=16)
# The spread of real clips at a stride of 4 frames.
MOTION = Motion(overall=HomographyGaussian(free_entries(IDENTITY), np.diag([0.02**2] * 8)))
CLIPS = 10  # in one measurement


def dataset(sample: Path, transform: Any = None, *, cached: bool = False) -> ClipDataset:
    manifest = Manifest(source=sample, samples=(Sample(path=sample, name=sample.name, labels=("a",)),), labels=("a",))
    stills = None if transform is None else StillClips(spec=SPEC, transform=transform, motion=MOTION)
    made = ClipDataset(manifest, SPEC, Augmentation(flip=True), seed=0, stills=stills)
    if cached:
        made.fill_cache(10**9, threads=1)
    return made


def measure(folder: Path) -> list[dict[str, Any]]:
    videos = {g: write_video(folder / f"{g}.mp4", seconds=10, keyframe_interval=g) for g in (250, 30)}
    image = folder / "image.jpg"
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (38, 50, 3)).astype(np.uint8)
    Image.fromarray(cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)).save(image, quality=90)
    epoch = count(1)

    def clips_of(data: ClipDataset) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CLIPS):
                assert isinstance(data[next(epoch), 0], tuple)

        return run

    work = {}
    for cached in (False, True):
        where = ", cached" if cached else ""
        for gap, video in videos.items():
            work[f"video, keyframe every {gap}{where}"] = clips_of(dataset(video, cached=cached))
        for transform in TRANSFORMS[:-1]:
            work[f"image, {transform}{where}"] = clips_of(dataset(image, transform, cached=cached))
    taken = seconds_of(work)
    decoded = {c: taken[f"video, keyframe every 30{', cached' if c else ''}"] for c in (False, True)}
    return [
        {"clip": name, "ms": 1000 * taken[name] / CLIPS, "against_video": decoded["cached" in name] / taken[name]}
        for name in work
    ]


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_warp", description="Clips of images.")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return {"clips": rows}
    table = Table(title="a clip of 16x128x171, cropped to 112, one thread", title_justify="left")
    table.add_column("clip of")
    for column in ("ms", "times as fast as a video's, keyframe every 30"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["clip"], f"{row['ms']:.2f}", f"{row['against_video']:.2f}")
    Console().print(table)
    return {"clips": rows}


if __name__ == "__main__":
    main(sys.argv[1:])
