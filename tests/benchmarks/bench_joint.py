"""The loader of joint training against that of a single source, at equal batches: clips a CPU second, taking turns.

    python -m tests.benchmarks.bench_joint [--json]

12 clips a batch of 16x112x112 from videos of 340x256, without workers: from one manifest; from three of the same videos
at 2:1:1, by the joint sampler and dataset; and the order of draws alone, of sources as large as the paper's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from tenclip_data.samples import Manifest, Sample
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, Collate
from tenclip_training.data.joint import JointCollate, JointDataset, JointSampler, source_seed
from tenclip_training.data.samplers import DrawSampler
from tenclip_video.spec import ClipSpec
from tests.benchmarks.bench_decode import write_video

SPEC = ClipSpec()
BATCH, SIZES = 12, (6, 3, 3)
BATCHES, ROUNDS = 6, 5
# Kinetics-400, web images and web videos of OmniSource.
LARGE = (240_000, 3_500_000, 500_000)


def sampler(count: int, source: int = 0) -> DrawSampler:
    return DrawSampler(num_samples=count, batch_size=BATCH, epochs=10**6, seed=source_seed(0, source))


def joint(counts: tuple[int, ...]) -> JointSampler:
    sources = tuple(sampler(count, i) for i, count in enumerate(counts))
    return JointSampler(sources=sources, batch_sizes=SIZES, epochs=10**6)


def measure(folder: Path) -> dict[str, Any]:
    paths = [write_video(folder / f"{i}.mp4", seconds=4, keyframe_interval=30) for i in range(4)]
    manifest = Manifest(
        source=folder,
        samples=tuple(Sample(path=p, name=p.name, labels=("a",)) for p in paths * 6),
        labels=("a",),
    )
    datasets = [ClipDataset(manifest, SPEC, Augmentation(flip=True), seed=source_seed(0, i)) for i in range(3)]
    collate, count = Collate(SPEC, 1), len(manifest.samples)
    single: DataLoader[Any] = DataLoader(datasets[0], batch_sampler=sampler(count), collate_fn=collate)
    three: DataLoader[Any] = DataLoader(
        JointDataset(datasets), batch_sampler=joint((count,) * 3), collate_fn=JointCollate(collate)
    )
    loaders = {"one source": iter(single), "three at 2:1:1": iter(three)}
    for batches in loaders.values():
        next(batches)
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(ROUNDS):
        for name in sorted(loaders, reverse=bool(turn % 2)):
            began = time.process_time()
            for batch in islice(loaders[name], BATCHES):
                assert len(batch.clips) == BATCH
            seconds[name].append(time.process_time() - began)
    rates = {name: BATCH * BATCHES / statistics.median(values) for name, values in seconds.items()}
    ratios = [a / b for a, b in zip(seconds["one source"], seconds["three at 2:1:1"], strict=True)]
    return {
        "clips_per_cpu_second": rates,
        "joint_against_single": statistics.median(ratios),
        "microseconds_a_draw": {
            "one source": draw_microseconds(sampler(LARGE[0])),
            "three at 2:1:1": draw_microseconds(joint(LARGE)),
        },
    }


def draw_microseconds(order: Any) -> float:
    """Over the first 2,000 batches, with what it takes to begin."""
    began = time.process_time()
    draws = sum(len(batch) for batch in islice(iter(order), 2000))
    return 1e6 * (time.process_time() - began) / draws


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_joint", description="The joint loader.")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return found
    table = Table(title=f"batches of {BATCH} clips of 16x112x112, one process", title_justify="left")
    for column in ("loader", "clips a CPU second", "microseconds a draw"):
        table.add_column(column, justify="left" if column == "loader" else "right")
    for name, rate in found["clips_per_cpu_second"].items():
        table.add_row(name, f"{rate:.1f}", f"{found['microseconds_a_draw'][name]:.1f}")
    console = Console()
    console.print(table)
    console.print(f"joint against single: {found['joint_against_single']:.3f}")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
