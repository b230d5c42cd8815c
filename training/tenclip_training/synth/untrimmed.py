"""Untrimmed videos: where in them the action is, and the scenes that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

# What fills time without action: nothing, aimless wandering, or light that comes and goes.
IDLE_KINDS: Final = ("still", "wander", "flicker")
_EVENNESS = 4.0  # of the lengths of scenes: concentration of a Dirichlet distribution


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A part of a video with a background and objects of its own.

    It lasts from `start` to `end`, in seconds; `action` is the part of it in which its objects do `verb`, empty where
    they do none. shows_label: the action is the one that the video is about.
    """

    start: float
    end: float
    action: tuple[float, float]
    shows_label: bool
    verb: str
    speed: str
    objects: int
    shape: str
    texture: str
    background: str
    idle: str
    clutter: int
    distractors: int


def one_action(duration: float, part: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
    """(start, end) in seconds of an action anywhere in a video."""
    length = duration * rng.uniform(*part)
    start = rng.uniform(0, duration - length)
    return round(start, 3), round(start + length, 3)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The time of a scene, and of the video's action in it; None: another scene."""

    start: float
    end: float
    action: tuple[float, float] | None


def stretches(
    duration: float, part: tuple[float, float], *, scenes: int, acting: int, rng: np.random.Generator
) -> list[Stretch]:
    """`scenes` one after the other that fill `duration` seconds; in `acting` of them is an equal piece of the action,
    which fills between part[0] and part[1] of the video altogether."""
    piece = duration * rng.uniform(*part) / acting
    with_action = set(rng.permutation(scenes)[:acting].tolist())
    rest = (duration - piece * acting) * rng.dirichlet(np.full(scenes, _EVENNESS))
    found, start = [], 0.0
    for i in range(scenes):
        end = duration if i == scenes - 1 else start + rest[i] + (piece if i in with_action else 0.0)
        action = None
        if i in with_action:
            begin = start + rng.uniform(0, 1) * max(0.0, end - start - piece)
            action = (round(float(begin), 3), round(float(begin + piece), 3))
        found.append(Stretch(start=float(start), end=float(end), action=action))
        start = end
    return found
