"""Stages of clips without a scheduler: what runs, in which order, and what of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_serving.adaptive import RanClips, by_view, only_ran, run_until_settled, salience_order, stage_clips
from tenclip_serving.runtimes import Outputs
from tenclip_serving.scheduling.scheduler import InferenceResult
from tenclip_video.aggregate import RunningAverage, aggregate
from tenclip_video.clips import VideoClips
from tenclip_video.protocols import Averaging
from tenclip_video.salience import SalienceTimeline, StoppingRule
from tenclip_video.sampling import Clip
from tenclip_video.video import DecodeReport
from tests.tenclip_serving.api.test_servicer import INFO
from tests.tenclip_serving.helpers import RULE

FEATURES = 3


def outputs(logits: NDArray[np.float32]) -> Outputs:
    """Of B views, [B,K,P]; features that tell the views apart."""
    return Outputs(logits, logits.sum(axis=(1, 2), keepdims=True)[:, :, 0].repeat(FEATURES, axis=1))


class Runner:
    """Answers for clips from the logits of all planned views, [N*V,K,P], in one batch or one a view."""

    def __init__(self, logits: NDArray[np.float32], views: int, *, one_batch: bool = True, fails_at: int = -1) -> None:
        self.logits, self.views, self.one_batch, self.fails_at = logits, views, one_batch, fails_at
        self.stages: list[tuple[int, ...]] = []

    async def __call__(self, places: Sequence[int]) -> InferenceResult:
        if len(self.stages) == self.fails_at:
            raise RuntimeError("the runtime fails")
        self.stages.append(tuple(places))
        rows = [place * self.views + view for place in places for view in range(self.views)]
        logits = self.logits[rows]
        batches = (logits,) if self.one_batch else tuple(logits[i : i + 1] for i in range(len(logits)))
        return InferenceResult(outputs=tuple(map(outputs, batches)), queue_seconds=0.5, infer_seconds=0.25)


def settle(
    runner: Runner, order: Sequence[int], rule: StoppingRule, averaging: Averaging = "probabilities"
) -> tuple[RanClips, list[int]]:
    saved: list[int] = []
    made = run_until_settled(runner, order, rule, averaging, views=runner.views, on_saved=saved.append)
    return asyncio.run(made), saved


def logits_of(clips: Sequence[Sequence[float]], views: int = 1) -> NDArray[np.float32]:
    """[N*V,K,1] with all views of a clip alike."""
    return np.repeat(np.array(clips, np.float32)[:, :, np.newaxis], views, axis=0)


SURE, UNSURE = (9.0, 0.0, 0.0), (0.1, 0.0, 0.0)


@pytest.mark.parametrize("views", [1, 3])
def test_it_stops_when_the_rule_says_so(views: int) -> None:
    runner = Runner(logits_of([UNSURE, SURE, UNSURE, SURE], views), views)
    ran, saved = settle(runner, (2, 1, 3, 0), replace(RULE, threshold=0.4, max_clips=4))
    assert runner.stages == [(2,), (1,)]
    assert (ran.places, ran.num_planned) == ((1, 2), 4)
    assert saved == [2 * views]
    np.testing.assert_array_equal(
        np.concatenate([o.logits for o in ran.inference.outputs]), runner.logits[views : 3 * views]
    )
    assert (ran.inference.queue_seconds, ran.inference.infer_seconds) == (1.0, 0.5)
    report = ran.report(RULE)
    assert (report.clips_planned, report.clips_used, report.settled) == (4, 2, True)
    assert (report.error_bound, report.confidence) == (RULE.error_bound, RULE.confidence)


def test_the_first_stage_is_the_fewest_clips_of_the_rule() -> None:
    runner = Runner(logits_of([SURE] * 6), 1, one_batch=False)
    ran, saved = settle(runner, (5, 0, 3, 1, 2, 4), replace(RULE, min_clips=3))
    assert runner.stages == [(5, 0, 3)]
    assert (ran.places, saved) == ((0, 3, 5), [3])
    assert len(ran.inference.outputs) == 3


def test_a_video_of_fewer_clips_than_the_first_stage() -> None:
    runner = Runner(logits_of([SURE] * 2), 1)
    ran, saved = settle(runner, (1, 0), replace(RULE, min_clips=3))
    assert runner.stages == [(1, 0)]
    assert (ran.places, saved) == ((0, 1), [])
    assert not ran.report(RULE).settled


def test_what_never_settles_runs_all_clips() -> None:
    runner = Runner(logits_of([UNSURE] * 6), 1)
    ran, saved = settle(runner, range(6), RULE)
    assert runner.stages == [(i,) for i in range(6)]
    assert saved == []
    assert not ran.report(RULE).settled


def test_a_stage_that_fails_gives_the_others_back() -> None:
    runner = Runner(logits_of([UNSURE] * 6), 1, fails_at=2)
    saved: list[int] = []
    made = run_until_settled(runner, range(6), RULE, "probabilities", views=1, on_saved=saved.append)
    with pytest.raises(RuntimeError, match="the runtime fails"):
        asyncio.run(made)
    assert saved == [3]  # the one that failed was the scheduler's


def test_a_cancelled_stage_gives_the_others_back() -> None:
    saved: list[int] = []

    async def hang(places: Sequence[int]) -> InferenceResult:
        await asyncio.Event().wait()
        raise AssertionError

    async def test() -> None:
        made = run_until_settled(hang, range(6), RULE, "probabilities", views=3, on_saved=saved.append)
        task = asyncio.create_task(made)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert saved == [5 * 3]


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.integers(0, 2**16))),
    st.sampled_from(["probabilities", "logits", "vmz_joint"]),
    st.sampled_from([1, 3]),
    st.integers(1, 4),
    st.floats(0, 1.1),
    st.booleans(),
)
def test_it_is_the_shortest_prefix_of_the_order_that_settles(
    drawn: tuple[list[int], int], averaging: Averaging, views: int, min_clips: int, threshold: float, one_batch: bool
) -> None:
    order, seed = drawn
    logits = np.random.default_rng(seed).normal(scale=3, size=(len(order) * views, 4, 2)).astype(np.float32)
    rule = replace(RULE, threshold=threshold, min_clips=min_clips, max_clips=8)
    ran, saved = settle(Runner(logits, views, one_batch=one_batch), order, rule, averaging)
    average, expected = RunningAverage(averaging), []
    for place in order:
        expected.append(place)
        clip = outputs(logits[place * views : (place + 1) * views])
        so_far = average.add(aggregate([clip], averaging, views=views).clip_probabilities[0])
        if rule.settled(so_far, len(expected)):
            break
    assert ran.places == tuple(sorted(expected))
    assert sum(saved) == (len(order) - len(expected)) * views
    # To the bit what those clips give by themselves.
    alone = np.concatenate([logits[p * views : (p + 1) * views] for p in ran.places])
    for one, other in zip(
        aggregate(ran.inference.outputs, averaging, views=views),
        aggregate([outputs(alone)], averaging, views=views),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def timeline(ranking: tuple[int, ...], num_windows: int = 8) -> SalienceTimeline:
    selected = np.zeros(num_windows, bool)
    selected[list(ranking)] = True
    seconds = tuple((float(i), i + 1.0) for i in range(num_windows))
    return SalienceTimeline("s", seconds, np.arange(num_windows, dtype=np.float32), selected, ranking)


def test_the_order_is_that_of_the_ranking() -> None:
    # Windows 2, 5 and 7 are the clips 0, 1 and 2.
    assert salience_order(timeline((5, 7, 2))) == (1, 2, 0)


def test_only_what_ran_is_marked() -> None:
    ran = only_ran(timeline((5, 7, 2)), (1, 2))
    assert ran.ranking == (5, 7)
    assert np.flatnonzero(ran.selected).tolist() == [5, 7]
    np.testing.assert_array_equal(ran.scores, timeline(()).scores)


def test_clips_of_a_stage_with_all_their_views() -> None:
    pixels = np.arange(4 * 2).reshape(8, 1, 1, 1, 1).astype(np.uint8)
    video = VideoClips(
        clips=pixels,
        plan=(Clip((0,)),) * 4,
        seconds=((0.0, 1.0),) * 4,
        views=2,
        info=INFO,
        report=DecodeReport(frames_requested=4, frames_decoded=4, frames_substituted=0, frames_corrupt=0, warnings=()),
    )
    assert stage_clips(video, (3, 0)).ravel().tolist() == [6, 7, 0, 1]
    one = stage_clips(video, (2,))
    assert one.ravel().tolist() == [4, 5]
    assert np.shares_memory(one, pixels)


def test_outputs_of_a_stage_are_told_as_those_of_all_views() -> None:
    seen: list[tuple[int, float]] = []
    add = by_view(lambda first, o: seen.append((first, float(o.logits[0, 0, 0]))), (3, 0), 2)
    logits = np.array([10, 11, 12, 13], np.float32).reshape(4, 1, 1)
    add(3, outputs(logits[3:]))
    add(0, outputs(logits[:3]))
    assert seen == [(1, 13.0), (6, 10.0), (7, 11.0), (0, 12.0)]
