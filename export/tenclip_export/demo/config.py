"""What a demo is: where it lies, on which videos, how large."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tenclip_training.synth import SynthConfig

REQUIRED_TOP1 = 0.9  # of generated videos; nobody knows how hard those of a user are
MODEL_NAME = "demo"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """data: a folder of class-named sub-folders (or any manifest that training reads); None generates videos.

    videos: further files to predict, without a label. quick: hardly any videos and hardly any training.
    """

    out: Path
    data: Path | None = None
    videos: tuple[Path, ...] = ()
    quick: bool = False
    seed: int = 0

    @property
    def required_top1(self) -> float | None:
        return None if self.quick or self.data is not None else REQUIRED_TOP1

    @property
    def synth(self) -> SynthConfig:
        """The videos to train on and to be judged by."""
        if self.quick:
            splits = (("train", 0.5), ("val", 0.25), ("test", 0.25))
            return SynthConfig(num_classes=4, videos_per_class=8, splits=splits, seconds=(0.8, 1.2), seed=self.seed)
        splits = (("train", 0.74), ("val", 0.06), ("test", 0.2))
        return SynthConfig(num_classes=8, videos_per_class=100, splits=splits, seed=self.seed)

    @property
    def untrimmed(self) -> SynthConfig:
        """A few longer videos in which the action fills a part: for the page."""
        return SynthConfig(
            num_classes=self.synth.num_classes,
            videos_per_class=1,
            splits=(("untrimmed", 1.0),),
            seconds=(2.0, 3.0) if self.quick else (7.0, 9.0),
            untrimmed=(0.25, 0.4),
            seed=self.seed + 1,
        )
