"""A packet is not a frame: what headers tell of the frames that packets give, held against FFmpeg's decoder."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_video.shown_frames import ONLY_DECODING_TELLS, packet_counter
from tenclip_video.spec import Resize
from tenclip_video.video import VideoInfo, open_video
from tests.bitstreams import (
    RawPacket,
    empty_vop,
    h264_field_pictures,
    mux_packets,
    pack_b_frames,
    read_packets,
    vp9_superframe,
)
from tests.videos import Recipe, decode_all, frame_numbers, make_video, numbered_frame, with_edit_list, with_edits

WHOLE = Resize(mode="none")


def numbers_of(data: bytes | Path) -> list[int]:
    """The numbers that FFmpeg's decoder alone gives, in the order of times where there are any."""
    return frame_numbers(np.stack([np.asarray(f.to_ndarray(format="rgb24")) for f in decode_all(data)]))


def assert_every_frame(data: bytes, expected: list[int]) -> VideoInfo:
    """The count, a full read, and sparse reads of an open video are those of a full decode."""
    assert numbers_of(data) == expected
    with open_video(data) as video:
        assert video.info.num_frames == len(expected)
        assert frame_numbers(video.read_frames(range(len(expected)), WHOLE)) == expected
        assert video.report.frames_substituted == 0
        info = video.info
    for indices in ([0], [len(expected) - 1], [len(expected) // 2], [1, len(expected) // 3, len(expected) - 2]):
        with open_video(data) as video:
            assert frame_numbers(video.read_frames(indices, WHOLE)) == [expected[i] for i in indices]
            assert video.report.frames_substituted == 0
    return info


# -- VP8, VP9, AV1 ----------------------------------------------------------------------------------------------------


def counts(codec: str, packets: Sequence[bytes], extradata: bytes | None = None) -> list[int]:
    """What a counter gives for packets, one after the other."""
    count = packet_counter(codec, extradata)
    assert count is not None
    return [count(av.Packet(data)) for data in packets]  # type: ignore[arg-type]  # belongs to no stream


def hidden_vp9(data_dir: Path) -> bytes:
    return (data_dir / "faults" / "vp9hidden.webm").read_bytes()


def test_hidden_frames_of_vp9_are_not_counted(data_dir: Path) -> None:
    data = hidden_vp9(data_dir)
    assert len(read_packets(data)) == 108
    with open_video(data) as video:
        assert video.info.num_frames == 100
        assert video.info.frames_per_second == pytest.approx(25, rel=1e-3)
        assert video.info.duration_seconds == pytest.approx(4, abs=0.02)
        assert video.info.seekable
        assert video.read_frames(range(100), Resize(height=24, width=32)).shape[0] == 100
        assert (video.report.frames_substituted, video.report.warnings) == (0, ())


@pytest.mark.parametrize("container", ["webm", "matroska", "mp4"])
def test_vp9_hidden_frames_alone_or_in_superframes(data_dir: Path, container: str) -> None:
    data = hidden_vp9(data_dir)
    alone = read_packets(data)
    together: list[RawPacket] = []
    held: list[bytes] = []
    for packet, shown in zip(alone, counts("vp9", [p.data for p in alone]), strict=True):
        if shown:
            joined = vp9_superframe([*held, packet.data]) if held else packet.data
            together.append(replace(packet, data=joined))
            held = []
        else:
            held.append(packet.data)
    assert len(together) == 100
    expected = [np.asarray(f.to_ndarray(format="gray")) for f in decode_all(data)]
    for packets in (alone, together):
        with open_video(mux_packets(data, packets, container)) as video:
            assert video.info.num_frames == len(expected) == 100
            assert video.info.frames_per_second == pytest.approx(25, rel=2e-3)
        remuxed = [np.asarray(f.to_ndarray(format="gray")) for f in decode_all(mux_packets(data, packets, container))]
        np.testing.assert_array_equal(np.stack(remuxed), np.stack(expected))


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (0b10_00_0_0_1_0, 1),
        (0b10_00_0_1_0_0, 0),
        (0b10_00_0_1_1_0, 1),
        (0b10_00_1_000, 1),  # shows a frame that was decoded before
        (0b10_11_0_0_1_0, 0),  # profile 3: one bit later
        (0b10_11_0_0_0_1, 1),
        (0b10_11_0_1_00, 1),
        (0b01_00_0_0_1_0, ONLY_DECODING_TELLS),  # no frame marker
    ],
)
def test_vp9_headers(frame: int, shown: int) -> None:
    assert counts("vp9", [bytes([frame, 0, 0])]) == [shown]


