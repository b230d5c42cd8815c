"""Untrimmed videos of several scenes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.synth import NOUNS, SynthConfig, VideoSpec, WebNoise, plan_videos, render
from tenclip_training.synth.untrimmed import stretches

LONG = SynthConfig(
    num_classes=4,
    videos_per_class=25,
    seconds=(10.0, 12.0),
    untrimmed=(0.1, 0.2),
    scenes=(3, 5),
    action_scenes=(1, 2),
    overlap=0.5,
    width=48,
    height=36,
)


@given(
    st.floats(0.5, 100),
    st.floats(0.01, 1),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(0, 999),
    st.floats(0, 1),
)
def test_stretches_fill_the_video_and_hold_their_share(
    duration: float, least: float, scenes: int, acting: int, seed: int, more: float
) -> None:
    acting = min(scenes, acting)
    part = (least, least + (1 - least) * more)
    found = stretches(duration, part, scenes=scenes, acting=acting, rng=np.random.default_rng(seed))
    assert len(found) == scenes
    assert found[0].start == 0
    assert found[-1].end == duration
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    pieces = [s.action for s in found if s.action]
    assert len(pieces) == acting
    share = sum(end - start for start, end in pieces) / duration
    rounding = acting * 1e-3 / duration
    assert part[0] - rounding <= share <= part[1] + rounding
    for stretch in found:
        if stretch.action:
            assert stretch.start - 1e-3 <= stretch.action[0] < stretch.action[1] + 1e-9
            assert stretch.action[1] <= stretch.end + 1e-3


def test_intervals_sum_to_the_share_asked_for() -> None:
    for spec in plan_videos(LONG):
        share = sum(end - start for start, end in spec.intervals) / spec.duration
        assert 0.1 - 1e-3 <= share <= 0.2 + 1e-3
        assert (spec.start, spec.end) == spec.intervals[0]


def test_scenes_are_as_many_as_asked_for() -> None:
    specs = plan_videos(LONG)
    assert {len(s.scenes) for s in specs} == {3, 4, 5}
    assert {len(s.intervals) for s in specs} == {1, 2}


def test_other_scenes_show_other_objects_and_other_actions_or_none() -> None:
    acts, idles = 0, 0
    for spec in plan_videos(LONG):
        for scene in spec.scenes:
            if scene.shows_label:
                assert (scene.verb, scene.shape, scene.texture) == (spec.verb, spec.shape, spec.texture)
                continue
            assert scene.verb != spec.verb
            assert (scene.shape, scene.texture) != (spec.shape, spec.texture)
            acts, idles = acts + bool(scene.verb), idles + (not scene.verb)
    assert acts / (acts + idles) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("probability", "verbs"), [(0.0, False), (1.0, True)])
def test_other_actions_can_be_all_or_none(probability: float, verbs: bool) -> None:
    specs = plan_videos(dataclasses.replace(LONG, other_actions=probability))
    assert all(bool(scene.verb) == verbs for s in specs for scene in s.scenes if not scene.shows_label)


def test_other_scenes_of_nouns_that_determine_verbs_do_not_show_the_noun() -> None:
    config = dataclasses.replace(LONG, overlap=1.0, nouns=NOUNS[:4])
    for spec in plan_videos(config):
        assert all((s.shape, s.texture) != (spec.shape, spec.texture) for s in spec.scenes if not s.shows_label)


def changes_of(spec: VideoSpec) -> tuple[np.ndarray, np.ndarray]:
    frames = np.stack(list(render(spec))).astype(np.int16)
    assert len(frames) == len(spec.ticks)
    return np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)), (spec.times[1:] + spec.times[:-1]) / 2


def test_frames_cut_between_scenes_and_move_within_the_action() -> None:
    config = dataclasses.replace(
        LONG,
        videos_per_class=1,
        seconds=(5.0, 5.0),
        other_actions=0.0,
        camera_shake=0.0,
        splits=(("train", 1.0),),
        variable_frame_rate=0.0,
        frame_rates=(30.0,),
    )
    for spec in plan_videos(config):
        still = dataclasses.replace(
            spec, scenes=tuple(dataclasses.replace(scene, idle="still") for scene in spec.scenes)
        )
        changes, middles = changes_of(still)
        cuts = [scene.start for scene in spec.scenes[1:]]
        at_cut = np.any([np.abs(middles - cut) < 0.04 for cut in cuts], axis=0)
        acting = np.any([(middles > a + 0.04) & (middles < b - 0.04) for a, b in spec.intervals], axis=0)
        near = np.any([(middles > a - 0.04) & (middles < b + 0.04) for a, b in spec.intervals], axis=0)
        assert all(changes[np.abs(middles - cut) < 0.04].max() > 5 for cut in cuts)
        assert changes[acting & ~at_cut].min() > 0
        assert changes[~near & ~at_cut].max() == 0


def test_videos_off_topic_have_no_interval() -> None:
    config = dataclasses.replace(LONG, splits=(("train", 1.0),), web=WebNoise(wrong=0.2, off_topic=0.4))
    specs = plan_videos(config)
    assert all((s.intervals == ()) == (s.claim == "off_topic") for s in specs)
    nothing = plan_videos(dataclasses.replace(config, num_classes=16, videos_per_class=2))
    for spec in (s for s in nothing if s.claim == "off_topic"):
        assert all(scene.action[0] == scene.action[1] for scene in spec.scenes if scene.shows_label)


def test_one_scene_is_as_before() -> None:
    specs = plan_videos(dataclasses.replace(LONG, scenes=(1, 1), action_scenes=(1, 1)))
    assert all(s.scenes == () and s.intervals == ((s.start, s.end),) for s in specs)
