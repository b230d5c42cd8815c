from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from tenclip_api.errors import BundleError
from tenclip_export import onnx_graph
from tenclip_export.golden import golden_clips
from tenclip_export.onnx_graph import ServedModel, export_onnx
from tenclip_serving.runtimes import create_runtime
from tenclip_training.models import VideoModel
from tenclip_video.bundle import Bundle
from tenclip_video.spec import ClipSpec


@pytest.fixture(scope="module")
def graph(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle.path / "model.onnx")


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_inputs_and_outputs_are_the_contract(graph: onnx.ModelProto) -> None:
    assert [(v.name, dims(v)) for v in graph.graph.input] == [("clips", ["batch", 8, "height", "width", 3])]
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [(v.name, dims(v)) for v in graph.graph.output] == [
        ("logits", ["batch", 3, "positions"]),
        ("features", ["batch", 64]),
    ]


def test_only_plain_operators_of_the_default_domain_and_no_bn(graph: onnx.ModelProto) -> None:
    operators = Counter(node.op_type for node in graph.graph.node)
    assert set(operators) == {
        "Cast", "Mul", "Add", "Transpose", "Conv", "Relu", "AveragePool", "Reshape", "MatMul", "ReduceMean",
    }  # fmt: skip
    assert operators["Reshape"] == 1, "shapes are constants, not computed"
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", onnx_graph.OPSET)]
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions


def test_nothing_of_this_machine_is_in_the_file(bundle: Bundle) -> None:
    content = (bundle.path / "model.onnx").read_bytes()
    for trace in (b".py", b"site-packages", str(Path(__file__).parents[2]).encode(), b"stack_trace"):
        assert trace not in content, trace


def test_normalisation_is_what_the_spec_says(spec: ClipSpec) -> None:
    class Probe(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    clips = golden_clips(spec.num_frames, spec.crop)
    x, _ = ServedModel(Probe(), spec)(torch.from_numpy(clips))
    expected = (clips / 255.0 - np.array(spec.mean)) / np.array(spec.std)  # as the definition reads
    np.testing.assert_allclose(x.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("batch", "height", "width", "positions"), [(1, 32, 32, 1), (5, 40, 40, 4), (2, 33, 64, 6)])
def test_any_batch_and_size_equals_torch(
    bundle: Bundle, model: VideoModel, spec: ClipSpec, runtime: str, batch: int, height: int, width: int, positions: int
) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (batch, 8, height, width, 3), dtype=np.uint8)
    logits, features = create_runtime(runtime, bundle.path / "model.onnx").run(clips)
    with torch.inference_mode():
        expected_logits, expected_features = ServedModel(model, spec)(torch.from_numpy(clips))
    assert logits.shape == (batch, 3, positions)
    np.testing.assert_allclose(logits, expected_logits.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features, expected_features.numpy(), rtol=1e-4, atol=1e-4)


def test_export_says_nothing_and_weights_beyond_the_protobuf_limit_go_beside_the_graph(
    model: VideoModel,
    spec: ClipSpec,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(onnx_graph, "MAX_INLINE_BYTES", 1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files = export_onnx(model, spec, tmp_path / "model.onnx")
    assert [str(w.message) for w in caught] == []
    assert capfd.readouterr() == ("", "")
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.INFO] == []
    assert [f.name for f in files] == ["model.onnx", "model.onnx.data"]
    assert files[0].stat().st_size < files[1].stat().st_size
    actual = create_runtime("onnxruntime", files[0]).run(bundle.golden.clips)
    np.testing.assert_allclose(actual.logits, bundle.golden.logits, rtol=1e-4, atol=1e-4)


def test_a_model_that_fixes_its_size_is_refused(spec: ClipSpec, tmp_path: Path) -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.zeros(32, 34))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            features = (x + self.positions).mean((2, 3, 4))
            return features[..., None], features

    with pytest.raises(BundleError, match=r"(?s)static shape of 32 .* static shape of 34"):
        export_onnx(Stubborn(), spec, tmp_path / "model.onnx")


def test_a_model_that_raises_is_a_bundle_error(spec: ClipSpec, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raise RuntimeError("no such layer")

    with pytest.raises(BundleError, match=r"^the model cannot be exported to ONNX: no such layer"):
        export_onnx(Broken(), spec, tmp_path / "model.onnx")


def test_bundle_json_is_plain_json(bundle: Bundle) -> None:
    def reject(constant: str) -> None:
        raise AssertionError(f"bundle.json holds {constant}, which is not JSON")

    json.loads((bundle.path / "bundle.json").read_text(encoding="utf-8"), parse_constant=reject)
