"""Fused networks and networks run in 2D give what the plain ones give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import library, nn

from tenclip_serving.runtimes.torch_ops import conv2d_relu
from tenclip_training.models import VideoModel, create_model
from tenclip_training.models.blocks import Conv3d
from tenclip_training.models.fusion import FusedConv, as_2d, for_inference, fused
from tenclip_training.models.padding import padded
from tests.tenclip_training.models.helpers import distinct_architectures, randomise_batch_norm, small
from tests.tenclip_training.models.test_padding import clips, off


@pytest.mark.parametrize("change", [padded, for_inference])
@pytest.mark.parametrize("name", distinct_architectures())
def test_every_architecture_stays_the_same_function(name: str, change: Callable[[VideoModel], VideoModel]) -> None:
    model = small(name)
    x = clips(int(model.config["crop"]), int(model.config["num_frames"]))
    with torch.inference_mode():
        for actual, expected in zip(change(model)(x), model(x), strict=True):
            assert off(actual, expected) < 1e-5


@pytest.mark.parametrize("name", ["r2plus1d_18", "r2plus1d_34"])
def test_whole_networks_in_both_precisions(name: str) -> None:
    torch.manual_seed(0)
    model = randomise_batch_norm(create_model(name, num_classes=8, num_frames=4, crop=32)).eval()
    with torch.inference_mode():
        exact = model(clips(32, 4))
        for change in (as_2d, for_inference):
            assert max(off(a, b) for a, b in zip(change(model)(clips(32, 4)), exact, strict=True)) < 1e-5
        double, x = model.double(), clips(32, 4, torch.float64)
        expected = double(x)
        for change in (as_2d, for_inference):
            assert max(off(a, b) for a, b in zip(change(double)(x), expected, strict=True)) < 1e-13


def test_nothing_but_convolutions_is_left() -> None:
    """No batch norm and no ReLU runs by itself, and every convolution of R(2+1)D runs in 2D."""
    network = for_inference(small("r2plus1d_18"))
    kinds = [part for part in network.modules() if isinstance(part, nn.BatchNorm3d | nn.ReLU | nn.Conv3d)]
    assert kinds == []
    convolutions = [part for part in network.modules() if isinstance(part, FusedConv)]
    assert {conv.over for conv in convolutions} == {"space", "time", "points"}
    # Shortcuts alone have no ReLU.
    assert {conv.over for conv in convolutions if not conv.relu} == {"points"}


@pytest.mark.parametrize(
    ("kernel", "stride", "over"),
    [
        ((1, 3, 3), (1, 2, 2), "space"),
        ((3, 1, 1), (2, 1, 1), "time"),
        ((1, 1, 1), (2, 2, 2), "points"),
        ((3, 3, 3), (2, 2, 2), "volume"),
    ],
)
@pytest.mark.parametrize("relu", [True, False])
def test_a_convolution_with_norm_and_residual(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], over: str, relu: bool
) -> None:
    torch.manual_seed(0)
    conv = Conv3d(6, 8, kernel, stride, (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2), bias=False).double()
    norm = nn.BatchNorm3d(8).double().eval()
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    nn.init.normal_(norm.weight)
    x = clips(9, 5, torch.float64).repeat(1, 2, 1, 1, 1)
    with torch.no_grad():
        plain = norm(conv(x))
        residual = torch.randn_like(plain)
        expected = plain + residual
        layer = FusedConv(conv, norm, relu=relu)
        assert layer.over == over
        actual = layer(x, residual)
        torch.testing.assert_close(actual, expected.relu() if relu else expected)
        torch.testing.assert_close(layer(x), plain.relu() if relu else plain)


def test_maps_stay_in_channels_last_memory() -> None:
    """Anything else would be copied between layers."""
    network = for_inference(small("r2plus1d_18"))
    layouts: list[bool] = []
    for part in network.modules():
        if isinstance(part, FusedConv):
            part.register_forward_hook(
                lambda m, i, out: layouts.append(out.is_contiguous(memory_format=torch.channels_last_3d))
            )
    with torch.inference_mode():
        network(clips())
    assert layouts
    assert all(layouts)


def test_the_operator_has_the_shapes_that_it_says() -> None:
    """What the exporter relies on."""
    x = torch.randn(2, 4, 9, 9).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(8, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    for residual in (None, torch.randn(2, 8, 5, 5)):
        library.opcheck(
            conv2d_relu(),
            (x, weight, torch.randn(8), residual, [2, 2], [1, 1]),
            test_utils=("test_schema", "test_faketensor"),
        )


def test_networks_that_cannot_be_fused() -> None:
    with pytest.raises(ValueError, match="pytorchvideo_x3d_m is no residual network that can be fused"):
        fused(small("pytorchvideo_x3d_m"))
