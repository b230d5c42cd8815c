"""Teachers' outputs on disk: they are those of the teacher, are made once, and are never another teacher's."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import CheckpointError
from tenclip_data.samples import Sample
from tenclip_training.distill import FrameTeacher, cache, load_teacher
from tenclip_training.distill.cache import OutputCache
from tenclip_training.distill.frame_stream import grid
from tenclip_training.distill.videos import read_unlabelled
from tenclip_video.video import open_video
from tests.tenclip_training.conftest import write_bytes_as_video


@pytest.fixture(scope="module")
def teacher(teacher_file: Path) -> FrameTeacher:
    return load_teacher(str(teacher_file), runtime="torch")


@pytest.fixture
def samples(action_videos: Path) -> tuple[Sample, ...]:
    return read_unlabelled(action_videos).samples[:6]


class Counting:
    """A network that counts the frames it sees, and may be stopped."""

    runtime = "torch"

    def __init__(self, teacher: FrameTeacher, stop_after: int | None = None) -> None:
        self.network, self.frames, self.calls, self.stop_after = teacher.network, 0, 0, stop_after

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        self.frames += len(frames)
        return self.network(frames)


def with_network(teacher: FrameTeacher, network: object) -> FrameTeacher:
    values = {**teacher.__dict__, "network": network}
    return FrameTeacher(**values)


def test_the_grid() -> None:
    times = np.arange(25) / 25
    assert grid(times, 5.0).tolist() == [0, 5, 10, 15, 20]
    assert grid(times, None).tolist() == list(range(25))
    assert grid(times, 100.0).tolist() == list(range(25))
    assert grid(times, 0.1).tolist() == [0]
    assert grid(np.array([0.0, 0.9, 1.0]), 2.0).tolist() == [0, 1, 2]
    assert grid(np.array([0.0]), 4.0).tolist() == [0]


def test_what_is_kept_is_what_the_teacher_says(
    teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    outputs = OutputCache(tmp_path, teacher, 8.0)
    assert outputs.fill(samples, teacher, threads=2) == []
    for sample in samples:
        with open_video(sample.path) as video:
            indices = grid(video.times, 8.0)
            expected = teacher(teacher.center_crop(video.read_frames(indices, teacher.spec.resize)))
            times = video.times[indices]
        found = OutputCache(tmp_path, teacher, 8.0)[sample]
        assert found.frames.tolist() == indices.tolist()
        assert np.array_equal(found.times, times)
        assert np.array_equal(found.logits, expected)


def test_a_second_pass_costs_nothing(teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path) -> None:
    OutputCache(tmp_path, teacher, 4.0).fill(samples, teacher, threads=1)
    counting = Counting(teacher)
    again = with_network(teacher, counting)
    reports: list[tuple[int, int]] = []
    OutputCache(tmp_path, again, 4.0).fill(samples, again, threads=1, progress=lambda *at: reports.append(at))
    assert counting.frames == 0
    assert reports == []


def test_a_pass_that_was_stopped_goes_on(
    teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "VIDEOS_PER_PART", 2)
    stopped = with_network(teacher, Counting(teacher, stop_after=5))
    with pytest.raises(KeyboardInterrupt):
        OutputCache(tmp_path, stopped, 4.0).fill(samples, stopped, threads=1)
    assert sorted(p.name for p in tmp_path.glob("*")) == ["part-00000.parquet", "part-00001.parquet", "teacher.json"]
    counting = Counting(teacher)
    rest = with_network(teacher, counting)
    outputs = OutputCache(tmp_path, rest, 4.0)
    outputs.fill(samples, rest, threads=1)
    assert counting.calls == 2  # of 6 videos, 4 were written
    whole = tmp_path / "whole"
    OutputCache(whole, teacher, 4.0).fill(samples, teacher, threads=2)
    for sample in samples:
        assert np.array_equal(outputs[sample].logits, OutputCache(whole, teacher, 4.0)[sample].logits)


def test_parts_are_parquet_of_a_row_a_frame(teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path) -> None:
    OutputCache(tmp_path, teacher, 4.0).fill(samples, teacher, threads=1)
    table = pq.read_table(tmp_path / "part-00000.parquet")
    assert table.column_names == ["video", "stamp", "frame", "time", "logits"]
    assert len(table["logits"][0]) == 3
    assert pq.ParquetFile(tmp_path / "part-00000.parquet").num_row_groups == len(samples)


def test_a_part_ends_at_so_many_bytes(
    teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs of long videos do not pile up in memory until there are enough videos."""
    monkeypatch.setattr(cache, "BYTES_PER_PART", 1)
    outputs = OutputCache(tmp_path, teacher, 4.0)
    outputs.fill(samples, teacher, threads=1)
    assert len(list(tmp_path.glob("part-*.parquet"))) == len(samples)
    assert all(sample in outputs for sample in samples)


