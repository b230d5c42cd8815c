"""The point of the generator, on decoded files: one frame says nothing about the class, two say a lot.

One model, random forest, sees single frames, then the same frames with the optical flow to the next one. On single
frames it must stay near chance; that it is not blind, it shows by naming the pattern of the background from them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from tenclip_training.synth import CLASSES, SynthConfig, generate

Floats = NDArray[np.float64]
NUM_CLASSES = 8
SECONDS_APART = 1 / 15


@dataclass(frozen=True, kw_only=True)
class Frames:
    """M frames of many videos, and what their videos' rows say."""

    appearance: Floats  # [M, A]
    motion: Floats  # [M, F]
    label: NDArray[np.str_]  # [M]
    background: NDArray[np.str_]  # [M]
    held_out: NDArray[np.bool_]  # [M]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    config = SynthConfig(
        num_classes=NUM_CLASSES, videos_per_class=24, splits=(("train", 2 / 3), ("test", 1 / 3)), seconds=(0.6, 0.9)
    )
    manifest = generate(config, tmp_path_factory.mktemp("videos"), workers=1)
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seen = [(row, now, later) for row in rows for now, later in frame_pairs(manifest.parent / row["path"])]
    return Frames(
        appearance=np.stack([appearance(now) for _, now, _ in seen]),
        motion=np.stack([motion(now, later) for _, now, later in seen]),
        label=np.array([row["label"] for row, _, _ in seen]),
        background=np.array([row["background"] for row, _, _ in seen]),
        held_out=np.array([row["split"] == "test" for row, _, _ in seen]),
    )


def test_a_single_frame_says_nothing_about_the_class(frames: Frames) -> None:
    assert accuracy(frames, frames.appearance, frames.label) < 1 / NUM_CLASSES + 0.1


def test_the_same_model_tells_classes_when_it_also_sees_motion(frames: Frames) -> None:
    both = np.concatenate([frames.appearance, frames.motion], axis=1)
    assert accuracy(frames, both, frames.label) > 4 / NUM_CLASSES


def test_a_single_frame_does_show_what_is_in_it(frames: Frames) -> None:
    assert accuracy(frames, frames.appearance, frames.background) > 1 / 4 + 0.15


def test_every_class_is_held_out(frames: Frames) -> None:
    assert set(frames.label[frames.held_out]) == set(CLASSES[:NUM_CLASSES])


def accuracy(frames: Frames, features: Floats, target: NDArray[np.str_]) -> float:
    """On frames of held-out videos."""
    model = RandomForestClassifier(60, max_features=0.3, min_samples_leaf=2, random_state=0)
    model.fit(features[~frames.held_out], target[~frames.held_out])
    return float(model.score(features[frames.held_out], target[frames.held_out]))


def frame_pairs(path: Path, count: int = 3) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """`count` frames of a video, spread over it, each with the one SECONDS_APART later: uint8 [42, 56, 3]."""
    with av.open(str(path)) as container:
        shown = [(float(f.time or 0), f.to_ndarray(format="rgb24").astype(np.uint8)) for f in container.decode(video=0)]
    times = np.array([time for time, _ in shown])
    for start in np.linspace(0, times[-1] - SECONDS_APART, count):
        first, second = (int(np.abs(times - t).argmin()) for t in (start, start + SECONDS_APART))
        yield small(shown[first][1]), small(shown[second][1])


def small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(frame, (56, 42), interpolation=cv2.INTER_AREA), np.uint8)


def gray(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def appearance(frame: NDArray[np.uint8]) -> Floats:
    """Thumbnail, colour statistics, and where and how steeply brightness changes in which direction."""
    thumbnail = cv2.resize(frame, (6, 4), interpolation=cv2.INTER_AREA).ravel() / 255
    brightness = gray(frame).astype(np.float32)
    dx, dy = cv2.Sobel(brightness, cv2.CV_32F, 1, 0), cv2.Sobel(brightness, cv2.CV_32F, 0, 1)
    angle, steepness = np.arctan2(dy, dx), np.hypot(dx, dy)
    directions = [
        np.histogram(angle[part], bins=8, range=(-np.pi, np.pi), weights=steepness[part])[0]
        for part in (np.s_[:, :], np.s_[:21, :28], np.s_[:21, 28:], np.s_[21:, :28], np.s_[21:, 28:])
    ]
    levels = np.histogram(steepness, bins=8, range=(0, 600))[0]
    colours = np.concatenate([np.histogram(frame[..., c], bins=8, range=(0, 256))[0] for c in range(3)])
    return np.concatenate([thumbnail, np.ravel(directions) / 1e3, levels, colours]).astype(np.float64)


def motion(now: NDArray[np.uint8], later: NDArray[np.uint8]) -> Floats:
    """Mean flow, its divergence and its curl, where anything moves."""
    flow = cv2.calcOpticalFlowFarneback(
        gray(now),
        gray(later),
        np.zeros((42, 56, 2), np.float32),
        pyr_scale=0.5,
        levels=2,
        winsize=9,
        iterations=3,
        poly_n=5,
        poly_sigma=1.1,
        flags=0,
    )
    u, v = flow[..., 0], flow[..., 1]
    moving = np.hypot(u, v) > 0.5
    if not moving.any():
        return np.zeros(6)
    (du_dy, du_dx), (dv_dy, dv_dx) = np.gradient(u), np.gradient(v)
    fields = (u, v, np.abs(u), np.abs(v), du_dx + dv_dy, dv_dx - du_dy)
    return np.array([field[moving].mean() for field in fields], np.float64)
