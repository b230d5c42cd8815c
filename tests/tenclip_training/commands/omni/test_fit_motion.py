"""`tenclip omni fit-motion` as users run it, and training with what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tenclip_training.omni.motion import read_motion
from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of


def test_from_videos_to_a_run_on_warped_images(run: Run, pans: Path, web: Path) -> None:
    motion = web.parent / "motion.json"
    found = json_of(run("omni", "fit-motion", pans, "--out", motion, "--json"))
    assert (found["pairs"], found["homographies"], found["rejected"]) == (32, 32, {})
    assert (found["videos"], found["videos_failed"]) == (5, 1)
    assert found["clips"]["held"] == 0
    (failure,) = map(json.loads, Path(found["failures"]).read_text().splitlines())
    assert (failure["video"], failure["reason"]) == ("zoom/text.mp4", "NOT_A_VIDEO")
    mean = read_motion(motion).overall.mean.reshape(-1)
    np.testing.assert_allclose(mean[[0, 2, 4]], [1.0075, 0.0125, 1.0075], atol=0.002)
    arguments = ["--images", "warp", "--motion", motion, "-a", "r2plus1d_10", "--width", 4, "--frames", 4]
    arguments += ["--resize", "24x32", "--crop", 16, "--epochs", 1, "--held-out", 0.3, "--max-failures", 0.3]
    trained = json_of(run("train", web, "--out", web.parent / "run", *arguments, "--json"))
    assert trained["completed"]
    assert trained["evaluation"]["videos_decoded"] >= 2


def test_in_words_and_for_classes(run: Run, pans: Path) -> None:
    out = pans.parent / "m.json"
    (pans / "zoom" / "text.mp4").unlink()
    code, printed, _ = run("omni", "fit-motion", pans, "--out", out, "--per-class", "--stride", 2)
    assert code == 0
    assert "32 homographies of 32 pairs of frames, 4 of 4 videos" in printed
    assert "classes with too few, for which that of all stands in: 2" in printed
    assert "drawn again" in printed
    assert read_motion(out).sampling == {"frame_stride": 2, "target_fps": None}
    assert not out.with_name("m.json.failures.jsonl").exists()


def test_labels_are_not_needed(run: Run, pans: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(pans.rglob("[01].mp4"))):
        path.rename(flat / f"{i}.mp4")
    (tmp_path / "list.txt").write_text("flat/0.mp4\nflat/2.mp4\n")
    for source, videos in ((flat, 4), (tmp_path / "list.txt", 2)):
        found = json_of(run("omni", "fit-motion", source, "--out", tmp_path / "m.json", "--json"))
        assert (found["videos"], found["homographies"]) == (videos, 8 * videos)
    assert "no videos in class-named" in error_of(
        run("omni", "fit-motion", flat, "--out", tmp_path / "c.json", "--per-class")
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], "none: no such manifest or folder"),
        (["web"], "web: holds no videos"),
        (["web", "--per-class"], "no videos in class-named sub-folders"),
        (["broken"], "no homography was found between 0 pairs of frames of 1 videos; 1 videos could not be read"),
        (["videos", "--split", "val"], "no video in split 'val'"),
        (["videos", "--fps", "0"], "target_fps must be positive"),
    ],
)
def test_what_cannot_be_fitted(
    run: Run, pans: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(pans.parent)
    (pans.parent / "broken" / "a").mkdir(parents=True)
    (pans.parent / "broken" / "a" / "text.mp4").write_text("no video")
    (pans.parent / "web" / "a").mkdir(parents=True)
    (pans.parent / "web" / "a" / "a.jpg").write_text("")
    assert says in error_of(run("omni", "fit-motion", *arguments, "--out", "m.json"))
    assert not Path("m.json").exists()
