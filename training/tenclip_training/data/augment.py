"""Augmentation: what training does to a clip and serving does not: a random crop, a mirror image, other colours.

Everything else (decode, sampling, resize) is tenclip_video's. All frames of a clip get the same change: an action is
what differs between frames. Clips are uint8 [T,H,W,3]; randomness comes from an explicit rng alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_settings import Setting, check_all, numbers
from tenclip_training.data.clip_overrides import CLIPS

Clip = NDArray[np.uint8]

# Words that a mirror image turns into their opposite, or into something else.
_DIRECTION = re.compile(r"left|right|clockwise|(?:^|[^a-z])c?cw(?:[^a-z]|$)")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random changes of training clips, and their strength.

    scale: side of the square that is cut out, as a part of the frame's short side, drawn between the two and resized to
    the crop; None cuts out the crop itself, unscaled, anywhere (VMZ, IG-65M).
    flip: mirror half of the clips; None decides by the labels, see `flip_is_safe`.
    brightness, contrast, saturation: factors are drawn from 1 - x to 1 + x.
    Scale, colours and the rule for mirroring are this project's; IG-65M does not say whether it mirrors.
    """

    scale: Annotated[
        tuple[float, float] | None,
        Setting(
            "Random resized crop: least and most part of the short side, e.g. 0.6-1.",
            form=numbers("-", 2, "0.6-1", metavar="LEAST-MOST"),
            group=CLIPS,
            default="a random crop of the frame as it is",
        ),
    ] = None
    flip: Annotated[
        bool | None,
        Setting("Mirror half of the clips.", group=CLIPS, default="yes, unless a class names a direction"),
    ] = None
    brightness: Annotated[float, Setting("Vary the brightness by this part.", lowest=0, below=1, group=CLIPS)] = 0.0
    contrast: Annotated[float, Setting("Vary the contrast by this part.", lowest=0, below=1, group=CLIPS)] = 0.0
    saturation: Annotated[float, Setting("Vary the saturation by this part.", lowest=0, below=1, group=CLIPS)] = 0.0

    def __post_init__(self) -> None:
        check_all(self)
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be 0 < low <= high <= 1, got {self.scale}")


def flip_is_safe(labels: Iterable[str]) -> bool:
    """Whether no label names a direction that a mirror image turns round.

    >>> flip_is_safe(["juggling balls", "surfing water"]), flip_is_safe(["move_left", "move_right"])
    (True, False)
    """
    return not any(_DIRECTION.search(label.lower()) for label in labels)


def augment(frames: Clip, crop: int, config: Augmentation, rng: np.random.Generator) -> Clip:
    """[T,H,W,3] -> [T,crop,crop,3], contiguous. `config.flip` must be decided (None counts as no)."""
    clip = random_crop(frames, crop, config.scale, rng)
    if config.flip and rng.random() < 0.5:
        clip = clip[:, :, ::-1]
    if config.brightness or config.contrast or config.saturation:
        clip = jitter_colors(clip, config, rng)
    return np.ascontiguousarray(clip)


def random_crop(frames: Clip, crop: int, scale: tuple[float, float] | None, rng: np.random.Generator) -> Clip:
    """A square anywhere in the frames, [T,crop,crop,3]; frames smaller than the crop are enlarged."""
    height, width = frames.shape[1:3]
    short = min(height, width)
    side = min(crop, short) if scale is None else max(1, round(short * rng.uniform(*scale)))
    top = int(rng.integers(0, height - side + 1))
    left = int(rng.integers(0, width - side + 1))
    square = frames[:, top : top + side, left : left + side]
    if side == crop:
        return square
    # Shrinking averages over areas, so that fine texture does not alias into motion of its own.
    kernel = cv2.INTER_AREA if side > crop else cv2.INTER_LINEAR
    resized = [cv2.resize(np.ascontiguousarray(f), (crop, crop), interpolation=kernel) for f in square]
    return np.stack(resized).astype(np.uint8)


def jitter_colors(clip: Clip, config: Augmentation, rng: np.random.Generator) -> Clip:
    """Brightness, contrast about the clip's mean, saturation about each pixel's grey; RGB in, RGB out."""
    brightness, contrast, saturation = (
        np.float32(rng.uniform(1 - x, 1 + x)) for x in (config.brightness, config.contrast, config.saturation)
    )
    pixels = clip.astype(np.float32) * brightness
    gray = pixels @ _LUMA  # [T,H,W]
    pixels = gray[..., None] + (pixels - gray[..., None]) * saturation
    mean = gray.mean()
    pixels = mean + (pixels - mean) * contrast
    jittered: Clip = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return jittered