def test_superframes() -> None:
    hidden, shown = bytes([0b10_00_0_1_0_0, 1, 2]), bytes([0b10_00_0_1_1_0, 3])
    assert counts("vp9", [vp9_superframe([hidden, shown])]) == [1]
    assert counts("vp9", [vp9_superframe([hidden, hidden])]) == [0]
    assert counts("vp9", [vp9_superframe([shown, shown])]) == [ONLY_DECODING_TELLS]
    broken = bytearray(vp9_superframe([hidden, shown]))
    broken[-9] = 200  # the first frame's size
    assert counts("vp9", [bytes(broken)]) == [ONLY_DECODING_TELLS]


def unit(unit_type: int, payload: bytes, *, spatial: int | None = None, has_size: bool = True) -> bytes:
    """An AV1 open bitstream unit."""
    header = bytes([unit_type << 3 | (spatial is not None) << 2 | has_size << 1])
    extension = b"" if spatial is None else bytes([spatial << 3])
    return header + extension + (bytes([len(payload)]) if has_size else b"") + payload


SHOWN, HIDDEN, AGAIN = bytes([0b0_01_1_0000]), bytes([0b0_01_0_0000]), bytes([0b1_0000000])


@pytest.mark.parametrize(
    ("units", "shown"),
    [
        (unit(2, b"") + unit(6, SHOWN), 1),
        (unit(2, b"") + unit(6, HIDDEN) + unit(6, SHOWN), 1),
        (unit(6, HIDDEN), 0),
        (unit(3, AGAIN), 1),
        (unit(3, HIDDEN) + unit(4, b"tile"), 0),
        (unit(3, SHOWN) + unit(4, b"tile") + unit(7, SHOWN), 1),  # a redundant header
        (unit(6, SHOWN, has_size=False), 1),
        (unit(6, SHOWN) + unit(6, SHOWN), ONLY_DECODING_TELLS),
        (unit(6, SHOWN, spatial=0) + unit(6, SHOWN, spatial=1), ONLY_DECODING_TELLS),
        (unit(6, SHOWN)[:-1], ONLY_DECODING_TELLS),
        (unit(1, bytes([0b000_1_1_000])) + unit(6, b"\0"), 1),  # a still picture, shown without a bit that says so
    ],
)
def test_av1_units(units: bytes, shown: int) -> None:
    assert counts("av1", [units]) == [shown]


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(codec="libsvtav1", container="webm", num_frames=60, gop=20),
        Recipe(codec="libsvtav1", container="mp4", num_frames=60, gop=20),
        Recipe(codec="libvpx", container="webm", num_frames=60, gop=20, options={"lag-in-frames": "16"}),
        Recipe(codec="libvpx-vp9", container="webm", num_frames=60, gop=20, options={"lag-in-frames": "25"}),
    ],
)
def test_encoders_with_alternate_references(recipe: Recipe) -> None:
    info = assert_every_frame(make_video(recipe), list(range(60)))
    assert info.frames_per_second == pytest.approx(25, rel=2e-3)


