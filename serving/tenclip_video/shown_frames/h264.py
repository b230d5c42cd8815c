"""H.264: frames whose two fields are pictures of their own, and lost reference frames."""

from __future__ import annotations

from av.packet import Packet
from av.video.stream import VideoStream

from tenclip_video.parameter_sets import (
    BitReader,
    SequenceParameters,
    h264_sequence_parameters,
    is_single_unit,
    nal_length_bytes,
    nal_positions,
)
from tenclip_video.shown_frames.counts import ONLY_DECODING_TELLS

# H.264 NAL unit types of slices: non-IDR, data partition A, IDR. Their headers up to the field flags fit into these.
_SLICES, _IDR = frozenset({1, 2, 5}), 5
_SLICE_HEADER_BYTES = 24


class H264Counter:
    """Slices of an H.264 stream; the second field of a frame, in a packet of its own, gives no further frame.

    Left to a decoder: a packet whose units do not fill it, and one before which a reference frame is missing
    (finds_losses), which the decoder makes up from those before it.
    """

    def __init__(self, extradata: bytes, *, finds_losses: bool) -> None:
        self._length_bytes = nal_length_bytes("h264", extradata)
        try:
            sequences = set(h264_sequence_parameters(extradata))
        except IndexError:
            sequences = set()
        self._sequence = sequences.pop() if len(sequences) == 1 else None
        # Whole frames need no look at their slices.
        self._is_plain = not finds_losses and (self._sequence is None or self._sequence.frame_mbs_only)
        # frame_num of the last frame that others may refer to.
        self._reference_number: int | None = None
        # (frame_num, bottom_field_flag) of a field whose other one is still to come.
        self._first_field: tuple[int, int] | None = None

    def __call__(self, packet: Packet[VideoStream]) -> int:
        if self._is_plain and not self._length_bytes:
            return 1
        data = memoryview(packet)
        try:
            if (
                self._is_plain
                and is_single_unit(data, self._length_bytes)
                and data[self._length_bytes] & 0x1F in _SLICES
            ):
                return 1
            slices = self._slices(data)
            if not slices:
                return int(b"\0\0\1" in bytes(data))  # some writers put units with start codes into one with a length
            return 1 if self._is_plain or self._sequence is None else self._count(slices, self._sequence)
        except IndexError:
            return ONLY_DECODING_TELLS

    def _slices(self, data: memoryview) -> list[memoryview]:
        """The header of each slice; of the first one where the others cannot matter."""
        slices = []
        for at in nal_positions(data, self._length_bytes):
            if data[at] & 0x1F in _SLICES:
                slices.append(data[at : at + _SLICE_HEADER_BYTES])
                if not self._length_bytes and (self._sequence is None or self._sequence.frame_mbs_only):
                    break
        return slices

    def _count(self, slices: list[memoryview], sequence: SequenceParameters) -> int:
        number, parity = self._parse(slices[0], sequence)
        if parity is not None and self._first_field == (number, 1 - parity):
            self._first_field = None
            return 0
        self._first_field = None
        if parity is not None and {self._parse(header, sequence)[1] for header in slices} == {parity}:
            self._first_field = number, parity
        before, is_reference = self._reference_number, slices[0][0] & 0x60
        if is_reference:
            self._reference_number = number
        if before is None or sequence.allows_gaps or slices[0][0] & 0x1F == _IDR:
            return 1
        following = (before + 1) % (1 << sequence.frame_num_bits)
        is_next = number == following or (not is_reference and number == before)  # some encoders do not count those
        return 1 if is_next else ONLY_DECODING_TELLS

    def _parse(self, header: memoryview, sequence: SequenceParameters) -> tuple[int, int | None]:
        """(frame_num, bottom_field_flag of a field's slice or None of a frame's) (Rec. H.264, 7.3.3)."""
        bits = BitReader(bytes(header[1:]).replace(b"\0\0\3", b"\0\0"))
        bits.exp_golomb()  # first macroblock
        bits.exp_golomb()  # slice type
        bits.exp_golomb()  # picture parameter set
        if sequence.separate_planes:
            bits.read(2)
        number = bits.read(sequence.frame_num_bits)
        is_field = not sequence.frame_mbs_only and bits.read(1)
        return number, bits.read(1) if is_field else None
