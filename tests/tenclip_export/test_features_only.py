"""A backbone without a classifier: exported, served by a real server, and refused where it cannot answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tenclip_api.errors import BundleError, NoClassifier
from tenclip_api.inference import open_inference_pb2 as oip
from tenclip_api.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionStub
from tenclip_client import Client
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.onnx_graph import ServedModel
from tenclip_export.parity import Outputs, Reference, Row, compare
from tenclip_export.targets import export_targets
from tenclip_export.variants.int8 import compare_held_out
from tenclip_serving.runtimes import available_runtimes, create_runtime
from tenclip_training.models import VideoModel, create_model
from tenclip_video.bundle import Bundle, Tolerance, read_bundle
from tenclip_video.spec import ClipSpec

from ..tenclip_serving.helpers import ServerProcess, make_video, running_server


@pytest.fixture(scope="module")
def backbone() -> VideoModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_model("r2plus1d_10", num_classes=None, width=8, num_frames=8, crop=32).eval()


@pytest.fixture(scope="module")
def rows_of_backbone() -> list[Row]:
    return []


@pytest.fixture(scope="module")
def features_bundle(
    backbone: VideoModel, spec: ClipSpec, rows_of_backbone: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    out = tmp_path_factory.mktemp("models")
    return export_bundle(backbone, spec, out, name="backbone", formats=("torch",), on_row=rows_of_backbone.append)


@pytest.fixture(scope="module")
def server(features_bundle: Bundle) -> Iterator[ServerProcess]:
    with running_server(features_bundle.path.parent.parent) as process:
        yield process


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "moves.mp4", seconds_of_motion=0.5)


def test_the_bundle_says_that_it_has_no_classes(features_bundle: Bundle, backbone: VideoModel) -> None:
    info = read_bundle(features_bundle.path).info
    assert (info.num_classes, info.label_source, info.features_only) == (0, "none", True)
    assert info.feature_dim == backbone.feature_dim
    assert features_bundle.labels == ()
    assert features_bundle.golden.logits.shape == (len(features_bundle.golden.clips), 0, 1)


def test_every_runtime_was_checked_by_its_features(features_bundle: Bundle, rows_of_backbone: list[Row]) -> None:
    assert {(r.runtime, r.crop) for r in rows_of_backbone} == {
        (name, crop) for name in (*available_runtimes(), "torch") for crop in (32, 40)
    }
    assert all(r.passed and r.max_abs < 1e-3 for r in rows_of_backbone)
    assert any(r.features_relative_l2 > 0 for r in rows_of_backbone)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_runtimes_give_the_features_of_torch(
    name: str, features_bundle: Bundle, backbone: VideoModel, spec: ClipSpec
) -> None:
    clips = features_bundle.golden.clips
    outputs = create_runtime(name, features_bundle.path / "model.onnx").run(clips)
    with torch.inference_mode():
        logits, features = ServedModel(backbone, spec).eval()(torch.from_numpy(clips))
    assert outputs.logits.shape == tuple(logits.shape) == (len(clips), 0, 1)
    np.testing.assert_allclose(outputs.features, features.numpy(), rtol=1e-3, atol=1e-4)


def test_a_runtime_that_drifts_in_features_fails() -> None:
    features = np.ones((2, 5), np.float32)
    none = np.empty((2, 0, 1), np.float32)
    golden = Reference(32, np.zeros((2, 8, 32, 32, 3), np.uint8), Outputs(none, features), 0.0, 0.0)
    for factor, passed in ((1.0, True), (1.01, False)):

        def run(_: NDArray[np.uint8], factor: float = factor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return none, features * np.float32(factor)

        row = compare(golden, run, Tolerance(logits=1e-3, features=1e-3), variant="fp32", runtime="a")
        assert row.passed is passed
        assert row.max_abs == pytest.approx(factor - 1, abs=1e-6)


def test_int8_is_judged_by_features() -> None:
    def run(offset: float) -> Any:
        def call(clips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return np.empty((len(clips), 0, 1), np.float32), np.full((len(clips), 3), 1 + offset, np.float32)

        return call

    held_out = compare_held_out(run(0.5), run(0.0), np.zeros((4, 8, 32, 32, 3), np.uint8))
    assert held_out.relative_l2 == pytest.approx(0.5)
    assert held_out.top1_agreement == 1


def test_labels_without_a_classifier(backbone: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="2 labels for a model without a classifier"):
        export_bundle(backbone, spec, tmp_path, name="m", labels=("a", "b"))
    assert list(tmp_path.iterdir()) == []


def test_triton_gets_features_and_torchserve_is_refused(features_bundle: Bundle, tmp_path: Path) -> None:
    (written,) = export_targets(features_bundle, tmp_path, ["triton"])
    config = written.path.read_text()
    assert 'name: "features"' in config
    assert "logits" not in config
    assert "label_filename" not in config
    with pytest.raises(BundleError, match="a model without a classifier has not"):
        export_targets(features_bundle, tmp_path, ["torchserve"])


def test_features_are_answered(server: ServerProcess, video: Path, features_bundle: Bundle) -> None:
    with Client(server.address) as client:
        answer = client.extract_features(video, clips="salient", num_clips=2)
        timeline = client.extract_features(video, timeline=True).timeline
        assert client.extract_features(video).timeline is None
    assert answer.timeline is not None
    assert timeline is not None
    assert sum(point.selected for point in answer.timeline.points) == 2
    assert len(timeline.points) == len(answer.timeline.points)
    assert len(answer.features.clips) == 2
    assert len(answer.features.mean) == features_bundle.info.feature_dim
    assert np.isfinite(answer.features.mean).all()


def test_predictions_are_refused(server: ServerProcess, video: Path) -> None:
    with Client(server.address) as client:
        with pytest.raises(NoClassifier, match=r"backbone/1 has no classifier.*ExtractFeatures"):
            client.predict(video)
        with pytest.raises(NoClassifier, match="has no classifier"):
            list(client.predict_stream(video))


def test_uploads_to_predict_are_refused(server: ServerProcess, video: Path) -> None:
    def messages() -> Iterator[pb.PredictUploadRequest]:
        yield pb.PredictUploadRequest(request=pb.PredictRequest())
        yield pb.PredictUploadRequest(chunk=video.read_bytes())

    with grpc.insecure_channel(server.address) as channel:
        stub = VideoRecognitionStub(channel)
        for call in (stub.PredictUpload, lambda m: list(stub.PredictUploadStream(m))):
            with pytest.raises(grpc.RpcError) as refused:
                call(messages())
            assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert "has no classifier" in str(refused.value.details())


def test_models_says_so(server: ServerProcess) -> None:
    with Client(server.address) as client:
        model = client.get_model()
    assert (model.num_classes, model.label_source, model.labels) == (0, "none", ())


class TestOpenInference:
    @pytest.fixture
    def stub(self, server: ServerProcess) -> Iterator[GRPCInferenceServiceStub]:
        with grpc.insecure_channel(server.address) as channel:
            yield GRPCInferenceServiceStub(channel)

    def test_metadata_names_features_only(self, stub: GRPCInferenceServiceStub, features_bundle: Bundle) -> None:
        metadata = stub.ModelMetadata(oip.ModelMetadataRequest(name="backbone"))
        assert [(t.name, list(t.shape)) for t in metadata.outputs] == [("features", [-1, 64])]
        assert features_bundle.info.feature_dim == 64

    def test_clips_and_videos_give_features(
        self, stub: GRPCInferenceServiceStub, features_bundle: Bundle, video: Path
    ) -> None:
        clips = features_bundle.golden.clips
        request = oip.ModelInferRequest(model_name="backbone", raw_input_contents=[clips.tobytes()])
        request.inputs.add(name="clips", datatype="UINT8", shape=clips.shape)
        answer = stub.ModelInfer(request)
        assert [(o.name, list(o.shape)) for o in answer.outputs] == [("features", [len(clips), 64])]
        features = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(-1, 64)
        np.testing.assert_allclose(features, features_bundle.golden.features, rtol=1e-3, atol=1e-4)

        request = oip.ModelInferRequest(model_name="backbone")
        tensor = request.inputs.add(name="VIDEO", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(video.read_bytes())
        assert [o.name for o in stub.ModelInfer(request).outputs] == ["features"]

    def test_logits_are_no_output(self, stub: GRPCInferenceServiceStub, features_bundle: Bundle) -> None:
        clips = features_bundle.golden.clips
        request = oip.ModelInferRequest(model_name="backbone", raw_input_contents=[clips.tobytes()])
        request.inputs.add(name="clips", datatype="UINT8", shape=clips.shape)
        request.outputs.add(name="logits")
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request)
        assert "no output 'logits'; input 'clips' gives features" in str(refused.value)
