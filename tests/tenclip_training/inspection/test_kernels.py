from __future__ import annotations

import numpy as np
import pytest
import torch

from tenclip_training.inspection.kernels import Kernels, first_kernels, pictures
from tenclip_training.models import create_model
from tenclip_training.models.inflate import inflate_2d_to_3d


def test_an_inflated_network_does_not_vary_over_time_and_another_one_does() -> None:
    frames = create_model("r2d_18", num_classes=3, width=8, num_frames=1, crop=32)
    clips = create_model("torchvision_r3d_18", num_classes=3, width=8, num_frames=4, crop=32)
    assert first_kernels(clips)[0].temporal_share > 0.3
    inflate_2d_to_3d(frames.state_dict(), clips)
    kernels, over_time = first_kernels(clips)
    assert kernels.weights.shape == (8, 3, 3, 7, 7)
    assert over_time is None
    assert kernels.temporal_variance == 0
    assert kernels.temporal_share == 0


def test_worked_numbers() -> None:
    weights = np.array([1.0, -1.0, 1.0, -1.0], np.float32).reshape(1, 1, 4, 1, 1)
    kernels = Kernels(name="stem", weights=weights)
    assert kernels.temporal_variance == pytest.approx(1.0)
    assert kernels.temporal_share == pytest.approx(1.0)
    shifted = Kernels(name="stem", weights=weights + 1)
    assert shifted.temporal_variance == pytest.approx(1.0)
    assert shifted.temporal_share == pytest.approx(0.5)


def test_a_2plus1d_network_has_its_first_kernels_over_time_elsewhere() -> None:
    model = create_model("r2plus1d_18", num_classes=3, num_frames=8, crop=112)
    spatial, temporal = first_kernels(model)
    assert spatial.weights.shape == (45, 3, 1, 7, 7)  # figure 4 shows these 45
    assert temporal is not None
    assert temporal.weights.shape[2:] == (3, 1, 1)
    assert (spatial.temporal_variance, temporal.temporal_variance > 0) == (0, True)


def test_pictures_show_each_filter_at_each_frame() -> None:
    weights = np.zeros((2, 3, 2, 3, 3), np.float32)
    weights[0, 0, 1] = 1  # the first filter turns red in the second frame
    first, second = pictures(Kernels(name="stem", weights=weights))
    assert first.shape == second.shape == (40, 78, 3)
    assert first[10, 10].tolist() == [0, 0, 0]
    assert second[10, 10].tolist() == [255, 0, 0]
    assert second[10, 50].tolist() == [0, 0, 0]
    assert second[0, 0].tolist() == [255, 255, 255]


def test_kernels_of_other_channels_are_gray() -> None:
    (picture,) = pictures(Kernels(name="flow", weights=torch.randn(4, 2, 1, 5, 5).numpy()))
    assert np.array_equal(picture[..., 0], picture[..., 2])
