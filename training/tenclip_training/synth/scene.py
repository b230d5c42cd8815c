"""Appearance: backgrounds, shapes and textures, drawn from an rng that knows nothing of the class.

Objects are bright and dark, backgrounds of middle brightness and pale, so that an object stands out on any of them.
Clutter looks exactly like the objects; only motion tells them apart.

Legend: images are uint8 RGB [H, W, 3]; sprites uint8 [S, S, 4], RGB multiplied by alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

SHAPES: Final = ("disc", "square", "triangle", "star")
TEXTURES: Final = ("stripes", "checker", "dots", "marble")
BACKGROUNDS: Final = ("gradient", "stripes", "checker", "marble")
_SUBPIXEL_BITS = 4
_OVERSAMPLE = 2


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """One object's picture at several resolutions, each half of the one before, so that shrinking does not alias.

    `levels[i]` is [S_i, S_i, 4], centred, its shape's circumscribed circle of radius `radii[i]` pixels.
    """

    levels: tuple[Image, ...]
    radii: tuple[float, ...]

    def level_for(self, radius: float) -> int:
        """The smallest level that needs no enlarging."""
        fitting = [i for i, r in enumerate(self.radii) if r >= radius]
        return fitting[-1] if fitting else 0


def draw_sprite(shape: str, texture: str, radius: float, rng: np.random.Generator) -> Sprite:
    """A sprite whose largest level has `radius` pixels; colours, orientation and phase of the texture are random."""
    side = 2 * (int(np.ceil(radius)) + 2)
    large = side * _OVERSAMPLE
    light, dark = _color(rng, saturation=(0.5, 1.0), value=(0.85, 1.0)), _color(rng, (0.4, 1.0), (0.05, 0.3))
    blend = draw_texture(texture, large, large, rng, period=radius * _OVERSAMPLE * rng.uniform(0.6, 0.9))
    picture = dark + (light - dark) * blend[..., None]  # [S, S, 3] float 0-255
    outline = light if rng.random() < 0.5 else dark
    whole, inner = (_shape_mask(shape, large, radius * _OVERSAMPLE * part) for part in (1.0, 0.86))
    picture = outline + (picture - outline) * inner[..., None]
    rgba = np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=2) * whole[..., None]
    levels = [_round(cv2.resize(rgba, (side, side), interpolation=cv2.INTER_AREA))]
    radii = [radius]
    while radii[-1] > 6:
        smaller = (levels[-1].shape[0] + 1) // 2
        radii.append(radii[-1] * smaller / levels[-1].shape[0])
        levels.append(_image(cv2.resize(levels[-1], (smaller, smaller), interpolation=cv2.INTER_AREA)))
    return Sprite(levels=tuple(levels), radii=tuple(radii))


def draw_background(kind: str, height: int, width: int, rng: np.random.Generator) -> Image:
    """[height, width, 3], pale and of middle brightness."""
    first = _color(rng, saturation=(0.05, 0.4), value=(0.35, 0.65))
    second = np.clip(first * rng.uniform(0.7, 0.9) + rng.uniform(-12, 12, size=3), 0, 255)
    period = min(height, width) * rng.uniform(0.15, 0.4)
    blend = draw_texture(kind, height, width, rng, period=period)
    return _round(first + (second - first) * blend[..., None])


def draw_texture(kind: str, height: int, width: int, rng: np.random.Generator, *, period: float) -> Floats:
    """[height, width] float 0-1: how far between two colours; `period` in pixels."""
    if kind == "marble":
        cells = (max(4, int(2 * height / period)), max(4, int(2 * width / period)))
        noise = cv2.resize(rng.random(cells, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        return _floats(np.clip((noise - 0.5) * 3 + 0.5, 0, 1))
    angle, first, second = rng.uniform(0, 2 * np.pi, size=3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    if kind == "gradient":
        return _floats((along - along.min()) / (along.max() - along.min()))
    turns = 2 * np.pi / period
    a, b = np.sin(along * turns + first), np.sin(across * turns + second)
    wave = {"stripes": a, "checker": a * b * 2, "dots": (a + b) - 0.7}[kind]
    return _floats(np.clip(wave * 3 + 0.5, 0, 1))  # steep, yet soft enough not to alias


def _shape_mask(shape: str, side: int, radius: float) -> Floats:
    """[side, side] float 0-1, antialiased, centred."""
    mask = np.zeros((side, side), np.uint8)
    # Pixel centres lie at whole numbers for OpenCV: the middle of the picture is (side - 1) / 2.
    corners = (side - 1) / 2 + radius * _outline(shape)
    fixed = np.rint(corners * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [fixed], (255,), lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return _floats(mask / np.float32(255))


def _outline(shape: str) -> NDArray[np.float64]:
    """Corners within the unit circle: [C, 2] as (x, y)."""
    corners = {"disc": 48, "square": 4, "triangle": 3, "star": 10}[shape]
    turn = np.arange(corners) * 2 * np.pi / corners
    reach = np.where(np.arange(corners) % 2, 0.5, 1.0) if shape == "star" else np.ones(corners)
    return np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)


def _color(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Floats:
    """[3] float RGB 0-255 of any hue."""
    hue, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    # HSV to RGB in one line: each channel is a trapezium of the hue.
    channels = (np.array([5.0, 3.0, 1.0]) + hue) % 6
    rgb = v - v * s * np.clip(np.minimum(channels, 4 - channels), 0, 1)
    return _floats(rgb * 255)


def _round(values: NDArray[np.generic]) -> Image:
    return _image(np.clip(np.rint(values), 0, 255))


def _floats(values: NDArray[np.generic]) -> Floats:
    return values.astype(np.float32, copy=False)


def _image(values: NDArray[np.generic]) -> Image:
    return values.astype(np.uint8, copy=False)
