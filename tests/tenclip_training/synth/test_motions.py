"""Motion classes: each moves as its name says, and none changes where objects are to be found."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_training.synth.motions import (
    CLASSES,
    LARGEST_RADIUS,
    MOTIONS,
    SMALLEST_RADIUS,
    SPEEDS,
    Mover,
    Path,
    State,
    draw_mover,
)

WIDTH, HEIGHT = 112, 84
SHORT = HEIGHT
# 40 moments x 16 classes x 3 times; of 1,000 draws each is beyond 0.11 with probability exp(-1000 * 0.11^2) = 6e-6.
NUM_DRAWS = 1000
LARGEST_MOMENT = 0.11


def path_of(name: str, seed: int, times: NDArray[np.float64], speed: str = "slow") -> tuple[Mover, State]:
    mover = draw_mover(np.random.default_rng(seed), WIDTH, HEIGHT, speed)
    return mover, MOTIONS[name].path(times, mover, SHORT)


def states(path: Path, seconds: float) -> NDArray[np.float64]:
    """[D, 4] states after `seconds`, each coordinate as a fraction of its circle."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(NUM_DRAWS):
        state = path(np.array([seconds]), draw_mover(rng, WIDTH, HEIGHT, ("slow", "fast")[i % 2]), SHORT)
        rows.append([state.x[0] / WIDTH, state.y[0] / HEIGHT, state.angle[0] / (2 * np.pi), state.u[0]])
    return np.array(rows)


def largest_moment(points: NDArray[np.float64]) -> float:
    """Of all first harmonics of a joint distribution on the 4-torus; 0 for uniform and independent coordinates."""
    waves = [k for k in itertools.product((-1, 0, 1), repeat=4) if any(k)]
    return float(np.abs(np.exp(2j * np.pi * points @ np.array(waves).T).mean(axis=0)).max())


@pytest.mark.parametrize("name", CLASSES)
def test_states_stay_uniform_and_independent_at_every_time(name: str) -> None:
    for seconds in (0.0, 0.37, 1.9):
        points = states(MOTIONS[name].path, seconds)
        assert largest_moment(points) < LARGEST_MOMENT
        assert points[:, 3].min() >= 0
        assert points[:, 3].max() <= 1


def test_the_check_notices_a_motion_that_gathers_objects_somewhere() -> None:
    def to_the_left_edge(elapsed: NDArray[np.float64], mover: Mover, short_side: int) -> State:
        state = MOTIONS["move_left"].path(elapsed, mover, short_side)
        return State(x=np.maximum(state.x, 0), y=state.y, angle=state.angle, u=state.u)

    assert largest_moment(states(to_the_left_edge, 0.0)) < LARGEST_MOMENT
    assert largest_moment(states(to_the_left_edge, 1.9)) > LARGEST_MOMENT


def test_the_check_notices_a_size_that_hangs_on_the_place() -> None:
    def perspective(elapsed: NDArray[np.float64], mover: Mover, short_side: int) -> State:
        state = MOTIONS["move_up"].path(elapsed, mover, short_side)
        return State(x=state.x, y=state.y, angle=state.angle, u=state.y / HEIGHT % 1.0)

    assert largest_moment(states(perspective, 0.0)) > LARGEST_MOMENT


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_starts_from_the_same_state_and_moves(name: str) -> None:
    times = np.arange(0, 1, 0.02)
    for seed in range(5):
        mover, state = path_of(name, seed, times)
        now, begun = vars(state), vars(mover.start)
        for coordinate in ("x", "y", "angle", "u"):
            assert now[coordinate].shape == times.shape
            assert now[coordinate][0] == pytest.approx(begun[coordinate][0], abs=1e-9)
        assert any(np.ptp(now[coordinate]) > 1e-3 for coordinate in ("x", "y", "angle", "u"))


