"""Videos whose frames are extremely long and thin: refused with the size that they would be scaled to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import UndecodableVideo, VideoTooLarge
from tenclip_video.clips import read_clips
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import Video, open_video
from tests.videos import Recipe, make_video

SHORT_EDGE = Resize(mode="short_edge", short_edge=128)


@pytest.fixture(scope="module")
def thin() -> bytes:
    """Four frames of 30000x1."""
    recipe = Recipe(codec="ffv1", container="matroska", pixel_format="bgr0", num_frames=4, width=30000, height=1)
    return make_video(recipe, paint=lambda _, height, width: np.zeros((height, width, 3), np.uint8))


@pytest.mark.parametrize(
    "read",
    [
        lambda video: video.frame_size(SHORT_EDGE),
        lambda video: video.read_frames([0, 2], SHORT_EDGE),
        lambda video: video.read_two_sizes([0, 2], Resize(mode="none"), [0], SHORT_EDGE),
        lambda video: next(iter(video.iter_frames(SHORT_EDGE))),
    ],
)
def test_every_way_to_read_them_refuses(thin: bytes, read: Callable[[Video], Any]) -> None:
    with (
        open_video(thin, name="thin.mkv") as video,
        pytest.raises(VideoTooLarge, match=r"thin\.mkv: 30000x1 pixels would be scaled to 3840000x128"),
    ):
        read(video)


def test_clips_of_them_are_refused(thin: bytes) -> None:
    spec = ClipSpec(num_frames=2, resize=SHORT_EDGE, crop=112, fully_convolutional_crop=None)
    with pytest.raises(VideoTooLarge, match="would be scaled to"):
        read_clips(thin, spec, PROTOCOLS["center-clip"], name="thin.mkv")


@pytest.mark.parametrize("kernel", ["swscale_bilinear", "swscale_fast_bilinear", "opencv_bilinear", "pil_bilinear"])
def test_squashed_ones_are_read_or_refused_with_a_video_error(thin: bytes, kernel: Any) -> None:
    resize = Resize(height=128, width=171, kernel=kernel)
    refused = pytest.raises(UndecodableVideo, match="none of the 1 frames asked for can be decoded")
    with open_video(thin, name="thin.mkv") as video, refused if kernel == "swscale_bilinear" else nullcontext():
        assert video.read_frames([0], resize).shape == (1, 128, 171, 3)


def test_what_is_only_made_smaller_is_never_too_large(thin: bytes) -> None:
    with open_video(thin) as video:
        assert video.read_frames([0, 3], Resize(mode="none")).shape == (2, 1, 30000, 3)
