"""Model repositories, read back with Triton's own protobuf message and held against the graph."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import BundleError
from tenclip_export.triton import TritonSettings, check_graph, export_triton, triton_config
from tenclip_serving.models.directory import find_bundles
from tenclip_video.bundle import Bundle, Variant, read_bundle

from ..triton_protocol import triton_messages


@pytest.fixture(scope="session")
def messages() -> Any:
    """Triton's model_config.proto."""
    return triton_messages("model_config_pb2")


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Bundle:
    """The bundle in a folder of its own, to be changed."""
    path = tmp_path / "models" / bundle.info.name / bundle.info.version
    shutil.copytree(bundle.path, path)
    return read_bundle(path)


def onnx_dims(value: onnx.ValueInfoProto) -> list[int]:
    """Without the batch; -1 for what is free, as Triton has it."""
    batch, *sides = value.type.tensor_type.shape.dim
    assert not batch.HasField("dim_value")
    return [side.dim_value if side.HasField("dim_value") else -1 for side in sides]


def test_repository_is_what_triton_reads(messages: Any, bundle: Bundle, tmp_path: Path) -> None:
    settings = TritonSettings(device="gpu", instances=2, max_queue_delay_ms=2.5)
    home = export_triton(bundle, tmp_path, settings=settings)
    config = text_format.Parse((home / "config.pbtxt").read_text(), messages.ModelConfig())
    assert (config.name, config.platform) == (home.name, "onnxruntime_onnx")
    assert list(config.version_policy.specific.versions) == [1]
    assert config.max_batch_size == 16
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2500
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, messages.ModelInstanceGroup.KIND_GPU)
    files = {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}
    assert files == {"config.pbtxt", "labels.txt", f"1/{config.default_model_filename}"}
    assert (home / "labels.txt").read_text(encoding="utf-8").splitlines() == list(bundle.labels)


def test_config_fits_the_graph(messages: Any, bundle: Bundle, tmp_path: Path) -> None:
    home = export_triton(bundle, tmp_path)
    config = text_format.Parse((home / "config.pbtxt").read_text(), messages.ModelConfig())
    graph = onnx.load(str(home / "1" / config.default_model_filename)).graph
    types: dict[int, int] = {onnx.TensorProto.UINT8: messages.TYPE_UINT8, onnx.TensorProto.FLOAT: messages.TYPE_FP32}
    for said, actual in ((config.input, graph.input), (config.output, graph.output)):
        assert [v.name for v in said] == [v.name for v in actual]
        assert [list(v.dims) for v in said] == [onnx_dims(v) for v in actual]
        assert [v.data_type for v in said] == [types[v.type.tensor_type.elem_type] for v in actual]
    assert (config.output[0].label_filename, config.output[1].label_filename) == ("labels.txt", "")


def test_warm_up_runs(messages: Any, bundle: Bundle, tmp_path: Path) -> None:
    """Every warm-up sample is a batch that the graph in the repository takes, and gives what the config promises."""
    home = export_triton(bundle, tmp_path, settings=TritonSettings(preferred_batch_sizes=(2,), max_batch_size=2))
    config = text_format.Parse((home / "config.pbtxt").read_text(), messages.ModelConfig())
    session = onnxruntime.InferenceSession(
        str(home / "1" / config.default_model_filename), providers=["CPUExecutionProvider"]
    )
    assert [sample.batch_size for sample in config.model_warmup] == [1, 2]
    for sample in config.model_warmup:
        (name,) = sample.inputs
        assert sample.inputs[name].data_type == messages.TYPE_UINT8
        assert sample.inputs[name].random_data
        shape = [sample.batch_size, *sample.inputs[name].dims]
        outputs = session.run([o.name for o in config.output], {name: np.zeros(shape, np.uint8)})
        for output, said in zip(outputs, config.output, strict=True):
            assert output.dtype == np.float32
            assert all(d in (-1, n) for d, n in zip(said.dims, output.shape[1:], strict=True))


@given(
    instances=st.integers(1, 64),
    max_batch_size=st.integers(1, 256),
    delay=st.floats(0, 60_000),
    device=st.sampled_from(["auto", "cpu", "gpu"]),
    data=st.data(),
)
def test_every_setting_parses(
    messages: Any, bundle: Bundle, instances: int, max_batch_size: int, delay: float, device: Any, data: st.DataObject
) -> None:
    preferred = tuple(sorted(data.draw(st.sets(st.integers(1, max_batch_size), max_size=5))))
    settings = TritonSettings(
        device=device,
        instances=instances,
        max_batch_size=max_batch_size,
        preferred_batch_sizes=preferred,
        max_queue_delay_ms=delay,
    )
    text = triton_config(bundle.info, bundle.variant("fp32"), settings)
    config = text_format.Parse(text, messages.ModelConfig())
    assert config.HasField("dynamic_batching")
    assert tuple(config.dynamic_batching.preferred_batch_size) == preferred
    assert config.instance_group[0].count == instances
    assert messages.ModelInstanceGroup.Kind.Name(config.instance_group[0].kind) == f"KIND_{device.upper()}"
    assert {s.batch_size for s in config.model_warmup} == {1, *preferred}


