"""I3D-R50, C2D, SlowFast and X3D of two code bases, number by number against networks in their authors' layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders import load_public_checkpoint

from .helpers import assert_same_function, load, save, trained
from .reference import mmaction2, pytorchvideo, slowfast, x3d
from .test_families import random_clips

K = 7


@pytest.mark.parametrize(
    ("kind", "family", "architecture"),
    [
        ("c2d", "mmaction2-c2d-8x8", "mmaction2_c2d_r50"),
        ("i3d", None, "mmaction2_i3d_r50"),
    ],
)
def test_mmaction2(kind: str, family: str | None, architecture: str, tmp_path: Path) -> None:
    reference = trained(mmaction2.Recognizer(kind, 4, (2, 2, 1, 3), num_classes=K))
    loaded = load(save(tmp_path / "w.pth", reference, lambda state: {"state_dict": state}), family)
    assert loaded.model.architecture == architecture
    for frames, side in ((8, 64), (16, 97)):  # an odd side: C2D's first pool has no padding
        assert_same_function(loaded, reference, random_clips(2, 3, frames, side, side))


def test_mmaction2_i3d_heavy(tmp_path: Path) -> None:
    """All blocks inflated and no stride in time in the stem, which no weight shows."""
    reference = trained(mmaction2.Recognizer("i3d-heavy", 4, (2, 2, 1, 2), num_classes=K))
    path = save(tmp_path / "w.pth", reference)
    options = {"stem_time_stride": 1, "pool_time_stride": 1}
    loaded = load_public_checkpoint(path, model_options=options)
    assert_same_function(loaded, reference, random_clips(1, 3, 8, 64, 64))
    assert "heavy" in " ".join(load(path).provenance["notes"])
    assert "heavy" not in " ".join(loaded.provenance["notes"])


@pytest.mark.parametrize("kind", ["c2d", "i3d"])
def test_pytorchvideo_pools_in_a_block_of_its_own(kind: str, tmp_path: Path) -> None:
    reference = trained(pytorchvideo.Net(kind, 4, (1, 2, 3, 2), num_classes=K))
    assert "blocks.6.proj.weight" in reference.state_dict()
    loaded = load(save(tmp_path / "w.pyth", reference, lambda state: {"model_state": state}))
    assert loaded.model.architecture == f"pytorchvideo_{kind}_r50"
    assert loaded.provenance["preset"] == f"pytorchvideo-{kind}-8x8"
    assert_same_function(loaded, reference, random_clips(1, 3, 8, 256, 256))


@pytest.mark.parametrize(
    ("kernel", "alpha", "preset"),
    [(7, 4, "pytorchvideo-slowfast-8x8"), (5, 8, "pytorchvideo-slowfast-4x16")],
)
def test_pytorchvideo_slowfast(kernel: int, alpha: int, preset: str, tmp_path: Path) -> None:
    reference = trained(slowfast.PytorchvideoSlowFast(8, (1, 2, 1, 1), kernel=kernel, alpha=alpha, num_classes=K))
    loaded = load(save(tmp_path / "w.pyth", reference, lambda state: {"model_state": state}))
    assert loaded.provenance["preset"] == preset
    assert f"taken for {preset}" in loaded.provenance["notes"][1]
    assert (loaded.clip_spec.num_frames, loaded.clip_spec.frame_stride) == (32, 2)
    if kernel == 7:  # whole; the other is compared on fewer frames, for which it is made anew
        assert_same_function(loaded, reference, random_clips(1, 3, 32, 256, 256))
        return
    of_16 = slowfast.PytorchvideoSlowFast(8, (1, 2, 1, 1), kernel=kernel, alpha=alpha, frames=16, num_classes=K)
    of_16.load_state_dict(reference.state_dict())
    loaded = load_public_checkpoint(tmp_path / "w.pyth", clip_spec={"num_frames": 16})
    assert_same_function(loaded, of_16, random_clips(1, 3, 16, 256, 256))


def test_pytorchvideo_slowfast_16x8_looks_over_time_in_some_blocks(tmp_path: Path) -> None:
    layers, times = (1, 1, 7, 1), (3,) * 3 + (1,) * 4
    reference = trained(slowfast.PytorchvideoSlowFast(8, layers, kernel=5, frames=16, times=times, num_classes=K))
    loaded = load(save(tmp_path / "w.pyth", reference))
    assert loaded.model.architecture == "pytorchvideo_slowfast_r101"
    assert loaded.provenance["preset"] == "pytorchvideo-slowfast-16x8"
    assert (loaded.clip_spec.num_frames, loaded.model.pool_size) == (64, (64 // 4, 7, 7))
    shorter = load_public_checkpoint(tmp_path / "w.pyth", clip_spec={"num_frames": 16})
    assert_same_function(shorter, reference, random_clips(1, 3, 16, 224, 224))


@pytest.mark.parametrize(
    ("kernel", "alpha", "fast", "preset"),
    [
        (7, 4, (1, 2, 1, 1), "mmaction2-slowfast-8x8"),
        (5, 8, (1, 1, 1, 1), "mmaction2-slowfast-4x16"),  # as R101 with R50: another depth in the fast pathway
    ],
)
def test_mmaction2_slowfast(kernel: int, alpha: int, fast: tuple[int, ...], preset: str, tmp_path: Path) -> None:
    reference = trained(slowfast.MMAction2SlowFast(8, (1, 2, 1, 1), fast, kernel=kernel, alpha=alpha, num_classes=K))
    loaded = load(save(tmp_path / "w.pth", reference, lambda state: {"state_dict": state}))
    assert loaded.provenance["preset"] == preset
    assert_same_function(loaded, reference, random_clips(2, 3, 32, 64, 64))


def test_slowfast_takes_other_numbers_of_frames_in_multiples_of_alpha(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", trained(slowfast.MMAction2SlowFast(8, num_classes=K)))
    assert load_public_checkpoint(path, clip_spec={"num_frames": 16}).model.config["num_frames"] == 16
    with pytest.raises(CheckpointError, match=r"w\.pth: num_frames must be a multiple of alpha \(4\), got 30"):
        load_public_checkpoint(path, clip_spec={"num_frames": 30})


@pytest.mark.parametrize(("size", "frames", "crop", "test_crop"), [("s", 13, 160, 182), ("m", 16, 224, 256)])
def test_pytorchvideo_x3d(size: str, frames: int, crop: int, test_crop: int, tmp_path: Path) -> None:
    """The softmax of each position is averaged, as in the authors' network."""
    reference = trained(x3d.PytorchvideoX3D(8, (1, 2, 3, 1), frames=frames, crop=crop, hidden=32, num_classes=K))
    loaded = load(save(tmp_path / "w.pyth", reference, lambda s: {"model_state": s}), f"pytorchvideo-x3d-{size}")
    clips = random_clips(1, 3, frames, test_crop, test_crop)
    assert loaded.clip_spec.crop == test_crop
    assert loaded.model(clips)[0].shape == (1, K, 4)
    assert_same_function(loaded, reference, clips, positions=lambda logits: logits.softmax(1).mean(2))


