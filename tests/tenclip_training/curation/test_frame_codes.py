from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest, NotAVideo, VideoNotFound
from tenclip_training.curation import frame_codes as module
from tenclip_training.curation.frame_codes import compute_codes, sample_indices

from .helpers import smooth_frames, smooth_video, write_frames


@given(st.integers(1, 200), st.floats(1, 120), st.floats(0, 3), st.none() | st.floats(0, 5))
def test_the_frame_shown_at_each_sixteenth(frames: int, fps: float, start: float, end: float | None) -> None:
    times, duration = np.arange(frames) / fps, frames / fps
    indices = sample_indices(times, duration, start, end)
    last = min(duration, duration if end is None else end)
    assert len(indices) == pytest.approx((last - start) * 16, abs=1) or (last <= start and len(indices) <= 1)
    for n, index in enumerate(indices.tolist()):
        at = start + n / 16
        assert times[index] <= at + 1e-5
        assert index == frames - 1 or times[index + 1] > at


def test_a_single_picture_has_a_code() -> None:
    assert sample_indices(np.zeros(1), 0.0).tolist() == [0]


def test_a_video_has_16_codes_a_second(tmp_path: Path) -> None:
    codes = compute_codes(smooth_video(tmp_path / "a.mp4", 1, 2.0))
    assert len(codes.codes) == len(codes.flat) == 32
    assert not codes.flat.any()
    again = compute_codes(tmp_path / "a.mp4")
    assert np.array_equal(codes.codes, again.codes)


def test_copies_keep_their_codes(tmp_path: Path) -> None:
    """Scaled, encoded worse, or at half the frame rate: at least 95% within 6 bits."""
    frames = smooth_frames(2)
    whole = compute_codes(write_frames(tmp_path / "a.mp4", frames)).codes
    for name, changed, fps, crf in (
        ("worse", frames, 24, 40),
        ("scaled", smooth_frames(2, height=144, width=112), 24, 18),
        ("slower", frames[::2], 12, 18),
        ("letterboxed", np.pad(frames, ((0, 0), (12, 12), (0, 0), (0, 0))), 24, 18),
    ):
        copy = compute_codes(write_frames(tmp_path / f"{name}.mp4", changed, fps=fps, crf=crf)).codes
        assert np.mean(np.bitwise_count(whole ^ copy) <= 6) >= 0.95, name


def test_a_part_has_the_codes_of_the_whole_there(tmp_path: Path) -> None:
    path = smooth_video(tmp_path / "a.mp4", 3, 3.0)
    part = compute_codes(path, start_seconds=1.0, end_seconds=2.0)
    assert part.start_seconds == 1.0
    assert np.array_equal(part.codes, compute_codes(path).codes[16:32])


def test_long_videos_have_the_same_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pictures are not kept until the bars are known."""
    path = write_frames(tmp_path / "a.mp4", np.pad(smooth_frames(4), ((0, 0), (12, 12), (0, 0), (0, 0))))
    short = compute_codes(path)
    monkeypatch.setattr(module, "_MAX_KEPT", 10)
    long = compute_codes(path)
    assert short.bars == long.bars
    assert short.bars.top > 0
    assert np.array_equal(short.codes, long.codes)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VideoNotFound):
        compute_codes(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(NotAVideo):
        compute_codes(tmp_path / "text.mp4")
    path = smooth_video(tmp_path / "a.mp4", 1, 1.0)
    with pytest.raises(InvalidRequest, match=r"no frame at 9 s or later; it is 1 s long"):
        compute_codes(path, start_seconds=9.0)
