"""Clips in words, for tables and pages."""

from __future__ import annotations

from tenclip_video.spec import ClipSpec


def clip_in_words(spec: ClipSpec, *, brief: bool = False) -> str:
    """The clip that a network sees; `brief` for a cell of a table.

    >>> clip_in_words(ClipSpec(num_frames=8, frame_stride=2, target_fps=15))
    '8 frames, every 2nd at 15 frames a second, 112x112 pixels'
    >>> clip_in_words(ClipSpec(num_frames=8, frame_stride=2, target_fps=15), brief=True)
    '8x112x112, every 2nd at 15 fps'
    """
    stride, side = spec.frame_stride, f"{spec.crop}x{spec.crop}"
    every = "" if stride == 1 else f", every {_ordinal(stride)}"
    unit = "fps" if brief else "frames a second"
    rate = "" if spec.target_fps is None else f" at {spec.target_fps:g} {unit}"
    if brief:
        return f"{spec.num_frames}x{side}{every}{rate}"
    return f"{spec.num_frames} frames{every}{rate}, {side} pixels"


def _ordinal(number: int) -> str:
    last = 0 if number % 100 in (11, 12, 13) else number % 10
    return f"{number}" + {1: "st", 2: "nd", 3: "rd"}.get(last, "th")
