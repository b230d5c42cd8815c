"""Sites: reproducible styles that differ, and the knobs of difficulty."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_training.synth import SITES, SynthConfig, plan_videos, render, site_named
from tenclip_training.synth.plan import site_of
from tenclip_training.synth.scene import BACKGROUNDS
from tenclip_training.synth.sites import Look, developed

SMALL = SynthConfig(num_classes=2, videos_per_class=12, width=64, height=48)


def first_frames(site: str, seed: int = 0) -> list[NDArray[np.uint8]]:
    specs = plan_videos(dataclasses.replace(SMALL, site=site, seed=seed))
    return [next(render(spec)) for spec in specs]


def style(frames: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Brightness, contrast, warmth and fine detail of each: [M, 4]."""
    found = []
    for frame in frames:
        small = cv2.resize(frame, (64, 48), interpolation=cv2.INTER_AREA).astype(np.float64)
        detail = np.abs(np.diff(small, axis=1)).mean()
        found.append([small.mean(), small.std(), small[..., 0].mean() - small[..., 2].mean(), detail])
    return np.array(found)


@pytest.mark.parametrize("name", ["random:3", "webcam"])
def test_a_site_is_the_same_every_time(name: str) -> None:
    assert site_named(name) == site_named(name)
    assert all(np.array_equal(a, b) for a, b in zip(first_frames(name), first_frames(name), strict=True))


def test_sites_differ_in_style_and_not_by_the_seed() -> None:
    """Means of two sites are further apart than those of two seeds of one site, in some respect."""
    names = ["studio", "webcam", "night", "street", "random:1"]
    means = {name: style(first_frames(name)) for name in names}
    spread = np.stack([m.std(axis=0) for m in means.values()]).mean(axis=0) / np.sqrt(len(means["studio"]))
    for one, other in combinations(names, 2):
        apart = np.abs(means[one].mean(axis=0) - means[other].mean(axis=0)) / spread
        assert apart.max() > 5, (one, other)
    again = np.abs(style(first_frames("studio", seed=1)).mean(axis=0) - means["studio"].mean(axis=0)) / spread
    assert again.max() < 5


def test_random_sites_are_all_different_and_valid() -> None:
    sites = [site_named(f"random:{number}") for number in range(50)]
    assert len({repr(site) for site in sites}) == 50
    for number, site in enumerate(sites):
        assert set(site.backgrounds) <= set(BACKGROUNDS)
        assert site.backgrounds
        dataclasses.replace(
            SMALL,
            site=f"random:{number}",
            camera_shake=site.camera_shake,
            crf=site.crf,
            frame_rates=site.frame_rates,
            contrast=site.look.contrast,
        )


@pytest.mark.parametrize("name", ["", *SITES])
def test_plans_have_the_sites_form(name: str) -> None:
    config = dataclasses.replace(SMALL, site=name)
    site = site_of(config)
    for spec in plan_videos(config):
        assert spec.site == name
        assert float(spec.frame_rate) in site.frame_rates
        assert spec.background in site.backgrounds
        assert spec.camera_shake == site.camera_shake
        assert spec.width == pytest.approx(64 * site.scale, abs=1)
        assert spec.width % 2 == spec.height % 2 == 0


@pytest.mark.parametrize("name", ["studioo", "random:", "random:-1", "random:x", "7"])
def test_an_unknown_site_is_told_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"no site '.*'; there are studio, phone, .* random:NUMBER"):
        SynthConfig(site=name)


# -- looks --

GREY = np.full((60, 80, 3), 128, np.uint8)


def look_at(frame: NDArray[np.uint8], count: int = 1, **options: float) -> NDArray[np.uint8]:
    look = Look(**options)  # type: ignore[arg-type]
    return np.stack(list(developed(iter([frame] * count), look, np.random.default_rng(0))))


def test_the_plain_look_changes_nothing() -> None:
    frames = [GREY]
    assert next(developed(iter(frames), Look(), np.random.default_rng(0))) is GREY


def test_contrast_is_about_middle_grey() -> None:
    frame = np.array([[[28, 128, 228]]], np.uint8)
    assert look_at(frame, contrast=0.5).ravel().tolist() == [78, 128, 178]
    assert look_at(frame, contrast=2.0).ravel().tolist() == [0, 128, 255]


def test_grey_has_the_brightness_of_the_colour() -> None:
    frame = np.array([[[200, 100, 50]]], np.uint8)
    assert look_at(frame, saturation=0.0).ravel().tolist() == [124, 124, 124]  # .299 * 200 + .587 * 100 + .114 * 50


def test_noise_has_the_deviation_asked_for_and_is_new_in_each_frame() -> None:
    frames = look_at(GREY, count=6, noise=8.0).astype(np.float64)
    assert frames.std() == pytest.approx(8, rel=0.05)
    assert frames.mean() == pytest.approx(128, abs=0.3)
    assert np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1] < 0.1


def test_blur_is_in_short_sides() -> None:
    edge = np.zeros((100, 160, 3), np.uint8)
    edge[:, 80:] = 255
    row = look_at(edge, blur=0.05)[0, 50, :, 0].astype(np.float64)
    slope = np.diff(row).max()
    assert slope == pytest.approx(255 / (5 * np.sqrt(2 * np.pi)), rel=0.05)  # a Gaussian's peak, sigma 5 pixels


def test_knobs_of_difficulty_come_on_top_of_the_site() -> None:
    site = site_of(dataclasses.replace(SMALL, site="webcam", contrast=0.5, noise=24.0))
    assert site.look.contrast == pytest.approx(0.375)
    assert site.look.noise == pytest.approx(25.0)  # hypot(7, 24)
