from __future__ import annotations

import pytest

from tenclip_demo.facts import clip_in_words
from tenclip_video.spec import ClipSpec


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ClipSpec(num_frames=8), "8 frames, 112x112 pixels"),
        (ClipSpec(frame_stride=2), "16 frames, every 2nd, 112x112 pixels"),
        (ClipSpec(frame_stride=3, target_fps=12.5), "16 frames, every 3rd at 12.5 frames a second, 112x112 pixels"),
        (ClipSpec(frame_stride=8), "16 frames, every 8th, 112x112 pixels"),
    ],
)
def test_a_clip_in_words(spec: ClipSpec, words: str) -> None:
    assert clip_in_words(spec) == words
