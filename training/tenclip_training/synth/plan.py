"""Which videos there will be: `plan_videos(config)` draws each one's facts, without rendering anything."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.motions import CLASSES, SPEEDS
from tenclip_training.synth.scene import BACKGROUNDS, SHAPES, TEXTURES
from tenclip_training.synth.tags import draw_tags

# What fills the rest of an untrimmed video: nothing, aimless wandering, or light that comes and goes.
IDLE_KINDS: Final = ("still", "wander", "flicker")
TICKS_PER_SECOND: Final = 30_000  # clock of variable-frame-rate files; MPEG-4 part 2 allows 65,535 at most


@dataclass(frozen=True, kw_only=True)
class VideoSpec:
    """One video: all that `render` needs. Nothing but `label` depends on the class."""

    path: str  # relative to the manifest
    label: str
    split: str
    width: int
    height: int
    frame_rate: Fraction
    ticks: tuple[int, ...]  # presentation time of each frame, in units of time_base
    time_base: Fraction
    duration: float  # seconds, to the end of the last frame
    start: float  # seconds: the action fills [start, end)
    end: float
    trimmed: bool
    speed: str
    objects: int
    shape: str
    texture: str
    background: str
    idle: str  # one of IDLE_KINDS
    clutter: int
    distractors: int
    camera_shake: float
    tags: tuple[str, ...]
    seed: int
    key: tuple[int, int]  # (class, index): spawn key of everything that is drawn for this video

    @property
    def variable_frame_rate(self) -> bool:
        return self.time_base != 1 / self.frame_rate

    @property
    def times(self) -> NDArray[np.float64]:
        """[N] presentation times in seconds, ascending, the first one 0."""
        return np.asarray(self.ticks, np.float64) * float(self.time_base)


def plan_videos(config: SynthConfig) -> list[VideoSpec]:
    """Every video of `config`, in the order of the manifest: by class, split and index.

    A video's draws hang on (seed, class, index) alone, so neither other classes nor the number of videos change it.
    """
    return [
        _plan_video(config, label, split, index)
        for position, label in enumerate(config.class_names)
        for index, split in enumerate(_splits_of_class(config, position))
    ]


def split_counts(count: int, splits: tuple[tuple[str, float], ...]) -> dict[str, int]:
    """`count` videos shared out by the largest remainder.

    >>> split_counts(10, (("train", 0.75), ("test", 0.25)))
    {'train': 8, 'test': 2}
    """
    exact = [count * fraction for _, fraction in splits]
    shares = [int(e + 1e-9) for e in exact]
    by_remainder = sorted(range(len(splits)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return {name: share for (name, _), share in zip(splits, shares, strict=True)}


def long_tail_count(count: int, position: int, num_classes: int, factor: float) -> int:
    """Videos of the class at `position`: `count` for the first, count / factor for the last, exponential in between
    (the profile of long-tailed CIFAR: Cui et al., "Class-Balanced Loss", 2019, section 5.1). At least one.

    >>> [long_tail_count(100, k, 3, 100.0) for k in range(3)]
    [100, 10, 1]
    """
    share: float = factor ** (-position / max(num_classes - 1, 1))
    return max(1, round(count * share))


def _splits_of_class(config: SynthConfig, position: int) -> list[str]:
    counts = split_counts(config.videos_per_class, config.splits)
    first = config.splits[0][0]  # the training split; only it is long-tailed, so that accuracies stay comparable
    if counts[first]:
        counts[first] = long_tail_count(counts[first], position, config.num_classes, config.long_tail)
    return [name for name, count in counts.items() for _ in range(count)]


def _plan_video(config: SynthConfig, label: str, split: str, index: int) -> VideoSpec:
    key = (CLASSES.index(label), index)
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(*key, 0)))
    rate = Fraction(config.frame_rates[rng.integers(len(config.frame_rates))]).limit_denominator(1001)
    count = max(2, round(rng.uniform(*config.seconds) * rate))
    ticks, time_base, duration = _frame_ticks(count, rate, rng, variable=rng.random() < config.variable_frame_rate)
    start, end = _action(duration, config.untrimmed, rng)
    return VideoSpec(
        path=f"videos/{label}/{label}_{index:05d}.mp4",
        label=label,
        split=split,
        width=config.width,
        height=config.height,
        frame_rate=rate,
        ticks=ticks,
        time_base=time_base,
        duration=duration,
        start=start,
        end=end,
        trimmed=config.untrimmed is None,
        speed=_pick(tuple(SPEEDS), rng),
        objects=int(rng.integers(config.objects[0], config.objects[1] + 1)),
        shape=_pick(SHAPES, rng),
        texture=_pick(TEXTURES, rng),
        background=_pick(BACKGROUNDS, rng),
        idle=_pick(IDLE_KINDS, rng),
        clutter=int(rng.integers(config.clutter + 1)),
        distractors=int(rng.integers(config.distractors + 1)),
        camera_shake=config.camera_shake,
        tags=draw_tags(label, config.class_names, config.noisy_tags, rng) if config.noisy_tags else (),
        seed=config.seed,
        key=key,
    )


def _frame_ticks(
    count: int, rate: Fraction, rng: np.random.Generator, *, variable: bool
) -> tuple[tuple[int, ...], Fraction, float]:
    """(presentation times, their unit, duration in seconds) of `count` frames."""
    if not variable:
        return tuple(range(count)), 1 / rate, float(count / rate)
    # Intervals between 0.6 and 1.4 of the nominal one, as phones record in changing light.
    intervals = np.rint(rng.uniform(0.6, 1.4, size=count) * TICKS_PER_SECOND / float(rate)).astype(np.int64)
    ends = np.cumsum(intervals)
    return (0, *(int(t) for t in ends[:-1])), Fraction(1, TICKS_PER_SECOND), float(ends[-1]) / TICKS_PER_SECOND


def _action(duration: float, part: tuple[float, float] | None, rng: np.random.Generator) -> tuple[float, float]:
    if part is None:
        return 0.0, duration
    length = duration * rng.uniform(*part)
    start = rng.uniform(0, duration - length)
    return round(start, 3), round(start + length, 3)


def _pick(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[rng.integers(len(names))]
