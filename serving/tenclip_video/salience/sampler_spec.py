"""What a learned sampler looks at: the description that travels in the metadata of its ONNX file.

A sampler is one file: a graph of input `windows` [M,T,H,W,C] and output `salience` float32 [M], with this description
as JSON under `METADATA_KEY` of the file's metadata. So any bundle can borrow another's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

# compressed: motion vectors and frame differences at low resolution. keyframes: key frames alone. rgb: frames at low
# resolution. audio: log-mel spectrogram.
SamplerKind = Literal["compressed", "keyframes", "rgb", "audio"]
SamplerLoss = Literal["ac", "rank"]
METADATA_KEY = "tenclip.sampler"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SamplerSpec:
    """One sampler.

    samples, height, width, channels: T, H, W and C of a window's input; for sound H is the mel bands and W is 1.
    clip_span: frames from a window's first to its last, as `ClipSpec.span` of the model that it was trained for, on the
    timeline of `target_fps`. window_step: frames from one candidate window to the next.
    loss: "ac" (salience is the highest class probability) or "rank" (SAL-RANK). teacher: the bundle whose scores it
    learned from. metrics: on held-out videos.
    """

    name: str
    kind: SamplerKind
    samples: int
    height: int
    width: int
    channels: int
    clip_span: int
    target_fps: float | None = None
    window_step: int
    loss: SamplerLoss
    teacher: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.kind not in get_args(SamplerKind):
            raise ValueError(f"sampler kind {self.kind!r} is not one of {', '.join(get_args(SamplerKind))}")
        if self.loss not in get_args(SamplerLoss):
            raise ValueError(f"sampler loss {self.loss!r} is not one of {', '.join(get_args(SamplerLoss))}")
        sizes = (self.samples, self.height, self.width, self.channels, self.clip_span, self.window_step)
        if min(sizes) < 1:
            raise ValueError(f"samples, height, width, channels, clip_span and window_step must be at least 1: {sizes}")

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """[T,H,W,C] of one window."""
        return self.samples, self.height, self.width, self.channels

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError or TypeError for anything that is not this schema."""
        values: dict[str, Any] = json.loads(text)
        if values.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"schema_version {values.get('schema_version')!r}; this version of tenclip reads {SCHEMA_VERSION}"
            )
        return cls(**values)
