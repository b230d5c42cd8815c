"""What samplers look at: `read_windows(video, clips, spec)` gives the inputs of the candidate windows of a video.

`iter_windows` gives them group by group, so that memory does not grow with the length of a video. The trainer and the
scorer both read through here, so a sampler is asked about what it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tenclip_video.salience.audio import iter_audio
from tenclip_video.salience.compressed import iter_compressed
from tenclip_video.salience.pictures import iter_keyframes, iter_rgb
from tenclip_video.salience.sampler_spec import SamplerKind, SamplerSpec
from tenclip_video.salience.windows import WindowInputs, input_dtype
from tenclip_video.sampling import Clip
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video

# T, H, W, C by kind; of sound T is the length of a window in steps of 10 ms, 0 for that of the clip.
INPUT_SHAPES: dict[SamplerKind, tuple[int, int, int, int]] = {
    "compressed": (8, 32, 32, 6),
    "rgb": (8, 32, 32, 3),
    "keyframes": (2, 64, 64, 3),
    "audio": (0, 40, 1, 1),
}
# What a model whose clips are of no fixed rate is most likely to see, and the bounds of a window of sound.
_USUAL_FPS = 25.0
_MIN_SOUND_STEPS, _MAX_SOUND_STEPS = 32, 1000

_READERS = {"compressed": iter_compressed, "rgb": iter_rgb, "keyframes": iter_keyframes, "audio": iter_audio}


def default_spec(kind: SamplerKind, model_spec: ClipSpec, window_step: int | None = None, **values: Any) -> SamplerSpec:
    """The description of a new sampler of `kind` for the clips of a model.

    window_step: frames from one window to the next; None: half of `ClipSpec.span`. values: other fields of
    `SamplerSpec`, instead of the defaults (name, samples, height, width, loss ...).

    >>> default_spec("rgb", ClipSpec(num_frames=32)).input_shape
    (8, 32, 32, 3)
    """
    samples, height, width, channels = INPUT_SHAPES[kind]
    if kind == "audio":
        seconds = model_spec.span / (model_spec.target_fps or _USUAL_FPS)
        samples = int(np.clip(round(100 * seconds), _MIN_SOUND_STEPS, _MAX_SOUND_STEPS))
    defaults: dict[str, Any] = {
        "name": kind,
        "samples": samples,
        "height": height,
        "width": width,
        "channels": channels,
        "loss": "ac",
    }
    return SamplerSpec(
        **{
            **defaults,
            **values,
            "kind": kind,
            "clip_span": model_spec.span,
            "target_fps": model_spec.target_fps,
            "window_step": window_step or max(1, model_spec.span // 2),
        }
    )


def read_windows(video: Video, clips: Sequence[Clip], spec: SamplerSpec) -> WindowInputs:
    """The inputs of all `clips` of an open video, in their order. For long videos, see `iter_windows`.

    Raises what `Video.read_frames` raises.
    """
    order = sorted(range(len(clips)), key=lambda i: min(clips[i].frames))
    groups = list(iter_windows(video, [clips[i] for i in order], spec))
    notes = tuple(dict.fromkeys(note for group in groups for note in group.notes))
    parts = [group.inputs for group in groups if group.inputs is not None]
    if groups and not parts:
        return WindowInputs(None, notes)
    inputs = np.empty((len(clips), *spec.input_shape), input_dtype(spec))
    if parts:
        inputs[order] = np.concatenate(parts)
    return WindowInputs(inputs, notes)


def iter_windows(video: Video, clips: Sequence[Clip], spec: SamplerSpec) -> Iterator[WindowInputs]:
    """The inputs of `clips`, a group at a time and in their order; notes come with any of the groups.

    clips: by their first frames, ascending, as `plan_clips` gives them; ValueError otherwise. Nothing else may read the
    video until the last group is there or the iterator is closed.
    Where there is nothing to hear, one group without inputs is all there is.
    """
    starts = [min(clip.frames) for clip in clips]
    if any(b < a for a, b in pairwise(starts)):
        raise ValueError("windows must be in the order of their first frames")
    if not clips:
        return iter(())
    return _READERS[spec.kind](video, clips, spec)
