"""Figures in words."""

from __future__ import annotations

import base64
import math


def seconds(value: float) -> str:
    """0.4 ms, 12 ms, 3.4 s, 5 min 12 s."""
    if value < 0.01:
        return f"{value * 1000:.1f} ms"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def moment(value: float) -> str:
    """A place in a video: `4.25 s`, and from 100 seconds on `2:05`, `1:00:03`."""
    if not math.isfinite(value):
        return str(value)
    if value < 100:
        return f"{value:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def interval(start: float, end: float) -> str:
    """A part of a video: `4.25 s to 4.9 s`."""
    return f"{moment(start)} to {moment(end)}"


def percent(share: float) -> str:
    return f"{share:.1%}"


def number(value: float) -> str:
    """A score of unknown scale, to three digits."""
    return f"{value:.3g}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 clip`, `3 clips`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def data_url(jpeg: bytes) -> str:
    """A picture as the address of itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
