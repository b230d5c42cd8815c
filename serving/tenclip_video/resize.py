"""Scaling: from a decoded frame to upright uint8 RGB of the size and with the kernel that a `Resize` names.

`swscale_bilinear`, the kernel of our own models, scales the planes of a 4:2:0 picture before it converts them to RGB.
That is less to scale and less to convert; colour edges come out as coarse as the scaled chroma planes.
`swscale_fast_bilinear` reproduces the operator of VMZ's authors, which scales and converts in one step.

Interlaced frames (`VideoFrame.interlaced_frame`) hold two fields, taken one after the other, on alternating lines.
swscale treats each field by itself and interleaves the results. With the swscale kernels, frames are scaled field by
field; with the others, which get a full-size RGB picture from swscale, only its colours are made field by field.
Loaders that ignore the flag (OpenCV, decord) treat the lines of both fields together, and
`Resize.interlaced = "progressive"` does as they do. The two ways differ wherever something moves.

One VideoReformatter is kept for each step of a stream. A new one for each frame, which is what `VideoFrame.reformat`
makes, costs more than the scaling.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from tenclip_video.orientation import frame_orientation
from tenclip_video.spec import Resize

_PLANAR_420 = frozenset({"yuv420p", "yuvj420p"})
# What swscale converts, by the numbers of ITU-T H.273, table 4: RGB, BT.709, FCC, BT.601 (5, 6), SMPTE 240M, BT.2020.
_UNSPECIFIED_COLORSPACE = 2
_COLORSPACES = frozenset({0, 1, _UNSPECIFIED_COLORSPACE, 4, 5, 6, 7, 9})


class FrameScaler:
    """Scales the frames of one video to one size, upright. The first frame fixes the size and the orientation.

    height, width: of the result, as shown.
    unknown_colorspace: the H.273 number of a colour space that swscale does not know (YCgCo, ICtCp), once a frame had
    one. Such frames are taken for BT.601.
    has_interlaced: whether any frame so far was interlaced.

    >>> scaler = FrameScaler(Resize(height=128, width=171), frame)  # doctest: +SKIP
    >>> scaler.scaled(frame).shape  # doctest: +SKIP
    (128, 171, 3)
    """

    def __init__(self, resize: Resize, first: VideoFrame) -> None:
        self.unknown_colorspace: int | None = None
        self.has_interlaced = False
        self._kernel = resize.kernel
        self._ignores_interlacing = resize.interlaced == "progressive"
        self._orientation = frame_orientation(first)
        transposed = self._orientation.is_transposed
        shown = (first.width, first.height) if transposed else (first.height, first.width)
        self.height, self.width = resize.target(*shown)
        # The size before turning.
        self._coded = (self.width, self.height) if transposed else (self.height, self.width)
        self._planes, self._rgb = VideoReformatter(), VideoReformatter()
        self._progressive = _ProgressiveFlag()

    def scaled(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """`frame` as uint8 [height, width, 3] RGB, a view of memory of its own. Raises av.FFmpegError for damage."""
        if frame.interlaced_frame:
            self.has_interlaced = True
            if self._ignores_interlacing:
                frame = self._progressive.set(frame)
        height, width = self._coded
        if self._kernel.startswith("swscale"):
            rgb = self._swscale(frame, height, width)
        else:
            rgb = _RESIZERS[self._kernel](self._to_rgb(frame, frame.height, frame.width, "BILINEAR"), height, width)
        return self._orientation.apply(rgb)

    def _swscale(self, frame: VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        if self._kernel == "swscale_fast_bilinear":
            return self._to_rgb(frame, height, width, "FAST_BILINEAR")
        if frame.format.name in _PLANAR_420 and (frame.height, frame.width) != (height, width):
            frame = self._reformat(self._planes, frame, height, width, frame.format.name, "BILINEAR")
        return self._to_rgb(frame, height, width, "BILINEAR")

    def _to_rgb(self, frame: VideoFrame, height: int, width: int, method: str) -> NDArray[np.uint8]:
        rgb = self._reformat(self._rgb, frame, height, width, "rgb24", method)
        plane = rgb.planes[0]
        # A view: `to_ndarray` copies wherever rows are padded. The view keeps the frame's memory alive.
        return np.ndarray((height, width, 3), np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1))

    def _reformat(
        self, scaler: VideoReformatter, frame: VideoFrame, height: int, width: int, pixel_format: str, method: str
    ) -> VideoFrame:
        """Raises av.FFmpegError for a damaged frame."""
        if frame.colorspace not in _COLORSPACES:
            self.unknown_colorspace = frame.colorspace
            frame.colorspace = _UNSPECIFIED_COLORSPACE
        return scaler.reformat(frame, width=width, height=height, format=pixel_format, interpolation=method, threads=1)


class _ProgressiveFlag:
    """Marks frames as progressive without copying their pixels: FFmpeg's filter `setfield`, kept while sizes agree."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._layout: tuple[int, int, str] | None = None

    def set(self, frame: VideoFrame) -> VideoFrame:
        layout = (frame.width, frame.height, frame.format.name)
        if self._graph is None or self._layout != layout:
            self._graph, self._layout = av.filter.Graph(), layout
            self._graph.threads = 1
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
            )
            self._graph.link_nodes(source, self._graph.add("setfield", "prog"), self._graph.add("buffersink"))
            self._graph.configure()
        self._graph.vpush(frame)
        return self._graph.vpull()


def _opencv_bilinear(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    import cv2

    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)


def _torch_bilinear(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    """Bilinear on floats without antialiasing, half-pixel centres: what F.interpolate(align_corners=False) computes."""
    import cv2

    scaled = cv2.resize(rgb.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.rint(scaled).astype(np.uint8)


def _pil_bilinear(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
    from PIL import Image

    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR))


_RESIZERS = {"opencv_bilinear": _opencv_bilinear, "torch_bilinear": _torch_bilinear, "pil_bilinear": _pil_bilinear}
