"""`tenclip omni preview` as users run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenclip_training.commands.omni.preview import Transforms
from tenclip_training.omni.homographies import HomographyGaussian
from tenclip_training.omni.motion import Motion, write_motion
from tenclip_training.omni.pseudo_clips import TRANSFORMS
from tests.tenclip_training.commands.curate.helpers import Run, error_of
from tests.tenclip_training.omni.helpers import coarse, shift


def test_the_choices_are_the_transforms() -> None:
    assert tuple(Transforms) == TRANSFORMS


def test_a_row_for_each_transform(run: Run, tmp_path: Path) -> None:
    Image.fromarray(coarse(1)).save(tmp_path / "a.jpg")
    motion = tmp_path / "m.json"
    write_motion(motion, Motion(overall=HomographyGaussian.fit([shift(0.1), shift(0.2)])))
    code, printed, _ = run(
        "omni", "preview", tmp_path / "a.jpg", "--motion", motion, "--frames", 3, "--out", tmp_path / "p.png"
    )
    assert (code, printed.strip()) == (0, str(tmp_path / "p.png"))
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (3 * (128 + 4), 4 * (96 + 4 + 14))
        rows = np.asarray(picture)
    still = rows[14 : 14 + 96]
    assert np.array_equal(still[:, :128], still[:, 132:260])
    warped = rows[3 * 114 + 14 : 3 * 114 + 110]
    assert not np.array_equal(warped[:, :128], warped[:, 132:260])
    code, _, _ = run("omni", "preview", tmp_path / "a.jpg", "--images", "replicate", "--out", tmp_path / "p.webp")
    assert code == 0
    with Image.open(tmp_path / "p.webp") as picture:
        assert picture.format == "WEBP"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.jpg", "--images", "warp"], "warp: there is no --motion to warp by"),
        (["a.jpg", "--motion", "none.json"], "no such motion file"),
        (["text.jpg"], "no image in a format that tenclip reads"),
        (["none.jpg"], "no such file"),
    ],
)
def test_what_cannot_be_shown(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(coarse(1)).save("a.jpg")
    Path("text.jpg").write_text("no picture")
    assert says in error_of(run("omni", "preview", *arguments, "--out", "p.png"))
    assert "a picture is written as" in error_of(run("omni", "preview", "a.jpg", "--out", "p.gif"))
