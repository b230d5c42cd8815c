"""The motion classes: how an object's state moves with time, so that no single frame can tell which class it is.

An object's state is (x, y, angle, size): x on a circle of the frame's width, y on a circle of its height (objects that
leave on one side come back on the other), angle on the full circle, size as u in [0, 1), the position of the logarithm
of the radius between the smallest and the largest. Every state starts uniform and independent in all four. Each motion
below shifts one or two coordinates by an amount that does not depend on them: adding anything independent to a uniform
point of a circle leaves it uniform. So at *every* time, in *every* class, the state has the same distribution, and a
frame is a function of the state and of an appearance that knows nothing of the class. What remains of the class is in
the differences between frames. There is no motion blur, which would give direction and speed away.

Size is no circle, so zooming wraps: an object that has reached the largest radius goes on from the smallest. `pulse`
folds instead (a uniform point of a circle of length 2, folded onto [0, 1], is uniform too), which needs no jump.

Legend: N frames. Angles in radians, clockwise as seen (y points down). Lengths in pixels, time in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Radii as fractions of the frame's short side; the ratio is how far a zooming object grows before it wraps.
SMALLEST_RADIUS: Final = 0.12
LARGEST_RADIUS: Final = 0.36
MIDDLE_RADIUS: Final = (SMALLEST_RADIUS * LARGEST_RADIUS) ** 0.5  # 0.208
LOG_RADIUS_RANGE: Final = float(np.log(LARGEST_RADIUS / SMALLEST_RADIUS))  # 1.0986

# Short sides travelled per second. The bands do not touch, so that "speed" is a label of its own. Shrunk to 64 rows and
# seen at 15 frames/s: 1.8-2.3 and 3.2-4.2 pixels a frame. Slower actions under more camera
# shake are hard to learn from scratch.
SPEEDS: Final[dict[str, tuple[float, float]]] = {"slow": (0.42, 0.55), "fast": (0.75, 0.98)}

SWAY: Final = 0.1  # amplitude of oscillating and circling, short sides
HOP: Final = 0.2  # height of a bounce, short sides
WOBBLE: Final = 0.6  # amplitude of a rocking object, radians


@dataclass(frozen=True, kw_only=True)
class State:
    """Position, angle and size of one object: arrays of [N], or of [1] for a start."""

    x: Floats  # pixels, any real number: the renderer wraps it
    y: Floats
    angle: Floats  # radians
    u: Floats  # [0, 1): log radius between smallest and largest

    def radius(self, short_side: int) -> Floats:
        """[N] pixels."""
        result: Floats = short_side * SMALLEST_RADIUS * np.exp(LOG_RADIUS_RANGE * self.u)
        return result


@dataclass(frozen=True, kw_only=True)
class Mover:
    """The random draws of a moving object, made once; none of them depends on the class."""

    start: State  # arrays of [1]
    speed: float  # short sides per second
    phase: float  # of oscillations, radians
    jitter: Floats  # [6] phases of a shake, radians
    folded: bool  # pulse begins on the way back


def draw_mover(rng: np.random.Generator, width: int, height: int, speed: str) -> Mover:
    """A uniform state and a speed within the band `speed` of SPEEDS."""
    x, y, angle, u = rng.random(4)
    low, high = SPEEDS[speed]
    return Mover(
        start=State(
            x=np.array([x * width]), y=np.array([y * height]), angle=np.array([angle * 2 * np.pi]), u=np.array([u])
        ),
        speed=float(rng.uniform(low, high)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        jitter=rng.uniform(0, 2 * np.pi, size=6),
        folded=bool(rng.integers(2)),
    )


# (elapsed [N] seconds since the action began, what was drawn, short side in pixels) -> State of [N]
Path = Callable[[Floats, Mover, int], State]


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One class. `mirrored` is the class that its videos show when flipped left to right."""

    name: str
    family: str  # translation, rotation, scaling, oscillation, orbit, tremor
    axis: str  # horizontal, vertical or none
    mirrored: str
    path: Path


def _translate(dx: int, dy: int) -> Path:
    def path(elapsed: Floats, mover: Mover, short_side: int) -> State:
        way = mover.speed * short_side * elapsed
        return _shifted(mover.start, elapsed, x=dx * way, y=dy * way)

    return path


def _rotate(direction: int) -> Path:
    # The edge of an object of middle radius travels as fast as a translating one.
    def path(elapsed: Floats, mover: Mover, short_side: int) -> State:
        return _shifted(mover.start, elapsed, angle=direction * mover.speed / MIDDLE_RADIUS * elapsed)

    return path


def _zoom(direction: int) -> Path:
    # At the speed of the others' edges the size would wrap several times a second; 0.4 of it wraps once in 0.6-1.4 s.
    def path(elapsed: Floats, mover: Mover, short_side: int) -> State:
        rate = 0.4 * mover.speed / MIDDLE_RADIUS / LOG_RADIUS_RANGE
        moved = _shifted(mover.start, elapsed, u=direction * rate * elapsed)
        return replace(moved, u=moved.u % 1.0)

    return path


