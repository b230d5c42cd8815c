"""Streams in which a decoder may skip the frames that no other frame refers to, without changing the others.

H.264 marks such frames (nal_ref_idc). Where a stream may code the two fields of a frame apart, a packet can be half a
frame, and the mark is not enough. HEVC marks frames that none of their own temporal layer refers to, so the stream must
have a single layer. In MPEG-1, -2 and -4 they are the B-frames. VP8 and VP9 carry segmentation and probabilities from
one frame to the next, whatever refers to it; dav1d (AV1) returns the frame of an earlier packet than the one that it
was given. All frames of these three are decoded.
"""

from __future__ import annotations

from tenclip_video.parameter_sets import h264_sequence_parameters, hevc_temporal_layers

_B_FRAME_CODECS = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})


def may_drop_frames(codec: str, extradata: bytes | None) -> bool:
    """Whether frames that no other refers to may be skipped (FFmpeg's skip_frame=noref) in this stream.

    codec: FFmpeg's canonical name. extradata: the stream's parameter sets as FFmpeg has them (avcC, hvcC or start
    codes). False wherever they do not prove it.

    >>> may_drop_frames("vp9", None)
    False
    """
    if codec in _B_FRAME_CODECS:
        return True
    try:
        if codec == "h264":
            sequences = h264_sequence_parameters(extradata or b"")
            return bool(sequences) and all(s.frame_mbs_only for s in sequences)
        if codec == "hevc":
            layers = hevc_temporal_layers(extradata or b"")
            return bool(layers) and max(layers) == 1
    except IndexError:  # parameter sets that are cut off
        pass
    return False
