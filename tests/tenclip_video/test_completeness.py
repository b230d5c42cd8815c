"""Files cut off at every kind of place, and how much is said to be missing."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.completeness import count_missing_bytes, count_readable_bytes, is_mp4, is_short_mpegts, mp4_boxes
from tests.videos import Recipe, make_video

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}


def missing(data: bytes) -> int:
    return count_missing_bytes(io.BytesIO(data))


# How exactly a container knows its own length: to the byte, or only that something is missing.
TO_THE_BYTE = [
    Recipe(),
    Recipe(muxer_options={"movflags": "faststart"}),
    Recipe(container="matroska"),
    Recipe(codec="mpeg4", container="avi"),
    Recipe(codec="wmv2", container="asf"),
]


@pytest.mark.parametrize("recipe", TO_THE_BYTE, ids=lambda r: f"{r.container} {r.muxer_options}")
def test_missing_bytes_are_counted(recipe: Recipe) -> None:
    data = make_video(recipe)
    assert missing(data) == 0
    for lost in (20, 100, len(data) // 3, len(data) - 1000):
        # Of the boxes of an MP4, those behind the cut are not known of.
        expected = range(1, lost + 1) if recipe.container == "mp4" else [lost]
        assert missing(data[:-lost]) in expected, lost


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(codec="flv", container="flv"),
        Recipe(container="flv"),
        Recipe(container="mpegts"),
        Recipe(codec="gif", container="gif"),
        Recipe(muxer_options=FRAGMENTED),
        Recipe(codec="libvpx", container="webm"),
    ],
    ids=lambda r: f"{r.codec} {r.container}",
)
def test_cuts_are_noticed(recipe: Recipe) -> None:
    data = make_video(recipe)
    assert missing(data) == 0
    noticed = [missing(data[:size]) > 0 for size in range(600, len(data), 37)]
    # A cut that happens to fall between two packets leaves a whole, shorter file.
    assert sum(noticed) >= 0.95 * len(noticed)


def test_live_streams_do_not_say_how_long_they_are() -> None:
    live = make_video(Recipe(container="matroska", muxer_options={"live": "1"}))
    assert missing(live) == missing(live[:-500]) == 0


MAGIC = [
    b"\x1aE\xdf\xa3",
    b"RIFF",
    b"FLV\x01\x05",
    b"GIF8",
    b"\0\0\0\x10ftyp",
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
]


@pytest.mark.parametrize("data", [b"", b"x", b"text" * 100, *MAGIC])
def test_tiny_and_foreign_files_are_no_error(data: bytes) -> None:
    assert missing(data) >= 0


def test_a_wav_says_its_length_too() -> None:
    assert missing(b"RIFF" + (100).to_bytes(4, "little") + b"WAVE" + bytes(50)) == 46


def test_trailing_bytes_are_no_loss() -> None:
    for recipe in (Recipe(), Recipe(container="matroska"), Recipe(codec="mpeg4", container="avi")):
        assert missing(make_video(recipe) + bytes(1000)) == 0


def test_boxes_of_an_mp4(mp4: bytes) -> None:
    names = [name for name, _ in mp4_boxes(io.BytesIO(mp4))]
    assert names == [b"ftyp", b"free", b"mdat", b"moov"]
    assert list(mp4_boxes(io.BytesIO(mp4)))[-1][1] == len(mp4)
    assert is_mp4(mp4[:16])
    assert not is_mp4(b"RIFF....AVI ")


def test_large_and_open_ended_boxes() -> None:
    large = b"\0\0\0\1mdat" + (40).to_bytes(8, "big") + bytes(24)
    assert list(mp4_boxes(io.BytesIO(large + b"\0\0\0\0free....."))) == [(b"mdat", 40), (b"free", 53)]
    assert missing(b"\0\0\0\x08ftyp" + large[:20]) == 20


def test_padding_is_no_box() -> None:
    assert [name for name, _ in mp4_boxes(io.BytesIO(b"\0\0\0\x08ftyp" + b"\0\0\1\0" * 9))] == [b"ftyp"]


def test_few_packets_of_mpegts() -> None:
    data = make_video(Recipe(num_frames=2, container="mpegts"))
    assert is_short_mpegts(io.BytesIO(data))
    assert is_short_mpegts(io.BytesIO(data[:-50]))
    assert not is_short_mpegts(io.BytesIO(data * 9))
    assert not is_short_mpegts(io.BytesIO(b"G" * 100))
    assert not is_short_mpegts(io.BytesIO(b"G" + bytes(800)))


def test_where_a_fragmented_mp4_had_better_end() -> None:
    data = make_video(Recipe(num_frames=40, gop=10, muxer_options=FRAGMENTED))
    boxes = list(mp4_boxes(io.BytesIO(data)))
    fragments = [(start, end) for (name, end), (_, start) in zip(boxes[1:], boxes, strict=False) if name == b"moof"]
    assert len(fragments) == 4

    def readable(size: int) -> int | None:
        return count_readable_bytes(io.BytesIO(data[:size]))

    assert readable(len(data)) is None
    for start, end in fragments[1:]:
        assert readable(start + 20) == start  # within the fragment's index: FFmpeg would refuse the file
        assert readable(end + 20) is None  # within its frames: FFmpeg reads what is there
    assert readable(fragments[0][0] + 20) is None  # there is nothing before it
    assert count_readable_bytes(io.BytesIO(b"GIF89a")) is None


@given(
    st.sampled_from([*MAGIC, b"G" + bytes(187) + b"G"]),
    st.binary(max_size=300),
)
def test_any_bytes_are_no_error(magic: bytes, data: bytes) -> None:
    assert missing(magic + data) >= 0
    count_readable_bytes(io.BytesIO(magic + data))
