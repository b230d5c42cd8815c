"""ONNX files of others: sizes, layouts and outputs are read from the graph, or asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tenclip_api.errors import BundleError, CheckpointError
from tenclip_training.distill import load_teacher
from tenclip_training.distill.choices import TeacherRuntime

from .onnx_files import WEIGHTS, write_color_classifier

RUNTIMES: tuple[TeacherRuntime, ...] = ("openvino", "onnxruntime")


def describe(path: Path, **about: Any) -> None:
    path.with_suffix(".json").write_text(json.dumps(about))


def frames(side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)


def expected(rgb: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    pixels = (rgb / 255 - np.array(mean)) / np.array(std)
    logits: np.ndarray = pixels.mean((1, 2)) @ WEIGHTS.T
    return logits


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("layout", "shape"), [("NCHW", ("N", 3, 16, 16)), ("NHWC", (1, 16, 16, 3))])
def test_layouts(tmp_path: Path, runtime: TeacherRuntime, layout: str, shape: tuple[Any, ...]) -> None:
    path = write_color_classifier(tmp_path / "colors.onnx", shape, layout=layout)
    teacher = load_teacher(str(path), runtime=runtime)
    assert teacher.spec.crop == 16
    assert teacher(frames()) == pytest.approx(expected(frames(), *IMAGENET), abs=1e-4)
    assert "does not say how its frames are normalised" in teacher.notes[0]


def test_what_the_file_beside_it_says(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "colors.onnx")
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.5, 0.25)
    describe(path, mean=mean, std=std, color_order="bgr", labels=["a", "b", "c", "d"])
    teacher = load_teacher(str(path))
    assert teacher.labels == ("a", "b", "c", "d")
    assert teacher(frames()) == pytest.approx(expected(frames()[..., ::-1], mean, std), abs=1e-4)
    assert teacher.notes == ()


def test_a_graph_that_normalises_by_itself(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "raw.onnx", (1, 16, 16, 3), layout="NHWC", dtype=TensorProto.UINT8)
    raw = frames().mean((1, 2)) @ WEIGHTS.T
    for runtime in RUNTIMES:
        assert load_teacher(str(path), runtime=runtime)(frames()) == pytest.approx(raw, rel=1e-4)


def test_probabilities_become_logits(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "soft.onnx", softmax=True)
    teacher = load_teacher(str(path))
    found, logits = teacher(frames()), expected(frames(), *IMAGENET)
    assert found - found[:, :1] == pytest.approx(logits - logits[:, :1], abs=1e-3)
    assert "gives probabilities" in teacher.notes[-1]


def test_a_free_side_is_what_the_file_beside_it_says_or_224(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "free.onnx", ("N", 3, "H", "W"))
    assert load_teacher(str(path)).spec.crop == 224
    describe(path, crop=20)
    teacher = load_teacher(str(path))
    assert (teacher.spec.crop, teacher.spec.resize.short_edge) == (20, 23)
    assert teacher(frames(20)) == pytest.approx(expected(frames(20), *IMAGENET), abs=1e-4)


def test_the_logits_among_several_outputs(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "many.onnx", outputs=("features", "scores"))
    with pytest.raises(CheckpointError, match=r"2 outputs \(features, scores\); say which are the logits"):
        load_teacher(str(path))
    describe(path, output="scores")
    assert load_teacher(str(path)).num_classes == 4
    describe(path, output="nothing")
    with pytest.raises(CheckpointError, match="has no output 'nothing'; its outputs are features, scores"):
        load_teacher(str(path))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("shape", "about", "message"),
    [
        (("N", "C", "H", "W"), {}, "does not tell where the channels are"),
        ((1, 3, 16, 3), {}, "does not tell where the channels are"),
        ((1, 3, 16, 16), {"layout": "NHWC"}, r"layout NHWC, but colors\.onnx takes \[1,3,16,16\]"),
        ((1, 3, 16, 16), {"layout": "CHW"}, "layout 'CHW' is not one of NCHW, NHWC"),
        ((1, 3, 16, 16), {"crop": 20}, r"crop 20, but colors\.onnx takes frames of 16x16 alone"),
        ((1, 3, 16, 16), {"crop": "20"}, "crop must be a whole number of pixels, got '20'"),
        ((1, 3, 16, 24), {}, "takes frames of 16x24; a teacher takes squares"),
        ((1, 3, 16, 16), {"means": [0, 0, 0]}, "has no field means; its fields are crop"),
        ((1, 3, 16, 16), {"std": [0, 1, 1]}, "std must be positive"),
        ((1, 3, 16, 16), {"labels": ["a", "b"]}, "gives 4 numbers a frame, and 2 labels are given"),
        ((1, 3, 16, 16), {"labels": "a b"}, "labels must be a list of names"),
    ],
)
def test_what_does_not_fit(
    tmp_path: Path, runtime: TeacherRuntime, shape: tuple[Any, ...], about: dict[str, Any], message: str
) -> None:
    path = write_color_classifier(tmp_path / "colors.onnx", shape)
    if about:
        describe(path, **about)
    with pytest.raises(CheckpointError, match=message):
        load_teacher(str(path), runtime=runtime)


def test_a_channel_order_that_only_the_file_can_tell(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "colors.onnx", ("N", "C", "H", "W"), layout="NCHW")
    describe(path, layout="NCHW", crop=16)
    assert load_teacher(str(path))(frames()) == pytest.approx(expected(frames(), *IMAGENET), abs=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_is_no_graph(tmp_path: Path, runtime: TeacherRuntime) -> None:
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(BundleError, match=r"text\.onnx: O.* cannot load it"):
        load_teacher(str(tmp_path / "text.onnx"), runtime=runtime)


def test_a_description_that_is_no_json(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "colors.onnx")
    for text, message in (("{", "cannot be read as JSON"), ("[]", "is no JSON object")):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            load_teacher(str(path))


def test_frames_have_three_channels(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "infrared.onnx", (1, 4, 16, 16), channels=4)
    with pytest.raises(CheckpointError, match="in which nothing is 3 channels"):
        load_teacher(str(path), runtime="onnxruntime")


def test_clips_and_text_are_no_frames(tmp_path: Path) -> None:
    clips = write_color_classifier(tmp_path / "clips.onnx", (1, 1, 16, 16, 3), layout="NTHWC")
    with pytest.raises(CheckpointError, match="name its folder"):
        load_teacher(str(clips), runtime="onnxruntime")
    numbers = write_color_classifier(tmp_path / "int.onnx", (1, 3, 16, 16), dtype=TensorProto.INT64)
    with pytest.raises(CheckpointError, match="takes int64; frames are float32"):
        load_teacher(str(numbers), runtime="onnxruntime")


def test_maps_are_no_logits(tmp_path: Path) -> None:
    path = write_color_classifier(tmp_path / "map.onnx")
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == "ReduceMean")
    node.op_type, node.input[:] = "Identity", node.input[:1]
    del node.attribute[:]
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    gemm.op_type, gemm.input[:] = "Identity", gemm.input[:1]
    del gemm.attribute[:]
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3, 16, 16]))
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match=r"its output is \[1, 3, 16, 16\], and logits of a frame are"):
        load_teacher(str(path))