# -- MPEG-4 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
@pytest.mark.parametrize("b_frames", [1, 2, 3])
def test_packed_b_frames(b_frames: int, container: str) -> None:
    """As in UCF-101: DivX's way to put B-frames into AVI."""
    plain = make_video(Recipe(codec="mpeg4", container="avi", num_frames=61, gop=20, b_frames=b_frames))
    info = assert_every_frame(pack_b_frames(plain, 25, container), list(range(61)))
    assert info.frames_per_second == pytest.approx(25, rel=1e-3)


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
@pytest.mark.parametrize("empty", [{5, 6, 33}, {59}, {1, 58, 59}])
def test_empty_vops_are_no_frames(empty: set[int], container: str) -> None:
    """As encoders write them where nothing has changed. FFmpeg shows the last frame once more for one at the end."""

    def paint(number: int, height: int, width: int) -> NDArray[np.uint8]:
        while number in empty:
            number -= 1
        return numbered_frame(number, height, width)

    recipe = Recipe(codec="mpeg4", container="avi", num_frames=60, gop=20, b_frames=0)
    plain = make_video(recipe, paint=paint)
    packets = [
        replace(p, data=empty_vop(p.data, 25), is_keyframe=False) if n in empty else p
        for n, p in enumerate(read_packets(plain))
    ]
    data = mux_packets(plain, packets, container)
    shown = [n for n in range(60) if n not in empty]
    last = [shown[-1]] if 59 in empty else []
    info = assert_every_frame(data, shown + last)
    assert info.duration_seconds == pytest.approx(60 / 25, rel=1e-3)


def test_lost_reference_frames_of_mpeg4() -> None:
    """FFmpeg leaves out B-frames that lie before both frames that they refer to."""
    plain = make_video(Recipe(codec="mpeg4", container="mp4", num_frames=60, gop=20, b_frames=2))
    packets = [p for n, p in enumerate(read_packets(plain)) if n == 0 or not p.is_keyframe]
    data = mux_packets(plain, packets, "mp4")
    with open_video(data) as video:
        assert video.info.num_frames == len(list(decode_all(data))) < len(packets)


