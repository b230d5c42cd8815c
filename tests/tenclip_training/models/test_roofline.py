"""The arithmetic of the roofline, and the figures that it gives for the papers' networks."""

from __future__ import annotations

import pytest
import torch

from tenclip_training.models import create_model
from tenclip_training.models.cost import count_macs
from tenclip_training.models.padding import padded
from tenclip_training.models.roofline import Ceilings, ConvLayer, conv_layers, network_floor

# An H200 by its vendor: dense bfloat16, and what a copy reaches of 4.8 TB/s.
H200 = Ceilings(rate=989e12, bandwidth=4.0e12)
# What one reached: a matrix product of 8192 on random numbers, and a copy.
MEASURED = Ceilings(rate=788e12, bandwidth=4.3e12)


@pytest.fixture(scope="module")
def r34() -> list[ConvLayer]:
    with torch.device("meta"):
        return conv_layers(create_model("r2plus1d_34", num_classes=400), num_frames=32, crop=128)


def test_operations_of_a_clip(r34: list[ConvLayer]) -> None:
    assert sum(layer.flop() for layer in r34) == 397_989_904_384
    assert len(r34) == 2 * (1 + 2 * 16) + 3  # pairs of stem and blocks, shortcuts


def test_operations_are_those_of_the_counter(r34: list[ConvLayer]) -> None:
    with torch.device("meta"):
        model = create_model("r2plus1d_34", num_classes=400, num_frames=32, crop=128)
    assert sum(layer.flop() for layer in r34) == 2 * (count_macs(model, num_frames=32, crop=128) - 512 * 400)


def test_the_floor_of_r34_on_an_h200(r34: list[ConvLayer]) -> None:
    """Each convolution touches memory once: 88% of the rate, whatever part of the vendor's rate a machine reaches, as
    long as its memory keeps step: 1,760 clips/s at the 796 TFLOP/s of its best matrix product."""
    floor = network_floor(r34, H200, residuals=False)
    assert floor.share == pytest.approx(0.880, abs=0.0005)
    scale = 796e12 / H200.rate
    slower = network_floor(r34, Ceilings(rate=796e12, bandwidth=H200.bandwidth * scale), residuals=False)
    assert slower.share == pytest.approx(floor.share)
    assert slower.clips_per_second == pytest.approx(1761, abs=2)
    measured = network_floor(r34, MEASURED, residuals=False)
    assert measured.share == pytest.approx(0.939, abs=0.001)
    assert network_floor(r34, MEASURED).share < measured.share, "residuals are read, too"


def test_what_memory_holds(r34: list[ConvLayer]) -> None:
    """The stem, the temporal convolutions of 64 channels, and the strided shortcuts."""
    held = {layer.name for layer in r34 if layer.bound(H200, 16) == "memory"}
    assert {"stem.0", "stem.3", "layer1.0.conv1.0.3", "layer1.2.conv2.0.3"} <= held
    assert all(name.startswith(("stem", "layer1")) or "downsample" in name or name.endswith(".3") for name in held)
    assert all(layer.bound(MEASURED, 16) == "arithmetic" for layer in r34 if layer.name.startswith("layer3.1"))


def test_padding_costs_little(r34: list[ConvLayer]) -> None:
    with torch.device("meta"):
        wide = conv_layers(padded(create_model("r2plus1d_34", num_classes=400)), num_frames=32, crop=128)
    more = sum(layer.flop() for layer in wide) / sum(layer.flop() for layer in r34)
    assert 1.005 < more < 1.01


def test_one_layer_by_hand() -> None:
    layer = ConvLayer(name="x", kernel=(3, 1, 1), stride=(1, 1, 1), groups=1, input=(4, 2, 3, 3), output=(8, 2, 3, 3))
    assert layer.num_weights == 8 * 4 * 3
    assert layer.flop(5) == 2 * 5 * (2 * 3 * 3) * 96
    assert layer.bytes(5) == 2 * (5 * (72 + 144) + 96)
    residual = ConvLayer(**{**vars(layer), "adds_residual": True})
    assert residual.bytes(5, value_bytes=4) == 4 * (5 * (72 + 2 * 144) + 96)
    slow_memory, slow_arithmetic = Ceilings(rate=1e12, bandwidth=1.0), Ceilings(rate=1.0, bandwidth=1e12)
    assert layer.bound(slow_memory) == "memory"
    assert layer.floor_seconds(slow_memory, 5) == layer.bytes(5)
    assert layer.bound(slow_arithmetic) == "arithmetic"
    assert layer.floor_seconds(slow_arithmetic, 5) == layer.flop(5)
    floor = network_floor([layer, layer], slow_memory, 5)
    assert floor.seconds == 2 * layer.bytes(5)
    assert floor.clips_per_second == pytest.approx(5 / floor.seconds)
    assert floor.memory_share == 1


def test_residuals_are_counted_where_blocks_add_them(r34: list[ConvLayer]) -> None:
    adding = [layer.name for layer in r34 if layer.adds_residual]
    assert len(adding) == 16
    assert all(name.endswith("conv2.0.3") for name in adding)
