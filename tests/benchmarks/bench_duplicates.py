"""Near-duplicates: what is found of copies made in ten ways, and what matching 100,000 videos costs.

    python -m tests.benchmarks.bench_duplicates [--json]

1. Precision and recall. Half of the generated videos are targets, the others are strangers. Each target is copied in
   every way, and the copies and the strangers are the source. Recall: of the copies made in this way, how many are
   found. Precision: of the pairs found with such a copy, or with any, how many are of a copy and its own target.
2. The two ways to make 64 dimensions of a census transform: how near copies come, and how near strangers.
3. 100,000 source videos of 10 s against 2,000 target videos of 10 s: generated codes of smooth pictures, with scenes
   that change slowly, of which 500 sources hold 2 to 10 s of a target with up to 5 bits of noise a frame.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from tenclip_client.cli.output import output_console
from tenclip_training.curation.census import census_histogram, codes_of_grids, frame_codes
from tenclip_training.curation.code_store import CodeStore, CodeTable
from tenclip_training.curation.duplicates import DuplicateRules, find_duplicates
from tenclip_training.curation.video_sets import read_set
from tenclip_training.synth import SynthConfig, generate
from tenclip_training.synth.encode import available_encoder, write_video
from tenclip_video.cpus import usable_cpus
from tenclip_video.spec import Resize
from tenclip_video.video import open_video

Frames = NDArray[np.uint8]
NUM_VIDEOS = 32
FPS = 24
SOURCES, TARGETS, FRAMES, PLANTED = 100_000, 2_000, 160, 500
NOISE_BITS = 5
# The least that a planted source holds of its target is 2 of 10 s; as the least share it is given beside the default.
MUCH = 0.2


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_duplicates", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        copies = measure_copies(Path(folder))
    results = {
        "copies": copies,
        "codes": measure_codes(),
        "scale": [measure_scale(SOURCES, flips=0), measure_scale(SOURCES // 10, flips=1)],
    }
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        _print(results)
    return results


# -- precision and recall --


def measure_copies(folder: Path) -> list[dict[str, Any]]:
    """A line for each way of copying, with and without looking for mirrored copies; the last one is of all ways."""
    targets, strangers = make_videos(folder)
    source = folder / "source"
    source.mkdir()
    expected: dict[str, str] = {}
    for target in targets:
        frames = read(target)
        for name, change in CHANGES.items():
            copy = f"{name} of {target.name}"
            write(source / copy, change(frames, read(strangers[len(expected) % len(strangers)])), crf=CRF.get(name, 18))
            expected[copy] = target.name
    for stranger in strangers:
        stranger.rename(source / f"stranger of {stranger.name}")
    source_set, _ = read_set(source)
    target_set, _ = read_set(targets[0].parent)
    store = CodeStore(folder / "codes")
    began = time.perf_counter()
    store.update([*source_set, *target_set], workers=usable_cpus())
    seconds = time.perf_counter() - began
    source_codes, target_codes = store.read(source_set)[0], store.read(target_set)[0]
    decoded = (len(source_codes.codes) + len(target_codes.codes)) / 16
    lines: list[dict[str, Any]] = []
    for mirrors in (False, True):
        report = find_duplicates(source_codes, target_codes, rules=DuplicateRules(mirrors=mirrors))
        found = [(p.source, p.target) for p in report.pairs]
        for name in (*CHANGES, "stranger", "all"):
            made = [c for c in expected if name in ("all", c.rpartition(" of ")[0])]
            pairs = [p for p in found if name in ("all", p[0].rpartition(" of ")[0])]
            right = {s for s, t in pairs if expected.get(s) == t}
            lines.append(
                {
                    "change": name,
                    "mirrors": mirrors,
                    "copies": len(made),
                    "recall": len(right) / len(made) if made else None,
                    "pairs": len(pairs),
                    "precision": sum(expected.get(s) == t for s, t in pairs) / len(pairs) if pairs else None,
                }
            )
    lines.append({"videos": len(source_set) + len(target_set), "seconds_of_video": decoded, "code_seconds": seconds})
    return lines


def make_videos(folder: Path) -> tuple[list[Path], list[Path]]:
    """(targets, strangers): generated videos of 4 to 6 s."""
    config = SynthConfig(
        num_classes=8,
        videos_per_class=NUM_VIDEOS // 8,
        width=192,
        height=144,
        seconds=(4.0, 6.0),
        frame_rates=(float(FPS),),
        variable_frame_rate=0.0,
        seed=11,
    )
    manifest = generate(config, folder / "made", workers=usable_cpus())
    videos = sorted((manifest.parent / "videos").rglob("*.mp4"))
    target = folder / "target"
    target.mkdir()
    targets = []
    for video in videos[::2]:
        targets.append(target / video.name)
        video.rename(targets[-1])
    return targets, videos[1::2]


def read(path: Path) -> Frames:
    with open_video(path) as video:
        frames: Frames = video.read_frames(np.arange(video.info.num_frames), Resize(mode="none"))
        return frames


def write(path: Path, frames: Frames, *, crf: int) -> None:
    rate = Fraction(FPS)
    write_video(
        path,
        frames,
        ticks=range(len(frames) + 1),
        time_base=1 / rate,
        frame_rate=rate,
        encoder=available_encoder(),
        crf=crf,
    )


def scaled(frames: Frames, width: int, height: int) -> Frames:
    return np.stack(
        [np.asarray(cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA), np.uint8) for f in frames]
    )


def cropped(frames: Frames, part: float) -> Frames:
    height, width = frames.shape[1:3]
    top, left = round(height * (1 - part) / 2), round(width * (1 - part) / 2)
    inner: Frames = frames[:, top : height - top, left : width - left]
    return scaled(inner, width, height)


def letterboxed(frames: Frames) -> Frames:
    return np.pad(frames, ((0, 0), (24, 24), (0, 0), (0, 0)))


def boxed_beside(frames: Frames) -> Frames:
    """Beside a blurred copy of itself, as upright videos are shown."""
    wide = scaled(frames, 96, 144)
    behind = np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), 12), np.uint8) for f in frames])
    behind[:, :, 48:144] = wide
    return behind


def with_logo(frames: Frames) -> Frames:
    marked = frames.copy()
    marked[:, 8:28, 140:184] = (250, 250, 250)
    return marked


def in_longer(frames: Frames, other: Frames) -> Frames:
    """2 s of the target within 20 s of something else."""
    around = np.concatenate([other] * (1 + 10 * FPS // len(other)))[: 9 * FPS]
    return np.concatenate([around, frames[: 2 * FPS], around[::-1]])


def graded(frames: Frames) -> Frames:
    return np.asarray(np.clip(frames.astype(np.float32) * 0.8 + 25, 0, 255), np.uint8)


CRF = {"re-encoded, crf 40": 40}
CHANGES: dict[str, Callable[[Frames, Frames], Frames]] = {
    "re-encoded, crf 40": lambda f, _: f,
    "rescaled to half": lambda f, _: scaled(f, 96, 72),
    "squeezed to 144x144": lambda f, _: scaled(f, 144, 144),
    "brightness, contrast": lambda f, _: graded(f),
    "trimmed to the middle 1 s": lambda f, _: f[len(f) // 2 - FPS // 2 : len(f) // 2 + FPS // 2],
    "2 s within 20 s": in_longer,
    "12 frames a second": lambda f, _: np.repeat(f[::2], 2, axis=0),
    "1.25 times as fast": lambda f, _: f[np.arange(0, len(f), 1.25).astype(int)],
    "letterboxed": lambda f, _: letterboxed(f),
    "logo in a corner": lambda f, _: with_logo(f),
    "cropped to 97%": lambda f, _: cropped(f, 0.97),
    "cropped to 90%": lambda f, _: cropped(f, 0.9),
    "cropped to 75%": lambda f, _: cropped(f, 0.75),
    "blurred sides": lambda f, _: boxed_beside(f),
    "mirrored": lambda f, _: f[:, :, ::-1],
    "turned by 90 degrees": lambda f, _: np.rot90(f, axes=(1, 2)).copy(),
    "backwards": lambda f, _: f[::-1],
}


# -- 64 dimensions of a census transform --


def measure_codes(count: int = 60) -> dict[str, float]:
    """How far copies and strangers are apart, by both ways, over smooth random pictures of 240x320."""
    rng = np.random.default_rng(5)
    pictures = [
        np.asarray(
            cv2.resize(rng.uniform(0, 255, (9, 12)), (320, 240), interpolation=cv2.INTER_CUBIC).clip(0, 255), np.uint8
        )
        for _ in range(count)
    ]

    def square(picture: Frames) -> Frames:
        return np.asarray(cv2.resize(picture, (112, 112), interpolation=cv2.INTER_AREA), np.uint8)

    def codes_and_histograms(stack: list[Frames]) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        squares = np.stack([square(p) for p in stack])
        return frame_codes(squares)[0], np.stack([census_histogram(p) for p in squares])

    copies = {
        "half_size": [np.asarray(cv2.resize(p, (160, 120), interpolation=cv2.INTER_AREA), np.uint8) for p in pictures],
        "noisy": [np.asarray((p + rng.normal(0, 4, p.shape)).clip(0, 255), np.uint8) for p in pictures],
    }
    codes, histograms = codes_and_histograms(pictures)
    others = np.triu_indices(count, 1)
    bits, cosines = np.bitwise_count(codes[:, None] ^ codes[None])[others], (histograms @ histograms.T)[others]
    results = {
        "pictures": float(count),
        "bits_strangers_min": float(bits.min()),
        "bits_strangers_mean": float(bits.mean()),
        "cosine_strangers_max": float(cosines.max()),
    }
    for name, stack in copies.items():
        their_codes, their_histograms = codes_and_histograms(stack)
        results[f"bits_{name}_max"] = float(np.bitwise_count(codes ^ their_codes).max())
        results[f"cosine_{name}_min"] = float((histograms * their_histograms).sum(axis=1).min())
    return results


# -- scale --


def measure_scale(sources: int, *, flips: int) -> dict[str, Any]:
    rng = np.random.default_rng(17)
    target, source = made_up_codes(rng, TARGETS), made_up_codes(rng, sources)
    planted = plant(rng, source, target)
    codes_gib = peak_gib()
    began = time.perf_counter()
    report = find_duplicates(source, target, rules=DuplicateRules(flips=flips))
    seconds = time.perf_counter() - began
    found = {(p.source, p.target) for p in report.pairs}
    much = {(p.source, p.target) for p in report.pairs if p.match.source_share >= MUCH}
    return {
        "flips": flips,
        "source_videos": sources,
        "target_videos": TARGETS,
        "source_codes": len(source.codes),
        "target_codes": len(target.codes),
        "seconds": seconds,
        "candidates": report.candidates,
        "pairs": len(found),
        "recall": len(found & planted) / len(planted),
        "precision": len(found & planted) / len(found),
        "recall_of_much": len(much & planted) / len(planted),
        "precision_of_much": len(much & planted) / len(much),
        "codes_gib": codes_gib,
        "peak_gib": peak_gib(),
    }


def made_up_codes(rng: np.random.Generator, videos: int) -> CodeTable:
    """Codes of videos of 4 scenes: a smooth random picture each, whose code changes by a bit in every third frame."""
    scenes = 4
    codes = np.empty((videos, FRAMES), np.uint64)
    for begin in range(0, videos, 5000):
        part = codes[begin : begin + 5000]
        first = smooth_codes(rng, len(part) * scenes).reshape(len(part), scenes, 1)
        bits = np.uint64(1) << rng.integers(0, 64, (len(part), scenes, FRAMES // scenes), np.uint64)
        changes = np.where(rng.random(bits.shape) < 1 / 3, bits, np.uint64(0))
        part[:] = (first ^ np.bitwise_xor.accumulate(changes, axis=2)).reshape(len(part), FRAMES)
    return CodeTable(
        names=tuple(f"{videos}-{i}" for i in range(videos)),
        codes=codes.ravel(),
        flat=np.zeros(codes.size, np.bool_),
        starts=np.arange(videos + 1, dtype=np.int64) * FRAMES,
        start_seconds=np.zeros(videos),
    )


def smooth_codes(rng: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """Codes of pictures that are random values on a 5x5 grid, with straight lines between."""
    at = np.linspace(0, 4, 8)
    up = np.maximum(1 - np.abs(at[:, None] - np.arange(5)[None, :]), 0).astype(np.float32)  # [8,5]
    values = rng.random((count, 5, 5), np.float32)
    return codes_of_grids(up @ values @ up.T)


def plant(rng: np.random.Generator, source: CodeTable, target: CodeTable) -> set[tuple[str, str]]:
    """Write 2 to 10 s of a target with noise into 500 sources; the pairs."""
    pairs = set()
    for s in rng.choice(len(source), PLANTED, replace=False):
        t, length = int(rng.integers(TARGETS)), int(rng.integers(2 * 16, FRAMES + 1))
        at, of = (int(rng.integers(FRAMES - length + 1)) for _ in range(2))
        copied = target.codes[target.starts[t] + of :][:length]
        bits = np.uint64(1) << rng.integers(0, 64, (NOISE_BITS, length), np.uint64)
        noise = np.where(rng.random(bits.shape) < 0.5, bits, np.uint64(0))
        source.codes[source.starts[s] + at :][:length] = copied ^ np.bitwise_xor.reduce(noise, axis=0)
        pairs.add((source.names[s], target.names[t]))
    return pairs


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _print(results: dict[str, Any]) -> None:
    console = output_console()
    table = Table(title="copies found, without and with --mirrors", title_justify="left")
    for column in ("change", "copies", "recall", "precision", "recall, mirrors", "precision, mirrors"):
        table.add_column(column, justify="left" if column == "change" else "right")
    lines = [line for line in results["copies"] if "change" in line]
    for plain, mirrors in zip(lines[: len(lines) // 2], lines[len(lines) // 2 :], strict=True):
        cells = [_share(line[name]) for line in (plain, mirrors) for name in ("recall", "precision")]
        table.add_row(plain["change"], str(plain["copies"]), *cells)
    console.print(table)
    cost = results["copies"][-1]
    console.print(
        f"{cost['videos']} videos, {cost['seconds_of_video']:.0f} s in all: codes in {cost['code_seconds']:.1f} s"
    )
    codes = results["codes"]
    console.print(
        f"bits that differ: copies of half the size at most {codes['bits_half_size_max']:.0f}, noisy ones "
        f"{codes['bits_noisy_max']:.0f}, strangers at least {codes['bits_strangers_min']:.0f}\n"
        f"cosine of histograms: copies of half the size at least {codes['cosine_half_size_min']:.4f}, noisy ones "
        f"{codes['cosine_noisy_min']:.4f}, strangers at most {codes['cosine_strangers_max']:.4f}"
    )
    table = Table(title=f"made-up codes against those of {TARGETS:,} videos, 10 s each", title_justify="left")
    names = ("recall", "precision", f"recall, {MUCH:.0%} or more", f"precision, {MUCH:.0%} or more")
    for column in ("source videos", "--flips", "seconds", "candidates", "pairs", *names, "peak GiB"):
        table.add_column(column, justify="right")
    for line in results["scale"]:
        table.add_row(
            f"{line['source_videos']:,}",
            str(line["flips"]),
            f"{line['seconds']:.1f}",
            f"{line['candidates']:,}",
            f"{line['pairs']:,}",
            _share(line["recall"]),
            _share(line["precision"]),
            _share(line["recall_of_much"]),
            _share(line["precision_of_much"]),
            f"{line['peak_gib']:.2f}",
        )
    console.print(table)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


if __name__ == "__main__":
    main(sys.argv[1:])