@pytest.mark.parametrize("name", CLASSES)
def test_motion_is_smooth_but_for_the_wrap_of_zooming(name: str) -> None:
    times = np.arange(0, 3, 0.001)
    for seed in range(5):
        _, state = path_of(name, seed, times, "fast")
        assert np.abs(np.diff(state.x)).max() < 0.5
        assert np.abs(np.diff(state.y)).max() < 0.5
        jumps = np.abs(np.diff(state.u)) > 0.1
        assert jumps.any() == (name in ("zoom_in", "zoom_out"))


@pytest.mark.parametrize(
    ("name", "coordinate", "sign"),
    [
        ("move_left", "x", -1),
        ("move_right", "x", 1),
        ("move_up", "y", -1),
        ("move_down", "y", 1),
        ("rotate_clockwise", "angle", 1),
        ("rotate_counterclockwise", "angle", -1),
        ("zoom_in", "u", 1),
        ("zoom_out", "u", -1),
    ],
)
def test_steady_motions_go_one_way_in_one_coordinate(name: str, coordinate: str, sign: int) -> None:
    _, state = path_of(name, 3, np.linspace(0, 0.01, 5))
    changes = {c: np.diff(vars(state)[c]) for c in ("x", "y", "angle", "u")}
    assert (np.sign(changes.pop(coordinate)) == sign).all()
    assert all((change == 0).all() for change in changes.values())


@pytest.mark.parametrize("speed", SPEEDS)
def test_translation_is_as_fast_as_its_band_says(speed: str) -> None:
    low, high = SPEEDS[speed]
    travelled = [np.ptp(path_of("move_right", seed, np.array([0.0, 1.0]), speed)[1].x) / SHORT for seed in range(50)]
    assert low <= min(travelled) < max(travelled) <= high
    assert SPEEDS["slow"][1] < SPEEDS["fast"][0]


@pytest.mark.parametrize("name", ["swing_horizontal", "swing_vertical", "bounce", "shake", "wobble", "pulse"])
def test_oscillations_come_back(name: str) -> None:
    _, state = path_of(name, 4, np.arange(0, 20, 0.01), "fast")
    for coordinate, reach in (("x", 0.25 * SHORT), ("y", 0.25 * SHORT), ("angle", 1.5), ("u", 1.0)):
        assert np.ptp(vars(state)[coordinate]) <= reach


@pytest.mark.parametrize(("name", "turn"), [("circle_clockwise", 1), ("circle_counterclockwise", -1)])
def test_circles_turn_as_their_name_says(name: str, turn: int) -> None:
    _, state = path_of(name, 5, np.arange(0, 1, 0.01))
    dx, dy = np.diff(state.x), np.diff(state.y)
    # With y pointing down, a positive cross product of successive steps is clockwise as seen.
    assert (np.sign(dx[:-1] * dy[1:] - dy[:-1] * dx[1:]) == turn).all()


@pytest.mark.parametrize("name", CLASSES)
def test_mirrored_names_what_a_flipped_video_shows(name: str) -> None:
    """The flipped path is one of `mirrored`: that of the mover with its oscillations half a turn further in x or angle.

    Such a mover is drawn as often as the first, phases being uniform.
    """
    motion = MOTIONS[name]
    assert MOTIONS[motion.mirrored].mirrored == name
    times = np.arange(0, 0.5, 0.05)
    mover, state = path_of(name, 6, times)
    phase, jitter = mover.phase, mover.jitter.copy()
    if motion.family == "orbit":
        phase = np.pi - phase
    elif name in ("swing_horizontal", "wobble"):
        phase += np.pi
    jitter[:3] += np.pi
    other = MOTIONS[motion.mirrored].path(times, replace(mover, phase=phase, jitter=jitter), SHORT)
    assert np.allclose(mover.start.x - state.x, other.x - mover.start.x)
    assert np.allclose(state.y, other.y)
    assert np.allclose(mover.start.angle - state.angle, other.angle - mover.start.angle)
    assert np.allclose(state.u, other.u)


def test_radius_runs_from_the_smallest_to_the_largest() -> None:
    ends = State(x=np.zeros(2), y=np.zeros(2), angle=np.zeros(2), u=np.array([0.0, 1.0]))
    assert np.allclose(ends.radius(100), [100 * SMALLEST_RADIUS, 100 * LARGEST_RADIUS])
