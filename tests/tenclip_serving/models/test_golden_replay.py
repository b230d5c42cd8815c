from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import ParityError
from tenclip_serving.models.golden_replay import replay
from tenclip_serving.runtimes import Clips, Outputs, create_runtime
from tenclip_video.bundle import read_bundle
from tests.tenclip_serving.helpers import make_bundle, reference


class Spoiled:
    """Right answers, spoiled by `change`."""

    name = "spoiled"
    batch_size = 1

    def __init__(self, change: str) -> None:
        self.change = change

    def run(self, clips: Clips) -> Outputs:
        logits, features = reference(clips)
        if self.change == "logits":
            logits = logits * np.float32(1.002)
        elif self.change == "features":
            features = features * np.float32(1.002)
        elif self.change == "nan":
            logits = np.full_like(logits, np.nan)
        elif self.change == "infinite":
            features = np.full_like(features, np.inf)
        elif self.change == "transposed":
            logits = logits.transpose(0, 2, 1)
        elif self.change == "short":
            features = features[:, :-1]
        return Outputs(logits, features)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_good_bundle_passes_by_far(tmp_path: Path, name: str) -> None:
    path = make_bundle(tmp_path)
    drift = replay(read_bundle(path), create_runtime(name, path / "model.onnx"))
    assert max(drift.logits, drift.features) < 1e-5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("logits", "relative L2 of logits 2.00e-03"),
        ("features", "of features 2.00e-03"),
        ("nan", "logits inf"),
        ("infinite", "features inf"),
        ("transposed", r"logits of shape \(2, 1, 4\)"),
        ("short", r"features of shape \(2, 5\)"),
    ],
)
def test_drift_is_refused(tmp_path: Path, change: str, says: str) -> None:
    bundle = read_bundle(make_bundle(tmp_path))
    replay(bundle, Spoiled("nothing"))
    with pytest.raises(ParityError, match=says):
        replay(bundle, Spoiled(change))
