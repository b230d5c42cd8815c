"""From a VideoSpec to frames: uint8 RGB [H, W, 3], with nothing encoded.

All motion is a function of presentation time, so frame rate and irregular intervals change which moments are seen,
never the motion. Drawing is one small affine warp for each object and frame; coordinates for all frames are computed
at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tenclip_training.synth.motions import CLASSES, LARGEST_RADIUS, MOTIONS, Floats, State, draw_mover
from tenclip_training.synth.plan import VideoSpec
from tenclip_training.synth.scene import SHAPES, TEXTURES, Image, Sprite, draw_background, draw_sprite
from tenclip_training.synth.sites import developed

_WANDER_SPEED = 0.2  # root mean square, short sides per second: about half of a slow action
_FLICKER_DEPTH = 0.25
_SCENE, _LOOK, _FIRST_SCENE = 1, 5, 10  # purposes of random draws, see content
_SCENE_FIELDS = (
    *("verb", "speed", "objects", "shape", "texture", "background"),
    *("idle", "clutter", "distractors"),
)


@dataclass(frozen=True, kw_only=True)
class _Track:
    """One moving thing over the whole video."""

    sprite: Sprite
    x: Floats  # [N] pixels
    y: Floats
    angle: Floats
    radius: Floats


def render(spec: VideoSpec) -> Iterator[Image]:
    """Yields each frame of `spec`, uint8 RGB [H, W, 3]. The same spec gives the same frames."""
    scenes = map(_render_scene, _scenes(spec))
    return developed(itertools.chain.from_iterable(scenes), spec.look, _rng(spec, _LOOK))


def _scenes(spec: VideoSpec) -> Iterator[VideoSpec]:
    """A spec for each scene, with the frames of its time; those that last shorter than a frame have none."""
    if not spec.scenes:
        yield spec
        return
    times = spec.times
    for position, scene in enumerate(spec.scenes):
        last = position == len(spec.scenes) - 1
        shown = (times >= scene.start) & ((times < scene.end) | last)
        yield replace(
            spec,
            ticks=tuple(tick for tick, inside in zip(spec.ticks, shown, strict=True) if inside),
            scenes=(),
            key=(*spec.key, _FIRST_SCENE + position),
            start=scene.action[0],
            end=scene.action[1],
            **{name: getattr(scene, name) for name in _SCENE_FIELDS},
        )


def _render_scene(spec: VideoSpec) -> Iterator[Image]:
    rng = _rng(spec, _SCENE)
    times = spec.times
    shake = _camera_shake(spec, times, rng)  # [2, N] pixels
    margin = int(np.ceil(spec.camera_shake * min(spec.width, spec.height))) + 2
    backdrop = _backdrop(spec, margin, rng)
    # The moving things come last, and none of their draws hangs on the class: two specs that differ in `verb` alone
    # begin with the same frame, bit for bit.
    tracks = [*_distractors(spec, times, rng), *_actors(spec, times, rng)]
    gains = _gains(spec, times, rng)
    for n in range(len(times)):
        frame = _look_at(backdrop, margin, shake[:, n], spec)
        for track in tracks:
            _draw(frame, track, n, shake[:, n])
        yield frame if gains[n] == 1 else cv2.convertScaleAbs(frame, alpha=gains[n])  # type: ignore[misc]


def _rng(spec: VideoSpec, purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(*spec.key, purpose)))


def _actors(spec: VideoSpec, times: Floats, rng: np.random.Generator) -> Iterator[_Track]:
    short = min(spec.width, spec.height)
    elapsed = np.clip(times - spec.start, 0, spec.end - spec.start)
    idle = times - elapsed  # seconds of the video so far outside the action
    for _ in range(spec.objects):
        mover = draw_mover(rng, spec.width, spec.height, spec.speed)
        sprite = draw_sprite(spec.shape, spec.texture, short * LARGEST_RADIUS, rng)
        # Off topic: no motion of the classes; the action's time is empty then.
        state = MOTIONS[spec.verb or CLASSES[0]].path(elapsed, mover, short)
        drift = _wander(idle, rng)
        if spec.idle == "wander" and not spec.trimmed:
            x, y, angle = drift
            state = replace(state, x=state.x + short * x, y=state.y + short * y, angle=state.angle + 2 * angle)
        yield _track(sprite, state, short)


def _distractors(spec: VideoSpec, times: Floats, rng: np.random.Generator) -> Iterator[_Track]:
    short = min(spec.width, spec.height)
    for _ in range(spec.distractors):
        start = draw_mover(rng, spec.width, spec.height, spec.speed).start
        sprite = draw_sprite(_any(SHAPES, rng), _any(TEXTURES, rng), short * LARGEST_RADIUS, rng)
        x, y, angle = _wander(times, rng)
        state = State(
            x=start.x + short * x, y=start.y + short * y, angle=start.angle + angle, u=0.3 * start.u + 0 * times
        )
        yield _track(sprite, state, short)


def _track(sprite: Sprite, state: State, short_side: int) -> _Track:
    return _Track(sprite=sprite, x=state.x, y=state.y, angle=state.angle, radius=state.radius(short_side))


def _wander(seconds: Floats, rng: np.random.Generator) -> Floats:
    """[3, N]: an aimless path that begins at 0, as sums of slow waves, in short sides; the third is used as angle."""
    hertz = rng.uniform(0.1, 0.6, size=(3, 3, 1))
    phases = rng.uniform(0, 2 * np.pi, size=(3, 3, 1))
    # Each wave of frequency f and amplitude a has a speed of 2 pi f a / sqrt(2); three of them and two axes add up.
    amplitudes = _WANDER_SPEED / (2 * np.pi * hertz) * np.sqrt(2 / 6)
    waves = amplitudes * (np.sin(2 * np.pi * hertz * seconds + phases) - np.sin(phases))
    result: Floats = waves.sum(axis=1)
    return result


def _camera_shake(spec: VideoSpec, times: Floats, rng: np.random.Generator) -> Floats:
    """[2, N] (x, y) pixels, never beyond `spec.camera_shake` short sides: a hand's tremor, with no way to go."""
    strength = rng.uniform(0.3, 1.0)
    hertz = rng.uniform(0.4, 3.0, size=(2, 3, 1))
    phases = rng.uniform(0, 2 * np.pi, size=(2, 3, 1))
    weights = rng.dirichlet(np.ones(3), size=2)[..., None]
    waves = (weights * np.sin(2 * np.pi * hertz * times + phases)).sum(axis=1)
    result: Floats = spec.camera_shake * min(spec.width, spec.height) * strength * waves
    return result