def test_another_teacher_or_grid_is_refused(
    teacher: FrameTeacher, scene_file: Path, samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    OutputCache(tmp_path, teacher, 4.0).fill(samples[:1], teacher, threads=1)
    other = load_teacher(str(scene_file), runtime="torch")
    with pytest.raises(CheckpointError, match="are of another teacher, or another input of it"):
        OutputCache(tmp_path, other, 4.0)
    with pytest.raises(CheckpointError, match=r"another rate of frames \(frames_per_second 4.0 .* now 2.0"):
        OutputCache(tmp_path, teacher, 2.0)
    about = json.loads((tmp_path / "teacher.json").read_text())
    (tmp_path / "teacher.json").write_text(json.dumps({**about, "identity": "0" * 64}))
    with pytest.raises(CheckpointError, match="another teacher"):
        OutputCache(tmp_path, teacher, 4.0)


def test_a_folder_that_is_no_cache(teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_text("")
    with pytest.raises(CheckpointError, match=r"has teacher outputs and no teacher\.json"):
        OutputCache(tmp_path, teacher, 4.0)
    made = tmp_path / "made"
    OutputCache(made, teacher, 4.0).fill(samples[:1], teacher, threads=1)
    (made / "part-00000.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(CheckpointError, match=r"part-00000\.parquet: cannot be read"):
        OutputCache(made, teacher, 4.0)


def test_a_video_that_changed_is_looked_at_again(
    teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    path = tmp_path / "video.mp4"
    shutil.copy(samples[0].path, path)
    sample = Sample(path=path, name="video.mp4", labels=())
    outputs = OutputCache(tmp_path / "cache", teacher, 4.0)
    outputs.fill([sample], teacher, threads=1)
    before = outputs[sample].logits
    shutil.copy(samples[1].path, path)
    os.utime(path, ns=(1, 1))
    assert sample not in outputs
    outputs.fill([sample], teacher, threads=1)
    assert sample in outputs
    assert not np.array_equal(outputs[sample].logits[0], before[0])
    assert np.array_equal(OutputCache(tmp_path / "cache", teacher, 4.0)[sample].logits, outputs[sample].logits)


def test_videos_that_cannot_be_read_are_named(teacher: FrameTeacher, tmp_path: Path) -> None:
    broken = Sample(path=write_bytes_as_video(tmp_path / "empty.mp4", b""), name="empty.mp4", labels=())
    outputs = OutputCache(tmp_path / "cache", teacher, 4.0)
    (failure,) = outputs.fill([broken], teacher, threads=1)
    assert (failure.video, failure.reason) == ("empty.mp4", "EMPTY_VIDEO")
    assert broken not in outputs


def test_nan_names_the_video(teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path) -> None:
    def network(frames: np.ndarray) -> np.ndarray:
        return np.full((len(frames), 3), np.nan, np.float32)

    network.runtime = "torch"  # type: ignore[attr-defined]
    bad = with_network(teacher, network)
    with pytest.raises(CheckpointError, match=f"gives NaN for {samples[0].name}"):
        OutputCache(tmp_path, bad, 4.0).fill(samples, bad, threads=1)


def test_workers_open_files_of_their_own(teacher: FrameTeacher, samples: tuple[Sample, ...], tmp_path: Path) -> None:
    outputs = OutputCache(tmp_path, teacher, 4.0)
    outputs.fill(samples, teacher, threads=1)
    expected = outputs[samples[2]].logits
    assert np.array_equal(pickle.loads(pickle.dumps(outputs))[samples[2]].logits, expected)
