"""How many shown frames a packet gives, told from a few bits of its headers, without decoding it.

A packet is not a frame. VP8, VP9 and AV1 have frames that are only referred to and never shown; an AVI of DivX or XviD
packs two frames into one packet and an empty one ("N-VOP") into the next, or repeats a frame by an empty one; a packet
of H.264 or MPEG-2 may hold one field of a frame; HEVC has leading pictures that cannot be decoded after a cut. Only
`ONLY_DECODING_TELLS` is left to a decoder: packets that are damaged or that hold what these few bits do not explain.
"""

from __future__ import annotations

from tenclip_video.shown_frames.av1 import Av1Counter
from tenclip_video.shown_frames.counts import ONLY_DECODING_TELLS, PacketCounter
from tenclip_video.shown_frames.h264 import H264Counter
from tenclip_video.shown_frames.hevc import HevcCounter
from tenclip_video.shown_frames.mpeg2 import Mpeg2Counter
from tenclip_video.shown_frames.mpeg4 import Mpeg4Counter
from tenclip_video.shown_frames.vpx import count_vp8, count_vp9

__all__ = ["ONLY_DECODING_TELLS", "PacketCounter", "packet_counter"]


def packet_counter(codec: str, extradata: bytes | None, *, finds_losses: bool = False) -> PacketCounter | None:
    """The counter for a codec by FFmpeg's canonical name; None where each packet is one shown frame.

    extradata: the stream's parameter sets as FFmpeg has them (avcC, hvcC, av1C or start codes).
    finds_losses: read the numbers that H.264 and HEVC give their frames, too, which takes as long as demuxing does.
    """
    extradata = extradata or b""
    if codec == "vp8":
        return count_vp8
    if codec == "vp9":
        return count_vp9
    if codec == "av1":
        return Av1Counter(extradata)
    if codec == "mpeg4":
        return Mpeg4Counter(extradata)
    if codec in ("mpeg1video", "mpeg2video"):
        return Mpeg2Counter()
    if codec == "h264" and len(extradata) > 6:
        return H264Counter(extradata, finds_losses=finds_losses)
    if codec == "hevc" and extradata[:1] == b"\x01" and len(extradata) > 22:
        return HevcCounter(extradata, finds_losses=finds_losses)
    return None
