"""Optical flow as frames: what moved from each frame to the next, in pixels, as uint8.

Dense inverse search (Kroeger et al. 2016), as OpenCV has it, on frames that are scaled already. Flow is clipped at 20
pixels a frame and written as TSN and MMAction2 do: 128 is no motion, 128 + v * 127 / 20 is v pixels. DistInit says
neither. The channels are dx (to the right), dy (down), and a third that is always 128, so that clips of flow have the
shape of others; a network of flow looks at the first two.

H x W pixels, N frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_video.spec import Resize

BOUND = 20.0  # pixels a frame
STILL = 128
# MMAction2's normalisation of flow: (x - 128) / 128.
FLOW_MEAN = FLOW_STD = (128.0, 128.0, 128.0)


def read_flow(video: Any, indices: NDArray[np.int64], resize: Resize) -> NDArray[np.uint8]:
    """uint8 [N,H,W,3]: the flow from each of these frames to the next one of the video; of the last one, from the one
    before it. video: a `Video`; indices: ascending, each once. A video of one frame does not move."""
    import cv2  # maps 300 MB of addresses: not in decoding processes, which have a limit of them

    last = len(video.times) - 1
    firsts = np.minimum(indices, max(last - 1, 0))
    needed = np.unique(np.concatenate([firsts, np.minimum(firsts + 1, last)]))
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video.read_frames(needed, resize)]
    place = {int(index): i for i, index in enumerate(needed)}
    found: dict[int, NDArray[np.uint8]] = {}
    for first in np.unique(firsts).tolist():
        found[first] = flow_between(gray[place[first]], gray[place[min(first + 1, last)]])
    return np.stack([found[int(first)] for first in firsts])


def flow_between(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey frames uint8 [H,W] -> uint8 [H,W,3], from the first to the second."""
    import cv2

    # A new one each time: it may go on from what it found before.
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    if min(one.shape) < 16:  # of too few patches
        moved: NDArray[np.float32] = np.zeros((*one.shape, 2), np.float32)
    else:
        moved = search.calc(one, two, None)
    return encode_flow(moved)


def encode_flow(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """float [...,H,W,2] in pixels -> uint8 [...,H,W,3].

    >>> encode_flow(np.array([[[0.0, -20.0], [10.0, 40.0]]], np.float32)).tolist()
    [[[128, 1, 128], [192, 255, 128]]]
    """
    scaled = np.rint(STILL + np.clip(pixels, -BOUND, BOUND) * (127 / BOUND)).astype(np.uint8)
    return np.concatenate([scaled, np.full_like(scaled[..., :1], STILL)], axis=-1)


def mirrored_and_scaled(clip: NDArray[np.uint8], *, mirrored: bool, scale: float) -> NDArray[np.uint8]:
    """A clip of flow whose picture was mirrored and scaled: its dx changes sign, and all of it grows by `scale`."""
    moved = (clip[..., :2].astype(np.float32) - STILL) * (BOUND / 127 * scale)
    if mirrored:
        moved[..., 0] = -moved[..., 0]
    return encode_flow(moved)
