"""Augmentation: what training does to a clip and serving does not: a random crop, a mirror image, other colours.

Everything else (decode, sampling, resize) is tenclip_video's. All frames of a clip get the same change: an action is
what differs between frames. Clips are uint8 [T,H,W,3]; randomness comes from an explicit rng alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_settings import Setting, TextForm, check_all, numbers
from tenclip_training.data.clip_overrides import CLIPS

Clip = NDArray[np.uint8]

CropAt = Literal["anywhere", "corners"]


def _parse_scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("write numbers with commas between them, e.g. 1,0.84,0.71") from None


SCALES = TextForm(_parse_scales, lambda values: ",".join(f"{v:g}" for v in values), metavar="N,N,...")

# Words that a mirror image turns into their opposite, or into something else; "upright" and "cleft" are none of them.
_DIRECTION = re.compile(
    r"(?<![^\W\d_])"  # no letter before it
    r"(?:(?:left|right)(?:s|ward|wards|most|side|hand|handed|hander)?|(?:anti|counter)?clockwise|c?cw)"
    r"(?![^\W\d_])",
    re.IGNORECASE,
)
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random changes of training clips, and their strength.

    scale: side of the square that is cut out, as a part of the frame's short side, drawn between the two and resized to
    the crop; None cuts out the crop itself, unscaled, anywhere (VMZ, IG-65M).
    scales: the side is one of these parts of the short side instead, each as likely (3D-ResNets: 1 to 1/2 in steps of
    2^-1/4); crop_at: anywhere, or in one of the four corners or the centre (Wang et al. 2015).
    train_short_edge: frames are scaled to this short edge first, where tests scale them to less: crops of a part of the
    frame then keep their detail.
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
    scales: Annotated[
        tuple[float, ...],
        Setting("Sides of the crop as parts of the short side, e.g. 1,0.84,0.71.", form=SCALES, group=CLIPS),
    ] = ()
    crop_at: Annotated[CropAt, Setting("Random crops anywhere, or in the corners and the centre.", group=CLIPS)] = (
        "anywhere"
    )
    train_short_edge: Annotated[
        int | None,
        Setting("Short edge of the frames that are cropped.", lowest=1, group=CLIPS, default="as --resize"),
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
        if any(not 0 < s <= 1 for s in self.scales):
            raise ValueError(f"scales must be above 0 and at most 1, got {SCALES.show(self.scales)}")
        if self.scales and self.scale is not None:
            raise ValueError("scale and scales are two ways to draw a side: set one of them")


def flip_is_safe(labels: Iterable[str]) -> bool:
    """Whether no label names a direction that a mirror image turns round.

    >>> flip_is_safe(["juggling balls", "surfing water"]), flip_is_safe(["move_left", "move_right"])
    (True, False)
    """
    return not any(_DIRECTION.search(_CAMEL_CASE.sub(" ", label)) for label in labels)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a clip lies in its frames of height x width pixels: a square, and whether it was mirrored."""

    top: int
    left: int
    side: int
    height: int
    width: int
    mirrored: bool = False


def augment(frames: Clip, crop: int, config: Augmentation, rng: np.random.Generator) -> Clip:
    """[T,H,W,3] -> [T,crop,crop,3], contiguous. `config.flip` must be decided (None counts as no)."""
    return augment_placed(frames, crop, config, rng)[0]


def augment_placed(frames: Clip, crop: int, config: Augmentation, rng: np.random.Generator) -> tuple[Clip, Placement]:
    """`augment`, with the place of the clip in its frames."""
    height, width = frames.shape[1:3]
    placement = draw_square(height, width, crop, config, rng)
    clip = cut_square(frames, placement, crop)
    if config.flip and rng.random() < 0.5:
        clip = clip[:, :, ::-1]
        placement = replace(placement, mirrored=True)
    if config.brightness or config.contrast or config.saturation:
        clip = jitter_colors(clip, config, rng)
    return np.ascontiguousarray(clip), placement


def draw_square(height: int, width: int, crop: int, config: Augmentation, rng: np.random.Generator) -> Placement:
    """The square of frames of height x width that becomes the clip."""
    short = min(height, width)
    if config.scales:
        side = max(1, int(short * config.scales[int(rng.integers(len(config.scales)))]))
    elif config.scale is not None:
        side = max(1, round(short * rng.uniform(*config.scale)))
    else:
        side = min(crop, short)
    if config.crop_at == "corners":
        top, left = corners(height, width, side)[int(rng.integers(5))]
    else:
        top = int(rng.integers(0, height - side + 1))
        left = int(rng.integers(0, width - side + 1))
    return Placement(top=top, left=left, side=side, height=height, width=width)


def cut_square(frames: Clip, place: Placement, crop: int) -> Clip:
    """[T,H,W,3] -> [T,crop,crop,3], not mirrored."""
    side = place.side
    square = frames[:, place.top : place.top + side, place.left : place.left + side]
    return square if side == crop else scale_frames(square, crop)


def scale_frames(square: Clip, crop: int) -> Clip:
    """[T,H,W,3] -> [T,crop,crop,3]."""
    # Shrinking averages over areas, so that fine texture does not alias into motion of its own.
    kernel = cv2.INTER_AREA if min(square.shape[1:3]) > crop else cv2.INTER_LINEAR
    resized = [cv2.resize(np.ascontiguousarray(f), (crop, crop), interpolation=kernel) for f in square]
    return np.stack(resized).astype(np.uint8)


def corners(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """(top, left) of a square in the four corners and the centre.

    >>> corners(128, 171, 90)
    [(0, 0), (0, 81), (38, 0), (38, 81), (19, 40)]
    """
    bottom, right = height - side, width - side
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]


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
