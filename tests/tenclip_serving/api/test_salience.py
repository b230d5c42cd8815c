"""Samplers and adaptive predictions of a server process: over both protocols, from the client and the command."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import DatasetError, ModelNotFound
from tenclip_api.inference import open_inference_pb2 as oip
from tenclip_api.inference import open_inference_pb2_grpc
from tenclip_client import AsyncClient, Client, ClipUpdate, InvalidRequest, Prediction
from tenclip_client._extract import extract_to_parquet
from tenclip_client._extraction import ClipChoice
from tenclip_client._inputs import expand_inputs
from tenclip_client.cli.main import main
from tenclip_video.bundle import ScoreCalibration
from tests.tenclip_serving.helpers import LOOSER, RULE, STRICTER, Sampler, ServerProcess, make_bundle, running_server
from tests.tenclip_serving.test_server import metric

TEMPERATURE = ScoreCalibration(temperature=2.0, protocol="salient-clips", num_videos=9, ece_before=0.2, ece_after=0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("salient")
    make_bundle(
        root,
        "salient",
        sampler=Sampler(stopping=RULE, other_stopping=(STRICTER, LOOSER)),
        default_protocol="salient-clips",
        calibration=TEMPERATURE,
    )
    make_bundle(root, "plain")
    broken = make_bundle(root, "broken", sampler=Sampler())
    (broken / "salience.onnx").write_bytes(b"no network")
    with running_server(root, "--allow-root", str(videos), "--runtime", "onnxruntime", "--threads", "1") as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as made:
        yield made


def test_models_tell_of_their_samplers(client: Client) -> None:
    models = client.list_models()
    by_name = {m.name: m for m in models}
    assert set(by_name) == {"salient", "plain"}
    sampler = by_name["salient"].sampler
    assert sampler is not None
    assert (sampler.name, sampler.kind, sampler.clip_span, sampler.window_step) == ("colours", "rgb", 4, 2)
    assert sampler.stopping is not None
    assert (sampler.stopping.max_clips, sampler.stopping.threshold) == (RULE.max_clips, RULE.threshold)
    assert [rule.error_bound for rule in sampler.rules] == [0.02, 0.05, 0.2]
    assert [rule.error_bound for rule in sampler.other_stopping] == [0.02, 0.2]
    assert by_name["plain"].sampler is None
    (failed,) = models.failed
    assert failed.ref == "broken:1"
    assert "salience.onnx" in failed.error
    with pytest.raises(Exception, match=r"salience\.onnx"):
        client.predict(b"x", model="broken")


def test_an_adaptive_prediction_and_its_stream(client: Client, videos: Path) -> None:
    video = videos / "colors.mp4"
    result = client.predict(video, model="salient", adaptive=True, clip_scores=True, features=True)
    report = result.adaptive
    assert report is not None
    assert (report.clips_planned, report.settled, report.error_bound) == (6, True, RULE.error_bound)
    assert report.clips_used == len(result.clips) < 6
    assert result.timeline is not None
    assert result.timeline.scorer == "colours"
    assert sum(p.selected for p in result.timeline.points) == report.clips_used
    assert "score" in result.provenance.timings
    plain = client.predict(
        video, model="salient", clips="salient", num_clips=report.clips_used, clip_scores=True, features=True
    )
    assert [(t.label, t.score) for t in result.top] == [(t.label, t.score) for t in plain.top]
    assert result.features is not None
    assert plain.features is not None
    assert result.features.mean == plain.features.mean
    assert [c.clip.frame_indices for c in result.clips] == [c.clip.frame_indices for c in plain.clips]
    assert plain.adaptive is None
    *clips, last = list(client.predict_stream(video, model="salient", adaptive=True))
    assert isinstance(last, Prediction)
    assert last.adaptive == report
    assert len(clips) == report.clips_used
    for clip in clips:
        assert isinstance(clip, ClipUpdate)
        assert clip.num_clips == 6
    # What was never run is told by the metrics, too.
    features = client.extract_features(video, model="salient", adaptive=True)
    assert features.adaptive == report
    assert len(features.features.clips) == report.clips_used


def test_a_request_chooses_the_error_bound(client: Client, videos: Path) -> None:
    """The strictest rule never stops, the loosest at once; the answer says which it was."""
    for bound, used in ((0.02, 6), (0.2, 1)):
        report = client.predict(videos / "colors.mp4", model="salient", adaptive=True, error_bound=bound).adaptive
        assert report is not None
        assert (report.clips_used, report.clips_planned, report.error_bound) == (used, 6, bound)
        features = client.extract_features(videos / "colors.mp4", model="salient", adaptive=True, error_bound=bound)
        assert features.adaptive == report


def test_metrics(server: ServerProcess, client: Client, videos: Path) -> None:
    names = [("tenclip_adaptive_clips_total", {"what": what, "model": "salient"}) for what in ("planned", "used")]
    names += [("tenclip_clips_saved_total", {"model": "salient"}), ("tenclip_stage_seconds_count", {"stage": "score"})]
    before = [metric(server, name, **labels) for name, labels in names]
    report = client.predict(videos / "colors.mp4", model="salient", adaptive=True).adaptive
    assert report is not None
    grown = [metric(server, name, **labels) - b for (name, labels), b in zip(names, before, strict=True)]
    assert grown == [6, report.clips_used, 6 - report.clips_used, 1]


def test_calibrated_scores(client: Client, videos: Path) -> None:
    result = client.predict(videos / "colors.mp4", model="salient", top_k=4, clip_scores=True)
    scores = np.array([t.score for t in result.top], np.float32)
    calibrated = np.array([t.calibrated for t in result.top], np.float32)
    np.testing.assert_allclose(calibrated, TEMPERATURE.apply(scores), rtol=1e-5)
    assert all(t.calibrated is None for c in result.clips for t in c.top)
    other = client.predict(videos / "colors.mp4", model="salient", adaptive=True)
    assert all(t.calibrated is None for t in other.top)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"model": "plain", "adaptive": True}, "no sampler, and so no stopping rule"),
        ({"model": "plain", "clips": "salient", "sampler": "broken"}, "no sampler 'broken': .*could not be loaded"),
        ({"model": "plain", "clips": "salient", "sampler": "plain/1"}, "plain/1 has no sampler; this server has"),
        ({"model": "plain", "sampler": "salient"}, "no meaning for UNIFORM clips without a timeline"),
        ({"model": "salient", "adaptive": True, "sampler": "motion-energy"}, "does not hold for those of"),
        (
            {"model": "salient", "adaptive": True, "error_bound": 0.1},
            r"no stopping rule with the error bound 0\.1; it has 0\.02, 0\.05, 0\.2 \(0\.05 where a request names",
        ),
        ({"model": "salient", "adaptive": True, "num_clips": 3}, "does not hold for num_clips 3"),
    ],
)
def test_what_is_refused(client: Client, videos: Path, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        client.predict(videos / "colors.mp4", **asked)


# -- the command ------------------------------------------------------------------------------------------------------


Tenclip = Callable[..., str]


@pytest.fixture
def tenclip(server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tenclip:
    monkeypatch.setenv("TENCLIP_SERVER", server.address)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_predict_says_what_chose_the_clips_and_how_many_ran(tenclip: Tenclip, videos: Path) -> None:
    video = str(videos / "colors.mp4")
    out = tenclip("predict", video, "--model", "salient", "--adaptive")
    assert "salience by colours" in out
    assert "used 1 of 6 clips: settled" in out
    out = tenclip("predict", video, "--model", "salient", "--adaptive", "--error-bound", "0.02")
    assert "used 6 of 6 clips: the classes were not settled before the last one, with an error bound of 0.02" in out
    out = tenclip("predict", video, "--model", "plain", "--selection", "salient", "--sampler", "salient", "--json")
    (entry,) = json.loads(out)
    assert entry["prediction"]["timeline"]["scorer"] == "colours"
    assert entry["prediction"]["adaptive"] is None


def test_models_shows_samplers(tenclip: Tenclip) -> None:
    out = tenclip("models")
    assert "sampler" in out.splitlines()[0]
    assert "rgb, adaptive" in out
    lines = tenclip("models", "salient").splitlines()
    rules = [line.split("adaptive stops")[0].split() for line in lines if "adaptive stops at a lead of" in line]
    assert rules == [["error", "bound", "0.02"], ["error", "bound", "0.05", "(default)"], ["error", "bound", "0.2"]]


# -- features of many videos ------------------------------------------------------------------------------------------


def extract(server: ServerProcess, video: Path, out: Path, **choice: Any) -> dict[str, Any]:
    async def run() -> None:
        async with AsyncClient(server.address) as client:
            await extract_to_parquet(client, expand_inputs([str(video)]), out, choice=ClipChoice(**choice))

    asyncio.run(run())
    settings: dict[str, Any] = json.loads(pq.read_schema(out).metadata[b"tenclip.settings"])
    return settings


def test_features_are_of_the_clips_that_ran(server: ServerProcess, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    settings = extract(server, videos / "colors.mp4", out, model="salient", adaptive=True)
    assert settings["adaptive"] is True
    assert "error_bound" not in settings
    with pytest.raises(DatasetError, match=r"error_bound was not set, now 0\.2"):
        extract(server, videos / "colors.mp4", out, model="salient", adaptive=True, error_bound=0.2)
    assert "salience.onnx" in settings["sampler_files"]
    assert pq.read_table(out)["clip_index"].to_pylist() == [5]
    with pytest.raises(DatasetError, match="adaptive was True, now not set"):
        extract(server, videos / "colors.mp4", out, model="salient")


def test_the_version_of_a_borrowed_sampler_is_fixed(server: ServerProcess, videos: Path, tmp_path: Path) -> None:
    choice = {"model": "plain", "clips": "salient", "num_clips": 2}
    settings = extract(server, videos / "colors.mp4", tmp_path / "f.parquet", **choice, sampler="salient")
    assert settings["sampler"] == "salient/1"
    assert "salience.onnx" in settings["sampler_files"]
    # Settings of tables that no learned sampler has to do with are as they were before there was any.
    plain = extract(server, videos / "colors.mp4", tmp_path / "g.parquet", **choice)
    assert plain.keys() & {"sampler", "sampler_files", "adaptive"} == set()
    named = extract(server, videos / "colors.mp4", tmp_path / "h.parquet", **choice, sampler="motion-energy")
    assert named["sampler"] == "motion-energy"
    with pytest.raises(ModelNotFound):
        extract(server, videos / "colors.mp4", tmp_path / "i.parquet", **choice, sampler="absent")


# -- the Open Inference Protocol --------------------------------------------------------------------------------------


def infer(server: ServerProcess, model: str, data: bytes, **parameters: Any) -> oip.ModelInferResponse:
    request = oip.ModelInferRequest(model_name=model)
    request.inputs.add(name="VIDEO", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(data)) + data)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    with grpc.insecure_channel(server.address) as channel:
        return open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)


def test_open_inference(server: ServerProcess, client: Client, videos: Path) -> None:
    data = (videos / "colors.mp4").read_bytes()
    answer = infer(server, "salient", data, adaptive=True)
    expected = client.predict(data, model="salient", adaptive=True, top_k=4)
    assert expected.adaptive is not None
    parameters = answer.parameters
    assert parameters["scorer"].string_param == "colours"
    assert parameters["clips_planned"].int64_param == 6
    assert parameters["clips_used"].int64_param == expected.adaptive.clips_used
    assert parameters["settled"].bool_param
    (raw,) = (r for o, r in zip(answer.outputs, answer.raw_output_contents, strict=True) if o.name == "probabilities")
    by_index = {t.index: t.score for t in expected.top}
    assert np.frombuffer(raw, "<f4").tolist() == [by_index[i] for i in range(4)]
    assert parameters["error_bound"].double_param == RULE.error_bound
    loose = infer(server, "salient", data, adaptive=True, error_bound=0.2).parameters
    assert (loose["clips_used"].int64_param, loose["error_bound"].double_param) == (1, 0.2)
    borrowed = infer(server, "plain", data, mode="salient", num_clips=2, sampler="salient/1")
    assert borrowed.parameters["scorer"].string_param == "colours"
    assert "clips_used" not in borrowed.parameters
    for asked, says in (
        ({"adaptive": "yes"}, "parameter 'adaptive' must be true or false"),
        ({"adaptive": True, "error_bound": 0.5}, "no stopping rule with the error bound 0.5"),
        ({"adaptive": True, "error_bound": "a fifth"}, "parameter 'error_bound' must be a number"),
        ({"sampler": 3}, "parameter 'sampler' must be a string"),
        ({"mode": "uniform", "adaptive": True}, "which UNIFORM clips do not have"),
    ):
        with pytest.raises(grpc.RpcError, match=says):
            infer(server, "salient", data, **asked)