def test_a_tensorrt_engine(messages: Any, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"an engine")
    engine = Variant(name="fp16", format="tensorrt", path="model.plan", files={"model.plan": "unread"})
    made = replace(bundle, path=tmp_path, info=replace(bundle.info, variants=(engine,)))
    home = export_triton(made, tmp_path / "out", settings=TritonSettings(variant="fp16"))
    config = text_format.Parse((home / "config.pbtxt").read_text(), messages.ModelConfig())
    assert (config.platform, config.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert (home / "1" / "model.plan").read_bytes() == b"an engine"
    with pytest.raises(BundleError, match="runs on GPUs only"):
        export_triton(made, tmp_path / "cpu", settings=TritonSettings(variant="fp16", device="cpu"))
    assert not (tmp_path / "cpu").exists()


def test_weights_beside_the_graph_come_too(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "large").mkdir(parents=True)
    model = onnx.load(str(bundle.path / "model.onnx"))
    onnx.save_model(
        model,
        str(source / "large" / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=1024,
    )
    files = {"large/model.onnx": "unread", "large/model.onnx.data": "unread"}
    variant = Variant(name="fp32", format="onnx", path="large/model.onnx", files=files)
    home = export_triton(replace(bundle, path=source, info=replace(bundle.info, variants=(variant,))), tmp_path / "out")
    assert 'default_model_filename: "large/model.onnx"' in (home / "config.pbtxt").read_text()
    golden = bundle.golden
    session = onnxruntime.InferenceSession(str(home / "1" / "large" / "model.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"clips": golden.clips})
    np.testing.assert_allclose(logits, golden.logits, rtol=1e-3, atol=1e-3)


def test_in_place_the_folder_serves_both(copied: Bundle) -> None:
    root = copied.path.parent.parent
    before = {p: p.read_bytes() for p in copied.path.iterdir()}
    assert export_triton(copied, root) == copied.path.parent
    assert {p.name for p in copied.path.parent.iterdir()} == {"1", "config.pbtxt", "labels.txt"}
    assert {p: p.read_bytes() for p in copied.path.iterdir()} == before
    assert list(find_bundles(root).bundles.values()) == [copied.path]
    export_triton(copied, root)  # again: only the config is written


def test_a_second_version(messages: Any, bundle: Bundle, tmp_path: Path) -> None:
    home = export_triton(bundle, tmp_path)
    export_triton(replace(bundle, info=replace(bundle.info, version="2")), tmp_path)
    config = text_format.Parse((home / "config.pbtxt").read_text(), messages.ModelConfig())
    assert list(config.version_policy.specific.versions) == [2]
    assert {p.name for p in home.iterdir()} == {"1", "2", "config.pbtxt", "labels.txt"}


def test_a_version_that_exists(bundle: Bundle, tmp_path: Path) -> None:
    home = export_triton(bundle, tmp_path)
    (home / "1" / "model.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"1 exists; --overwrite"):
        export_triton(bundle, tmp_path)
    assert (home / "1" / "model.onnx").read_bytes() == b"another"
    export_triton(bundle, tmp_path, overwrite=True)
    assert (home / "1" / "model.onnx").read_bytes() == (bundle.path / "model.onnx").read_bytes()
    assert {p.name for p in home.iterdir()} == {"1", "config.pbtxt", "labels.txt"}


@pytest.mark.parametrize("version", ["0", "01", "1.2", "v1"])
def test_versions_that_triton_passes_over(bundle: Bundle, tmp_path: Path, version: str) -> None:
    with pytest.raises(BundleError, match="positive integers"):
        export_triton(replace(bundle, info=replace(bundle.info, version=version)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_variants_that_triton_does_not_execute(bundle: Bundle, tmp_path: Path) -> None:
    variant = Variant(name="int8", format="openvino", path="model.xml", files={"model.xml": "unread"})
    other = replace(bundle, info=replace(bundle.info, variants=(*bundle.info.variants, variant)))
    with pytest.raises(BundleError, match="'int8' is openvino; Triton executes onnx and tensorrt"):
        export_triton(other, tmp_path, settings=TritonSettings(variant="int8"))
    with pytest.raises(BundleError, match="no variant 'fp64'; it has fp32"):
        export_triton(bundle, tmp_path, settings=TritonSettings(variant="fp64"))
    assert list(tmp_path.iterdir()) == []


def test_graphs_from_elsewhere(copied: Bundle, tmp_path: Path) -> None:
    graph = copied.path / "model.onnx"
    info = copied.info
    longer = replace(info.clip_spec, num_frames=9)
    for other in (replace(info, num_classes=4), replace(info, feature_dim=7), replace(info, clip_spec=longer)):
        with pytest.raises(BundleError, match=r"model\.onnx: inputs and outputs are"):
            check_graph(graph, other)
    graph.write_bytes(b"\xffno graph")
    with pytest.raises(BundleError, match="is no ONNX graph"):
        export_triton(copied, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_copy_that_fails_leaves_nothing_to_serve(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(BundleError, match="No space left"):
        export_triton(bundle, tmp_path)
    assert list((tmp_path / bundle.info.name).iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"device": "tpu"}, "not one of auto, cpu, gpu"),
        ({"instances": 0}, "at least 1"),
        ({"max_batch_size": 0}, "at least 1"),
        ({"preferred_batch_sizes": (8, 32)}, "from 1 to max_batch_size 16"),
        ({"preferred_batch_sizes": (0,)}, "from 1 to max_batch_size"),
        ({"max_queue_delay_ms": -1.0}, "from 0 to 60000"),
        ({"max_queue_delay_ms": float("nan")}, "from 0 to 60000"),
    ],
)
def test_settings_that_cannot_work(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TritonSettings(**wrong)