def _gains(spec: VideoSpec, times: Floats, rng: np.random.Generator) -> Floats:
    """[N] brightness: 1, but for flickering light outside the action."""
    hertz, phase = rng.uniform(0.5, 2.5), rng.uniform(0, 2 * np.pi)
    if spec.trimmed or spec.idle != "flicker":
        return np.ones_like(times)
    inside = (times >= spec.start) & (times < spec.end)
    return np.where(inside, 1.0, 1 - _FLICKER_DEPTH * (0.5 + 0.5 * np.sin(2 * np.pi * hertz * times + phase)))


def _backdrop(spec: VideoSpec, margin: int, rng: np.random.Generator) -> Image:
    """The background with its clutter, `margin` pixels larger than the frame on every side."""
    short = min(spec.width, spec.height)
    backdrop = draw_background(spec.background, spec.height + 2 * margin, spec.width + 2 * margin, rng)
    for _ in range(spec.clutter):
        start = draw_mover(rng, spec.width, spec.height, spec.speed).start
        sprite = draw_sprite(_any(SHAPES, rng), _any(TEXTURES, rng), short * LARGEST_RADIUS, rng)
        centre = np.array([margin, margin], np.float64)
        _draw(backdrop, _track(sprite, replace(start, u=0.6 * start.u), short), 0, centre)
    return backdrop


def _look_at(backdrop: Image, margin: int, shift: Floats, spec: VideoSpec) -> Image:
    """The part of the backdrop that a camera moved by -`shift` sees; always a new array."""
    if spec.camera_shake == 0:
        return backdrop[margin : margin + spec.height, margin : margin + spec.width].copy()
    centre = (margin + (spec.width - 1) / 2 - shift[0], margin + (spec.height - 1) / 2 - shift[1])
    return np.asarray(cv2.getRectSubPix(backdrop, (spec.width, spec.height), centre), np.uint8)


def _draw(frame: Image, track: _Track, n: int, shift: Floats) -> None:
    """Lay the track's sprite over `frame` in place; what leaves on one side comes back on the other."""
    radius = float(track.radius[n])
    level = track.sprite.level_for(radius)
    picture = track.sprite.levels[level]
    x, y = float(track.x[n] + shift[0]), float(track.y[n] + shift[1])
    left, top = int(np.floor(x)), int(np.floor(y))
    reach = int(radius) + 3
    scale, angle = radius / track.sprite.radii[level], float(track.angle[n])
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    middle = (picture.shape[0] - 1) / 2
    # Sprite to patch, whose centre pixel is (left, top): turn and scale about the sprite's middle.
    affine = np.array(
        [
            [cos, -sin, reach + (x - left) - cos * middle + sin * middle],
            [sin, cos, reach + (y - top) - sin * middle - cos * middle],
        ]
    )
    side = 2 * reach + 1
    patch = np.asarray(cv2.warpAffine(picture, affine, (side, side), flags=cv2.INTER_LINEAR), np.uint8)
    for rows, patch_rows in _wrapped(top - reach, side, frame.shape[0]):
        for columns, patch_columns in _wrapped(left - reach, side, frame.shape[1]):
            _lay_over(frame[rows, columns], patch[patch_rows, patch_columns])


def _wrapped(start: int, length: int, size: int) -> list[tuple[slice, slice]]:
    """`length` cells from `start` on a ring of `size`: (slice of the ring, slice of the cells) pairs.

    >>> _wrapped(-2, 5, 10)
    [(slice(8, 10, None), slice(0, 2, None)), (slice(0, 3, None), slice(2, 5, None))]
    """
    pieces, done = [], 0
    while done < length:
        first = (start + done) % size
        step = min(size - first, length - done)
        pieces.append((slice(first, first + step), slice(done, done + step)))
        done += step
    return pieces


def _lay_over(below: Image, above: Image) -> None:
    """Premultiplied `above` [h, w, 4] over `below` [h, w, 3], in place."""
    through = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(above, 3)), cv2.COLOR_GRAY2RGB)
    # Rounded to the nearest.
    below[...] = cv2.cvtColor(above, cv2.COLOR_RGBA2RGB) + cv2.multiply(below, through, scale=1 / 255)


def _any(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[rng.integers(len(names))]
