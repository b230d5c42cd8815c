"""What a teacher sees of long videos goes through a file: the same bytes, and no more memory than for short ones."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DecodeWorkerDied, VideoError
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni import rows_file, teacher_clips
from tenclip_training.omni.rows_file import RowsFile, RowsSink, new_file
from tenclip_training.omni.score_store import Decoding, score_frames
from tenclip_training.omni.teachers import open_teachers
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.spec import ClipSpec
from tests.conftest import PROJECT
from tests.tenclip_training.omni.colors import train_teacher, write_video
from tests.videos import Recipe, make_video, repeat_packets

SPEC = ClipSpec(num_frames=4)
MAX_GROWTH_MIB = 40

# Prints by how many MiB the peak rose above what the imports and a first, tiny video had taken.
MEASURE = """
import sys
from pathlib import Path
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni.teacher_clips import teacher_frames
from tenclip_video.spec import ClipSpec

def peak():
    # Not ru_maxrss: a process begins with that of the one that started it.
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

def read(path):
    video = SetVideo(name="v", path=Path(path))
    return teacher_frames(video, spec=ClipSpec(num_frames=1), rate=2.0, scratch=Path(sys.argv[3]))

read(sys.argv[1])
before = peak()
found = read(sys.argv[2])
print(len(found.frames), peak() - before)
"""


def slow_video(num_frames: int) -> bytes:
    """2 frames a second."""
    return make_video(Recipe(num_frames=num_frames, gop=60, width=64, height=48, fps=Fraction(2)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
def test_an_hour_of_frames_is_not_held(tmp_path: Path) -> None:
    """7200 frames of 112x112 are 258 MiB."""
    minute, hour = tmp_path / "minute.mp4", tmp_path / "hour.mp4"
    minute.write_bytes(slow_video(120))
    hour.write_bytes(repeat_packets(minute.read_bytes(), 60))
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(minute), str(hour), str(tmp_path / "scratch")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    frames, growth = run.stdout.split()
    assert int(frames) == 7200
    assert float(growth) < MAX_GROWTH_MIB


def test_frames_and_clips_in_a_file_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.mp4").write_bytes(slow_video(40))
    video, scratch = SetVideo(name="v", path=tmp_path / "v.mp4"), tmp_path / "scratch"
    options = {"spec": SPEC, "scratch": scratch}
    held_frames = teacher_clips.teacher_frames(video, rate=2.0, **options).frames  # type: ignore[arg-type]
    held = teacher_clips.teacher_clips(video, protocol=PROTOCOLS["ten-clip"], **options)  # type: ignore[arg-type]
    assert isinstance(held_frames, np.ndarray)
    assert isinstance(held.clips, np.ndarray)
    assert not scratch.exists()
    for module in (rows_file, teacher_clips):
        monkeypatch.setattr(module, "MAX_HELD_BYTES", 1000)
    frames = teacher_clips.teacher_frames(video, rate=2.0, **options).frames  # type: ignore[arg-type]
    assert isinstance(frames, RowsFile)
    assert np.array_equal(frames[:], held_frames)
    clips = teacher_clips.teacher_clips(video, protocol=PROTOCOLS["ten-clip"], **options)  # type: ignore[arg-type]
    assert isinstance(clips.clips, RowsFile)
    assert clips.views == held.views
    assert np.array_equal(clips.clips[:], held.clips)
    assert len(list(scratch.iterdir())) == 2


@given(st.integers(0, 7), st.integers(-3, 12), st.integers(-3, 12))
def test_slices_are_those_of_an_array(
    tmp_path_factory: pytest.TempPathFactory, count: int, start: int, stop: int
) -> None:
    array = np.arange(count * 6, dtype=np.uint8).reshape(count, 2, 3)
    path = tmp_path_factory.mktemp("rows") / "x.rows"
    path.write_bytes(array.tobytes())
    rows = RowsFile(path, array.shape)
    assert len(rows) == count
    assert np.array_equal(rows[start:stop], array[start:stop])


def test_what_stands_in_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_file, "MAX_HELD_BYTES", 0)
    sink = RowsSink(tmp_path, (3, 2, 2, 3), (1, 1), name="v")
    frame = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    sink.put(1, frame)
    sink.put(2, frame + 100)
    sink.put(1, frame + 1)  # decoded again: the last one counts
    sink.repeat(0, 1)
    rows = sink.rows()[:]
    sink.close()
    cut = frame[1:3, 1:3]
    assert np.array_equal(rows, [cut + 1, cut + 1, cut + 100])


def test_a_video_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_file, "MAX_HELD_BYTES", 0)
    monkeypatch.setattr(teacher_clips, "MAX_HELD_BYTES", 0)
    whole = slow_video(40)
    (tmp_path / "v.mp4").write_bytes(whole[: len(whole) // 2])
    video, scratch = SetVideo(name="v", path=tmp_path / "v.mp4"), tmp_path / "scratch"
    with pytest.raises(VideoError):
        teacher_clips.teacher_frames(video, spec=SPEC, rate=2.0, scratch=scratch)
    with pytest.raises(VideoError):
        teacher_clips.teacher_clips(video, spec=SPEC, protocol=PROTOCOLS["ten-clip"], scratch=scratch)
    assert list(tmp_path.rglob("*.rows")) == []


def test_no_room_on_disk_is_no_fault_of_the_video(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")
    with pytest.raises(DecodeWorkerDied, match="v: its frames cannot be kept on disk"):
        new_file(tmp_path / "scratch", 10, name="v")


def test_scores_of_a_long_video_and_nothing_left_behind(tmp_path: Path) -> None:
    """The same 16 frames over and over: too many for memory, and their scores are those of the 16, to the bit."""
    write_video(tmp_path / "short.mp4", ["red", "green"])
    (tmp_path / "long.mp4").write_bytes(repeat_packets((tmp_path / "short.mp4").read_bytes(), 57))
    ensemble = open_teachers([str(train_teacher(tmp_path / "teacher.pt", crop=112, steps=1))], threads=1)
    videos = [SetVideo(name=n, path=tmp_path / f"{n}.mp4") for n in ("short", "long")]
    scores, failures = score_frames(ensemble, videos, tmp_path / "scores", Decoding(), rate=8.0)
    assert failures == []
    assert len(scores["long"].scores) == 57 * 16
    assert rows_file.MAX_HELD_BYTES < 57 * 16 * 112 * 112 * 3
    assert np.array_equal(scores["long"].scores, np.tile(scores["short"].scores, (57, 1)))
    assert [path.suffix for path in (tmp_path / "scores").rglob("*") if path.is_file()] == [".parquet"]
