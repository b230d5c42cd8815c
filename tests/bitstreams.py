"""Streams that no encoder at hand writes, put together bit by bit or packet by packet."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_VOP = b"\0\0\1\xb6"
PACKED_BY_XVID = b"\0\0\1\xb2DivX503b1393p"


@dataclass(frozen=True)
class RawPacket:
    """One packet, its times in ticks of its stream."""

    data: bytes
    pts: int | None
    dts: int | None
    duration: int = 0
    is_keyframe: bool = False


def read_packets(video: bytes) -> list[RawPacket]:
    """Every packet of a video, in the order of the file."""
    with av.open(io.BytesIO(video), "r") as container:
        packets = container.demux(container.streams.video[0])
        return [RawPacket(bytes(p), p.pts, p.dts, p.duration or 0, p.is_keyframe) for p in packets if p.size]


def mux_packets(template: bytes, packets: Sequence[RawPacket], container: str) -> bytes:
    """A video of these packets, with the stream parameters of `template`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        with av.open(io.BytesIO(template), "r") as source, av.open(str(path), "w", format=container) as out:
            like = source.streams.video[0]
            stream = out.add_stream_from_template(like)
            for raw in packets:
                packet = av.Packet(raw.data)
                packet.stream, packet.time_base = stream, like.time_base or Fraction(1, 1000)
                packet.pts, packet.dts, packet.duration = raw.pts, raw.dts, raw.duration
                packet.is_keyframe = raw.is_keyframe
                out.mux(packet)
        return path.read_bytes()


# -- MPEG-4 part 2 ----------------------------------------------------------------------------------------------------


def vop_kind(packet: bytes) -> str:
    """I, P, B or S: the type of a packet's first VOP."""
    return "IPBS"[packet[packet.index(_VOP) + 4] >> 6]


def empty_vop(packet: bytes, ticks_per_second: int) -> bytes:
    """An N-VOP: a P-VOP at the time of the packet's first, with vop_coded 0."""
    at = packet.index(_VOP) + 4
    bits = "".join(f"{byte:08b}" for byte in packet[at : at + 8])
    end = bits.index("0", 2) + 1 + 1 + max(1, (ticks_per_second - 1).bit_length()) + 1
    header = "01" + bits[2:end] + "0"
    header += "0" + "1" * ((-len(header) - 1) % 8)
    return _VOP + bytes(int(header[i : i + 8], 2) for i in range(0, len(header), 8))


def pack_b_frames(video: bytes, ticks_per_second: int, container: str = "avi") -> bytes:
    """An MPEG-4 video as XviD packs it: each P-VOP with the first of its B-VOPs, and an N-VOP behind the last."""
    payloads = [p.data for p in read_packets(video)]
    packed: list[bytes] = []
    while payloads:
        anchor = payloads.pop(0)
        between = []
        while payloads and vop_kind(payloads[0]) == "B":
            between.append(payloads.pop(0))
        packed += [anchor + between[0], *between[1:], empty_vop(anchor, ticks_per_second)] if between else [anchor]
    header_end = packed[0].index(_VOP)
    packed[0] = packed[0][:header_end] + PACKED_BY_XVID + packed[0][header_end:]
    packets = [RawPacket(data, t, t, 1, vop_kind(data) == "I") for t, data in enumerate(packed)]
    return mux_packets(video, packets, container)


# -- VP9 --------------------------------------------------------------------------------------------------------------


def vp9_superframe(frames: Sequence[bytes]) -> bytes:
    """Frames in one packet, with the index that says where each begins (VP9 bitstream specification, annex B)."""
    marker = bytes([0xC0 | 3 << 3 | len(frames) - 1])
    return b"".join(frames) + marker + b"".join(len(f).to_bytes(4, "little") for f in frames) + marker


# -- H.264 ------------------------------------------------------------------------------------------------------------


class _BitWriter:
    def __init__(self) -> None:
        self._bits = ""

    def write(self, value: int, count: int) -> _BitWriter:
        self._bits += f"{value:0{count}b}" if count else ""
        return self

    def exp_golomb(self, *values: int) -> _BitWriter:
        for value in values:
            code = f"{value + 1:b}"
            self._bits += "0" * (len(code) - 1) + code
        return self

    def align(self) -> _BitWriter:
        self._bits += "0" * (-len(self._bits) % 8)
        return self

    def append(self, data: bytes) -> _BitWriter:
        self._bits += "".join(f"{byte:08b}" for byte in data)
        return self

    def unit(self, header: int) -> bytes:
        """A NAL unit behind a start code, with trailing bits and escaped zeros."""
        self.write(1, 1).align()
        payload = int(self._bits, 2).to_bytes(len(self._bits) // 8, "big")
        escaped = bytearray([header])
        for byte in payload:
            if byte <= 3 and escaped[-2:] == b"\0\0":
                escaped.append(3)
            escaped.append(byte)
        return b"\0\0\0\1" + bytes(escaped)


def h264_field_pictures(frames: NDArray[np.uint8]) -> list[tuple[bytes, bytes]]:
    """(top field, bottom field) of each frame as H.264 field pictures of PCM macroblocks, parameter sets before the
    first. frames: [N,H,W] luma, H a multiple of 32 and W of 16; N up to 100.
    """
    _, height, width = frames.shape
    sps = _BitWriter().write(77, 8).write(0, 8).write(30, 8).exp_golomb(0, 0, 0, 4, 1).write(0, 1)
    sps.exp_golomb(width // 16 - 1, height // 32 - 1).write(0b0_0_1_0_0, 5)  # fields may be coded apart
    pps = _BitWriter().exp_golomb(0, 0).write(0, 2).exp_golomb(0, 0, 0).write(0, 3).exp_golomb(0, 0, 0).write(0, 3)
    head = sps.unit(0x67) + pps.unit(0x68)
    pairs = []
    for number, frame in enumerate(frames):
        top, bottom = (_field_slice(frame[parity::2], number, parity) for parity in (0, 1))
        pairs.append((head + top if number == 0 else top, bottom))
    return pairs


def _field_slice(field: NDArray[np.uint8], number: int, parity: int) -> bytes:
    is_idr = number == 0 and parity == 0
    bits = _BitWriter().exp_golomb(0, 7, 0).write(number % 16, 4).write(1, 1).write(parity, 1)
    if is_idr:
        bits.exp_golomb(0)
    bits.write(2 * number + parity, 8).write(0, 2 if is_idr else 1).exp_golomb(0)
    rows, columns = field.shape[0] // 16, field.shape[1] // 16
    for row in range(rows):
        for column in range(columns):
            block = field[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            bits.exp_golomb(25).align().append(block.tobytes() + bytes([128]) * 128)
    return bits.unit(0x65 if is_idr else 0x61)
