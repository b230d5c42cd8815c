"""How decoded pictures must be turned and mirrored to be shown upright: the display matrix of a video.

Containers (MP4, MOV, Matroska) and some codecs (H.264, HEVC, EXIF in Motion JPEG) carry a 3x3 display matrix. Cameras
write one of eight: four quarter turns, each with or without a mirror. Front cameras and editors write mirrors, and a
mirror that is dropped swaps left and right. Players apply these eight; what else a matrix may hold (other angles,
scaling, shear) is not applied here, and `Orientation.warning` names it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)

# Entries of the matrix that turn and mirror are fixed-point numbers with 16 fractional bits.
_ONE = 1 << 16
# FFmpeg's player takes an angle that is less than a degree off for a quarter turn.
_TOLERANCE = math.sin(math.radians(1))
# PyAV lists the side data of a frame only when it knows the type of each; FFmpeg has more types.
_UNKNOWN_TYPES = sorted(set(range(64)) - {t.value for t in Type})


@dataclass(frozen=True)
class Orientation:
    """How to show a decoded picture: turned `rotation` degrees clockwise (0, 90, 180, 270), then mirrored left to right
    if `mirrored`.

    `warning`: what else the display matrix asks for and is not applied; "" for one of the eight orientations.
    """

    rotation: int = 0
    mirrored: bool = False
    warning: str = ""

    @property
    def is_transposed(self) -> bool:
        """Whether width and height change places."""
        return self.rotation % 180 == 90

    def apply(self, picture: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """[H,W,...] as decoded to [H',W',...] as shown: a view, no copy.

        >>> Orientation(rotation=90).apply(np.array([[1, 2], [3, 4]])).tolist()
        [[3, 1], [4, 2]]
        """
        # np.rot90 turns counter-clockwise; it takes microseconds even for no turn at all.
        turned = np.rot90(picture, -(self.rotation // 90)) if self.rotation else picture
        return turned[:, ::-1] if self.mirrored else turned


def frame_orientation(frame: VideoFrame) -> Orientation:
    """The orientation that a decoded frame's display matrix asks for; upright when it has none."""
    data = _display_matrix(frame)
    if len(data) < 36:
        return Orientation()
    a, b, u, c, d, v, *_ = struct.unpack("=9i", data[:36])
    return orientation_of(a / _ONE, b / _ONE, c / _ONE, d / _ONE, perspective=(u, v) != (0, 0))


def orientation_of(a: float, b: float, c: float, d: float, *, perspective: bool = False) -> Orientation:
    """The nearest of the eight orientations to a matrix that shows the pixel (x, y) at (a*x + c*y, b*x + d*y).

    >>> orientation_of(0, 1, 1, 0)
    Orientation(rotation=90, mirrored=True, warning='')
    """
    columns = math.hypot(a, c), math.hypot(b, d)
    if not all(columns):
        return Orientation(warning=f"its display matrix ({_numbers(a, b, c, d)}) is singular; frames are left as coded")
    a, c, b, d = a / columns[0], c / columns[0], b / columns[1], d / columns[1]
    mirrored = a * d - b * c < 0
    sign = -1 if mirrored else 1  # undoes the mirror, which comes last and negates x
    # Cosine of the angle between the matrix and each quarter turn; ties go to the smaller turn.
    turns = {0: sign * a + d, 90: b - sign * c, 180: -sign * a - d, 270: sign * c - b}
    rotation = max(turns, key=lambda turn: round(turns[turn], 3))
    angle = math.degrees(math.atan2(b, sign * a)) % 360
    asks_for = []
    if turns[rotation] < 2 * math.sqrt(1 - _TOLERANCE**2) - 1e-9:
        asks_for.append(f"turning by {angle:.0f} degrees" if abs(a * b + c * d) < 2 * _TOLERANCE else "shearing")
    if any(abs(size - 1) > _TOLERANCE for size in columns):
        asks_for.append(f"scaling by {columns[0]:.3g} x {columns[1]:.3g}")
    if perspective:
        asks_for.append("a change of perspective")
    if not asks_for:
        return Orientation(rotation, mirrored)
    turned = [f"turned {rotation} degrees clockwise"] if rotation else []
    applied = ", then ".join([*turned, *(["mirrored"] if mirrored else [])]) or "left as coded"
    warning = f"its display matrix asks for {' and '.join(asks_for)}, which is not applied; frames are {applied}"
    return Orientation(rotation, mirrored, warning)


def _numbers(*values: float) -> str:
    return ", ".join(f"{v:.3g}" for v in values)


def _display_matrix(frame: VideoFrame) -> bytes:
    """The nine int32 of the display matrix in native byte order; empty when there is none."""
    try:
        side_data: Any = frame.side_data  # a mapping by name and type, whatever PyAV's types say
    except ValueError:  # a type that PyAV does not know: EXIF, the view of a stereo video
        side_data = _without_unknown_side_data(frame).side_data
    return bytes(side_data.get("DISPLAYMATRIX") or b"")


def _without_unknown_side_data(frame: VideoFrame) -> VideoFrame:
    graph = av.filter.Graph()
    graph.threads = 1
    filters = [graph.add("sidedata", f"mode=delete:type={number}") for number in _UNKNOWN_TYPES]
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    graph.link_nodes(source, *filters, graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()
