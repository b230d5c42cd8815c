"""The candidate windows of a video, the same for the teacher and for the sampler; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tenclip_api.errors import InvalidRequest
from tenclip_video.sampling import Clip, ClipSelection, plan_clips
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video


@dataclass(frozen=True, kw_only=True)
class WindowGrid:
    """step: frames from one candidate window to the next, as a server scores them. max_windows: of a longer video only
    every second window (every third, ...) is a candidate in training, so that no more than these are scored.
    """

    step: int
    max_windows: int

    def selection(self, video: Video, spec: ClipSpec) -> ClipSelection:
        """The candidates of an open video. Raises InvalidRequest for one without frames."""
        selection = ClipSelection(mode="windows", window_step=self.step)
        count = len(_plan(video, spec, selection))
        if count <= self.max_windows:
            return selection
        # One more window may lie flush with the end.
        factor = math.ceil(count / max(1, self.max_windows - 1))
        return ClipSelection(mode="windows", window_step=self.step * factor)

    def clips(self, video: Video, spec: ClipSpec) -> list[Clip]:
        """The candidates of an open video."""
        return _plan(video, spec, self.selection(video, spec))


def _plan(video: Video, spec: ClipSpec, selection: ClipSelection) -> list[Clip]:
    try:
        return plan_clips(video.times, video.info.duration_seconds, spec, selection)
    except ValueError as err:
        raise InvalidRequest(f"{video.name}: {err}") from err
