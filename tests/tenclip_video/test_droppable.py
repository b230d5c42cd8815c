from __future__ import annotations

import io

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.droppable import may_drop_frames
from tests.videos import Recipe, make_video


def extradata(recipe: Recipe) -> tuple[str, bytes | None]:
    with av.open(io.BytesIO(make_video(recipe)), "r") as container:
        codec = container.streams.video[0].codec_context
        return codec.codec.canonical_name, codec.extradata


def h264(container: str = "mp4", **options: str) -> Recipe:
    return Recipe(num_frames=8, container=container, options=options)


def h265(container: str, parameters: str = "") -> Recipe:
    return Recipe(codec="libx265", num_frames=8, container=container, options={"x265-params": parameters})


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (h264(), True),
        (h264("mpegts"), True),  # start codes instead of an avcC record
        (h264(profile="baseline"), True),
        (h264(**{"x264-params": "cqm=jvt"}), True),  # scaling lists in the parameter set
        (Recipe(num_frames=8, pixel_format="yuv444p", options={"x264-params": "cqm=jvt"}), True),
        (h264(**{"x264-params": "interlaced=1"}), False),  # a frame may be two fields, and a packet one of them
        (h264("mpegts", **{"x264-params": "interlaced=1"}), False),
        (h265("mp4"), True),
        (h265("mpegts"), True),
        (h265("mp4", "temporal-layers=3"), False),
        (h265("mpegts", "temporal-layers=2"), False),
        (Recipe(codec="mpeg4", num_frames=8), False),
        (Recipe(codec="mpeg2video", container="mpegts", num_frames=8), True),
        (Recipe(codec="libvpx", container="webm", num_frames=8), False),
        (Recipe(codec="libvpx-vp9", container="webm", num_frames=8), False),
    ],
)
def test_what_encoders_write(recipe: Recipe, expected: bool) -> None:
    assert may_drop_frames(*extradata(recipe)) is expected


def test_parameter_sets_that_are_missing_promise_nothing() -> None:
    for codec in ("h264", "hevc", "av1", "gif"):
        assert not may_drop_frames(codec, None)
        assert not may_drop_frames(codec, b"")


@pytest.mark.parametrize("recipe", [h264(), h264("mpegts"), h265("mp4"), h265("mpegts")])
def test_parameter_sets_that_are_cut_off_are_no_error(recipe: Recipe) -> None:
    codec, data = extradata(recipe)
    assert data is not None
    results = [may_drop_frames(codec, data[:size]) for size in range(len(data))]
    assert results[0] is False


@given(st.sampled_from(["h264", "hevc"]), st.binary(max_size=80), st.booleans())
def test_any_bytes_are_no_error(codec: str, data: bytes, record: bool) -> None:
    may_drop_frames(codec, (b"\x01" if record else b"\0\0\1\x67") + data)
