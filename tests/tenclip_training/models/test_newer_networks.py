"""C2D, I3D-R50, SlowFast and X3D: what their authors published, and what is particular to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tenclip_training.models import create_model
from tenclip_training.models.cost import count_macs, count_parameters
from tenclip_training.models.slowfast import slow_frame_indices
from tenclip_training.models.x3d import round_width

from .helpers import small


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """Nothing is trained here, and keeping what gradients need takes longer than the networks."""
    with torch.no_grad():
        yield


TIMES_16X8 = {"slow_times": (1, 1, (*[3] * 6, *[1] * 17), 3), "fast_times": (3, 3, (*[3] * 6, *[1] * 17), 3)}


@pytest.mark.parametrize(
    ("name", "frames", "crop", "config", "gflops", "millions"),
    [
        # pytorchvideo's model zoo
        ("pytorchvideo_c2d_r50", 8, 256, {}, 25.89, 24.33),
        ("pytorchvideo_i3d_r50", 8, 256, {}, 37.53, 28.04),
        ("pytorchvideo_slowfast_r50", 32, 256, {"alpha": 8, "fusion_kernel": 5}, 36.69, 34.48),
        ("pytorchvideo_slowfast_r101", 32, 256, {}, 127.20, 62.83),
        ("pytorchvideo_x3d_xs", 4, 182, {}, 0.91, 3.79),
        ("pytorchvideo_x3d_s", 13, 182, {}, 2.96, 3.79),
        ("pytorchvideo_x3d_m", 16, 256, {}, 6.72, 3.79),
    ],
)
def test_published_cost_with_five_for_each_output_of_a_batch_norm(
    name: str, frames: int, crop: int, config: dict[str, Any], gflops: float, millions: float
) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=400, **config)
    normalised = 0

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal normalised
        normalised += output.numel()

    for part in model.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.register_forward_hook(count)
    macs = count_macs(model, num_frames=frames, crop=crop)
    assert round((macs + 5 * normalised) / 1e9, 2) == gflops
    assert round(count_parameters(model) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        ("pytorchvideo_slowfast_r50", {}, 34_566_488),
        ("pytorchvideo_slowfast_r101", TIMES_16X8, 53_774_808),
        ("pytorchvideo_x3d_l", {}, 6_153_384),
        ("mmaction2_x3d_m", {}, 3_794_322),
        ("mmaction2_c2d_r50", {}, 24_327_632),
        ("mmaction2_slowfast_r50", {}, 34_565_560),
    ],
)
def test_weights(name: str, config: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(create_model(name, num_classes=400, **config)) == parameters


@given(frames=st.integers(1, 300), alpha=st.integers(1, 16))
def test_frames_of_the_slow_pathway_are_those_of_linspace(frames: int, alpha: int) -> None:
    if frames < alpha:
        return
    expected = torch.linspace(0, frames - 1, frames // alpha).long().tolist()
    assert slow_frame_indices(frames, alpha, "linspace") == expected
    assert slow_frame_indices(frames, alpha, "stride") == list(range(0, frames // alpha * alpha, alpha))


def test_slow_frames_of_the_two_code_bases_differ() -> None:
    model = small("pytorchvideo_slowfast_r50", width=16)
    other = small("pytorchvideo_slowfast_r50", width=16, slow_frames="stride")
    other.load_state_dict(model.state_dict())
    clips = torch.randn(1, 3, 8, 64, 64)
    assert (model(clips)[0] - other(clips)[0]).norm() > 0.01 * model(clips)[0].norm()
    # A still has the same frames everywhere.
    still = clips[:, :, :1].expand_as(clips)
    torch.testing.assert_close(model(still), other(still))


def test_features_of_the_fast_pathway_come_last_or_first() -> None:
    model, other = (
        small("pytorchvideo_slowfast_r50", width=16),
        small("pytorchvideo_slowfast_r50", width=16, fast_first=True),
    )
    other.load_state_dict(model.state_dict())
    clips = torch.randn(1, 3, 8, 64, 64)
    features, turned = model(clips)[1], other(clips)[1]
    assert features.shape == (1, 32 * 16 + 32 * 2)
    torch.testing.assert_close(turned, features.roll(32 * 2, dims=1))


def test_refused_configurations() -> None:
    with pytest.raises(ValueError, match=r"num_frames must be a multiple of alpha \(4\), got 30"):
        create_model("pytorchvideo_slowfast_r50", num_classes=2, num_frames=30)
    with pytest.raises(ValueError, match=r"width must be a multiple of beta \(8\), got 12"):
        create_model("pytorchvideo_slowfast_r50", num_classes=2, width=12)
    with pytest.raises(ValueError, match="slow_frames must be one of"):
        create_model("pytorchvideo_slowfast_r50", num_classes=2, slow_frames="random")
    with pytest.raises(ValueError, match="a clip of 9 frames cannot be split into 4"):
        small("pytorchvideo_slowfast_r50")(torch.zeros(1, 3, 9, 64, 64))
    with pytest.raises(ValueError, match="stages must be 4 numbers"):
        create_model("pytorchvideo_x3d_m", num_classes=2, stages=[1, 2])
    with pytest.raises(ValueError, match="clips of 1 frames of 64 pixels are too small"):
        create_model("pytorchvideo_c2d_r50", num_classes=2, num_frames=1, crop=64)


@pytest.mark.parametrize(
    ("name", "frames", "side", "smallest"),
    [
        # C2D pools over two frames, and its stem's pool of 3 pixels is without padding; I3D has strides of 2 and 2 in
        # time before such a pool.
        ("mmaction2_c2d_r50", 1, 64, "2 frames of 5 pixels"),
        ("mmaction2_c2d_r50", 2, 4, "2 frames of 5 pixels"),
        ("mmaction2_i3d_r50", 4, 64, "5 frames of 1 pixels"),
    ],
)
def test_clips_that_do_not_fill_a_pool_are_refused(name: str, frames: int, side: int, smallest: str) -> None:
    message = f"clips of {frames} frames of {side} pixels are too small for this network: it needs at least {smallest}"
    with pytest.raises(ValueError, match=message):
        create_model(name, num_classes=2, num_frames=frames, crop=side)
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        small(name)(torch.zeros(1, 3, frames, side, side))


@pytest.mark.parametrize(("name", "frames", "side"), [("mmaction2_c2d_r50", 2, 5), ("mmaction2_i3d_r50", 5, 1)])
def test_the_smallest_clips_are_taken(name: str, frames: int, side: int) -> None:
    logits, _ = small(name)(torch.zeros(1, 3, frames, side, side))
    assert logits.shape == (1, 5, 1)


@pytest.mark.parametrize("crop", [56, 63, 64, 66, 90, 97, 112])
@pytest.mark.parametrize("frames", [8, 13])
@pytest.mark.parametrize(
    "name", ["mmaction2_c2d_r50", "pytorchvideo_i3d_r50", "mmaction2_i3d_r50", "pytorchvideo_x3d_m"]
)
def test_the_head_is_made_for_maps_of_any_size(name: str, frames: int, crop: int) -> None:
    """Pools without padding drop what does not fill them, so sizes are no simple quotients."""
    with torch.device("meta"):
        # Of one block a layer: the others keep the size of a map.
        config: dict[str, Any] = {"width": 8, "stages": [1, 1, 1, 1]}
        model = create_model(name, num_classes=2, **config, num_frames=frames, crop=crop, head="fixed").eval()
        fmap = model.feature_map(torch.zeros(1, 3, frames, crop, crop))
        assert model.pool_size == fmap.shape[2:]
        assert model(torch.zeros(1, 3, frames, crop, crop))[0].shape == (1, 2, 1)


def test_round_width() -> None:
    assert [round_width(w / 16) for w in (54, 108, 216, 432)] == [8, 8, 16, 32]
    assert round_width(19.9) == 24  # 16 would be more than 10% less


def test_x3d_without_its_hidden_layer_gives_the_pooled_map() -> None:
    model = small("pytorchvideo_x3d_m", hidden=None)
    clips = torch.randn(1, 3, 8, 64, 64)
    torch.testing.assert_close(model(clips)[1], model.feature_map(clips).mean((2, 3, 4)))
