"""Files: what was encoded comes back, at its times, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_training.synth import SynthConfig, VideoSpec, plan_videos, render
from tenclip_training.synth.encode import Encoder, available_encoder, write_video

ENCODERS: tuple[Encoder, ...] = ("libx264", "mpeg4")


def write(path: Path, spec: VideoSpec, encoder: Encoder) -> NDArray[np.uint8]:
    """Returns the frames that went in."""
    frames = np.stack(list(render(spec)))
    ticks = (*spec.ticks, round(spec.duration / float(spec.time_base)))
    write_video(path, iter(frames), ticks=ticks, time_base=spec.time_base, frame_rate=spec.frame_rate, encoder=encoder)
    return frames


def first_spec(*, variable: bool = False, width: int = 112, height: int = 84) -> VideoSpec:
    return plan_videos(
        SynthConfig(
            videos_per_class=1,
            seconds=(0.7, 0.7),
            width=width,
            height=height,
            frame_rates=(25.0,),
            variable_frame_rate=float(variable),
        )
    )[0]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize(("width", "height"), [(112, 84), (113, 85)])
def test_frames_and_times_come_back(tmp_path: Path, encoder: Encoder, variable: bool, width: int, height: int) -> None:
    spec = first_spec(variable=variable, width=width, height=height)
    frames = write(tmp_path / "a.mp4", spec, encoder)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == {"libx264": "h264"}.get(encoder, encoder)
        decoded = [(float(f.time or 0), f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(spec.duration, abs=1e-3)
    assert np.allclose([time for time, _ in decoded], spec.times, atol=1e-4)
    shown = np.stack([frame for _, frame in decoded])
    assert shown.shape == frames.shape
    # Most of the difference is the halved resolution of colour.
    assert np.abs(shown.astype(np.int16) - frames).mean() < 10
    assert np.abs(shown.mean(axis=(0, 1, 2)) - frames.mean(axis=(0, 1, 2))).max() < 3


def test_the_same_frames_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write(tmp_path / name, first_spec(), available_encoder())
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("before", [0, 5])
def test_nothing_is_left_when_frames_fail(tmp_path: Path, before: int) -> None:
    def failing() -> Iterator[NDArray[np.uint8]]:
        for _ in range(before):
            yield np.zeros((16, 16, 3), np.uint8)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_video(
            tmp_path / "a.mp4",
            failing(),
            ticks=range(11),
            time_base=Fraction(1, 25),
            frame_rate=Fraction(25),
            encoder=available_encoder(),
        )
    assert list(tmp_path.iterdir()) == []


def test_h264_is_used_where_ffmpeg_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_encoder() == ("libx264" if "libx264" in av.codecs_available else "mpeg4")
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert available_encoder() == "mpeg4"