def test_frames_shown_again_by_empty_chunks_of_avi() -> None:
    """An AVI repeats a frame by a chunk without data; it must not empty the decoder."""
    plain = make_video(Recipe(codec="mpeg4", container="avi", num_frames=40, gop=20, b_frames=0))
    data = bytearray(plain)
    at = data.index(b"movi") + 4
    for _ in range(10):
        at += 8 + (struct.unpack("<I", data[at + 4 : at + 8])[0] + 1) // 2 * 2
    index = data.index(b"idx1")
    entry = index + 8 + 16 * 10
    offset = struct.unpack("<I", data[entry + 8 : entry + 12])[0]
    entries = bytearray(data[index + 8 :][: struct.unpack("<I", data[index + 4 : index + 8])[0]])
    for i in range(10, len(entries) // 16):
        place = 16 * i + 8
        entries[place : place + 4] = struct.pack("<I", struct.unpack("<I", entries[place : place + 4])[0] + 8)
    entries[160:160] = b"00dc" + struct.pack("<III", 0, offset, 0)
    rest = data[index + 8 + len(entries) - 16 :]
    changed = data[:at] + b"00dc\0\0\0\0" + data[at:index] + b"idx1" + struct.pack("<I", len(entries)) + entries + rest
    movi = changed.index(b"movi") - 4
    for where, more in ((4, 24), (movi, 8)):
        size = struct.unpack("<I", changed[where : where + 4])[0] + more
        changed[where : where + 4] = struct.pack("<I", size)
    with open_video(bytes(changed)) as video:
        assert video.info.num_frames == 40
        assert frame_numbers(video.read_frames(range(40), WHOLE)) == list(range(40))
        assert frame_numbers(video.read_frames([11, 39], WHOLE)) == [11, 39]


# -- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "flv"])
@pytest.mark.parametrize("apart", [True, False])
def test_h264_field_pictures(container: str, apart: bool) -> None:
    """Broadcast H.264 may code each field as a picture of its own; a packet holds one of them or both."""
    fields = h264_field_pictures(np.stack([numbered_frame(n, 64, 64)[..., 1] for n in range(30)]))
    raw = b"".join(top + bottom for top, bottom in fields)
    ticks = 24_000  # of FFmpeg's 1,200,000 a second for raw streams: 50 fields a second
    packets = []
    for n, (top, bottom) in enumerate(fields):
        at = 2 * n * ticks
        if apart:
            packets += [RawPacket(top, at, at, ticks, n == 0), RawPacket(bottom, at + ticks, at + ticks, ticks)]
        else:
            packets.append(RawPacket(top + bottom, at, at, 2 * ticks, n == 0))
    info = assert_every_frame(mux_packets(raw, packets, container), list(range(30)))
    assert info.frames_per_second == pytest.approx(25, rel=2e-3)


def mpeg2_picture(structure: int | None) -> bytes:
    extension = b"" if structure is None else b"\0\0\1\xb5" + bytes([0x8F, 0xFF, 0xF0 | structure, 0])
    return b"\0\0\1\0\0\x0f\xff\xf8" + extension + b"\0\0\1\1slice"


def test_mpeg2_field_pictures() -> None:
    top, bottom, frame = (mpeg2_picture(structure) for structure in (1, 2, 3))
    for packets, expected in {
        (frame, frame): (1, 1),
        (top + bottom, top + bottom): (1, 1),
        (top, bottom, bottom, top): (1, 0, 1, 0),
        (frame, top, bottom, frame): (1, 1, 0, 1),
        (b"\0\0\1\xb3header", mpeg2_picture(None)): (0, 1),
        (frame + frame,): (ONLY_DECODING_TELLS,),
    }.items():
        assert tuple(counts("mpeg2video", packets)) == expected


# -- what was cut away ------------------------------------------------------------------------------------------------

OPEN_GOP = {
    "h264": Recipe(num_frames=60, gop=20, options={"x264-params": "open-gop=1:b-adapt=0"}),
    "hevc": Recipe(codec="libx265", num_frames=60, gop=20, options={"x265-params": "open-gop=1:b-adapt=0:bframes=4"}),
    "mpeg2": Recipe(codec="mpeg2video", num_frames=60, gop=20),
    "mpeg4": Recipe(codec="mpeg4", num_frames=60, gop=20),
    "vp9": Recipe(codec="libvpx-vp9", num_frames=60, gop=20),
}


@pytest.mark.parametrize("skip", [1, 5])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("codec", OPEN_GOP)
def test_streams_that_begin_without_a_keyframe(codec: str, container: str, skip: int) -> None:
    packets = read_packets(make_video(OPEN_GOP[codec]))[skip:]
    start = min(p.dts for p in packets if p.dts is not None)
    moved = [replace(p, pts=(p.pts or 0) - start, dts=(p.dts or 0) - start) for p in packets]
    data = mux_packets(make_video(OPEN_GOP[codec]), moved, container)
    decoded = list(decode_all(data))
    with open_video(data) as video:
        assert video.info.num_frames == len(decoded)
        expected = np.stack([np.asarray(f.to_ndarray(format="rgb24")) for f in decoded])
        kept = frame_numbers(video.read_frames(range(len(decoded)), WHOLE))
        assert kept == frame_numbers(expected)
        assert video.report.frames_substituted == 0


@pytest.mark.parametrize("codec", OPEN_GOP)
def test_streams_that_begin_at_an_open_group(codec: str) -> None:
    """The leading frames of the first keyframe refer to what is not there."""
    packets = read_packets(make_video(OPEN_GOP[codec]))
    first = [n for n, p in enumerate(packets) if p.is_keyframe][1]
    start = packets[first].dts or 0
    moved = [replace(p, pts=(p.pts or 0) - start, dts=(p.dts or 0) - start) for p in packets[first:]]
    data = mux_packets(make_video(OPEN_GOP[codec]), moved, "mp4")
    assert_every_frame(data, numbers_of(data))


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2", "mpeg4", "vp9"])
@pytest.mark.parametrize("lost", [{22, 23, 24}, {40}, {3, 31}])
def test_packets_that_are_lost_on_the_way(codec: str, lost: set[int]) -> None:
    template = make_video(OPEN_GOP[codec])
    data = mux_packets(template, [p for n, p in enumerate(read_packets(template)) if n not in lost], "mp4")
    decoded = sorted(decode_all(data), key=lambda frame: frame.pts or 0)
    expected = np.stack([np.asarray(f.to_ndarray(format="rgb24")) for f in decoded])
    with open_video(data) as video:
        assert video.info.num_frames == len(expected)
        assert frame_numbers(video.read_frames(range(len(expected)), WHOLE)) == frame_numbers(expected)
    for index in range(0, len(expected), 7):
        with open_video(data) as video:
            single = video.read_frames([index], WHOLE)[0]
            np.testing.assert_array_equal(np.abs(single.astype(int) - expected[index]).max() <= 2, True)


def test_frames_that_were_left_out_of_hevc_on_purpose() -> None:
    """Without frames that no other refers to, as thinned-out recordings have it, the video is whole, and seeks work."""
    template = make_video(Recipe(codec="libx265", num_frames=120, gop=20, options={"x265-params": "bframes=2"}))
    kept = [p for n, p in enumerate(read_packets(template)) if n % 4 or p.data[4] >> 1 & 0x3F not in (0, 8)]
    assert 90 <= len(kept) < 120
    data = mux_packets(template, kept, "mp4")
    with open_video(data) as video:
        assert video.info.num_frames == len(kept)
        assert video.index.damage_pts is None
        before = video.report.frames_decoded
        last = len(kept) - 1
        assert frame_numbers(video.read_frames([last], WHOLE)) == [numbers_of(data)[last]]
        assert video.report.frames_decoded - before < 30
        assert video.report.warnings == ()


EDITS = {
    "a part left out": ([(400, 1024), (400, 1024 + 25 * 512)], [*range(10), *range(25, 35)]),
    "a part shown twice": ([(400, 1024 + 5 * 512), (400, 1024 + 5 * 512)], [*range(5, 15), *range(5, 15)]),
    "the end first": ([(400, 1024 + 20 * 512), (400, 1024)], [*range(20, 30), *range(10)]),
    "nothing at first": ([(500, -1), (800, 1024)], [*range(20)]),
    "a late beginning": ([(600, 1024 + 13 * 512)], [*range(13, 28)]),
}


@pytest.mark.parametrize("gop", [12, 250])
@pytest.mark.parametrize("name", EDITS)
def test_edit_lists(name: str, gop: int) -> None:
    edits, expected = EDITS[name]
    data = with_edits(make_video(Recipe(gop=gop)), edits)
    info = assert_every_frame(data, expected)
    assert info.num_frames == len(expected)
    with open_video(data) as video:
        assert video.report.warnings == ()  # nothing is lost: so it was meant


def test_an_edit_list_of_one_part_is_the_same_either_way() -> None:
    video = make_video(Recipe(gop=12))
    assert numbers_of(with_edit_list(video, skip_ticks=5 * 512)) == list(range(5, 40))
    assert_every_frame(with_edit_list(video, skip_ticks=5 * 512), list(range(5, 40)))


# -- any bytes --------------------------------------------------------------------------------------------------------


def extradata_of(codec: str) -> bytes:
    with av.open(io.BytesIO(make_video(Recipe(codec=codec, num_frames=2))), "r") as container:
        return container.streams.video[0].codec_context.extradata or b""


@pytest.fixture(scope="module")
def extradata() -> dict[str, bytes]:
    return {
        "h264": extradata_of("libx264"),
        "hevc": extradata_of("libx265"),
        "mpeg4": extradata_of("mpeg4"),
        "av1": extradata_of("libsvtav1"),
        "vp8": b"",
        "vp9": b"",
        "mpeg2video": b"",
    }


@given(
    st.sampled_from(["h264", "hevc", "mpeg4", "av1", "vp8", "vp9", "mpeg2video"]),
    st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5),
    st.booleans(),
)
def test_any_packet_has_a_count(extradata: dict[str, bytes], codec: str, packets: list[bytes], cut: bool) -> None:
    parameters = extradata[codec]
    parameters = parameters[: len(parameters) // 2] if cut else parameters
    if packet_counter(codec, parameters) is not None:
        assert set(counts(codec, packets, parameters)) <= {ONLY_DECODING_TELLS, 0, 1}
