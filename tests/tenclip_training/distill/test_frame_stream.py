"""Teachers look at videos a part at a time: the same outputs as of all frames at once, and bounded memory."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tenclip_data.samples import Sample
from tenclip_training.data.failures import Failure
from tenclip_training.distill import FrameTeacher, load_teacher
from tenclip_training.distill.frame_stream import PART, VideoOutputs, grid, teacher_outputs
from tenclip_video.video import open_video
from tests.conftest import PROJECT
from tests.tenclip_training.conftest import write_bytes_as_video
from tests.videos import Recipe, make_video, remux, repeat_packets

MAX_GROWTH_MIB = 60

# Prints by how many MiB the peak rose above what the imports and a first, tiny video had taken.
MEASURE = """
import sys
from pathlib import Path
import numpy as np
from tenclip_data.samples import Sample
from tenclip_training.distill import FrameTeacher, OutputCache
from tenclip_video.spec import ClipSpec, Resize

def peak():
    # Not ru_maxrss: a process begins with that of the one that started it.
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

class MeanColor:
    runtime = "torch"

    def __call__(self, frames):
        return np.stack([frame.mean((0, 1), dtype=np.float32) for frame in frames])

spec = ClipSpec(num_frames=1, resize=Resize(height=256, width=256), crop=224, fully_convolutional_crop=None)
teacher = FrameTeacher(name="t", source="t", spec=spec, labels=("r", "g", "b"), sha256="", network=MeanColor())
outputs = OutputCache(sys.argv[1], teacher, None)
short, long = (Sample(path=Path(path), name=path, labels=()) for path in sys.argv[2:])
outputs.fill([short], teacher, threads=2)
before = peak()
outputs.fill([long], teacher, threads=2)
print(len(outputs[long].frames), peak() - before)
"""


@pytest.fixture(scope="module")
def teacher(teacher_file: Path) -> FrameTeacher:
    return load_teacher(str(teacher_file), runtime="torch")


def as_sample(path: Path, data: bytes) -> Sample:
    path.write_bytes(data)
    return Sample(path=path, name=path.name, labels=())


def at_once(teacher: FrameTeacher, sample: Sample, rate: float | None) -> VideoOutputs:
    with open_video(sample.path) as video:
        indices = grid(video.times, rate)
        frames = teacher.center_crop(video.read_frames(indices, teacher.spec.resize))
        return VideoOutputs(indices, video.times[indices], teacher(frames))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
def test_a_long_video_costs_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """2400 frames of 224x224 are 345 MiB, and 450 as they are scaled; the network stands in for one that takes time."""
    data = make_video(Recipe(num_frames=80, gop=80))
    short, long = as_sample(tmp_path / "short.mp4", data), as_sample(tmp_path / "long.mp4", repeat_packets(data, 30))
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "out"), str(short.path), str(long.path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=800,
    )
    frames, growth = run.stdout.split()
    assert int(frames) == 2400
    assert float(growth) < MAX_GROWTH_MIB


class Watching:
    """A teacher's network that keeps how many frames it was given."""

    runtime = "torch"

    def __init__(self, teacher: FrameTeacher) -> None:
        self.network, self.frames = teacher.network, list[int]()

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        self.frames.append(len(frames))
        return self.network(frames)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rate", [None, 10.0])
def test_outputs_are_those_of_all_frames_at_once(
    teacher: FrameTeacher, tmp_path: Path, threads: int, rate: float | None
) -> None:
    """To the bit, of videos of any length, in their order. Damaged frames have those of what stands in for them; with
    fewer frames to look at, torch's batches are others, and it rounds otherwise.
    """
    lengths = (1, PART, 3 * PART + 5, 2, 150, 7)
    samples = [as_sample(tmp_path / f"{n}.mp4", make_video(Recipe(num_frames=n, gop=20))) for n in lengths]
    whole = make_video(Recipe(num_frames=90, gop=90))
    damaged = remux(whole, "mp4", payload=lambda n, p: p[:8] + bytes(len(p) - 8) if 12 < n < 18 else p)
    with open_video(damaged) as video:
        video.read_frames(grid(video.times, rate), teacher.spec.resize)
        assert video.report.frames_substituted > 0
    samples.insert(2, as_sample(tmp_path / "damaged.mp4", damaged))
    samples.insert(3, Sample(path=write_bytes_as_video(tmp_path / "empty.mp4", b""), name="empty.mp4", labels=()))
    watching = Watching(teacher)
    watched = dataclasses.replace(teacher, network=watching)
    found = list(teacher_outputs(samples, watched, rate, threads=threads))
    assert [sample for sample, _ in found] == samples
    for sample, outputs in found:
        if sample.name == "empty.mp4":
            assert isinstance(outputs, Failure)
            continue
        assert isinstance(outputs, VideoOutputs)
        expected = at_once(teacher, sample, rate)
        assert np.array_equal(outputs.frames, expected.frames)
        assert np.array_equal(outputs.times, expected.times)
        if sample.name == "damaged.mp4":
            assert outputs.logits == pytest.approx(expected.logits, rel=1e-5, abs=1e-5)
        else:
            assert np.array_equal(outputs.logits, expected.logits)
    assert max(watching.frames) <= PART


def test_threads_end_when_nobody_waits(teacher: FrameTeacher, tmp_path: Path) -> None:
    before = threading.active_count()
    samples = [as_sample(tmp_path / f"{n}.mp4", make_video(Recipe(num_frames=400, gop=20))) for n in range(4)]
    stream = teacher_outputs(samples, teacher, None, threads=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
