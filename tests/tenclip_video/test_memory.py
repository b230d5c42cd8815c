"""A long video costs no more memory than a short one for the same plan: peak resident sizes of separate processes."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from tenclip_video.salience import SamplerKind, default_spec
from tenclip_video.spec import ClipSpec
from tests.samplers import make_sampler
from tests.videos import Recipe, make_video, repeat_packets

PROJECT = Path(__file__).resolve().parents[2]
MAX_GROWTH_MIB = 20

# Prints by how many MiB the peak rose above what the imports and a first, tiny video had taken.
MEASURE = """
import sys
from pathlib import Path
from tenclip_video.clips import read_clips
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.spec import ClipSpec, Resize

def peak():
    # Not ru_maxrss: a process begins with that of the one that started it.
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

scorer = None
if len(sys.argv) > 4:
    from tenclip_video.salience import LearnedScorer, load_sampler
    samplers = [load_sampler(path) for path in sys.argv[4:]]
    scorer = LearnedScorer(picture=samplers[0], sound=samplers[1] if len(samplers) > 1 else None, audio_clips=3)
read_clips(sys.argv[1], ClipSpec(), PROTOCOLS["salient-clips" if scorer else "ten-clip"], scorer=scorer)
before = peak()
resize = Resize(mode="short_edge", short_edge=384)
large = ClipSpec(num_frames=24, resize=resize, crop=256, fully_convolutional_crop=None)
spec = large if sys.argv[3] == "large" else ClipSpec()
protocol = PROTOCOLS["salient-clips" if sys.argv[3] == "salient" else "ten-clip"]
result = read_clips(sys.argv[2], spec, protocol, scorer=scorer)
print(result.info.num_frames, round(result.info.duration_seconds), peak() - before)
"""


def measure(warm_up: Path, video: Path, mode: str = "uniform", *samplers: Path) -> tuple[int, int, float]:
    """(frames, seconds, MiB) of reading the ten clips of `video`."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(warm_up), str(video), mode, *map(str, samplers)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    frames, seconds, growth = run.stdout.split()
    return int(frames), int(seconds), float(growth)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def ten_seconds(folder: Path) -> Path:
    path = folder / "short.mp4"
    path.write_bytes(make_video(Recipe(num_frames=250, gop=50, width=160, height=120, options={"crf": "40"})))
    return path


@pytest.fixture(scope="module")
def of_ten_seconds(ten_seconds: Path) -> float:
    """MiB."""
    return measure(ten_seconds, ten_seconds)[2]


@pytest.fixture(scope="module")
def minute(folder: Path, ten_seconds: Path) -> Path:
    path = folder / "minute.mp4"
    path.write_bytes(repeat_packets(ten_seconds.read_bytes(), 6))
    return path


@pytest.fixture(scope="module")
def ten_minutes(folder: Path, ten_seconds: Path) -> Path:
    path = folder / "ten.mp4"
    path.write_bytes(repeat_packets(ten_seconds.read_bytes(), 60))
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_two_hours_cost_no_more_than_ten_seconds(
    folder: Path, ten_seconds: Path, of_ten_seconds: float, container: str
) -> None:
    two_hours = folder / f"long.{container}"
    two_hours.write_bytes(repeat_packets(ten_seconds.read_bytes(), 720, container=container))
    frames, seconds, long = measure(ten_seconds, two_hours)
    two_hours.unlink()
    assert (frames, seconds) == (180_000, 7200)
    assert long - of_ten_seconds < MAX_GROWTH_MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
def test_looking_for_salient_clips_is_bounded_too(folder: Path, ten_seconds: Path) -> None:
    """All of the video is looked at, a part at a time: an hour at 2 frames a second, and five minutes."""
    slow = make_video(Recipe(num_frames=600, gop=60, width=64, height=48, fps=Fraction(2), options={"crf": "40"}))
    five_minutes, hour = folder / "five.mp4", folder / "hour.mp4"
    five_minutes.write_bytes(slow)
    hour.write_bytes(repeat_packets(slow, 12))
    _, _, short = measure(ten_seconds, five_minutes, "salient")
    frames, seconds, long = measure(ten_seconds, hour, "salient")
    assert (frames, seconds) == (7200, 3600)
    assert long - short < MAX_GROWTH_MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compressed", "rgb", "keyframes"])
def test_samplers_look_at_ten_minutes_a_part_at_a_time(
    folder: Path, ten_seconds: Path, minute: Path, ten_minutes: Path, kind: SamplerKind
) -> None:
    sampler = folder / f"{kind}.onnx"
    sampler.write_bytes(make_sampler(default_spec(kind, ClipSpec())))
    _, _, short = measure(ten_seconds, minute, "salient", sampler)
    frames, seconds, long = measure(ten_seconds, ten_minutes, "salient", sampler)
    assert (frames, seconds) == (15_000, 600)
    assert long - short < MAX_GROWTH_MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
@pytest.mark.slow
def test_samplers_listen_to_five_minutes_a_part_at_a_time(folder: Path, ten_seconds: Path) -> None:
    pictures, sound = folder / "pictures.onnx", folder / "sound.onnx"
    pictures.write_bytes(make_sampler(default_spec("keyframes", ClipSpec())))
    sound.write_bytes(make_sampler(default_spec("audio", ClipSpec())))
    found = []
    for duration in (30, 300):
        path = folder / f"sound{duration}.mp4"
        slow = Recipe(num_frames=2 * duration, gop=20, width=64, height=48, fps=Fraction(2), audio=True)
        path.write_bytes(make_video(slow))
        _, seconds, growth = measure(ten_seconds, path, "salient", pictures, sound)
        assert seconds == duration
        found.append(growth)
    assert found[1] - found[0] < MAX_GROWTH_MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
def test_large_clips_cost_little_more_than_themselves(ten_seconds: Path) -> None:
    """10 clips of 24x256x256 are 45 MiB; the 240 frames that they are cut from, 384x512, would be 135."""
    _, _, growth = measure(ten_seconds, ten_seconds, "large")
    assert growth < 45 + MAX_GROWTH_MIB
