"""The candidate windows of a video, the same for the heavy network and for the sampler, and what each sees of them.

No torch: decoders of their own import this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_training.curation.video_sets import SetVideo
from tenclip_video.clips import read_clips
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.salience.inputs import read_windows
from tenclip_video.salience.sampler_spec import SamplerSpec
from tenclip_video.sampling import Clip, ClipSelection, plan_clips
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video, open_video

# How a window is cropped and its scores are averaged: as a server does it with salient clips.
PROTOCOL = PROTOCOLS["salient-clips"]


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


@dataclass(frozen=True, eq=False)
class WindowClips:
    """clips: uint8 [M,T,S,S,3]; seconds: float64 [M,2], their (start, end)."""

    clips: NDArray[np.uint8]
    seconds: NDArray[np.float64]


def read_window_clips(video: SetVideo, *, spec: ClipSpec, grid: WindowGrid) -> WindowClips:
    """The candidate windows of a video as the heavy network sees them. Raises VideoError, InvalidRequest."""
    with open_video(video.path, name=video.name) as opened:
        selection = grid.selection(opened, spec)
    read = read_clips(video.path, spec, replace(PROTOCOL, selection=selection), name=video.name)
    return WindowClips(read.clips, np.array(read.seconds, np.float64))


def read_inputs(
    video: SetVideo, *, spec: SamplerSpec, model_spec: ClipSpec, grid: WindowGrid
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """(inputs [M,T,H,W,C], notes) of a video as the sampler sees it.

    Raises VideoError, and InvalidRequest where there is nothing to hear.
    """
    with open_video(video.path, name=video.name) as opened:
        found = read_windows(opened, grid.clips(opened, model_spec), spec)
    if found.inputs is None:
        raise InvalidRequest(f"{video.name}: {'; '.join(found.notes) or f'nothing for a sampler of kind {spec.kind}'}")
    return found.inputs, found.notes
