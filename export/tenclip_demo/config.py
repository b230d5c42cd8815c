"""Settings of a demo: its folder, its videos, its size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tenclip_training.synth import CLASSES, SynthConfig

REQUIRED_TOP1 = 0.9  # of generated videos; nobody knows how hard those of a user are
MODEL_NAME = "demo"
NUM_CLASSES = 8  # of the 16 that the generator knows; the others are for the probe
TRAIN_VAL_TEST = (("train", 0.74), ("val", 0.06), ("test", 0.2))


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
        return self._synth(
            classes=CLASSES[: 4 if self.quick else NUM_CLASSES],
            videos_per_class=8 if self.quick else 125,
            splits=(("train", 0.5), ("val", 0.25), ("test", 0.25)) if self.quick else TRAIN_VAL_TEST,
            seed=self.seed,
        )

    @property
    def unseen(self) -> SynthConfig:
        """Motions that the network is not trained on: for the probe."""
        return self._synth(
            classes=CLASSES[4:6] if self.quick else CLASSES[NUM_CLASSES:],
            videos_per_class=6 if self.quick else 40,
            splits=(("train", 0.5), ("test", 0.5)) if self.quick else (("train", 0.75), ("test", 0.25)),
            seed=self.seed + 1,
        )

    @property
    def untrimmed(self) -> SynthConfig:
        """A few longer videos in which the action fills a part: for the page."""
        return SynthConfig(
            classes=self.synth.class_names[::2],
            videos_per_class=1,
            splits=(("untrimmed", 1.0),),
            seconds=(2.0, 3.0) if self.quick else (7.0, 9.0),
            untrimmed=(0.25, 0.4),
            seed=self.seed + 2,
        )

    def _synth(
        self, *, classes: tuple[str, ...], videos_per_class: int, splits: tuple[tuple[str, float], ...], seed: int
    ) -> SynthConfig:
        return SynthConfig(
            classes=classes,
            videos_per_class=videos_per_class,
            splits=splits,
            seconds=(0.8, 1.2) if self.quick else (1.5, 3.0),
            seed=seed,
        )
