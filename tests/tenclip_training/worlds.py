"""A small world of web data: a labelled target, web images, web clips and untrimmed videos of the same classes."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tenclip_training.synth import NOUNS, NoisyTags, SynthConfig, WebNoise, generate


@dataclass(frozen=True, kw_only=True)
class WebWorld:
    """Manifests. All have the classes `classes`; web_images and web_clips are a third wrong and a sixth off topic."""

    classes: tuple[str, ...]
    target: Path  # splits train, val and test; all labels right
    web_images: Path  # JPEG files, split train
    web_clips: Path  # trimmed, split train
    untrimmed: Path  # three scenes each, of which one shows the action; split train


def make_web_world(
    folder: Path,
    *,
    classes: tuple[str, ...] = ("move_left", "rotate_clockwise", "zoom_in"),
    nouns: tuple[str, ...] = NOUNS[:6],
    overlap: float = 0.5,
    videos_per_class: int = 8,
    web_images: int = 48,
    web_clips: int = 24,
    untrimmed: int = 6,
    size: tuple[int, int] = (48, 36),
    seed: int = 0,
) -> WebWorld:
    """Makes the files below `folder`, in less than a second of one core; the same arguments make the same files.

    videos_per_class: of the target, half of them for training, a quarter each for val and test. The other numbers are
    totals. Seeds of the parts differ. Clutter is left out, so that a small teacher can tell nouns.
    """
    target = SynthConfig(
        classes=classes,
        nouns=nouns,
        overlap=overlap,
        videos_per_class=videos_per_class,
        splits=(("train", 0.5), ("val", 0.25), ("test", 0.25)),
        width=size[0],
        height=size[1],
        seconds=(0.4, 0.6),
        frame_rates=(20.0, 25.0),
        objects=(1, 2),
        clutter=0,
        seed=seed,
    )
    only_training = (("train", 1.0),)
    noise = WebNoise(wrong=1 / 3, off_topic=1 / 6)
    web = dataclasses.replace(target, splits=only_training, web=noise, noisy_tags=NoisyTags())
    parts = {
        "target": target,
        "images": dataclasses.replace(web, kind="images", total=web_images, source="search", seed=seed + 1),
        "clips": dataclasses.replace(web, total=web_clips, source="clips", seed=seed + 2),
        "untrimmed": dataclasses.replace(
            target,
            splits=only_training,
            total=untrimmed,
            seconds=(3.0, 4.0),
            frame_rates=(12.0,),
            untrimmed=(0.15, 0.2),
            scenes=(3, 3),
            seed=seed + 3,
        ),
    }
    made = {name: generate(config, folder / name, workers=1) for name, config in parts.items()}
    return WebWorld(
        classes=classes,
        target=made["target"],
        web_images=made["images"],
        web_clips=made["clips"],
        untrimmed=made["untrimmed"],
    )


def rows_of(manifest: Path) -> list[dict[str, str]]:
    """Rows of a generated manifest, as text by column."""
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
