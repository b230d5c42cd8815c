"""A probe as the classifier of a bundle: the graph, what it was checked against, and what a server answers."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from tenclip_api.errors import BundleError
from tenclip_client import AsyncClient, Client
from tenclip_client._extract import extract_to_parquet
from tenclip_client._inputs import expand_inputs
from tenclip_data.manifest import read_manifest
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.onnx_graph import ServedModel
from tenclip_export.probe_command import export_probe as export_probe_command
from tenclip_export.probe_head import export_probe
from tenclip_features.join import mean_by_group
from tenclip_features.linear import Probe
from tenclip_features.probe import fit_probe
from tenclip_features.probe_files import save_probe
from tenclip_features.table import read_feature_table
from tenclip_features.weights import weights_hash
from tenclip_serving.models.golden_replay import replay
from tenclip_serving.models.repository import load_model
from tenclip_serving.runtimes import available_runtimes, create_runtime
from tenclip_training.models import VideoModel, create_model
from tenclip_video.bundle import Bundle, ScoreCalibration, read_bundle, sha256
from tenclip_video.parity import relative_l2
from tenclip_video.spec import ClipSpec

from ..tenclip_serving.helpers import RULE, Sampler, make_bundle, make_video, running_server

LABELS = ("slow", "fast", "läuft", "steht", "hüpft")


def make_probe(bundle: Bundle, labels: Sequence[str] = LABELS, *, seed: int = 0) -> Probe:
    """Weights on standardised features of about the size that the golden clips have."""
    rng = np.random.default_rng(seed)
    features = bundle.golden.features
    dim = features.shape[1]
    return Probe(
        labels=tuple(labels),
        mean=features.mean(axis=0),
        scale=(features.std(axis=0) + 0.1).astype(np.float32),
        weights=rng.normal(size=(len(labels), dim)).astype(np.float32),
        bias=rng.normal(size=len(labels)).astype(np.float32),
        model=bundle.info.name,
        version=bundle.info.version,
        model_weights=weights_hash(bundle.info.to_dict()),
    )


@pytest.fixture(scope="module")
def probe(bundle: Bundle) -> Probe:
    return make_probe(bundle)


@pytest.fixture(scope="module")
def headed(bundle: Bundle, probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of the other tests with five classes in the place of its three."""
    return export_probe(probe, bundle, tmp_path_factory.mktemp("headed"), name="moves-speed", provenance={"C": 0.5})


def clips_of(bundle: Bundle, side: int) -> NDArray[np.uint8]:
    shape = (3, bundle.info.clip_spec.num_frames, side, side, 3)
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def with_fc(model: VideoModel, probe: Probe) -> VideoModel:
    """What training a new last layer would have given: the reference that knows nothing of the graph."""
    model = copy.deepcopy(model)
    weights, bias = probe.folded()
    model.fc = torch.nn.Linear(weights.shape[1], weights.shape[0]).double()
    with torch.no_grad():
        model.fc.weight.copy_(torch.from_numpy(weights))
        model.fc.bias.copy_(torch.from_numpy(bias))
    return model.double().eval()


def test_the_new_bundle(headed: Bundle, bundle: Bundle) -> None:
    again = read_bundle(headed.path)
    assert again.path.parts[-2:] == ("moves-speed", "1")
    assert again.labels == LABELS
    assert (again.info.num_classes, again.info.label_source) == (5, "file")
    assert again.info.clip_spec == bundle.info.clip_spec
    assert [(v.name, v.path) for v in again.info.variants] == [("fp32", "model.onnx")]
    assert again.info.provenance["run"] == "test"
    assert again.info.provenance["weights_sha256"] == bundle.info.provenance["weights_sha256"]
    assert again.info.provenance["probe"] == {"C": 0.5, "head_of": "moves:1", "classes_before": 3, "feature_dim": 64}
    assert sorted(p.name for p in headed.path.iterdir()) == ["bundle.json", "golden.npz", "labels.txt", "model.onnx"]
    np.testing.assert_array_equal(again.golden.clips, bundle.golden.clips)
    np.testing.assert_array_equal(again.golden.features, bundle.golden.features)


def test_nothing_of_the_old_classifier_is_left(headed: Bundle, bundle: Bundle) -> None:
    old, new = (onnx.load(str(b.path / "model.onnx")).graph for b in (bundle, headed))
    shapes = [list(i.dims) for i in new.initializer]
    assert [64, 5] in shapes
    assert [64, 3] not in shapes
    assert len(new.node) == len(old.node)
    assert [o.name for o in new.output] == ["logits", "features"]
    assert [d.dim_value for d in new.output[0].type.tensor_type.shape.dim] == [0, 5, 0]


