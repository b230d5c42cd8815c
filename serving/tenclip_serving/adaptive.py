"""Adaptive prediction: the clips of a video run in order of salience, and no more of them than its classes need.

Each stage goes to the scheduler only when the one before it has not settled the classes, so what is not needed never
reaches a runtime. The clips of a stage share batches with those of other requests, as all clips do.

Letters: N clips that are planned, V views of each, K classes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tenclip_serving.requests import AdaptiveReport
from tenclip_serving.runtimes import Outputs
from tenclip_serving.scheduling.scheduler import InferenceResult
from tenclip_video.aggregate import RunningAverage, aggregate
from tenclip_video.clips import VideoClips
from tenclip_video.protocols import Averaging
from tenclip_video.salience import SalienceTimeline, StoppingRule

# Runs the clips at these places, and returns the outputs of all their views in that order.
RunStage = Callable[[Sequence[int]], Awaitable[InferenceResult]]


@dataclass(frozen=True, kw_only=True)
class RanClips:
    """The clips that ran: `places` among those that were planned, ascending, and their outputs in that order."""

    places: tuple[int, ...]
    inference: InferenceResult
    num_planned: int

    def report(self, rule: StoppingRule) -> AdaptiveReport:
        return AdaptiveReport(
            clips_planned=self.num_planned,
            clips_used=len(self.places),
            settled=len(self.places) < self.num_planned,
            error_bound=rule.error_bound,
            confidence=rule.confidence,
        )


async def run_until_settled(
    run: RunStage,
    order: Sequence[int],
    rule: StoppingRule,
    averaging: Averaging,
    *,
    views: int,
    on_saved: Callable[[int], None],
) -> RanClips:
    """Run clips in `order` until `rule` says that the scores of the video are settled, or all have run.

    The first stage has `rule.min_clips` clips, each of the others one. order: places of the clips, as `salience_order`
    gives them. on_saved: called with the number of views that no stage needed, or came to; also when this is cancelled
    or a stage fails. Raises what `run` raises.
    """
    average = RunningAverage(averaging)
    stages: dict[int, InferenceResult] = {}  # by the number of clips before it
    outputs: dict[int, Outputs] = {}  # by place
    num_begun, settled = 0, False
    try:
        while num_begun < len(order) and not settled:
            stage = order[num_begun : max(num_begun + 1, rule.min_clips)]
            first, num_begun = num_begun, num_begun + len(stage)
            stages[first] = await run(stage)
            for place, clip in zip(stage, _by_clip(stages[first], views), strict=True):
                outputs[place] = clip
                scores = average.add(aggregate([clip], averaging, views=views).clip_probabilities[0])
            settled = rule.settled(scores, num_begun)
    finally:
        if num_begun < len(order):
            on_saved((len(order) - num_begun) * views)
    places = tuple(sorted(outputs))
    inference = InferenceResult(
        outputs=tuple(outputs[place] for place in places),
        queue_seconds=sum(stage.queue_seconds for stage in stages.values()),
        infer_seconds=sum(stage.infer_seconds for stage in stages.values()),
    )
    return RanClips(places=places, inference=inference, num_planned=len(order))


def salience_order(timeline: SalienceTimeline) -> tuple[int, ...]:
    """Places of the planned clips (they are in order of time), the most salient first."""
    places = {window: place for place, window in enumerate(sorted(timeline.ranking))}
    return tuple(places[window] for window in timeline.ranking)


def stage_clips(video: VideoClips, places: Sequence[int]) -> NDArray[np.uint8]:
    """All views of the clips at `places`: uint8 [len(places)*V,T,H,W,3]. Of one clip it is a view of the memory."""
    clips = video.clips.reshape(-1, video.views, *video.clips.shape[1:])
    chosen = clips[places[0] : places[0] + 1] if len(places) == 1 else clips[list(places)]
    return chosen.reshape(-1, *video.clips.shape[1:])


def by_view(add: Callable[[int, Outputs], None], places: Sequence[int], views: int) -> Callable[[int, Outputs], None]:
    """For a stage: `add`, which counts the views of all planned clips, called with those of the clips at `places`."""

    def on_outputs(first: int, outputs: Outputs) -> None:
        for i in range(len(outputs.logits)):
            clip, view = divmod(first + i, views)
            add(places[clip] * views + view, Outputs(outputs.logits[i : i + 1], outputs.features[i : i + 1]))

    return on_outputs


def only_ran(timeline: SalienceTimeline, places: Sequence[int]) -> SalienceTimeline:
    """The timeline with the windows marked whose clips ran. places: of those, among the planned clips."""
    windows = sorted(timeline.ranking)
    ran = [windows[place] for place in places]
    selected = np.zeros_like(timeline.selected)
    selected[ran] = True
    return replace(timeline, selected=selected, ranking=tuple(w for w in timeline.ranking if w in ran))


def _by_clip(inference: InferenceResult, views: int) -> list[Outputs]:
    logits, features = (np.concatenate(parts) for parts in zip(*inference.outputs, strict=True))
    return [Outputs(logits[i : i + views], features[i : i + views]) for i in range(0, len(logits), views)]
