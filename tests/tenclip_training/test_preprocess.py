from __future__ import annotations

import pytest
import torch

from tenclip_training.preprocess import normalise, scale_and_shift
from tenclip_video.spec import ClipSpec


@pytest.mark.parametrize("value_range", ["0-1", "0-255", "-1-1"])
def test_pixels_are_normalised_by_mean_and_std_of_the_range(value_range: str) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 2.0, 4.0)
    spec = ClipSpec(mean=mean, std=std, value_range=value_range)  # type: ignore[arg-type]
    clips = torch.randint(0, 256, (2, 3, 4, 5, 3), dtype=torch.uint8)
    factor, offset = {"0-1": (1 / 255, 0.0), "0-255": (1.0, 0.0), "-1-1": (2 / 255, -1.0)}[value_range]
    expected = ((clips.double() * factor + offset - torch.tensor(mean)) / torch.tensor(std)).permute(0, 4, 1, 2, 3)
    normalised = normalise(clips, spec)
    assert normalised.shape == (2, 3, 3, 4, 5)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, expected.float(), rtol=1e-4, atol=1e-4)
    assert normalised.is_contiguous(memory_format=torch.channels_last_3d), "the pixels stay where they are"


def test_the_type_is_that_of_the_constants() -> None:
    clips = torch.full((1, 2, 2, 2, 3), 255, dtype=torch.uint8)
    scale, bias = torch.full((3,), 1 / 255, dtype=torch.float64), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    doubled = scale_and_shift(clips, scale, bias)
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled[0, :, 0, 0, 0], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
