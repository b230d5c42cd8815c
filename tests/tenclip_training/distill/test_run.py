"""Distillation end to end: every student learns, runs go on to the bit, and what is dropped is counted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest, TenclipError
from tenclip_training.data.dataset import ClipDataset, TrainingClip
from tenclip_training.data.samplers import Draw
from tenclip_training.distill import DistillConfig, TeachingConfig, distill, load_teacher
from tenclip_training.distill import dataset as dataset_module
from tenclip_training.distill.choices import FrameChoice
from tenclip_training.distill.dataset import DistillDataset, TeachersView, TeachingClip
from tenclip_training.distill.dry_run import plan_distill
from tenclip_training.distill.method import DistillMethod
from tenclip_training.distill.targets import average_logits
from tenclip_training.distill.videos import read_unlabelled
from tenclip_training.runs.checkpoint import load_checkpoint, save_checkpoint
from tenclip_training.runs.config import TrainConfig, read_config, read_config_of
from tenclip_training.runs.sections import TransferConfig
from tenclip_training.runs.setup import build_dataset
from tenclip_training.runs.train import train
from tenclip_video.video import Video, open_video
from tests.tenclip_training.conftest import SPEC, write_bytes_as_video
from tests.videos import Recipe, make_video, remux

from .conftest import FRAME_SPEC, frame_model, save_frame_model

MakeConfig = Callable[..., DistillConfig]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_has_a_head_a_teacher_and_a_student_without(
    distill_config: MakeConfig, teacher_file: Path, scene_file: Path
) -> None:
    notes: list[str] = []
    config = distill_config(teachers=(str(teacher_file), f"scenes={scene_file}"), teacher_weights=(1.0, 0.5))
    result = distill(config, on_note=notes.append)
    last = load_checkpoint(result.run.last)
    assert last.labels is not None
    assert last.model.num_classes == 8
    assert last.labels[2:5] == ("objects: star", "scenes: 0", "scenes: 1")
    assert last.provenance["trained_by"] == "tenclip distill"
    assert result.student is not None
    student = load_checkpoint(result.student)
    assert (student.model.num_classes, student.labels) == (0, None)
    body = {name: value for name, value in last.model.state_dict().items() if not name.startswith("fc.")}
    assert equal(body, student.model.state_dict())
    assert any("teacher scenes:" in note and "bgr" in note for note in notes)
    about = json.loads((Path(config.out) / "teachers.json").read_text())
    assert [(t["name"], t["classes"], t["max_entropy"]) for t in about] == [("objects", 3, None), ("scenes", 5, None)]
    assert result.dropped == 0


@pytest.mark.parametrize(
    ("architecture", "model"),
    [
        ("resnets3d_r3d_10", {"width": 4}),
        ("r2plus1d_10", {"width": 4}),
        ("ir_csn_50", {"width": 4}),
        ("slowonly_r50", {"width": 4}),
        ("pytorchvideo_i3d_r50", {"width": 4}),
    ],
)
def test_any_student(distill_config: MakeConfig, architecture: str, model: dict[str, int]) -> None:
    result = distill(distill_config(architecture=architecture, model=model, epochs=1, warmup_epochs=0.0))
    assert result.student is not None
    assert load_checkpoint(result.student).model.architecture == architecture
    assert np.isfinite(result.run.history[0].loss)


@pytest.mark.parametrize(("flip", "mirrors"), [(None, True), (False, False), (True, True)])
def test_classes_of_a_teacher_do_not_decide_about_mirroring(
    distill_config: MakeConfig, tmp_path: Path, flip: bool | None, mirrors: bool
) -> None:
    save_checkpoint(
        tmp_path / "t.pt", frame_model(), clip_spec=FRAME_SPEC, labels=("left", "right", "up"), provenance={}
    )
    config = distill_config(teachers=(str(tmp_path / "t.pt"),), flip=flip)
    method = DistillMethod(config, (load_teacher(str(tmp_path / "t.pt"), runtime="torch"),))
    assert method.build_dataset(config, method.read_splits(config).train, SPEC).augmentation.flip is mirrors


@pytest.mark.parametrize("cached", [False, True])
def test_a_student_of_frames_learns_from_segments(distill_config: MakeConfig, teacher_file: Path, cached: bool) -> None:
    """Its clip is the one of `tenclip train --segments`, and the teachers see those frames."""
    spec = dataclasses.replace(SPEC, num_frames=1)
    config = distill_config(
        architecture="r2d_18", clip_spec=spec, segments=3, teacher_frames="all", epochs=1, warmup_epochs=0.0
    )
    method = DistillMethod(config, (load_teacher(str(teacher_file), runtime="torch", device=torch.device("cpu")),))
    train_split = method.read_splits(config).train
    of_a_class = tuple(dataclasses.replace(s, labels=train_split.labels[:1]) for s in train_split.samples)
    plain = build_dataset(config, dataclasses.replace(train_split, samples=of_a_class), spec)
    data = method.build_dataset(config, train_split, spec)
    if cached:
        data.fill_cache(1 << 30, threads=1)
    for visit in range(3):
        expected, clip = plain[visit, 0], data[visit, 0]
        assert isinstance(clip, TeachingClip)
        assert isinstance(expected, TrainingClip)
        assert len(clip.frames) == len(clip.seen[0]) == 3
        assert np.array_equal(clip.frames, expected.frames)
        assert len({frame.tobytes() for frame in clip.seen[0]}) == 3
    result = distill(config)
    assert result.student is not None
    assert np.isfinite(result.run.history[0].loss)
    assert plan_distill(config).frames_per_clip == 3


@pytest.mark.parametrize("sees", ["clip", "frame"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    distill_config: MakeConfig, tmp_path: Path, sees: str, steps: int
) -> None:
    config = distill_config(teacher_sees=sees, keep_percent=60.0, teacher_frame_count=2)
    whole = distill(config)
    parts = dataclasses.replace(config, out=str(tmp_path / "parts"))
    stopped = distill(parts, stop_after_steps=steps)
    assert (stopped.run.completed, stopped.student) == (False, None)
    resumed = distill(parts, resume=True)
    assert equal(weights(whole.run.last), weights(resumed.run.last))
    assert [h.facts for h in whole.run.history] == [h.facts for h in resumed.run.history]
    assert whole.run.history[0].facts["dropped"] > 0


def test_workers_and_memory_change_nothing(distill_config: MakeConfig, tmp_path: Path) -> None:
    plain = distill(distill_config())
    other = distill(distill_config(out=str(tmp_path / "other"), workers=1, cache_gib=1.0))
    assert equal(weights(plain.run.last), weights(other.run.last))


def test_whole_frames_are_looked_at_once(distill_config: MakeConfig, tmp_path: Path, teacher_file: Path) -> None:
    shared = str(tmp_path / "outputs")
    first = distill(distill_config(teacher_sees="frame", teacher_cache=shared))
    parts = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "outputs" / "objects").iterdir()}
    stages: list[str] = []
    config = distill_config(teacher_sees="frame", teacher_cache=shared, out=str(tmp_path / "again"))
    again = distill(config, progress=lambda p: stages.append(p.stage))
    assert equal(weights(first.run.last), weights(again.run.last))
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "outputs" / "objects").iterdir()}
    assert now["part-00000.parquet"] == parts["part-00000.parquet"]
    assert "teacher" not in stages


def test_the_threshold_drops_what_it_should(distill_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"every clip of an epoch was dropped, .* below 1e-09 nats, .* the 12"):
        distill(distill_config(max_entropy=(1e-9,)))
    assert not (tmp_path / "run" / "student.pt").exists()
    everything = distill(distill_config(out=str(tmp_path / "all"), max_entropy=(2.0,)))  # ln 3 is 1.1
    assert everything.dropped == 0
    half = distill(distill_config(out=str(tmp_path / "half"), keep_percent=50.0, teacher_frames="center", epochs=4))
    shares = [h.facts["dropped"] for h in half.run.history]
    assert 0.25 <= np.mean(shares) <= 0.75
    limit = json.loads((tmp_path / "half" / "teachers.json").read_text())[0]["max_entropy"]
    assert 0 < limit < np.log(3)


def test_each_teacher_has_a_gate_of_its_own(distill_config: MakeConfig, teacher_file: Path, scene_file: Path) -> None:
    teachers = (str(teacher_file), str(scene_file))
    facts = distill(distill_config(teachers=teachers, max_entropy=(1e-9, 5.0))).run.history[-1].facts
    assert facts == {"dropped": 0.5, "dropped by objects": 1.0, "dropped by scenes": 0.0}


def test_squared_error_and_temperature_are_other_runs(distill_config: MakeConfig, tmp_path: Path) -> None:
    runs = [
        distill(distill_config(out=str(tmp_path / name), **values))
        for name, values in (
            ("ce", {}), ("mse", {"distill_loss": "mse", "lr": 0.002}), ("warm", {"temperature": 4.0}),
        )
    ]  # fmt: skip
    losses = [round(run.run.history[-1].loss, 6) for run in runs]
    assert len(set(losses)) == 3


# -- what the teacher is shown ----------------------------------------------------------------------------------------


@pytest.fixture
def dataset(distill_config: MakeConfig, teacher_file: Path) -> tuple[DistillDataset, ClipDataset]:
    """With what the same run would train on without teachers."""
    config = distill_config(flip=True)
    method = DistillMethod(config, (load_teacher(str(teacher_file), runtime="torch"),))
    manifest = method.read_splits(config).train
    made = method.build_dataset(config, manifest, SPEC)
    assert isinstance(made, DistillDataset)
    samples = tuple(dataclasses.replace(sample, labels=("a",)) for sample in manifest.samples)
    return made, build_dataset(config, dataclasses.replace(manifest, samples=samples, labels=("a",)), SPEC)


def test_teachers_change_no_clip(dataset: tuple[DistillDataset, ClipDataset]) -> None:
    taught, plain = dataset
    for draw in ((0, 0), (0, 5), (3, 5)):
        one, two = taught[draw], plain[draw]
        assert np.array_equal(one.frames, two.frames)  # type: ignore[union-attr]


def test_a_teacher_of_the_students_size_sees_a_frame_of_its_clip(dataset: tuple[DistillDataset, ClipDataset]) -> None:
    """Videos are 48x36 and the student's frames 32x24: at two thirds of the size, the two look alike."""
    taught, _ = dataset
    for choice, places in (("center", [2]), ("all", [0, 1, 2, 3])):
        taught.view = TeachersView(choice=choice, count=1, sides=(16,))  # type: ignore[arg-type]
        mirrored = 0
        for index in range(6):
            item = taught[1, index]
            seen = item.seen[0].astype(float)  # type: ignore[union-attr]
            assert seen.shape == (len(places), 16, 16, 3)
            clip = item.frames[places].astype(float)  # type: ignore[union-attr]
            distance = np.abs(seen - clip).mean()
            assert distance < 12
            mirrored += np.abs(seen[:, :, ::-1] - clip).mean() < distance
        assert mirrored == 0


