"""Sites: where videos come from, as a style that all videos of a site share and another site's do not.

A style is backgrounds, light and lens (`Look`), size, frame rates, a hand's tremor and the codec's quality. Seven are
written out below; `random:NUMBER` draws another one, the same for the same number. The same
seed at two sites makes the same classes, of other videos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_training.synth.scene import BACKGROUNDS, Image

_RANDOM = "random:"
_SITE_KEY = 0x517E  # of the draws of random sites, apart from all others
_GREY = np.array([0.299, 0.587, 0.114])  # brightness of red, green and blue (BT.601)
_MIDDLE = 128.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """What light, lens and sensor do to a frame; as it is: nothing."""

    contrast: float = 1.0  # about middle grey
    brightness: float = 0.0  # levels of 255, added
    saturation: float = 1.0  # 0: grey
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)  # gains of red, green and blue
    blur: float = 0.0  # standard deviation of a Gaussian, in short sides
    noise: float = 0.0  # standard deviation, in levels of 255, of each channel of each pixel of each frame

    def color_matrix(self) -> NDArray[np.float64]:
        """[3, 4]: saturation, then cast, then contrast and brightness, as one affine map of (r, g, b, 1)."""
        mix = self.saturation * np.eye(3) + (1 - self.saturation) * np.tile(_GREY, (3, 1))
        gain = self.contrast * np.array(self.cast)[:, None] * mix
        offset = np.full((3, 1), (1 - self.contrast) * _MIDDLE + self.brightness)
        return np.concatenate([gain, offset], axis=1)


@dataclass(frozen=True, kw_only=True)
class Site:
    """The style of a site. `scale` multiplies width and height."""

    look: Look
    backgrounds: tuple[str, ...] = BACKGROUNDS
    scale: float = 1.0
    frame_rates: tuple[float, ...] = (30.0,)
    camera_shake: float = 0.01
    crf: int = 18


SITES: Final[dict[str, Site]] = {
    "studio": Site(
        look=Look(contrast=1.15, saturation=1.1), backgrounds=("gradient",), scale=1.25, camera_shake=0.0, crf=16
    ),
    "phone": Site(
        look=Look(cast=(1.08, 1.0, 0.88), brightness=8, noise=4), frame_rates=(30.0, 24.0), camera_shake=0.03, crf=24
    ),
    "webcam": Site(
        look=Look(contrast=0.75, saturation=0.7, cast=(0.92, 1.0, 1.1), blur=0.012, noise=7),
        backgrounds=("gradient", "marble"),
        scale=0.75,
        frame_rates=(15.0,),
        camera_shake=0.0,
        crf=28,
    ),
    "broadcast": Site(
        look=Look(contrast=1.25, saturation=1.2, brightness=-6),
        backgrounds=("stripes", "checker"),
        scale=1.5,
        frame_rates=(25.0, 50.0),
        camera_shake=0.004,
        crf=20,
    ),
    "archive": Site(
        look=Look(contrast=0.85, saturation=0.1, cast=(1.06, 1.0, 0.86), blur=0.01, noise=11),
        backgrounds=("marble", "stripes"),
        frame_rates=(16.0, 18.0),
        camera_shake=0.02,
        crf=26,
    ),
    "street": Site(
        look=Look(brightness=18, saturation=0.9, noise=2),
        backgrounds=("checker", "stripes", "marble"),
        frame_rates=(30.0, 60.0),
        camera_shake=0.05,
        crf=22,
    ),
    "night": Site(
        look=Look(contrast=0.6, brightness=-45, cast=(0.9, 0.95, 1.15), noise=13),
        backgrounds=("gradient", "marble"),
        frame_rates=(24.0,),
        camera_shake=0.02,
        crf=27,
    ),
}


def site_named(name: str) -> Site:
    """Raises ValueError for a name that is none."""
    if name in SITES:
        return SITES[name]
    if name.startswith(_RANDOM) and name.removeprefix(_RANDOM).isdecimal():
        return _random_site(int(name.removeprefix(_RANDOM)))
    raise ValueError(f"no site {name!r}; there are {', '.join(SITES)}, and random:NUMBER draws one, e.g. random:1")


def _random_site(number: int) -> Site:
    rng = np.random.default_rng(np.random.SeedSequence(_SITE_KEY, spawn_key=(number,)))
    red, blue = rng.uniform(0.85, 1.15, size=2).round(3)
    look = Look(
        contrast=round(float(rng.uniform(0.65, 1.3)), 3),
        brightness=round(float(rng.uniform(-25, 25)), 1),
        saturation=round(float(rng.uniform(0.3, 1.2)), 3),
        cast=(float(red), 1.0, float(blue)),
        blur=round(float(rng.choice([0.0, rng.uniform(0.004, 0.014)])), 4),
        noise=round(float(rng.choice([0.0, rng.uniform(2, 10)])), 1),
    )
    kinds = rng.permutation(len(BACKGROUNDS))[: rng.integers(1, 4)]
    return Site(
        look=look,
        backgrounds=tuple(BACKGROUNDS[i] for i in sorted(kinds)),
        scale=round(float(rng.uniform(0.75, 1.5)), 2),
        frame_rates=(float(rng.choice([15.0, 18.0, 24.0, 25.0, 30.0, 50.0])),),
        camera_shake=round(float(rng.uniform(0, 0.05)), 3),
        crf=int(rng.integers(16, 30)),
    )


def developed(frames: Iterator[Image], look: Look, rng: np.random.Generator) -> Iterator[Image]:
    """The frames, uint8 RGB [H, W, 3], as `look` shows them; unchanged objects where it changes nothing."""
    if look == Look():
        yield from frames
        return
    matrix, grain = look.color_matrix(), None
    plain = bool(np.array_equal(matrix, np.eye(3, 4)))
    for frame in frames:
        seen = frame if plain else np.asarray(cv2.transform(frame, matrix), np.uint8)
        if look.blur > 0:
            seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), look.blur * min(seen.shape[:2])), np.uint8)
        if look.noise > 0:
            grain = _grain(seen.shape, look.noise, rng) if grain is None else grain
            seen = _noisy(seen, grain, rng)
        yield seen


_SPARE = 32  # rows and columns that the grain has more than a frame


def _grain(shape: tuple[int, ...], deviation: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """One sheet of noise for a video; each frame gets another part of it, which is much faster than a new one."""
    height, width, channels = shape
    sheet = rng.standard_normal((height + _SPARE, width + _SPARE, channels), np.float32) * deviation
    return np.asarray(np.rint(sheet), np.int16)


def _noisy(frame: Image, grain: NDArray[np.int16], rng: np.random.Generator) -> Image:
    top, left = rng.integers(_SPARE + 1, size=2)
    part = grain[top : top + frame.shape[0], left : left + frame.shape[1]]
    return np.asarray(np.clip(frame + part, 0, 255), np.uint8)
