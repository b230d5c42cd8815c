"""Where square crops lie in scaled frames: the test-time views of the authors' loaders. Index arithmetic only."""

from __future__ import annotations

from tenclip_video.protocols import CropMode


def center_offset(size: int, crop: int) -> int:
    """First row or column of a centre crop: floor((H - C) / 2), as in VMZ's Caffe2 operator.

    >>> center_offset(171, 112)
    29
    """
    return (size - crop) // 2


def three_crop_offsets(height: int, width: int, crop_height: int, crop_width: int) -> list[tuple[int, int]]:
    """(top, left) of three views along the longer side: left, right, middle, or top, bottom, middle.

    The order and the rounding are MMAction2's ThreeCrop: with w = (W - C) // 2 the views begin at 0, 2w and w.

    >>> three_crop_offsets(256, 341, 256, 256)
    [(0, 0), (0, 84), (0, 42)]
    """
    dy, dx = (height - crop_height) // 2, (width - crop_width) // 2
    if width - crop_width >= height - crop_height:
        return [(dy, 0), (dy, 2 * dx), (dy, dx)]
    return [(0, dx), (2 * dy, dx), (dy, dx)]


def pyslowfast_offsets(height: int, width: int, crop: int) -> list[tuple[int, int]]:
    """(top, left) of PySlowFast's three views along the longer side, in its order: begin, centre (rounded up), end.

    >>> pyslowfast_offsets(256, 341, 256)
    [(0, 0), (0, 43), (0, 85)]
    """
    top, left = -(-(height - crop) // 2), -(-(width - crop) // 2)
    if height > width:
        return [(0, left), (top, left), (height - crop, left)]
    return [(top, 0), (top, left), (top, width - crop)]


def crop_offsets(height: int, width: int, crop: int, mode: CropMode) -> list[tuple[int, int]]:
    """(top, left) of the square views: one for mode "center", three for the others.

    Raises ValueError when the frames are smaller than the crop: the spec's resize and crop contradict each other.

    >>> crop_offsets(128, 171, 112, "center")
    [(8, 29)]
    """
    if min(height, width) < crop:
        raise ValueError(f"a crop of {crop} does not fit into frames of {height}x{width}")
    if mode == "center":
        return [(center_offset(height, crop), center_offset(width, crop))]
    if mode == "three":
        return three_crop_offsets(height, width, crop, crop)
    return pyslowfast_offsets(height, width, crop)