@pytest.mark.parametrize("choice", ["random", "all"])
def test_frames_for_the_student_and_for_teachers_are_decoded_once(
    dataset: tuple[DistillDataset, ClipDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: FrameChoice
) -> None:
    """They are those of a decode of their own, which is needed where the student's are in memory, or damaged."""
    taught, _ = dataset
    taught.view = TeachersView(choice=choice, count=2, sides=(16, 24))
    sample = taught.manifest.samples[1]
    packets = make_video(Recipe(num_frames=24, gop=24, width=48, height=36))
    (tmp_path / "damaged.mp4").write_bytes(
        remux(packets, "mp4", payload=lambda n, p: p[:8] + bytes(len(p) - 8) if n > 4 and n % 2 else p)
    )
    damaged = dataclasses.replace(sample, path=tmp_path / "damaged.mp4", name="damaged.mp4")
    taught.manifest = dataclasses.replace(taught.manifest, samples=(*taught.manifest.samples[:4], damaged))
    opened: list[str] = []

    def counting(source: object, *, name: str) -> Video:
        opened.append(name)
        return open_video(source, name=name)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset_module, "open_video", counting)
    draws = [(visit, index) for visit in range(3) for index in range(5)]
    once = [taught[draw] for draw in draws]
    assert set(opened) == {"damaged.mp4"}
    taught.fill_cache(1 << 30, threads=1)
    opened.clear()
    twice = [taught[draw] for draw in draws]
    assert len(opened) == len(draws)
    for one, two in zip(once, twice, strict=True):
        assert isinstance(one, TeachingClip)
        assert isinstance(two, TeachingClip)
        assert one.video == "damaged.mp4" or np.array_equal(one.frames, two.frames)
        assert all(np.array_equal(a, b) for a, b in zip(one.seen, two.seen, strict=True))


