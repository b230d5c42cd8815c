"""Padded networks are the same function, in evaluation and in training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tenclip_training.models import VideoModel, create_model
from tenclip_training.models.padding import PadChannels, leaves, padded
from tests.tenclip_training.models.helpers import randomise_batch_norm, small


def clips(side: int = 64, frames: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, frames, side, side, 3, dtype=dtype).permute(0, 4, 1, 2, 3)


def off(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def inner_widths(model: nn.Module) -> set[int]:
    """Channels between the two halves of (2+1)D pairs."""
    return {
        conv.out_channels
        for part in model.modules()
        if isinstance(part, nn.Sequential)
        for conv, norm in zip(leaves(part), list(leaves(part))[1:], strict=False)
        if isinstance(conv, nn.Conv3d) and conv.kernel_size[0] == 1 and isinstance(norm, nn.BatchNorm3d)
    }


@pytest.mark.parametrize("name", ["r2plus1d_18", "r2plus1d_34"])
def test_widths_of_the_paper_become_multiples_of_eight(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=400)
    assert {45, 230, 460, 921} < inner_widths(model)
    wide = padded(model)
    assert {48, 232, 464, 928} < inner_widths(wide)
    assert not any(width % 8 for width in inner_widths(wide))
    assert isinstance(wide.stem[0], PadChannels)  # type: ignore[index]
    assert not any(isinstance(part, PadChannels) for part in padded(model, stem_channels=3).modules())


@pytest.mark.parametrize("name", ["r2plus1d_18", "r2plus1d_34"])
def test_whole_networks_in_both_precisions(name: str) -> None:
    """All blocks, the paper's widths; equal in float64 but for the order of additions."""
    torch.manual_seed(0)
    model = randomise_batch_norm(create_model(name, num_classes=8, num_frames=4, crop=32)).eval()
    with torch.inference_mode():
        single, exact = padded(model)(clips(32, 4)), model(clips(32, 4))
        assert max(off(a, b) for a, b in zip(single, exact, strict=True)) < 1e-5
        double, x = model.double(), clips(32, 4, torch.float64)
        assert max(off(a, b) for a, b in zip(padded(double)(x), double(x), strict=True)) < 1e-13


def test_a_network_of_two_channels() -> None:
    """Optical flow: clips have three channels, of which it looks at two."""
    model = small("r2plus1d_18", in_channels=2)
    with torch.inference_mode():
        assert off(padded(model)(clips())[0], model(clips())[0]) < 1e-5


def test_the_model_itself_stays_as_it_is() -> None:
    model = small("r2plus1d_18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    padded(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_zeros_stay_zeros_in_training() -> None:
    """One step of a padded network is one step of the network."""
    model = small("r2plus1d_18", width=12).double().train()
    wide = padded(model).train()
    x = clips(dtype=torch.float64)

    def step(network: VideoModel) -> Tensor:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        for _ in range(3):
            logits, _ = network(x)
            optimizer.zero_grad()
            logits.square().sum().backward()
            optimizer.step()
        trained: Tensor = network(x)[0]
        return trained.detach()

    assert off(step(wide), step(model)) < 1e-9
    first = next(part for part in wide.modules() if isinstance(part, nn.Conv3d))
    assert not first.weight[:, 3:].any()
    assert first.weight[:, :3].any()


def test_numbers_that_mean_nothing() -> None:
    model = small("r2plus1d_18")
    with pytest.raises(ValueError, match="multiple must be at least 1, got 0"):
        padded(model, multiple=0)
    with pytest.raises(ValueError, match="the stem has 3 channels, so stem_channels cannot be 2"):
        padded(model, stem_channels=2)
