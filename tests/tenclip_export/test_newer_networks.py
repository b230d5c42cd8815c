"""SlowFast, X3D and the inflated ResNets as ONNX graphs: one input, the same numbers on every runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tenclip_export.onnx_graph import ServedModel, export_onnx
from tenclip_serving.runtimes import create_runtime
from tenclip_video.spec import ClipSpec

from ..tenclip_training.models.helpers import small


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("pytorchvideo_i3d_r50", {}),
        ("pytorchvideo_slowfast_r50", {"width": 16}),
        ("pytorchvideo_x3d_m", {}),
        # As the one and the other above, in another's details.
        pytest.param("mmaction2_c2d_r50", {}, marks=pytest.mark.long),
        pytest.param("mmaction2_slowfast_r50", {"width": 16}, marks=pytest.mark.long),
    ],
)
def test_graphs_equal_torch(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    model, spec = small(name, **config), ClipSpec(num_frames=8, crop=64, fully_convolutional_crop=None)
    export_onnx(model, spec, tmp_path / "m.onnx")
    assert [value.name for value in onnx.load(tmp_path / "m.onnx").graph.input] == ["clips"]
    for runtime in ("onnxruntime", "openvino"):
        loaded = create_runtime(runtime, tmp_path / "m.onnx")
        for batch, size in ((1, 64), (3, 96)):
            clips = np.random.default_rng(0).integers(0, 256, (batch, 8, size, size, 3), dtype=np.uint8)
            logits, features = loaded.run(clips)
            with torch.inference_mode():
                expected_logits, expected_features = ServedModel(model, spec)(torch.from_numpy(clips))
            np.testing.assert_allclose(logits, expected_logits.numpy(), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(features, expected_features.numpy(), rtol=1e-4, atol=1e-4)
