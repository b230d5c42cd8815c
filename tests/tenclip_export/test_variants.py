"""Reduced precision, torch programs, TensorRT's rules: each made from the bundle's own graph, and what refuses them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tenclip_api.errors import BundleError, InvalidRequest, MissingDependency, ParityError, VideoError
from tenclip_export import bundle_writer, variants
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.calibration import calibration_clips
from tenclip_export.golden import waves_clip
from tenclip_export.tensorrt_engine import configure, source_graph, write_engine
from tenclip_export.variants import BOUNDS, Wanted, wanted_variants
from tenclip_export.variants.half import write_half
from tenclip_export.variants.int8 import MIN_CLIPS, Bound, split_clips
from tenclip_serving.models.golden_replay import replay
from tenclip_serving.models.repository import load_model
from tenclip_serving.runtimes import create_runtime, cuda
from tenclip_serving.runtimes.tensorrt import engine_key
from tenclip_serving.runtimes.torch import TorchRuntime
from tenclip_training.models import VideoModel
from tenclip_video.bundle import Bundle, Tolerance, read_bundle
from tenclip_video.parity import relative_l2
from tenclip_video.spec import ClipSpec

from ..tenclip_serving.helpers import make_video


def moving_clips(count: int, frames: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack([waves_clip(frames, size, np.random.default_rng(100 + i)) for i in range(count)])


def copy_of_graph(bundle: Bundle) -> Callable[[VideoModel, ClipSpec, Path], tuple[Path, ...]]:
    """`export_onnx` of the model of `bundle`, which has been exported already."""

    def copy(model: VideoModel, spec: ClipSpec, path: Path) -> tuple[Path, ...]:
        path.write_bytes((bundle.path / "model.onnx").read_bytes())
        return (path,)

    return copy


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    monkeypatch.setattr(bundle_writer, "export_onnx", copy_of_graph(bundle))


@pytest.fixture(scope="module")
def reduced(bundle: Bundle, model: VideoModel, spec: ClipSpec, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With every variant that this machine can make."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_writer, "export_onnx", copy_of_graph(bundle))
        # A network of random weights answers clips outside its calibration by chance.
        patch.setitem(variants.BOUNDS, "int8", Tolerance(logits=2.0, features=2.0))
        patch.setattr(variants, "INT8_BOUND", Bound(top1_agreement=0.5, logits=0.3))
        return export_bundle(
            model,
            spec,
            tmp_path_factory.mktemp("reduced"),
            name="m",
            variants=["fp32", "fp16", "bf16", "int8"],
            calibration=moving_clips(MIN_CLIPS, spec.num_frames, spec.crop),
        )


@pytest.fixture(scope="module")
def programs(bundle: Bundle, model: VideoModel, spec: ClipSpec, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With torch programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_writer, "export_onnx", copy_of_graph(bundle))
        return export_bundle(
            model,
            spec,
            tmp_path_factory.mktemp("programs"),
            name="m",
            variants=["bf16"],
            formats=["torch"],
            runtimes=["onnxruntime", "torch"],
        )


class TestBundle:
    def test_every_variant_is_listed_with_its_own_tolerance(self, reduced: Bundle) -> None:
        found = {(v.name, v.format): v for v in read_bundle(reduced.path).info.variants}
        assert set(found) == {("fp32", "onnx"), ("fp16", "onnx"), ("bf16", "onnx"), ("int8", "openvino")}
        assert found["fp32", "onnx"].tolerance is None
        assert found["fp16", "onnx"].tolerance == BOUNDS["fp16"]
        int8 = found["int8", "openvino"].tolerance
        assert int8 is not None
        assert 0.1 <= int8.logits <= 2 * 1.3
        assert sorted(found["int8", "openvino"].files) == ["openvino/int8.bin", "openvino/int8.xml"]

    def test_parity_names_variant_and_runtime(self, reduced: Bundle) -> None:
        parity = {(p.variant, p.runtime): p for p in reduced.info.parity}
        assert {("fp16", "onnxruntime"), ("fp16", "openvino"), ("int8", "openvino")} <= set(parity)
        assert 1e-5 < parity["fp16", "onnxruntime"].relative_l2 < BOUNDS["fp16"].logits
        assert ("bf16", "onnxruntime") not in parity, "it has no kernels for it"

    @pytest.mark.parametrize(
        ("runtime", "variant"),
        [("onnxruntime", "fp16"), ("openvino", "bf16"), ("openvino", "int8")],
    )
    def test_each_is_served_when_asked_for(self, reduced: Bundle, runtime: Any, variant: Any) -> None:
        model = load_model(reduced.path, runtime=runtime, variant=variant)
        assert (model.runtime.name, model.variant, model.runtime_reason) == (runtime, variant, "asked for")

    def test_auto_takes_full_precision_where_nothing_was_measured(self, reduced: Bundle) -> None:
        assert load_model(reduced.path).variant == "fp32"

    def test_reduced_precision_would_not_pass_as_float32(self, reduced: Bundle) -> None:
        with pytest.raises(ParityError, match="drifts"):
            replay(reduced, create_runtime("openvino", reduced.path / "openvino" / "int8.xml"))

    def test_a_runtime_that_is_not_here(self, reduced: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda, "gpu_name", lambda: None)
        for runtime in ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"):
            with pytest.raises(MissingDependency, match=f"runtime {runtime} needs .*what works here: openvino"):
                load_model(reduced.path, runtime=runtime)
            with pytest.raises(MissingDependency):
                create_runtime(runtime, reduced.path / "model.onnx")


def test_a_gpu_without_its_libraries(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would run on the CPU without a word; a bundle is then served by another runtime, which says so."""
    if cuda.gpu_name() is not None:
        pytest.skip("this machine has a GPU, with its libraries")
    monkeypatch.setattr(cuda, "gpu_name", lambda: "NVIDIA Imagined")
    with pytest.raises(MissingDependency, match="onnxruntime-cuda"):
        create_runtime("onnxruntime-cuda", bundle.path / "model.onnx")
    model = load_model(bundle.path)
    assert model.runtime.name in ("openvino", "onnxruntime")
    with pytest.raises(MissingDependency, match="could not start CUDAExecutionProvider"):
        load_model(bundle.path, runtime="gpu")


