"""SynthConfig: everything that decides which action videos are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tenclip_training.synth.motions import CLASSES

SMALLEST_SIDE = 16  # below it an object is a handful of pixels and H.264 pads more than it codes


@dataclass(frozen=True, kw_only=True)
class NoisyTags:
    """Noise of the hashtags beside the true label, as in weakly labelled social-media video (IG-65M, section 3.1).

    missing: probability that no tag of the true class is there. synonym: probability that a class's tag is written as
    one of its synonyms or inflections. wrong: probability of one more tag, of another class. unrelated: mean number of
    tags that name no class.
    """

    missing: float = 0.2
    synonym: float = 0.4
    wrong: float = 0.3
    unrelated: float = 2.0

    def __post_init__(self) -> None:
        for name in ("missing", "synonym", "wrong"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"noisy_tags.{name} is a probability, got {value}")
        _require(0 <= self.unrelated <= 20, f"noisy_tags.unrelated must lie in 0-20, got {self.unrelated}")


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """Which action videos to make.

    classes: names from CLASSES; empty takes the first `num_classes` of them (8).
    videos_per_class: of the most frequent class, over all splits.
    splits: (name, fraction) pairs that sum to 1.
    seconds: shortest and longest duration. frame_rates: each video draws one; `variable_frame_rate` is the fraction of
    videos whose frames come at irregular times, around that rate.
    objects: fewest and most moving objects, which all do the same action.
    clutter: up to so many motionless things of the same looks; distractors: up to so many that wander aimlessly.
    camera_shake: amplitude as a fraction of the short side; background, clutter and objects move together.
    untrimmed: shortest and longest part of the video, as fractions, that the action fills; None: all of it.
    long_tail: first class's number of training videos over the last one's, exponential in between (1: balanced);
    the other splits stay balanced.
    crf, gop: quality (H.264) and the most frames between two key frames.
    """

    classes: tuple[str, ...] = ()
    num_classes: int = 8
    videos_per_class: int = 120
    splits: tuple[tuple[str, float], ...] = (("train", 0.8), ("test", 0.2))
    width: int = 112
    height: int = 84
    seconds: tuple[float, float] = (1.5, 3.0)
    frame_rates: tuple[float, ...] = (30.0, 25.0, 15.0)
    variable_frame_rate: float = 0.2
    objects: tuple[int, int] = (1, 3)
    clutter: int = 2
    distractors: int = 0
    camera_shake: float = 0.01
    untrimmed: tuple[float, float] | None = None
    long_tail: float = 1.0
    noisy_tags: NoisyTags | None = None
    crf: int = 18
    gop: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classes:
            unknown = [c for c in self.classes if c not in CLASSES]
            _require(not unknown, f"no motion class {', '.join(unknown)}; there are {', '.join(CLASSES)}")
            _require(len(set(self.classes)) == len(self.classes), f"a class is named twice: {', '.join(self.classes)}")
            object.__setattr__(self, "num_classes", len(self.classes))
        most = len(CLASSES)
        _require(2 <= self.num_classes <= most, f"num_classes must lie in 2-{most}, got {self.num_classes}")
        _require(self.videos_per_class >= 1, f"videos_per_class must be at least 1, got {self.videos_per_class}")
        names = [name for name, _ in self.splits]
        _require(len(names) > 0 and len(set(names)) == len(names) and all(names), f"split names {names} must differ")
        _require(
            all(f >= 0 for _, f in self.splits) and abs(sum(f for _, f in self.splits) - 1) < 1e-6,
            f"the fractions of the splits must be positive and sum to 1, got {dict(self.splits)}",
        )
        _require(
            min(self.width, self.height) >= SMALLEST_SIDE and max(self.width, self.height) <= 4096,
            f"size must lie in {SMALLEST_SIDE}-4096 pixels on each side, got {self.width}x{self.height}",
        )
        _range("seconds", self.seconds, 0.1, 3600)
        _require(len(self.frame_rates) > 0, "frame_rates is empty; name at least one, e.g. 30")
        _require(all(1 <= r <= 240 for r in self.frame_rates), f"frame_rates must lie in 1-240, got {self.frame_rates}")
        variable = self.variable_frame_rate
        _require(0 <= variable <= 1, f"variable_frame_rate is a fraction of the videos, got {variable}")
        _range("objects", self.objects, 1, 9)
        _require(0 <= self.clutter <= 50, f"clutter must lie in 0-50, got {self.clutter}")
        _require(0 <= self.distractors <= 9, f"distractors must lie in 0-9, got {self.distractors}")
        _require(0 <= self.camera_shake <= 0.2, f"camera_shake must lie in 0-0.2 short sides, got {self.camera_shake}")
        if self.untrimmed is not None:
            _range("untrimmed", self.untrimmed, 0.01, 1)
        _require(self.long_tail >= 1, f"long_tail is most over fewest videos, at least 1, got {self.long_tail}")
        _require(0 <= self.crf <= 51, f"crf must lie in 0-51, got {self.crf}")
        _require(self.gop >= 1, f"gop must be at least 1, got {self.gop}")
        _require(self.seed >= 0, f"seed must not be negative, got {self.seed}")

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes or CLASSES[: self.num_classes]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the classes spelled out."""
        return {**dataclasses.asdict(self), "classes": list(self.class_names)}


def _range(name: str, pair: tuple[float, float], low: float, high: float) -> None:
    _require(
        len(pair) == 2 and low <= pair[0] <= pair[1] <= high,
        f"{name} must be (least, most) within {low:g}-{high:g}, got {pair}",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