def test_x3d_of_one_shape_must_be_chosen(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pyth", x3d.PytorchvideoX3D(8, frames=4, crop=160, num_classes=K))
    with pytest.raises(CheckpointError, match=r"x3d-xs .*; pytorchvideo-x3d-s .*; pytorchvideo-x3d-m "):
        load(path)
    deep = save(tmp_path / "l.pyth", x3d.PytorchvideoX3D(4, (1, 1, 12, 1), frames=16, crop=312, num_classes=K))
    assert load(deep).provenance["preset"] == "pytorchvideo-x3d-l"


def test_mmaction2_x3d(tmp_path: Path) -> None:
    reference = trained(x3d.MMAction2X3D(8, (1, 2, 3, 1), hidden=32, num_classes=K))
    loaded = load(save(tmp_path / "w.pth", reference, lambda s: {"state_dict": s}), "mmaction2-x3d-s")
    assert (loaded.clip_spec.crop, loaded.clip_spec.mean[0]) == (182, 114.75)
    assert_same_function(loaded, reference, random_clips(2, 3, 13, 96, 96))


WHOLE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    # parameters as the authors state them, in millions
    "pytorchvideo C2D 24.33": (lambda: pytorchvideo.Net("c2d", 64, (3, 4, 6, 3)), 24_327_632),
    "pytorchvideo I3D 28.04": (lambda: pytorchvideo.Net("i3d", 64, (3, 4, 6, 3)), 28_043_472),
    "pytorchvideo SlowFast R50 34.57": (lambda: slowfast.PytorchvideoSlowFast(64, (3, 4, 6, 3)), 34_566_488),
    "pytorchvideo X3D-M 3.79": (lambda: x3d.PytorchvideoX3D(24, (3, 5, 11, 7), frames=16, crop=224), 3_794_274),
    "MMAction2 X3D-M": (lambda: x3d.MMAction2X3D(24, (3, 5, 11, 7)), 3_794_322),
}


@pytest.mark.parametrize("title", sorted(WHOLE))
def test_references_have_as_many_weights_as_their_authors_state(title: str) -> None:
    make, parameters = WHOLE[title]
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == parameters


def test_c2d_and_tsn_are_other_networks_with_the_same_tensors(tmp_path: Path) -> None:
    """The silent error of taking one for the other: equal names and shapes, other logits."""
    path = save(tmp_path / "w.pth", trained(mmaction2.Recognizer("c2d", 4, num_classes=K)))
    c2d, tsn = load(path, "mmaction2-c2d-8x8").model, load(path, "mmaction2-tsn-8x8").model
    clips = random_clips(1, 3, 8, 64, 64)
    with torch.no_grad():
        apart = (c2d(clips)[0] - tsn(clips)[0]).norm() / c2d(clips)[0].norm()
    assert apart > 0.02
