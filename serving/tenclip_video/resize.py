"""From a decoded frame to uint8 RGB of the size the spec asks for, upright, with the kernel it names.

`swscale_bilinear`, our own models' kernel, scales the planes of a 4:2:0 picture before it converts them to RGB: less
to scale and less to convert, for colour edges as coarse as the scaled chroma planes. `swscale_fast_bilinear` is the
operator of VMZ's authors, who scale and convert in one step.
One VideoReformatter is kept for each step of a stream; a new one for each frame (which is what `VideoFrame.reformat`
makes) costs more than the scaling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from tenclip_video.spec import Resize

_PLANAR_420 = frozenset({"yuv420p", "yuvj420p"})
# What swscale converts, by the numbers of ITU-T H.273, table 4: RGB, BT.709, FCC, BT.601 (5, 6), SMPTE 240M, BT.2020.
_UNSPECIFIED_COLORSPACE = 2
_COLORSPACES = frozenset({0, 1, _UNSPECIFIED_COLORSPACE, 4, 5, 6, 7, 9})


def clockwise_rotation(frame: VideoFrame) -> int:
    """Degrees clockwise by which a frame must be turned to stand upright: 0, 90, 180 or 270.

    FFmpeg's angle counts counter-clockwise; angles between are rounded to the nearest quarter turn.
    """
    return round(-frame.rotation / 90) % 4 * 90


class FrameScaler:
    """Scales the frames of one video to one size. The first frame fixes it, should later ones differ.

    `unknown_colorspace` is set (to its H.273 number) once a frame had one that swscale does not know, such as YCgCo or
    ICtCp; it was taken for BT.601 then.
    """

    def __init__(self, resize: Resize, first: VideoFrame) -> None:
        self.unknown_colorspace: int | None = None
        self._kernel = resize.kernel
        self._quarter_turns = clockwise_rotation(first) // 90
        turned = self._quarter_turns % 2 == 1
        shown = (first.width, first.height) if turned else (first.height, first.width)
        self.height, self.width = resize.target(*shown)
        # The size before turning.
        self._coded = (self.width, self.height) if turned else (self.height, self.width)
        self._planes, self._rgb = VideoReformatter(), VideoReformatter()

    def scaled(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """`frame` as uint8 [height, width, 3] RGB, a view of memory of its own."""
        height, width = self._coded
        if self._kernel.startswith("swscale"):
            rgb = self._swscale(frame, height, width)
        else:
            rgb = _RESIZERS[self._kernel](self._to_rgb(frame, frame.height, frame.width, "BILINEAR"), height, width)
        # np.rot90 turns counter-clockwise.
        return np.rot90(rgb, -self._quarter_turns) if self._quarter_turns else rgb

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
