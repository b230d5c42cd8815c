from __future__ import annotations

import pytest

from tenclip_video.spec import ClipSpec
from tenclip_video.wording import clip_in_words


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ClipSpec(num_frames=8), "8 frames, 112x112 pixels"),
        (ClipSpec(frame_stride=2), "16 frames, every 2nd, 112x112 pixels"),
        (ClipSpec(frame_stride=3, target_fps=12.5), "16 frames, every 3rd at 12.5 frames a second, 112x112 pixels"),
        (ClipSpec(frame_stride=12), "16 frames, every 12th, 112x112 pixels"),
        (ClipSpec(frame_stride=21), "16 frames, every 21st, 112x112 pixels"),
        (ClipSpec(frame_stride=8), "16 frames, every 8th, 112x112 pixels"),
    ],
)
def test_a_clip_in_words(spec: ClipSpec, words: str) -> None:
    assert clip_in_words(spec) == words


def test_a_clip_in_a_cell() -> None:
    assert clip_in_words(ClipSpec(), brief=True) == "16x112x112"
    spec = ClipSpec(num_frames=13, frame_stride=6, target_fps=30.0, crop=182, fully_convolutional_crop=None)
    assert clip_in_words(spec, brief=True) == "13x182x182, every 6th at 30 fps"
