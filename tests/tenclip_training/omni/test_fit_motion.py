"""Homographies of videos, and the Gaussian that is fitted to them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Sample
from tenclip_training.omni import fit_motion as module
from tenclip_training.omni.camera_motion import MIN_INLIERS, Features, estimate_homography
from tenclip_training.omni.fit_motion import FitRules, PairsJob, find_pairs, fit_motion
from tenclip_training.omni.homographies import HomographyGaussian, free_entries, from_entries
from tenclip_training.omni.motion import Motion, read_motion, write_motion
from tests.tenclip_training.curation.helpers import write_frames
from tests.tenclip_training.omni.helpers import camera_frames, camera_video, shift, textured, zoom


def sample(path: Path, label: str = "a", **part: float) -> Sample:
    return Sample(path=path, name=path.name, labels=(label,), **part)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pans(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], HomographyGaussian]:
    """Six videos of 20 steps drawn from a known Gaussian: pans to the right that shake and zoom a little."""
    deviations = np.array([0.01, 0.004, 0.03, 0.004, 0.01, 0.03, 0.004, 0.004])
    truth = HomographyGaussian(free_entries(shift(0.02)), np.diag(deviations**2))
    folder = tmp_path_factory.mktemp("pans")
    rng = np.random.default_rng(3)
    paths, drawn = [], []
    for i in range(6):
        steps = [truth.sample(rng) for _ in range(20)]
        paths.append(camera_video(folder / f"{i}.mp4", i, steps))
        drawn += steps
    return paths, HomographyGaussian.fit(drawn)


@pytest.mark.parametrize("features", ["lk", "orb"])
def test_a_known_move_is_found(features: Features) -> None:
    truth = from_entries(free_entries(zoom(1.05)) + np.array([0, 0.02, 0.06, -0.02, 0, -0.03, 0.01, 0.005]))
    first, second = camera_frames(1, [truth], height=240, width=320)
    before, after = (np.asarray(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), np.uint8) for f in (first, second))
    found = estimate_homography(before, after, features)
    assert found.reason is None
    assert found.matrix is not None
    assert found.inliers >= MIN_INLIERS
    np.testing.assert_allclose(found.matrix, truth, atol=0.01)


def test_frames_without_a_homography_say_why() -> None:
    flat = np.full((120, 160), 90, np.uint8)
    assert estimate_homography(flat, flat).reason == "few-features"
    assert estimate_homography(flat, flat, "orb").reason == "few-features"
    one, other = (np.asarray(cv2.cvtColor(textured(s, 240, 320), cv2.COLOR_RGB2GRAY), np.uint8) for s in (1, 2))
    assert estimate_homography(one, other, "orb").matrix is None
    far = np.asarray(cv2.warpPerspective(one, np.diag([1.6, 1.6, 1.0]), (320, 240)), np.uint8)
    assert estimate_homography(one, far, "orb").reason in ("area", "few-inliers")


def test_the_moves_of_generated_pans_come_back(pans: tuple[list[Path], HomographyGaussian]) -> None:
    """Within 5% of what was drawn, as the size of the moves goes."""
    paths, truth = pans
    result = fit_motion([sample(p) for p in paths], FitRules(pairs=20))
    fitted = result.motion.overall
    assert (result.pairs, fitted.count, result.rejected) == (120, 120, {})
    assert result.motion.sampling == {"frame_stride": 1, "target_fps": None}
    size = np.sqrt(np.diag(truth.covariance))
    np.testing.assert_allclose(fitted.mean, truth.mean, atol=0.05 * size.max())
    for entry in (0, 2, 4, 5):  # zooms and shifts; a shear of .004 is a third of a pixel
        assert np.sqrt(fitted.covariance[entry, entry]) == pytest.approx(size[entry], rel=0.05)


def test_the_result_does_not_hang_on_the_workers(pans: tuple[list[Path], HomographyGaussian]) -> None:
    samples = [sample(p) for p in pans[0]]
    one, two = (fit_motion(samples, FitRules(pairs=4), workers=n).motion.overall for n in (1, 2))
    np.testing.assert_array_equal(one.covariance, two.covariance)
    np.testing.assert_array_equal(one.mean, two.mean)


def test_a_stride_is_between_the_frames_of_a_pair(tmp_path: Path) -> None:
    path = camera_video(tmp_path / "pan.mp4", 1, [shift(0.02)] * 12)
    for stride in (1, 3):
        pairs = find_pairs(PairsJob(sample=sample(path), rules=FitRules(frame_stride=stride)))
        assert np.mean([m[0, 2] for m in pairs.matrices]) == pytest.approx(0.02 * stride, rel=0.05)
    slow = find_pairs(PairsJob(sample=sample(path), rules=FitRules(target_fps=8.0)))
    assert np.mean([m[0, 2] for m in slow.matrices]) == pytest.approx(0.06, rel=0.05)


def test_classes_and_those_with_too_few(
    pans: tuple[list[Path], HomographyGaussian], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_OF_CLASS", 8)
    samples = [sample(p, "often" if i < 4 else "rare") for i, p in enumerate(pans[0][:5])]
    result = fit_motion(samples, FitRules(pairs=4), per_class=True)
    assert {label: g.count for label, g in result.motion.classes.items()} == {"often": 16}
    assert result.small_classes == {"rare": 4}
    assert result.motion.of("often").count == 16
    assert result.motion.of("rare") is result.motion.of(None) is result.motion.overall


def test_what_has_no_homographies_is_counted(tmp_path: Path) -> None:
    plain = write_frames(tmp_path / "plain.mp4", np.full((12, 48, 64, 3), 99, np.uint8))
    short = write_frames(tmp_path / "short.mp4", textured(1)[None])
    (tmp_path / "text.mp4").write_text("no video")
    samples = [sample(plain), sample(short), sample(tmp_path / "text.mp4")]
    with pytest.raises(DatasetError, match=r"8 pairs|9 pairs") as caught:
        fit_motion(samples, FitRules())
    for says in ("few-features 8", "too-short 1", "1 videos could not be read", "text.mp4", "replicated"):
        assert says in str(caught.value)
    still = fit_motion(samples, FitRules(on_failure="identity"))
    np.testing.assert_allclose(still.motion.overall.mean, free_entries(np.eye(3)))
    assert still.rejected == {"few-features": 8, "too-short": 1}
    assert [f.reason for f in still.failures] == ["NOT_A_VIDEO"]
    good = camera_video(tmp_path / "pan.mp4", 1, [shift(0.02)] * 12)
    mixed = fit_motion([*samples, sample(good), sample(good, start_seconds=99.0)], FitRules())
    assert mixed.motion.overall.count == 8
    assert mixed.rejected["no-frames"] == 1


def test_a_motion_file_reads_back(tmp_path: Path) -> None:
    gaussian = HomographyGaussian.fit([zoom(1.1), shift(0.1), np.eye(3)])
    motion = Motion(overall=gaussian, classes={"a": HomographyGaussian.still()}, sampling={"frame_stride": 2})
    write_motion(tmp_path / "m.json", motion, {"videos": 3})
    read = read_motion(tmp_path / "m.json")
    np.testing.assert_array_equal(read.overall.covariance, gaussian.covariance)
    np.testing.assert_array_equal(read.of("a").covariance, np.zeros((8, 8)))
    assert (read.sampling, read.overall.count) == ({"frame_stride": 2}, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("tenclip-motion 1", "motion 9"), "its format is not"),
        (('"overall"', '"all"'), "lacks 'overall'"),
        (('"mean": [', '"mean": [0, '), r"not \(9,\)"),
        (("{", "[", 1), "is no motion file"),
    ],
)
def test_a_damaged_motion_file(tmp_path: Path, change: tuple[str, ...], says: str) -> None:
    path = tmp_path / "m.json"
    write_motion(path, Motion(overall=HomographyGaussian.fit([zoom(1.1), np.eye(3)])))
    path.write_text(path.read_text().replace(*change))  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=says) as caught:
        read_motion(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DatasetError, match="no such motion file"):
        read_motion(tmp_path / "none.json")