def _oscillate(dx: int, dy: int) -> Path:
    def path(elapsed: Floats, mover: Mover, short_side: int) -> State:
        way = SWAY * short_side * _sine(elapsed, mover, cycle=4 * SWAY)
        return _shifted(mover.start, elapsed, x=dx * way, y=dy * way)

    return path


def _circle(direction: int) -> Path:
    def path(elapsed: Floats, mover: Mover, short_side: int) -> State:
        turn = mover.phase + direction * mover.speed / SWAY * elapsed
        x, y = np.cos(turn) - np.cos(mover.phase), np.sin(turn) - np.sin(mover.phase)
        return _shifted(mover.start, elapsed, x=SWAY * short_side * x, y=SWAY * short_side * y)

    return path


def _bounce(elapsed: Floats, mover: Mover, short_side: int) -> State:
    first = mover.phase / (2 * np.pi)
    hops = (first + mover.speed / (2 * HOP) * elapsed) % 1.0
    height = 4 * hops * (1 - hops) - 4 * first * (1 - first)  # a ball in the air: parabolas
    return _shifted(mover.start, elapsed, y=-HOP * short_side * height)


def _shake(elapsed: Floats, mover: Mover, short_side: int) -> State:
    # Several frequencies well above the others', below half of 15 frames/s; no direction is preferred.
    hertz = np.array([3.1, 4.3, 5.9]) * (0.75 + 0.5 * mover.speed)
    waves = np.sin(2 * np.pi * hertz[:, None] * elapsed + mover.jitter.reshape(2, 3, 1))  # [2, 3, N]
    x, y = (waves - np.sin(mover.jitter.reshape(2, 3, 1))).sum(axis=1)
    return _shifted(mover.start, elapsed, x=0.02 * short_side * x, y=0.02 * short_side * y)


def _pulse(elapsed: Floats, mover: Mover, short_side: int) -> State:
    u = float(mover.start.u[0])
    unfolded = (2 - u if mover.folded else u) + 0.2 * _sine(elapsed, mover, cycle=0.5)
    on_circle = unfolded % 2.0
    return replace(_shifted(mover.start, elapsed), u=np.minimum(on_circle, 2 - on_circle))


def _wobble(elapsed: Floats, mover: Mover, short_side: int) -> State:
    return _shifted(mover.start, elapsed, angle=WOBBLE * _sine(elapsed, mover, cycle=4 * WOBBLE * MIDDLE_RADIUS))


def _sine(elapsed: Floats, mover: Mover, *, cycle: float) -> Floats:
    """A sine from 0 at `mover.phase`; a whole cycle takes as long as `cycle` short sides at the mover's speed."""
    wave: Floats = np.sin(mover.phase + 2 * np.pi * mover.speed / cycle * elapsed) - np.sin(mover.phase)
    return wave


def _shifted(
    start: State,
    elapsed: Floats,
    *,
    x: Floats | float = 0.0,
    y: Floats | float = 0.0,
    angle: Floats | float = 0.0,
    u: Floats | float = 0.0,
) -> State:
    still = np.zeros_like(elapsed)
    return State(x=start.x + x + still, y=start.y + y + still, angle=start.angle + angle + still, u=start.u + u + still)


def _motions() -> tuple[Motion, ...]:
    def motion(name: str, family: str, axis: str, path: Path, mirrored: str | None = None) -> Motion:
        return Motion(name=name, family=family, axis=axis, path=path, mirrored=mirrored or name)

    return (
        motion("move_left", "translation", "horizontal", _translate(-1, 0), "move_right"),
        motion("move_right", "translation", "horizontal", _translate(1, 0), "move_left"),
        motion("move_up", "translation", "vertical", _translate(0, -1)),
        motion("move_down", "translation", "vertical", _translate(0, 1)),
        motion("rotate_clockwise", "rotation", "none", _rotate(1), "rotate_counterclockwise"),
        motion("rotate_counterclockwise", "rotation", "none", _rotate(-1), "rotate_clockwise"),
        motion("zoom_in", "scaling", "none", _zoom(1)),
        motion("zoom_out", "scaling", "none", _zoom(-1)),
        motion("swing_horizontal", "oscillation", "horizontal", _oscillate(1, 0)),
        motion("swing_vertical", "oscillation", "vertical", _oscillate(0, 1)),
        motion("circle_clockwise", "orbit", "none", _circle(1), "circle_counterclockwise"),
        motion("circle_counterclockwise", "orbit", "none", _circle(-1), "circle_clockwise"),
        motion("shake", "tremor", "none", _shake),
        motion("bounce", "oscillation", "vertical", _bounce),
        motion("pulse", "scaling", "none", _pulse),
        motion("wobble", "rotation", "none", _wobble),
    )


MOTIONS: Final[dict[str, Motion]] = {m.name: m for m in _motions()}
CLASSES: Final[tuple[str, ...]] = tuple(MOTIONS)