def test_outputs_of_whole_frames_are_those_next_to_the_clip(distill_config: MakeConfig, teacher_file: Path) -> None:
    config = distill_config(teacher_sees="frame", teacher_frames="all", teacher_fps=0.0)
    teacher = load_teacher(str(teacher_file), runtime="torch")
    method = DistillMethod(config, (teacher,))
    manifest = method.read_splits(config).train
    made = method.build_dataset(config, manifest, SPEC)
    method.caches[0].fill(manifest.samples, teacher, threads=1)
    sample = manifest.samples[3]
    item = made[2, 3]
    with open_video(sample.path) as video:
        rng = np.random.default_rng((config.seed, 2, 3))
        plan = made._read(Draw(2, 3), sample, rng).plan
        frames = teacher.center_crop(video.read_frames(sorted(set(plan.frames)), teacher.spec.resize))
    expected = average_logits(teacher(frames))
    assert item.target == pytest.approx(expected, rel=1e-5, abs=1e-5)  # type: ignore[union-attr]


# -- videos without labels --------------------------------------------------------------------------------------------


def test_a_folder_at_any_depth_and_lists_of_paths(
    distill_config: MakeConfig, action_videos: Path, tmp_path: Path
) -> None:
    table = read_unlabelled(action_videos)
    assert len(table.samples) == 12  # the 4 of split test are left out
    assert "4 videos of splits for tests are left out" in table.warnings[0]
    assert all(sample.labels == () for sample in table.samples)
    assert len(read_unlabelled(action_videos, split="test").samples) == 4
    assert len(read_unlabelled(action_videos.parent).samples) == 16
    paths = tmp_path / "list.txt"
    paths.write_text("".join(f"{sample.path}\n" for sample in (*table.samples, table.samples[0])))
    listed = read_unlabelled(paths)
    assert len(listed.samples) == 12
    assert "1 videos are listed more than once" in listed.warnings[-1]
    result = distill(distill_config(manifest=str(paths), epochs=1, warmup_epochs=0.0))
    assert result.run.train_videos == 12


