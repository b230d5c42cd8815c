"""Clips a second of the training loader, beside what a network takes in training and what other readers give.

    python -m tests.benchmarks.bench_loader [--json]

Two workloads: the demo's (videos of 112x84, r2plus1d_10 of width 16 on 8x56x56) and web videos (340x256, a keyframe
every 250 frames, r2plus1d_18 on 16x112x112). The videos are made on the spot and lie once as files and once in tar
shards. All sides take turns in each round; ratios are medians of those within a round. What a network takes is its
training step alone, on all cores; a loader beside it has to share them, so the CPU time of a clip is measured as well,
of the network on one thread and of the loader without workers. On a busy machine only that means anything.

Other readers get the same frames of the same files, decoded and resized by their own means, one thread, one process,
in CPU seconds: decord, torchcodec, torchvision. Those that are not installed are named.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tenclip_data.manifest import Manifest, Sample
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, Collate
from tenclip_training.data.samplers import DrawSampler
from tenclip_training.data.shards.order import by_shards
from tenclip_training.data.shards.read import read_videos
from tenclip_training.data.shards.write import write_shards
from tenclip_training.models import create_model
from tenclip_training.preprocess import normalise
from tenclip_training.synth import SynthConfig, generate
from tenclip_video.cpus import usable_cpus
from tenclip_video.spec import ClipSpec, Resize
from tests.benchmarks.bench_decode import write_video
from tests.benchmarks.other_readers import OTHERS, Reader, load_reader, ours

ROUNDS = 2
WORKERS = (0, 1, 2)
CLASSES = ("a", "b")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """clips: that a measurement of the loader reads; steps: of the network in one."""

    name: str
    architecture: str
    model: dict[str, Any]
    spec: ClipSpec
    batch_size: int
    clips: int
    steps: int


DEMO = Workload(
    name="112x84, r2plus1d_10 w16, 8x56x56",
    architecture="r2plus1d_10",
    model={"width": 16},
    spec=ClipSpec(num_frames=8, target_fps=15.0, resize=Resize(height=64, width=86), crop=56,
                  fully_convolutional_crop=64),
    batch_size=16,
    clips=128,
    steps=4,
)  # fmt: skip
WEB = Workload(
    name="340x256, r2plus1d_18, 16x112x112",
    architecture="r2plus1d_18",
    model={},
    spec=ClipSpec(),
    batch_size=4,
    clips=24,
    steps=1,
)


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_loader", description="Speed of loading.")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    arguments = parser.parse_args(argv)
    errors = Console(stderr=True)
    readers = {name: load_reader(name) for name in OTHERS}
    absent = {name: reader for name, reader in readers.items() if isinstance(reader, str)}
    present = {name: reader for name, reader in readers.items() if not isinstance(reader, str)}
    results: dict[str, Any] = {"rounds": ROUNDS, "absent": absent, "workloads": []}
    with tempfile.TemporaryDirectory() as folder:
        for workload, make in ((DEMO, make_demo_videos), (WEB, make_web_videos)):
            errors.print(f"{workload.name}: making videos", style="dim")
            manifest = make(Path(folder) / workload.architecture)
            shards = Path(folder) / f"{workload.architecture}-shards"
            write_shards(manifest, shards, videos_per_shard=max(1, len(manifest.samples) // 6))
            sources = {"files": manifest, "shards": read_videos(shards, leaks="allow").split("train")}
            results["workloads"].append(measure(workload, sources, present, lambda t: errors.print(t, style="dim")))
    print(json.dumps(results, indent=2)) if arguments.json else _print(results)
    return results


# -- videos --


def make_demo_videos(folder: Path) -> Manifest:
    """96 videos of the generator."""
    config = SynthConfig(num_classes=8, videos_per_class=12, splits=(("train", 1.0),))
    return read_videos(generate(config, folder, workers=usable_cpus())).split("train")


def make_web_videos(folder: Path) -> Manifest:
    """12 videos of 10 seconds."""
    folder.mkdir()
    first = write_video(folder / "0.mp4", seconds=10, keyframe_interval=250)
    paths = [first, *(folder / f"{i}.mp4" for i in range(1, 12))]
    for path in paths[1:]:
        path.write_bytes(first.read_bytes())
    samples = [Sample(path=p, name=p.name, labels=(CLASSES[i % 2],), split="train") for i, p in enumerate(paths)]
    return Manifest(source=folder, samples=tuple(samples), labels=CLASSES)


# -- measuring --


def measure(
    workload: Workload, sources: dict[str, Manifest], readers: dict[str, Reader], say: Callable[[str], None]
) -> dict[str, Any]:
    say(f"{workload.name}: reading")
    reading = measure_readers(workload, sources["files"], readers)
    cases = [(source, workers, False) for source in sources for workers in WORKERS]
    cases += [("files", workers, True) for workers in WORKERS]
    loaders = {case: Loader(workload, sources[case[0]], *case[1:]) for case in cases}
    network = Network(workload, len(sources["files"].labels))
    taken: list[float] = []
    network_ms: list[float] = []
    given: dict[tuple[str, int, bool], list[float]] = {case: [] for case in cases}
    for number in range(ROUNDS + 1):
        say(f"{workload.name}: round {number} of {ROUNDS}")
        rate = network.clips_per_second()
        with one_thread():
            network_cpu = network.cpu_ms_per_clip()
        rates = {case: loader.clips_per_second() for case, loader in loaders.items()}
        if number:  # the first one warms up
            taken.append(rate)
            network_ms.append(network_cpu)
            for case, value in rates.items():
                given[case].append(value)
    return {
        "workload": workload.name,
        "network_clips_per_second": statistics.median(taken),
        "network_cpu_ms_per_clip": statistics.median(network_ms),
        "loader": [
            {
                "source": source,
                "workers": workers,
                "cached": cached,
                "clips_per_second": statistics.median(given[source, workers, cached]),
                "cpu_ms_per_clip": loaders[source, workers, cached].cpu_ms_per_clip,
                "times_network": statistics.median(
                    g / t for g, t in zip(given[source, workers, cached], taken, strict=True)
                ),
            }
            for source, workers, cached in cases
        ],
        "readers": reading,
    }


class Loader:
    """The loader of a run."""

    def __init__(self, workload: Workload, manifest: Manifest, workers: int, cached: bool) -> None:
        self.workload, self.workers = workload, workers
        self.dataset = ClipDataset(manifest, workload.spec, Augmentation(), seed=0)
        if cached:
            self.dataset.fill_cache(4 << 30, threads=usable_cpus())
        sampler = DrawSampler(num_samples=len(manifest.samples), batch_size=workload.batch_size, epochs=1000, seed=0)
        self.sampler = by_shards(sampler, manifest, window=4)
        self.cpu_ms_per_clip: float | None = None  # of the last measurement, without workers

    def clips_per_second(self) -> float:
        """Of `clips` clips after the first batch, for which workers start."""
        collate = Collate(self.workload.spec, len(self.dataset.manifest.labels))
        loader = DataLoader(self.dataset, batch_sampler=self.sampler, collate_fn=collate, num_workers=self.workers)
        with one_thread():
            batches = iter(loader)
            next(batches)
            start, cpu_start, clips = time.perf_counter(), time.process_time(), 0
            for batch in islice(batches, self.workload.clips // self.workload.batch_size):
                assert not batch.failures
                clips += len(batch.clips)
            seconds = time.perf_counter() - start
            if not self.workers:
                self.cpu_ms_per_clip = 1000 * (time.process_time() - cpu_start) / clips
        del batches, loader
        gc.collect()  # ends the workers
        return clips / seconds


class Network:
    """The training step of a network."""

    def __init__(self, workload: Workload, num_classes: int) -> None:
        spec, self.workload = workload.spec, workload
        self.model = create_model(
            workload.architecture, num_classes=num_classes, num_frames=spec.num_frames, crop=spec.crop, **workload.model
        )
        self.model.set_execution("conv2d")
        self.model.train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        shape = (workload.batch_size, spec.num_frames, spec.crop, spec.crop, 3)
        self.clips = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.targets = torch.zeros(workload.batch_size, dtype=torch.long)

    def clips_per_second(self) -> float:
        """On all cores."""
        start = time.perf_counter()
        self._train(self.workload.steps)
        return self.workload.steps * self.workload.batch_size / (time.perf_counter() - start)

    def cpu_ms_per_clip(self) -> float:
        """Of one step, on as many threads as torch has now."""
        start = time.process_time()
        self._train(1)
        return 1000 * (time.process_time() - start) / self.workload.batch_size

    def _train(self, steps: int) -> None:
        for _ in range(steps):
            logits, _ = self.model(normalise(self.clips, self.workload.spec))
            loss = F.cross_entropy(logits.mean(2), self.targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()


def measure_readers(workload: Workload, manifest: Manifest, readers: dict[str, Reader]) -> list[dict[str, Any]]:
    """Clips a CPU second of each reader, all on the same frames of the same files."""
    spec = workload.spec
    rng = np.random.default_rng(0)
    paths = [manifest.samples[i % len(manifest.samples)].path for i in range(workload.clips // 2)]
    plans = [(path, clip_frames(path, spec, rng)) for path in paths]
    sides: dict[str, Reader] = {"tenclip": ours, **readers}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with one_thread():
        for number in range(ROUNDS + 1):
            for name, read in sides.items():
                start = time.process_time()
                for path, frames in plans:
                    clip = read(path, frames, spec.resize.height, spec.resize.width)
                    assert clip.shape[0] == spec.num_frames, (name, clip.shape)
                if number:
                    seconds[name].append(time.process_time() - start)
    return [
        {
            "reader": name,
            "clips_per_second": len(plans) / statistics.median(seconds[name]),
            "ours_over_it": statistics.median(
                theirs / mine for theirs, mine in zip(seconds[name], seconds["tenclip"], strict=True)
            ),
        }
        for name in sides
    ]


def clip_frames(path: Path, spec: ClipSpec, rng: np.random.Generator) -> Sequence[int]:
    """Consecutive frames from a random place: what every reader can be asked for."""
    from tenclip_video.video import open_video

    with open_video(path) as video:
        first = int(rng.integers(0, video.info.num_frames - spec.num_frames + 1))
    return range(first, first + spec.num_frames)


@contextmanager
def one_thread() -> Iterator[None]:
    """Readers compute on one thread, as in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _print(results: dict[str, Any]) -> None:
    console = Console()
    for found in results["workloads"]:
        table = Table(
            title=f"{found['workload']}: training takes {found['network_clips_per_second']:.2f} clips/s, "
            f"{found['network_cpu_ms_per_clip']:.0f} CPU ms a clip",
            title_justify="left",
        )
        for column in ("videos", "cache", "workers", "clips/s", "times what training takes", "CPU ms a clip"):
            table.add_column(column, justify="left" if column in ("videos", "cache") else "right")
        for row in found["loader"]:
            table.add_row(
                row["source"],
                "on" if row["cached"] else "off",
                str(row["workers"]),
                f"{row['clips_per_second']:.1f}",
                f"{row['times_network']:.2f}",
                "" if row["cpu_ms_per_clip"] is None else f"{row['cpu_ms_per_clip']:.1f}",
            )
        console.print(table)
        table = Table(title="readers on the same frames, one thread, CPU seconds", title_justify="left")
        for column in ("reader", "clips/s", "tenclip over it"):
            table.add_column(column, justify="left" if column == "reader" else "right")
        for row in found["readers"]:
            table.add_row(row["reader"], f"{row['clips_per_second']:.1f}", f"{row['ours_over_it']:.2f}")
        console.print(table)
    for name, why in results["absent"].items():
        console.print(f"not measured: {name}: {why}", highlight=False, markup=False)


if __name__ == "__main__":
    main(sys.argv[1:])