@pytest.mark.parametrize("side", [32, 40])
@pytest.mark.parametrize("runtime", available_runtimes())
def test_pooled_and_at_every_position_as_a_new_last_layer(
    headed: Bundle, model: VideoModel, probe: Probe, spec: ClipSpec, side: int, runtime: str
) -> None:
    clips = clips_of(headed, side)
    with torch.inference_mode():
        expected = ServedModel(with_fc(model, probe), spec).double().eval()(torch.from_numpy(clips))[0].numpy()
    outputs = create_runtime(runtime, headed.path / "model.onnx").run(clips)
    assert outputs.logits.shape == expected.shape == (3, 5, 1 if side == 32 else 4)
    assert relative_l2(outputs.logits, expected) < 1e-4
    if side == 32:
        pooled = np.exp(outputs.logits[..., 0])
        np.testing.assert_allclose(
            pooled / pooled.sum(axis=1, keepdims=True), probe.probabilities(outputs.features), atol=1e-4
        )


def test_the_golden_replay_passes_and_notices_another_head(headed: Bundle, bundle: Bundle, tmp_path: Path) -> None:
    assert {(p.runtime, p.passed) for p in headed.info.parity} == {(name, True) for name in available_runtimes()}
    assert 1e-4 <= headed.info.tolerance.logits < 1e-2
    for name in available_runtimes():
        replay(headed, create_runtime(name, headed.path / "model.onnx"))
    other = export_probe(make_probe(bundle, seed=1), bundle, tmp_path, name="other")
    drift = create_runtime("onnxruntime", other.path / "model.onnx").run(headed.golden.clips)
    assert relative_l2(drift.logits, headed.golden.logits) > 100 * headed.info.tolerance.logits


def test_a_head_on_a_backbone_without_a_classifier(spec: ClipSpec, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = create_model("resnets3d_r3d_10", num_classes=None, width=8, num_frames=8, crop=32).eval()
    bundle = export_bundle(backbone, spec, tmp_path, name="backbone", runtimes=["onnxruntime"])
    probe = make_probe(bundle)
    made = export_probe(probe, bundle, tmp_path, name="headed")
    assert (made.info.num_classes, made.info.features_only) == (5, False)
    outputs = create_runtime("onnxruntime", made.path / "model.onnx").run(clips_of(made, 32))
    np.testing.assert_allclose(outputs.logits[..., 0], probe.logits(outputs.features), rtol=1e-3, atol=1e-3)


def test_a_graph_of_another_layout(tmp_path: Path) -> None:
    """Positions on the last axis, and a classifier that multiplies from the left."""
    bundle = read_bundle(make_bundle(tmp_path))
    probe = make_probe(bundle)
    made = export_probe(probe, bundle, tmp_path, name="headed")
    for side, positions in ((32, 1), (40, 4)):
        outputs = create_runtime("onnxruntime", made.path / "model.onnx").run(clips_of(made, side))
        assert outputs.logits.shape == (3, 5, positions)
        np.testing.assert_allclose(outputs.logits.mean(axis=2), probe.logits(outputs.features), rtol=1e-3, atol=1e-3)


def test_the_sampler_of_a_bundle_stays_without_the_rule_of_the_old_classes(tmp_path: Path) -> None:
    calibration = ScoreCalibration(temperature=2.0, protocol="ten-clip", num_videos=9, ece_before=0.2, ece_after=0.1)
    bundle = read_bundle(make_bundle(tmp_path, sampler=Sampler(stopping=RULE), calibration=calibration))
    made = export_probe(make_probe(bundle), bundle, tmp_path, name="headed")
    assert bundle.info.sampler is not None
    assert made.info.sampler == replace(bundle.info.sampler, stopping=None)
    assert made.info.calibration is None
    served = load_model(made.path, runtime="onnxruntime")
    assert served.sampler is not None
    assert served.sampler.stopping is None


def test_a_graph_that_gives_mean_features_only(tmp_path: Path) -> None:
    bundle = _with_mean_features_only(read_bundle(make_bundle(tmp_path)))
    probe = make_probe(bundle)
    made = export_probe(probe, bundle, tmp_path, name="headed")
    assert any("one position" in note for note in made.info.provenance["notes"])
    outputs = create_runtime("onnxruntime", made.path / "model.onnx").run(clips_of(made, 40))
    assert outputs.logits.shape == (3, 5, 1)
    np.testing.assert_allclose(outputs.logits[..., 0], probe.logits(outputs.features), rtol=1e-3, atol=1e-3)


def _with_mean_features_only(bundle: Bundle) -> Bundle:
    """The same function, with a mean that is a sum and a product, which no one recognises."""
    path = bundle.path / "model.onnx"
    model = onnx.load(str(path))
    graph = model.graph
    mean = next(n for n in graph.node if n.output[0] == "features")
    graph.node.remove(mean)
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "axis"))
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "one"))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["pooled", "axis"], ["averaged"], keepdims=0),
            helper.make_node("Mul", ["averaged", "one"], ["features"]),
        ]
    )
    assert graph.output[1].type.tensor_type.elem_type == TensorProto.FLOAT
    onnx.save(model, str(path))
    (variant,) = bundle.info.variants
    info = replace(bundle.info, variants=(replace(variant, files={"model.onnx": sha256(path)}),))
    (bundle.path / "bundle.json").write_text(json.dumps(info.to_dict()))
    return read_bundle(bundle.path)


