"""Every architecture of the zoo against what its authors published, and against what all must keep."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tenclip_training.models import ARCHITECTURES, create_model
from tenclip_training.models.blocks import Conv2Plus1d
from tenclip_training.models.cost import cost, count_macs, count_parameters
from tenclip_training.models.resnet import VideoResNet

from .helpers import SMALL, distinct_architectures, small

NAMES = sorted(ARCHITECTURES)
DISTINCT = distinct_architectures()
PUBLISHED_PARAMETERS = [name for name in NAMES if ARCHITECTURES[name].parameters]
PUBLISHED_GMACS = [name for name in NAMES if ARCHITECTURES[name].gmacs]


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    """Nothing is trained here, and keeping what gradients need takes longer than the networks."""
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        model = create_model(name, num_classes=architecture.num_classes)
    assert count_parameters(model) == architecture.parameters


def test_shortcut_a_has_no_weights() -> None:
    with torch.device("meta"):
        model = create_model("resnets3d_r3d_18", num_classes=400, shortcut="A")
    assert count_parameters(model) == 33_235_280


@pytest.mark.parametrize("name", PUBLISHED_GMACS)
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    architecture = ARCHITECTURES[name]
    frames, crop = architecture.gmacs_at
    _, macs = cost(name, num_classes=architecture.num_classes, num_frames=frames, crop=crop)
    decimals = len(str(architecture.gmacs).partition(".")[2])
    assert round(macs / 1e9, decimals) == architecture.gmacs


@pytest.mark.parametrize(
    ("name", "frames", "crop", "gmacs"),
    [
        # VMZ's model zoo counts at the larger crop of its fully convolutional test, whatever its table says.
        ("r2plus1d_152", 32, 128, 329.1),
        ("r2plus1d_34", 32, 128, 199.0),
        ("r2plus1d_34", 8, 128, 49.7),
        ("ir_csn_152", 32, 256, 96.7),
        ("ip_csn_152", 32, 256, 108.8),
    ],
)
def test_multiply_adds_at_larger_crops(name: str, frames: int, crop: int, gmacs: float) -> None:
    _, macs = cost(name, num_classes=400, num_frames=frames, crop=crop)
    assert round(macs / 1e9, 1) == gmacs


@pytest.mark.parametrize(("name", "frames", "gflops"), [("csn_r101", 32, 75.62), ("r2plus1d_r50", 16, 76.45)])
def test_pytorchvideo_counts_five_for_each_output_of_a_batch_norm(name: str, frames: int, gflops: float) -> None:
    with torch.device("meta"):
        model = create_model(f"pytorchvideo_{name}", num_classes=400)
    normalised = 0

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal normalised
        normalised += output.numel()

    for part in model.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.register_forward_hook(count)
    macs = count_macs(model, num_frames=frames, crop=256)
    assert round((macs + 5 * normalised) / 1e9, 2) == gflops


@pytest.mark.parametrize("name", NAMES)
def test_whole_network_gives_one_position_at_its_own_size(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=3).eval()
        frames, crop = model.config["num_frames"], model.config["crop"]
        clips = torch.zeros(2, 3, frames, crop, crop)
    maps: list[Tensor] = []

    def feature_map(clips: Tensor) -> Tensor:
        maps.append(compute_map(clips))
        return maps[-1]

    compute_map, model.feature_map = model.feature_map, feature_map  # type: ignore[method-assign]
    logits, features = model(clips)
    (fmap,) = maps
    # I3D's head pools 2 of its 8 maps in time.
    assert logits.shape == (2, 3, 7 if name == "i3d" else 1)
    assert features.shape == (2, model.feature_dim)
    if model.pool_size is not None and name != "i3d":
        assert fmap.shape[2:] == model.pool_size


STAGE_SHAPES = {
    # (T, side) after stem, layer1..4, from 32 frames of 224 pixels
    "r2plus1d_18": [(32, 112), (32, 112), (16, 56), (8, 28), (4, 14)],
    "torchvision_mc3_18": [(32, 112), (32, 112), (32, 56), (32, 28), (32, 14)],
    "resnets3d_r3d_50": [(16, 56), (16, 56), (8, 28), (4, 14), (2, 7)],
    "resnets3d_r2plus1d_50": [(16, 56), (16, 56), (8, 28), (4, 14), (2, 7)],
    "mmaction2_r2plus1d_34": [(32, 56), (32, 56), (16, 28), (8, 14), (4, 7)],
    "pytorchvideo_r2plus1d_r50": [(32, 112), (32, 56), (32, 28), (16, 14), (8, 7)],
    "ir_csn_50": [(32, 56), (32, 56), (16, 28), (8, 14), (4, 7)],
    "slowonly_r50": [(32, 56), (32, 56), (32, 28), (32, 14), (32, 7)],
    "tsn_r50": [(32, 56), (32, 56), (32, 28), (32, 14), (32, 7)],
}


@pytest.mark.parametrize("name", sorted(STAGE_SHAPES))
def test_shapes_of_every_stage(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=3, num_frames=32, crop=224).eval()
        x = torch.zeros(1, 3, 32, 224, 224)
    assert isinstance(model, VideoResNet)
    shapes, channels = [], []
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        x = model.get_submodule(stage)(x)
        assert x.shape[3] == x.shape[4]
        shapes.append((x.shape[2], x.shape[3]))
        channels.append(x.shape[1])
    up = model.feature_dim // 512
    assert shapes == STAGE_SHAPES[name]
    assert channels == [64, 64 * up, 128 * up, 256 * up, 512 * up]


@pytest.mark.parametrize("name", DISTINCT)
def test_pooled_and_fully_convolutional_heads_agree_at_the_pooled_size(name: str) -> None:
    fixed, pooled = small(name, head="fixed"), small(name, head="global")
    pooled.load_state_dict(fixed.state_dict())
    clips = torch.randn(2, 3, SMALL["num_frames"], SMALL["crop"], SMALL["crop"])
    torch.testing.assert_close(fixed(clips), pooled(clips), rtol=1e-5, atol=1e-5)


def test_mean_head_averages_the_logits_of_the_positions() -> None:
    fixed, mean = small("pytorchvideo_slow_r50", head="fixed"), small("pytorchvideo_slow_r50", head="mean")
    mean.load_state_dict(fixed.state_dict())
    clips = torch.randn(2, 3, 8, 96, 96)
    each, together = fixed(clips), mean(clips)
    assert (each[0].shape, together[0].shape) == ((2, 5, 4), (2, 5, 1))
    torch.testing.assert_close(together[0], each[0].mean(2, keepdim=True))
    torch.testing.assert_close(together[1], each[1])


@pytest.mark.parametrize("name", DISTINCT)
def test_larger_crops_give_more_positions_of_the_same_classifier(name: str) -> None:
    model = small(name, head="fixed")
    assert model.pool_size is not None
    clips = torch.randn(1, 3, SMALL["num_frames"], 96, 96)
    logits, _ = model(clips)
    fmap = model.feature_map(clips)
    _, height, width = model.pool_size
    side = fmap.shape[4] - width + 1
    assert logits.shape == (1, 5, side**2)
    assert side > 1
    corner = fmap[:, :, :, -height:, -width:].mean((2, 3, 4))  # the last position, lower right
    torch.testing.assert_close(logits[:, :, -1], model.fc(model.project(corner[:, None]))[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DISTINCT)
def test_2d_execution_and_rebuilding_change_nothing(name: str) -> None:
    model = small(name)
    clips = torch.randn(1, 3, SMALL["num_frames"], SMALL["crop"], SMALL["crop"])
    again = create_model(name, execution="conv2d", **json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(clips), model(clips), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("r2plus1d_34", {1e-3}),
        ("ir_csn_152", {1e-3}),
        ("i3d", {1e-3}),
        ("torchvision_r2plus1d_18", {1e-5}),
        ("resnets3d_r3d_50", {1e-5}),
        ("pytorchvideo_csn_r101", {1e-5}),
        ("slowonly_r50", {1e-5}),
        ("mmaction2_r2plus1d_34", {1e-3, 1e-5}),
    ],
)
def test_epsilon_of_batch_norms(name: str, eps: set[float]) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=2)
    assert {part.eps for part in model.modules() if isinstance(part, nn.BatchNorm3d)} == eps


def test_mmaction2_has_the_small_epsilon_between_the_halves_only() -> None:
    with torch.device("meta"):
        model = create_model("mmaction2_r2plus1d_34", num_classes=2)
    inner = {name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm3d) and part.eps == 1e-5}
    between = {f"{name}.1" for name, part in model.named_modules() if isinstance(part, Conv2Plus1d)} | {"stem.1"}
    assert inner == between


def test_momentum_is_that_of_torch_and_not_of_caffe2() -> None:
    # VMZ's PyTorch code sets 0.9, which in Caffe2 means what 0.1 means here.
    for name, momentum in (("r2plus1d_18", 0.1), ("i3d", 0.01)):
        with torch.device("meta"):
            model = create_model(name, num_classes=2)
        assert {p.momentum for p in model.modules() if isinstance(p, nn.BatchNorm3d)} == {momentum}


def test_frame_models_average_over_frames() -> None:
    for name in ("tsn_r50", "tsn_efficientnet_lite0"):
        model = small(name, num_frames=1)
        frames = torch.randn(1, 3, 4, 64, 64)
        by_frame = torch.stack([model(frames[:, :, i : i + 1])[0] for i in range(4)])
        torch.testing.assert_close(model(frames)[0], by_frame.mean(0), rtol=1e-4, atol=1e-5)


def test_hidden_layer_of_the_omni_head() -> None:
    model = small("omni_slowonly_r50", hidden=10)
    logits, features = model(torch.randn(2, 3, 8, 64, 64))
    assert (logits.shape, features.shape) == ((2, 5, 1), (2, 10))
    assert features.min() >= 0  # it ends in a ReLU
    assert create_model("omni_slowonly_r50", num_classes=400, width=4).feature_dim == 800


def test_ip_csn_has_no_relu_before_its_depthwise_convolution() -> None:
    with torch.device("meta"):
        middle = create_model("ip_csn_50", num_classes=2).get_submodule("layer1.0.conv2.0")
    assert [type(part).__name__ for part in middle.children()] == ["Conv3d", "BatchNorm3d", "Conv3d"]


def test_refused_configurations() -> None:
    with pytest.raises(ValueError, match="depth must be one of 10, 18"):
        create_model("r2plus1d_18", num_classes=2, depth=26)
    with pytest.raises(ValueError, match="stages must be 4 numbers"):
        create_model("r2plus1d_18", num_classes=2, stages=[2, 2, 2])
    with pytest.raises(ValueError, match="mode must be"):
        create_model("ir_csn_50", num_classes=2, mode="id")