def test_what_is_no_set_of_videos(action_videos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("nowhere.mp4\n")
    for source, message in (
        (tmp_path / "nothing", "no such folder or list"),
        (tmp_path / "empty", "holds no videos"),
        (tmp_path / "list.txt", r"no such file .*nowhere\.mp4"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_unlabelled(source)
    with pytest.raises(DatasetError, match=r"no video in split 'dev'; its splits are"):
        read_unlabelled(action_videos, split="dev")


@pytest.mark.parametrize("sees", ["clip", "frame"])
def test_videos_that_cannot_be_read_are_counted(
    distill_config: MakeConfig, action_videos: Path, tmp_path: Path, sees: str
) -> None:
    broken = write_bytes_as_video(tmp_path / "videos" / "empty.mp4", b"")
    paths = tmp_path / "list.txt"
    good = sorted((action_videos.parent / "videos").rglob("*.mp4"))[:8]
    paths.write_text("".join(f"{path}\n" for path in (*good, broken)))
    notes: list[str] = []
    config = distill_config(manifest=str(paths), teacher_sees=sees, max_failures=0.2, keep_percent=50.0)
    result = distill(config, on_note=notes.append)
    assert any("50% of 8 videos that could be read" in note for note in notes)
    assert result.run.videos_failed == 1
    assert result.run.history[0].train_clips == 8
    with pytest.raises(DatasetError, match="1 of 9 videos could not be read"):
        distill(distill_config(manifest=str(paths), teacher_sees=sees, max_failures=0.1, out=str(tmp_path / "strict")))


# -- errors ----------------------------------------------------------------------------------------------------------


class Broken:
    """A network that gives NaN from the third call on: the first is the check of the teacher."""

    runtime = "torch"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.full((len(frames), 3), np.nan if self.calls > 1 else 0.0, np.float32)


def test_a_nan_of_the_teacher_names_its_video(distill_config: MakeConfig, teacher_file: Path) -> None:
    teacher = load_teacher(str(teacher_file), runtime="torch")
    bad = dataclasses.replace(teacher, network=Broken())
    with pytest.raises(CheckpointError, match=r"teacher objects .* gives NaN for videos/\S+\.mp4"):
        distill(distill_config(), teachers=(bad,))


def test_a_run_goes_on_with_its_own_teachers_alone(
    distill_config: MakeConfig, teacher_file: Path, scene_file: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "objects.pt"
    moved.write_bytes(teacher_file.read_bytes())
    config = distill_config(teachers=(str(moved),))
    distill(config, stop_after_steps=1)
    with pytest.raises(CheckpointError, match=r"teaching\.temperature \(was 1\.0, now 2\.0\)"):
        distill(config.changed(temperature=2.0), resume=True)
    moved.write_bytes(scene_file.read_bytes())
    with pytest.raises(TenclipError, match="cannot be resumed"):
        distill(config, resume=True)


def test_other_weights_of_the_same_shape_are_another_teacher(distill_config: MakeConfig, tmp_path: Path) -> None:
    path = save_frame_model(tmp_path / "objects.pt", frame_model())
    config = distill_config(teachers=(str(path),))
    distill(config, stop_after_steps=1)
    save_frame_model(path, frame_model(7))
    with pytest.raises(CheckpointError, match="cannot be resumed with other teachers: objects changed"):
        distill(config, resume=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teacher_weights": (1.0, 1.0)}, "teacher_weights has 2 values for 1 teachers"),
        ({"max_entropy": (1.0, 2.0)}, "max_entropy has 2 values for 1 teachers"),
        ({"max_entropy": (0.0,)}, "max_entropy must be above 0, got 0"),
        ({"max_entropy": (2.7,), "keep_percent": 50.0}, "two ways to set a threshold"),
        ({"keep_percent": 0.0}, "keep_percent must be above 0"),
        ({"teacher_frames": "center", "teacher_frame_count": 2}, "not for center"),
        ({"teacher_cache": "x"}, "keeps outputs of whole frames"),
        ({"distill_loss": "mse", "temperature": 2.0}, "temperatures belong to a softmax"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"teacher_frame_count": 0}, "teacher_frame_count must be at least 1"),
    ],
)
def test_settings_that_cannot_work(distill_config: MakeConfig, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill_config(**values)


def test_squared_error_of_probabilities_is_refused(distill_config: MakeConfig, teacher_file: Path) -> None:
    teacher = load_teacher(str(teacher_file), runtime="torch")
    soft = dataclasses.replace(teacher, from_probabilities=True)
    DistillMethod(distill_config(), (soft,))
    DistillMethod(distill_config(distill_loss="mse"), (teacher,))
    with pytest.raises(InvalidRequest, match=r"teacher objects ends in a softmax, .* use cross-entropy, or name"):
        DistillMethod(distill_config(distill_loss="mse"), (soft,))


def test_configs_are_read_back(distill_config: MakeConfig) -> None:
    config = distill_config(max_entropy=(2.7,), teacher_frames="center", draws=20)
    assert DistillConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    distill(config, stop_after_steps=1)
    assert read_config_of(DistillConfig, config.out) == config
    with pytest.raises(CheckpointError, match="has no field teaching"):
        read_config(config.out)


# -- and then --------------------------------------------------------------------------------------------------------


def test_the_student_is_fine_tuned_with_a_new_classifier(
    distill_config: MakeConfig, train_config: TrainConfig, tmp_path: Path
) -> None:
    result = distill(distill_config())
    for number, start in enumerate((result.student, result.run.last)):
        notes: list[str] = []
        tuned = dataclasses.replace(
            train_config, out=str(tmp_path / f"tuned{number}"), transfer=TransferConfig(init_from=str(start))
        )
        outcome = train(tuned, on_note=notes.append)
        assert load_checkpoint(outcome.last).model.num_classes == 2
        assert "its classifier begins anew with 2 classes" in notes[0]


def test_students_of_a_teacher_learn_what_it_says(distill_config: MakeConfig, tmp_path: Path) -> None:
    """The loss falls to that of the teacher's own entropy, nearly; it starts near ln 3 and above."""
    config = distill_config(
        epochs=12, lr=0.05, teacher_sees="frame", teacher_frames="all", cache_gib=1.0, teacher_fps=0.0
    )
    history = distill(config).run.history
    assert history[-1].loss < 0.75 * history[0].loss
    assert history[-1].train_clip_top1 > 0.8


def test_settings_without_a_teacher_say_so(distill_config: MakeConfig) -> None:
    config = dataclasses.replace(distill_config(), teaching=TeachingConfig())
    with pytest.raises(TenclipError, match="distillation needs a teacher"):
        distill(config)
