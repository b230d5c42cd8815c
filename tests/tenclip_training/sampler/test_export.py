from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tenclip_api.errors import BundleError, ParityError
from tenclip_training.sampler.export import export_sampler
from tenclip_training.sampler.fit import FitConfig, fit, salience_of
from tenclip_training.sampler.losses import LossName
from tenclip_training.sampler.networks import Salience, SamplerNet
from tenclip_video.salience import SamplerKind, load_sampler
from tenclip_video.salience.sampler_spec import METADATA_KEY

from .helpers import bright_video, small_spec
from .test_networks import KINDS


def untrained(kind: SamplerKind, outputs: int, loss: str) -> Salience:
    spec = small_spec(kind)
    torch.manual_seed(0)
    network = SamplerNet(spec, outputs, np.zeros(spec.channels, np.float32), np.ones(spec.channels, np.float32))
    return Salience(network, loss).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "loss"), [(kind, "ac" if kind == "rgb" else "rank") for kind in KINDS])
def test_a_server_reads_what_is_written_and_says_the_same(kind: SamplerKind, loss: LossName, tmp_path: Path) -> None:
    spec = small_spec(kind, loss=loss, metrics={"rank_correlation": 0.5}, teacher="models/moves/1")
    video = bright_video(spec, 0, windows=7)
    fitted = fit(spec, [video], [], FitConfig(epochs=1, loss=loss), num_classes=2)
    distance = export_sampler(fitted.salience, spec, tmp_path / "salience.onnx")
    assert 0 <= distance < 1e-4
    sampler = load_sampler(tmp_path / "salience.onnx")
    assert sampler.spec == spec
    inputs = video.inputs if video.inputs.dtype == np.uint8 else video.inputs.astype(np.float32)
    np.testing.assert_allclose(sampler.scores(inputs), salience_of(fitted.salience, video.inputs), atol=1e-4)
    assert len(sampler.scores(inputs[:1])) == 1
    # It says nothing of the machine that wrote it.
    assert [f.name for f in tmp_path.iterdir()] == ["salience.onnx"]
    assert b".py" not in (tmp_path / "salience.onnx").read_bytes()
    graph = onnx.load(tmp_path / "salience.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [p.key for p in graph.metadata_props] == [METADATA_KEY]


def test_a_graph_that_says_something_else_is_not_written(tmp_path: Path) -> None:
    class Noisy(Salience):
        """Differs from call to call, as a graph with randomness in it would."""

        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return super().forward(windows) + torch.rand(len(windows))

    noisy = Noisy(untrained("keyframes", 1, "rank").network, "rank")
    with pytest.raises(ParityError, match=r"away from torch, more than 0\.001"):
        export_sampler(noisy, small_spec("keyframes"), tmp_path / "salience.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_traced(tmp_path: Path) -> None:
    class Branching(Salience):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return super().forward(windows) if windows.sum() > 0 else windows[:, 0, 0, 0, 0].float()

    with pytest.raises(BundleError, match="the sampler cannot be exported to ONNX"):
        export_sampler(Branching(untrained("rgb", 1, "rank").network, "rank"), small_spec(), tmp_path / "x.onnx")
