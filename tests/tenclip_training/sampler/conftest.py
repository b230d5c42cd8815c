"""A world in which a class is a colour that is shown for a second of a grey video, and a bundle that knows colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tenclip_training.sampler.local_teacher import local_teacher
from tenclip_training.sampler.teacher import WindowTeacher
from tests.tenclip_serving.helpers import make_bundle
from tests.tenclip_training.omni.colors import write_table, write_video

CLASSES = ("red", "green", "blue")
SECONDS = 5  # of a video, of which one shows the colour: 8 frames a second


@dataclass(frozen=True, kw_only=True)
class ColorWorld:
    """manifest: split train, and val; columns start and end say where the colour is. bundle: the heavy network's."""

    manifest: Path
    bundle: Path


def write_color_videos(folder: Path, *, train: int, val: int) -> Path:
    rows = []
    for i in range(train + val):
        label, at = CLASSES[i % 3], (i // 3) % SECONDS
        write_video(folder / f"{i:03d}.mp4", [label if s == at else "grey" for s in range(SECONDS)])
        split = "train" if i < train else "val"
        rows.append({"path": f"{i:03d}.mp4", "label": label, "split": split, "start": at, "end": at + 1})
    return write_table(folder / "manifest.csv", rows)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> ColorWorld:
    folder = tmp_path_factory.mktemp("colors")
    manifest = write_color_videos(folder / "videos", train=12, val=24)
    return ColorWorld(manifest=manifest, bundle=make_bundle(folder / "models", "colors"))


@pytest.fixture(scope="session")
def teacher(world: ColorWorld) -> WindowTeacher:
    return local_teacher(str(world.bundle), threads=1)
