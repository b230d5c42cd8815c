"""Teachers from checkpoints and bundles, each with its own input, on a runtime of the server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenclip_api.errors import CheckpointError, InvalidRequest, ModelError
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.loaders import load_any
from tenclip_training.omni import teachers
from tenclip_training.omni.score_store import Decoding, ScoreStore, score_files
from tenclip_training.omni.teacher_clips import teacher_clips, teacher_frames
from tenclip_training.omni.teachers import Ensemble, Teacher, open_teachers, refuse_images
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.protocols import PROTOCOLS
from tests.tenclip_training.omni.colors import CLASSES, COLORS, painted, train_teacher, write_video


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SetVideo]:
    """An image of each class."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    found = {}
    for i, (name, color) in enumerate(COLORS.items()):
        Image.fromarray(painted(color, i, 50, 80)).save(folder / f"{name}.png")
        found[name] = SetVideo(name=name, path=folder / f"{name}.png")
    return found


def open_teacher(name: str, **options: Any) -> Teacher:
    """Opened once for all tests."""
    return teachers.open_teacher(name, **options)


def best(teacher_file: Path, video: SetVideo, **options: object) -> str:
    teacher = open_teacher(str(teacher_file), threads=1, **options)
    clips = teacher_clips(video, spec=teacher.spec, protocol=teacher.protocol, scratch=Path("/nowhere"))
    return teacher.labels[int(teacher.scores(clips, of=video.name).argmax())]


def test_a_teacher_of_frames_knows_images_and_videos(
    color_teacher: Path, pictures: dict[str, SetVideo], tmp_path: Path
) -> None:
    assert [best(color_teacher, pictures[name]) for name in CLASSES] == list(CLASSES)
    write_video(tmp_path / "v.mp4", ["red", "green"])
    video = SetVideo(name="v", path=tmp_path / "v.mp4", start_seconds=1.0, end_seconds=2.0)
    assert best(color_teacher, video) == "green", "the part that the row names"
    teacher = open_teacher(str(color_teacher), threads=1)
    assert teacher.of_frames
    whole = SetVideo(name="v", path=tmp_path / "v.mp4")
    frames = teacher_frames(whole, spec=teacher.spec, rate=2.0, scratch=tmp_path / "scratch")
    assert frames.seconds == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert frames.duration == pytest.approx(2.0)
    scores = teacher.frame_scores(frames.frames, of="v")
    assert [CLASSES[i] for i in scores.argmax(1)] == ["red", "red", "green", "green"]
    assert scores.sum(1) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("spec", [{"crop": 48}, {"color_order": "bgr"}])
def test_a_teacher_has_its_own_input(tmp_path: Path, pictures: dict[str, SetVideo], spec: dict[str, object]) -> None:
    """Another size, another order of channels: blue and red are told apart all the same."""
    other = train_teacher(tmp_path / "other.pt", **spec)  # type: ignore[arg-type]
    assert [best(other, pictures[name]) for name in CLASSES] == list(CLASSES)
    teacher = open_teacher(str(other), threads=1)
    frames = np.stack([painted(COLORS[name], 3, teacher.spec.crop, teacher.spec.crop) for name in CLASSES])
    assert teacher.frame_scores(frames, of="x").argmax(1).tolist() == [0, 1, 2]


def test_scores_are_those_of_evaluation(color_clip_teacher: Path, tmp_path: Path) -> None:
    from tenclip_data.manifest import read_manifest

    for i, name in enumerate(CLASSES):
        write_video(tmp_path / name / f"{i}.mp4", [name, "grey"])
    manifest = read_manifest(tmp_path, held_out=None)
    teacher = open_teacher(str(color_clip_teacher), threads=1)
    assert not teacher.of_frames
    samples = manifest.samples
    videos = [SetVideo(name=s.key, path=s.path) for s in samples]
    scores, failures = score_files(Ensemble((teacher,)), videos, tmp_path / "scores", Decoding())
    assert failures == []
    expected = evaluate(color_clip_teacher, manifest, split="").scores
    for sample, row in zip(samples, expected, strict=True):
        assert row.name == sample.key
        assert scores[sample.key] == pytest.approx(row.video, abs=1e-5)