def test_a_version_that_exists(headed: Bundle, bundle: Bundle, probe: Probe) -> None:
    before = (headed.path / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match=r"exists; give another --version, or --overwrite .* version is 2"):
        export_probe(probe, bundle, headed.path.parent.parent, name="moves-speed", version="1")
    assert (headed.path / "bundle.json").read_bytes() == before
    assert [p.name for p in headed.path.parent.iterdir()] == ["1"]


def test_probes_that_do_not_fit(bundle: Bundle, probe: Probe, tmp_path: Path) -> None:
    for change, message in (
        ({"multi_label": True}, "a server answers one softmax over all classes; fit one with --single-label"),
        ({"version": "2"}, r"takes features of moves version 2, .* is moves version 1"),
        ({"model": "other"}, r"takes features of other version 1"),
        ({"model_weights": "feedfeedfeedfeed"}, "was exported again meanwhile"),
        ({"labels": ("a", "b", "c", "d", "e\nf")}, "label 4 is"),
        (
            {
                "mean": probe.mean[:9],
                "scale": probe.scale[:9],
                "weights": probe.weights[:, :9],
            },
            "takes 9 features, .* gives 64",
        ),
    ):
        with pytest.raises(BundleError, match=message):
            export_probe(replace(probe, **change), bundle, tmp_path, name="x")
    half = replace(bundle.info, variants=(replace(bundle.info.variants[0], name="fp16"),))
    with pytest.raises(BundleError, match="no float32 ONNX graph"):
        export_probe(replace(probe, model_weights=""), replace(bundle, info=half), tmp_path, name="x")
    with pytest.raises(BundleError, match="use letters, digits"):
        export_probe(probe, bundle, tmp_path, name="../x")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_whose_graph_is_not_its_golden_outputs(tmp_path: Path) -> None:
    bundle = read_bundle(make_bundle(tmp_path))
    golden = replace(bundle.golden, features=bundle.golden.features * np.float32(1.5))
    with pytest.raises(BundleError, match=r"does not give the features of its golden\.npz"):
        export_probe(make_probe(bundle), replace(bundle, golden=golden), tmp_path / "out", name="x")


@pytest.mark.parametrize("arguments", [[], ["--fully-convolutional"]])
def test_served(tmp_path: Path, arguments: list[str]) -> None:
    """From a running server's features to a probe to a bundle to a running server that answers like the probe."""
    models = tmp_path / "models"
    source = read_bundle(make_bundle(models))
    videos = tmp_path / "videos"
    videos.mkdir()
    lines = ["path,label,split"]
    for i in range(12):
        make_video(videos / f"{i}.mp4", num_frames=20 + i, seconds_of_motion=0.6 * (i % 2))
        lines.append(f"{i}.mp4,{('still', 'moving')[i % 2]},{'train' if i < 8 else 'test'}")
    (videos / "m.csv").write_text("\n".join(lines) + "\n")

    async def extract(address: str) -> None:
        async with AsyncClient(address) as client:
            await extract_to_parquet(client, expand_inputs([str(videos)]), tmp_path / "f.parquet")

    with running_server(models) as server:
        asyncio.run(extract(server.address))
    table = read_feature_table([tmp_path / "f.parquet"])
    result = fit_probe(table, read_manifest(videos / "m.csv"), strengths=[1.0])
    save_probe(tmp_path / "p.npz", result)
    app = typer.Typer()
    app.command()(export_probe_command)
    done = CliRunner().invoke(app, [str(tmp_path / "p.npz"), str(source.path), "--name", "moving", "--json"])
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["name"] == "moving"

    with running_server(models) as server, Client(server.address) as client:
        assert {m.name for m in client.list_models().models} == {"tiny", "moving"}
        for name in ("0.mp4", "1.mp4", "11.mp4"):
            path = videos / name
            rows = np.array([v == str(path) for v in table.videos])
            of_clips = result.probe.probabilities(table.features[rows])
            expected = mean_by_group(of_clips, np.zeros(len(of_clips), np.int64), 1)[0]
            if arguments:
                answer = client.predict(path, model="moving", fully_convolutional=True, top_k=2)
                assert {s.label for s in answer.top} == {"still", "moving"}
                assert sum(s.score for s in answer.top) == pytest.approx(1, abs=1e-5)
                continue
            answer = client.predict(path, model="moving", top_k=2, clip_scores=True)
            scores = {s.label: s.score for s in answer.top}
            assert [scores[label] for label in result.probe.labels] == pytest.approx(expected, abs=1e-4)
            assert len(answer.clips) == len(of_clips)
            for clip, probabilities in zip(answer.clips, of_clips, strict=True):
                by_label = {s.label: s.score for s in clip.top}
                assert by_label["still"] == pytest.approx(probabilities[result.probe.labels.index("still")], abs=1e-4)
