"""Images among the samples of a run: the dataset, training and validation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.manifest import read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.omni.homographies import HomographyGaussian
from tenclip_training.omni.motion import Motion, write_motion
from tenclip_training.omni.stills import StillClips, still_clips
from tenclip_training.omni.stills_config import StillsConfig
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train
from tests.tenclip_training.conftest import SPEC
from tests.tenclip_training.omni.helpers import shift, textured, zoom


def write_motion_file(path: Path, *, stride: int = 1, classes: bool = False) -> Path:
    overall = HomographyGaussian.fit([zoom(1.02), shift(0.05), shift(-0.02, 0.02)])
    still = {"still": HomographyGaussian.still()} if classes else {}
    write_motion(path, Motion(overall=overall, classes=still, sampling={"frame_stride": stride, "target_fps": None}))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """still/ and other/, 6 pictures each of several formats and sizes; one is text."""
    for label, seed in (("still", 0), ("other", 100)):
        (tmp_path / "web" / label).mkdir(parents=True)
        for i, suffix in enumerate(("jpg", "png", "webp", "JPEG", "bmp", "tiff")):
            Image.fromarray(textured(seed + i, 40 + 7 * i, 60)).save(tmp_path / "web" / label / f"{i}.{suffix}")
    (tmp_path / "web" / "other" / "text.jpg").write_text("no picture")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / "web" / "other" / "pixel.png")
    return tmp_path / "web"


def test_manifests_take_images_where_asked(pictures: Path) -> None:
    with pytest.raises(DatasetError, match="training takes pictures with --images"):
        read_manifest(pictures)
    manifest = read_manifest(pictures, images=True, held_out=None)
    assert len(manifest.samples) == 14
    assert all(s.is_image for s in manifest.samples)
    table = pictures / "all.csv"
    table.write_text("path,label\nstill/0.jpg,a\nother/1.png,b\n")
    assert len(read_manifest(table, images=True, held_out=None).samples) == 2
    with pytest.raises(DatasetError, match=r"'still/0\.jpg' is a picture"):
        read_manifest(table)
    table.write_text("still/0.jpg a b\nother/1.png 3\n")
    assert [s.labels for s in read_manifest(table, images=True, held_out=None).samples] == [("a b",), ("3",)]
    table.write_text("path,label,start_seconds,end_seconds\nstill/0.jpg,a,0,1\n")
    with pytest.raises(DatasetError, match="has no start and end"):
        read_manifest(table, images=True)


def test_images_and_videos_in_one_dataset(pictures: Path, action_videos: Path) -> None:
    table = pictures.parent / "mixed.csv"
    video = next(action_videos.parent.rglob("*.mp4"))
    table.write_text(
        f"path,label\nweb/still/0.jpg,still\n{video},other\nweb/other/text.jpg,other\nweb/other/pixel.png,still\n"
    )
    manifest = read_manifest(table, images=True, held_out=None)
    motion = write_motion_file(pictures.parent / "m.json")
    stills = still_clips(StillsConfig(images="warp", motion=str(motion)), SPEC)
    dataset = ClipDataset(manifest, SPEC, Augmentation(flip=True, brightness=0.2), seed=3, stills=stills)
    clips = [dataset[epoch, i] for epoch in (1, 2) for i in range(4)]
    assert isinstance(clips[2], Failure)
    assert clips[2].reason == "NOT_AN_IMAGE"
    for i in (0, 1, 3):
        made = clips[i]
        assert isinstance(made, TrainingClip)
        assert (made.frames.shape, made.target.sum(), made.damage) == ((4, 16, 16, 3), 1, None)
    assert (clips[0][0] != clips[4][0]).any()  # type: ignore[index]  # another epoch
    failures = dataset.fill_cache(10**8, threads=2)
    assert [f.reason for f in failures] == ["NOT_AN_IMAGE"]
    for draw, clip in zip([(e, i) for e in (1, 2) for i in range(4)], clips, strict=True):
        cached = dataset[draw]
        if isinstance(clip, Failure):
            assert cached == clip
        else:
            np.testing.assert_array_equal(cached[0], clip[0])  # type: ignore[index]


@pytest.mark.parametrize("images", ["replicate", "translate-constant", "translate-random"])
def test_frames_of_images_have_the_size_of_frames_of_videos(pictures: Path, images: str) -> None:
    stills = StillClips(spec=SPEC, transform=images)  # type: ignore[arg-type]
    (sample, *_) = read_manifest(pictures, images=True, held_out=None).samples
    assert stills.clip(stills.read(sample), sample, np.random.default_rng(0)).shape == (4, 24, 32, 3)


def test_a_class_moves_as_its_videos_do(pictures: Path) -> None:
    motion = write_motion_file(pictures.parent / "m.json", classes=True)
    stills = still_clips(StillsConfig(images="warp-class", motion=str(motion)), SPEC)
    assert stills is not None
    samples = read_manifest(pictures, images=True, held_out=None).samples
    moves = {}
    for sample in (samples[0], samples[-1]):
        clip = stills.clip(stills.read(sample), sample, np.random.default_rng(0))
        moves[sample.labels[0]] = bool((clip[0] != clip[-1]).any())
    assert moves == {"still": False, "other": True}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"images": "warp"}, "needs motion"),
        ({"images": "replicate", "motion": "m.json"}, "motion is used where images are warped"),
        ({"motion": "m.json"}, "images is None"),
        ({"images": "spin"}, "images"),
    ],
)
def test_settings_that_contradict(values: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        StillsConfig(**values)  # type: ignore[arg-type]


def test_a_motion_of_other_clips_is_refused(tmp_path: Path) -> None:
    motion = write_motion_file(tmp_path / "m.json", stride=4)
    with pytest.raises(InvalidRequest, match=r"fitted to frames at stride 4 .* fit-motion` with --stride 1"):
        still_clips(StillsConfig(images="warp", motion=str(motion)), SPEC)
    write_motion_file(motion)
    with pytest.raises(InvalidRequest, match="--per-class"):
        still_clips(StillsConfig(images="warp-class", motion=str(motion)), SPEC)
    with pytest.raises(DatasetError, match="no such motion file"):
        still_clips(StillsConfig(images="warp", motion=str(tmp_path / "none.json")), SPEC)


def test_a_motion_that_goes_astray_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = HomographyGaussian(HomographyGaussian.still().mean, 0.3**2 * np.eye(8))
    write_motion(tmp_path / "m.json", Motion(overall=away, sampling={"frame_stride": 1, "target_fps": None}))
    still_clips(StillsConfig(images="warp", motion=str(tmp_path / "m.json")), SPEC)
    assert "drawn again" in caplog.text


Change = Callable[[TrainConfig], TrainConfig]


@pytest.mark.parametrize("images", ["replicate", "warp"])
def test_training_on_images(pictures: Path, train_config: TrainConfig, images: str) -> None:
    """Validation takes them as clips that stand still."""
    motion = str(write_motion_file(pictures.parent / "m.json")) if images == "warp" else None
    config = dataclasses.replace(
        train_config, manifest=str(pictures), held_out=0.3, max_failures=0.2, epochs=2, val_every=2
    ).changed(images=images, motion=motion, warmup_epochs=0.5)
    result = train(config)
    assert result.completed
    assert result.evaluation is not None
    assert result.evaluation.videos_decoded >= 3
    assert [f.reason for f in result.failures if f.video.endswith("text.jpg")] in (["NOT_AN_IMAGE"], [])
    written = json.loads((Path(config.out) / "config.json").read_text())
    assert written["stills"] == {"images": images, "motion": motion}


def test_a_run_goes_on_with_the_motion_that_it_began_with(pictures: Path, train_config: TrainConfig) -> None:
    motion = write_motion_file(pictures.parent / "m.json")
    config = dataclasses.replace(
        train_config, manifest=str(pictures), held_out=0.3, max_failures=0.2, epochs=2, val_every=2
    ).changed(images="warp", motion=str(motion), warmup_epochs=0.5)
    whole = train(config)
    weights = load_checkpoint(whole.last).weights_sha256
    assert train(config, resume=True).completed
    assert load_checkpoint(whole.last).weights_sha256 == weights
    write_motion_file(motion, classes=True)
    with pytest.raises(CheckpointError, match=r"cannot be resumed: the motion file .*m\.json changed"):
        train(config, resume=True)


def test_frame_based_pretraining_on_images(pictures: Path, train_config: TrainConfig) -> None:
    """R2D on single frames (IG-65M, section 4.3.2: images and frames)."""
    spec = dataclasses.replace(SPEC, num_frames=1)
    config = dataclasses.replace(
        train_config,
        manifest=str(pictures),
        architecture="r2d_18",
        clip_spec=spec,
        held_out=0.3,
        max_failures=0.2,
        epochs=2,
        val_every=2,
    ).changed(images="replicate")
    result = train(config)
    assert result.completed
    assert result.evaluation is not None
    assert result.evaluation.video_top1.total >= 3