def test_a_variant_that_the_bundle_lacks(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no variant int8, only fp32; `tenclip export --variant int8` makes one"):
        load_model(bundle.path, variant="int8")
    with pytest.raises(BundleError, match=r"formats: onnx; runtimes: torch"):
        load_model(bundle.path, runtime="torch")


@pytest.mark.usefixtures("cheap")
class TestRefused:
    def test_figures_are_told_and_no_files_stay(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        strict = Tolerance(logits=1e-6, features=1e-6)
        monkeypatch.setitem(variants.BOUNDS, "fp16", strict)
        monkeypatch.setattr(variants, "INT8_BOUND", Bound(top1_agreement=1.0, logits=1e-6))
        calibration = moving_clips(MIN_CLIPS, spec.num_frames, spec.crop)
        out = export_bundle(
            model, spec, tmp_path, name="m", variants=["fp16", "int8"], calibration=calibration, measure=False
        )
        assert [v.name for v in out.info.variants] == ["fp32"]
        half, int8 = out.info.provenance["refused_variants"]
        assert (half["variant"], int8["variant"]) == ("fp16", "int8")
        assert "logits 1e-06" in half["reason"]
        assert "openvino at crop 32" in half["reason"]
        assert "on 4 held-out clips int8 has the best class of float32 on" in int8["reason"]
        assert sorted(p.name for p in out.path.rglob("*") if p.is_file()) == [
            "bundle.json", "golden.npz", "labels.txt", "model.onnx",
        ]  # fmt: skip
        assert "refused_variants" in json.loads((out.path / "bundle.json").read_text())["provenance"]

    def test_one_that_cannot_be_made_costs_no_other(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cannot(graph: Path, target: Path, precision: str) -> tuple[Path, ...]:
            if precision == "fp16":
                raise BundleError("conv.weight holds 1e+05, more than FLOAT16 can")
            return write_half(graph, target, "bf16")

        monkeypatch.setattr(variants, "write_half", cannot)
        out = export_bundle(model, spec, tmp_path, name="m", variants=["fp16", "bf16"], measure=False)
        assert [v.name for v in out.info.variants] == ["fp32", "bf16"]
        (half,) = out.info.provenance["refused_variants"]
        assert half == {"variant": "fp16", "reason": "conv.weight holds 1e+05, more than FLOAT16 can"}

    def test_int8_wants_clips(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="give videos or folders with --calibration"):
            export_bundle(model, spec, tmp_path, name="m", variants=["int8"])
        few = moving_clips(MIN_CLIPS - 1, spec.num_frames, spec.crop)
        with pytest.raises(InvalidRequest, match=f"at least {MIN_CLIPS} clips .* got {MIN_CLIPS - 1}"):
            export_bundle(model, spec, tmp_path, name="m", variants=["int8"], calibration=few)
        assert list(tmp_path.iterdir()) == []


def test_calibration_clips_of_a_folder(spec: ClipSpec, tmp_path: Path) -> None:
    folder, empty = tmp_path / "class", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    make_video(folder / "a.mp4", num_frames=12)
    make_video(folder / "b.mp4", num_frames=12)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").touch()
    clips = calibration_clips([tmp_path], spec)
    assert clips.dtype == np.uint8
    assert clips.shape == (4, spec.num_frames, spec.crop, spec.crop, 3)
    with pytest.raises(VideoError):
        calibration_clips([folder / "broken.mp4"], spec)
    with pytest.raises(InvalidRequest, match=r"no video that can be used in .*empty; calibration needs some"):
        calibration_clips([empty], spec)


def test_unknown_names() -> None:
    with pytest.raises(InvalidRequest, match="no variant int4; there are fp32, fp16, bf16, int8"):
        wanted_variants(["int4"], [])
    with pytest.raises(InvalidRequest, match="no format mlir; there are onnx, torch, tensorrt"):
        wanted_variants([], ["mlir"])


def test_what_is_wanted() -> None:
    assert wanted_variants([], []) == wanted_variants(["fp32"], ["onnx"]) == []
    assert wanted_variants(["int8", "fp16"], ["torch"]) == [
        Wanted(precision="fp16", format="onnx"),
        Wanted(precision="int8", format="openvino"),
        Wanted(precision="fp32", format="torch"),
        Wanted(precision="fp16", format="torch"),
    ]


def test_held_out_clips_are_whole_pairs() -> None:
    clips = np.arange(32, dtype=np.uint8).reshape(32, 1, 1, 1, 1)
    calibration, held_out = split_clips(clips)
    assert held_out.ravel().tolist() == [6, 7, 14, 15, 22, 23, 30, 31]
    assert sorted([*calibration.ravel(), *held_out.ravel()]) == list(range(32))


@pytest.mark.usefixtures("locked_folders")
def test_calibration_folders_that_cannot_be_listed(
    spec: ClipSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "locked").mkdir()
    with pytest.raises(InvalidRequest, match=r"no video that can be .*locked: cannot be listed: Permission denied"):
        calibration_clips([tmp_path], spec)
    assert caplog.messages == [f"{tmp_path / 'locked'}: cannot be listed: Permission denied"]


def test_torch_programs(programs: Bundle) -> None:
    parity = {(p.variant, p.runtime): p for p in programs.info.parity}
    assert parity["fp32", "torch"].relative_l2 < 1e-5
    assert 1e-4 < parity["bf16", "torch"].relative_l2 < BOUNDS["bf16"].logits
    found = {(v.name, v.format): v for v in programs.info.variants}
    assert found["fp32", "torch"].tolerance is None
    # The bfloat16 graph: ONNX Runtime has no kernels for it, and no other runtime was asked.
    assert set(found) == {("fp32", "onnx"), ("fp32", "torch"), ("bf16", "torch")}
    assert "none of onnxruntime, torch executes it" in programs.info.provenance["refused_variants"][0]["reason"]
    for variant in ("fp32", "bf16"):
        model = load_model(programs.path, runtime="torch", variant=variant, threads=1)
        assert (model.runtime.name, model.variant) == ("torch", variant)
    assert load_model(programs.path).runtime.name != "torch", "only when it is asked for"


def test_a_gpu_that_torch_cannot_use_is_said_once(
    programs: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "gpu_name", lambda: "NVIDIA Imagined")
    path = programs.path / next(v.path for v in programs.info.variants if v.format == "torch")
    create_runtime("torch", path, threads=1)
    create_runtime("torch", path, threads=1)
    said = [record for record in caplog.records if "NVIDIA Imagined" in record.message]
    assert [record.levelname for record in said] == ["WARNING"]
    assert "it computes on the CPU, and not on the NVIDIA Imagined of this machine; " in said[0].message


def test_programs_are_fused_and_have_no_paths(programs: Bundle) -> None:
    path = next(v.path for v in programs.info.variants if (v.name, v.format) == ("bf16", "torch"))
    with zipfile.ZipFile(programs.path / path) as archive:
        (graph,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("models/model.json"))
    assert "tenclip.conv2d_relu" in graph
    assert "batch_norm" not in graph
    assert str(Path(__file__).parents[2]) not in graph


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graphs_give_what_plain_execution_gives(programs: Bundle) -> None:
    path = next(v.path for v in programs.info.variants if (v.name, v.format) == ("fp32", "torch"))
    spec = programs.info.clip_spec
    on_gpu = TorchRuntime(programs.path / path)
    assert on_gpu.cuda is not None
    on_cpu = TorchRuntime(programs.path / path, device="cpu")
    rng = np.random.default_rng(0)
    for num in (2, 1, 2):  # the second time of a shape is a replay
        clips = rng.integers(0, 256, (num, spec.num_frames, spec.crop, spec.crop, 3), dtype=np.uint8)
        for actual, expected in zip(on_gpu.run(clips), on_cpu.run(clips), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)
    assert on_gpu.cuda.captured == {(num, spec.num_frames, spec.crop, spec.crop, 3) for num in (1, 2)}


def test_a_program_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"model\.pt2: torch cannot load it as an exported program"):
        create_runtime("torch", tmp_path / "model.pt2")


class TestHalf:
    def test_only_the_trunk_is_half(self, bundle: Bundle, tmp_path: Path) -> None:
        (path,) = write_half(bundle.path / "model.onnx", tmp_path / "half.onnx", "fp16")
        graph = onnx.load(path).graph
        types = {i.name: i.data_type for i in graph.initializer}
        convolutions = [n for n in graph.node if n.op_type == "Conv"]
        assert convolutions
        assert all(types[n.input[1]] == onnx.TensorProto.FLOAT16 for n in convolutions)
        head = next(n for n in graph.node if n.op_type == "MatMul")
        assert types[head.input[1]] == onnx.TensorProto.FLOAT
        assert {o.type.tensor_type.elem_type for o in graph.output} == {onnx.TensorProto.FLOAT}
        assert path.stat().st_size < 0.65 * (bundle.path / "model.onnx").stat().st_size

    def test_weights_that_float16_cannot_hold(self, bundle: Bundle, tmp_path: Path) -> None:
        graph = onnx.load(bundle.path / "model.onnx")
        weight = next(i for i in graph.graph.initializer if i.name.endswith("weight"))
        values = onnx.numpy_helper.to_array(weight).copy()
        values.flat[0] = 1e5
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(graph, tmp_path / "large.onnx")
        with pytest.raises(BundleError, match=r"holds 1e\+05, more than FLOAT16 can"):
            write_half(tmp_path / "large.onnx", tmp_path / "half.onnx", "fp16")
        assert write_half(tmp_path / "large.onnx", tmp_path / "half.onnx", "bf16")

    def test_bfloat16_on_openvino(self, bundle: Bundle, tmp_path: Path) -> None:
        (path,) = write_half(bundle.path / "model.onnx", tmp_path / "half.onnx", "bf16")
        outputs = create_runtime("openvino", path).run(bundle.golden.clips)
        assert 1e-4 < relative_l2(outputs.logits, bundle.golden.logits) < BOUNDS["bf16"].logits


class TestTensorRt:
    """What can be said without a GPU: which graph, which flags, which errors."""

    @staticmethod
    def fake(version: str) -> Any:
        flags = {"TF32": "tf32"} | ({} if version.startswith("11") else {"FP16": "fp16", "BF16": "bf16"})
        return SimpleNamespace(__version__=version, BuilderFlag=SimpleNamespace(**flags))

    class Config:
        def __init__(self) -> None:
            self.flags = {"tf32"}

        def set_flag(self, flag: str) -> None:
            self.flags.add(flag)

        def clear_flag(self, flag: str) -> None:
            self.flags.discard(flag)

    def test_ten_takes_flags_and_eleven_typed_graphs(self) -> None:
        graphs = {"fp32": Path("a.onnx"), "fp16": Path("b.onnx")}
        for version, precision, graph, flags in (
            ("10.14.1", "fp16", "a.onnx", {"fp16"}),
            ("10.14.1", "fp32", "a.onnx", set()),
            ("11.4.1", "fp16", "b.onnx", set()),
            ("11.4.1", "fp32", "a.onnx", set()),
        ):
            trt, config = self.fake(version), self.Config()
            configure(trt, config, precision)
            assert config.flags == flags, "never TensorFloat-32"
            assert source_graph(trt, precision, graphs) == Path(graph)
        with pytest.raises(BundleError, match=r"TensorRT 11\.4\.1 builds bf16 engines from bf16 graphs only"):
            source_graph(self.fake("11.4.1"), "bf16", graphs)

    def test_without_a_gpu_it_says_what_is_missing(
        self, spec: ClipSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cuda, "gpu_name", lambda: None)
        with pytest.raises(MissingDependency, match="TensorRT needs an NVIDIA GPU with its driver"):
            write_engine({"fp32": tmp_path / "model.onnx"}, tmp_path, spec)

    def test_engines_of_other_machines_are_passed_over(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        from tenclip_serving import runtimes

        here = engine_key("NVIDIA A10G", "11.4.1")
        assert here == "NVIDIA-A10G_trt11.4.1"
        monkeypatch.setattr(runtimes, "local_key", lambda: here)
        assert runtimes.reads("tensorrt", "tensorrt", f"tensorrt/{here}/fp16.plan")
        assert not runtimes.reads("tensorrt", "tensorrt", "tensorrt/NVIDIA-A100_trt11.4.1/fp16.plan")