def test_several_teachers_answer_by_their_mean(
    color_teacher: Path, tmp_path: Path, pictures: dict[str, SetVideo]
) -> None:
    """The second one knows the classes in another order."""
    other = train_teacher(tmp_path / "other.pt", labels=("red", "blue", "green"), steps=8)
    both = open_teachers([str(color_teacher), str(other)], threads=1)
    assert both.labels == CLASSES
    mean = both.mean([np.array([0.6, 0.3, 0.1], np.float32), np.array([0.5, 0.2, 0.3], np.float32)])
    assert mean == pytest.approx([0.4, 0.3, 0.3])
    videos = list(pictures.values())
    scores, _ = score_files(both, videos, tmp_path / "scores", Decoding())
    one, two = (ScoreStore(tmp_path / "scores", t).read(videos)[0]["red"] for t in both.teachers)
    assert scores["red"] == pytest.approx((one + two[[1, 2, 0]]) / 2)
    strange = train_teacher(tmp_path / "strange.pt", labels=("red", "blue"), steps=1)
    with pytest.raises(InvalidRequest, match=r"do not know the same classes \(green, \.\.\.\)"):
        open_teachers([str(color_teacher), str(strange)], threads=1)


def test_a_teacher_that_gives_no_numbers_is_named(
    color_teacher: Path, tmp_path: Path, pictures: dict[str, SetVideo]
) -> None:
    """Weights are finite, as loaders see to, and too large: what comes out of them is not."""
    loaded = load_any(color_teacher)
    with torch.no_grad():
        loaded.model.fc.weight.fill_(3e38)
        loaded.model.fc.bias.copy_(torch.tensor([3e38, -3e38, 0.0]))
    save_checkpoint(tmp_path / "nan.pt", loaded.model, clip_spec=loaded.clip_spec, labels=CLASSES, provenance={})
    ensemble = open_teachers([str(tmp_path / "nan.pt")], threads=1)
    with pytest.raises(ModelError, match=r"nan.pt gives scores that are no numbers \(NaN or infinity\) for "):
        score_files(ensemble, list(pictures.values()), tmp_path / "scores", Decoding())
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ModelError, match="no numbers"):
        ensemble.teachers[0].frame_scores(frames, of="x")


def test_only_networks_of_frames_judge_images(color_clip_teacher: Path) -> None:
    ensemble = open_teachers([str(color_clip_teacher)], threads=1)
    refuse_images(ensemble, 0)
    with pytest.raises(InvalidRequest, match=r"3 of the files are images, and .*clips.pt looks over time"):
        refuse_images(ensemble, 3)


def test_what_is_no_teacher(color_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="neither a bundle's folder nor a checkpoint"):
        open_teacher("resnet50")
    (tmp_path / "t.pt").write_text("no checkpoint")
    with pytest.raises(CheckpointError):
        open_teacher(str(tmp_path / "t.pt"))
    with pytest.raises(InvalidRequest, match="protocol 'every' is not one of"):
        open_teacher(str(color_teacher), protocol="every")
    loaded = load_any(color_teacher)
    nameless = tmp_path / "nameless.pt"
    save_checkpoint(nameless, loaded.model, clip_spec=loaded.clip_spec, labels=None, provenance={})
    with pytest.raises(InvalidRequest, match="does not name its classes"):
        open_teacher(str(nameless))
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    named = open_teacher(str(nameless), labels=tmp_path / "names.txt", protocol="center-clip", threads=1)
    assert named.labels == ("a", "b", "c")
    assert named.protocol == PROTOCOLS["center-clip"]
    (tmp_path / "two.txt").write_text("a\nb\n")
    with pytest.raises(InvalidRequest, match=r"has 2 classes, and teacher .* has 3"):
        open_teacher(str(nameless), labels=tmp_path / "two.txt", threads=1)
    with pytest.raises(InvalidRequest, match="names its classes itself"):
        open_teacher(str(color_teacher), labels=tmp_path / "names.txt", threads=1)


def test_another_protocol_has_scores_of_its_own(color_teacher: Path) -> None:
    own = open_teacher(str(color_teacher), threads=1)
    assert own.folder != replace(own, protocol=PROTOCOLS["center-clip"]).folder
