"""A teacher: a frozen network of frames with the input that it was trained for, whoever made it.

N frames, H x W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import CheckpointError
from tenclip_training.distill.networks import Logits, TeacherNetwork
from tenclip_video.spec import ClipSpec
from tenclip_video.transforms import center_offset


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTeacher:
    """Frames in, logits out. Its input is its own and has nothing to do with the student's.

    name: of the teacher in heads, caches and reports. source: where it is from. spec: its input, of which size, resize,
    normalisation and colour order count. labels: its classes in order. sha256: of its weights. from_probabilities: the
    graph ends in a softmax, of whose outputs the logarithms are taken; to eq. 1 they are the same as logits.
    """

    name: str
    source: str
    spec: ClipSpec
    labels: tuple[str, ...]
    sha256: str
    network: TeacherNetwork
    from_probabilities: bool = False
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.labels)

    @property
    def identity(self) -> str:
        """Hex SHA-256 over what its logits follow from: weights and input. Runtimes differ by rounding alone."""
        about = {"weights": self.sha256, "spec": self.spec.to_dict(), "classes": list(self.labels)}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def __call__(self, frames: NDArray[np.uint8], *, of: Sequence[str] = ()) -> Logits:
        """uint8 RGB [N,S,S,3] of its own size S -> float32 [N,K]. of: which video each frame is of, for errors.

        Raises ValueError for frames of another size or type, CheckpointError for outputs that are not finite.
        """
        side = self.spec.crop
        if frames.dtype != np.uint8 or frames.shape[1:] != (side, side, 3) or not len(frames):
            raise ValueError(
                f"teacher {self.name} takes frames uint8 [N,{side},{side},3], got {frames.dtype} {list(frames.shape)}"
            )
        ordered = frames[..., ::-1] if self.spec.color_order == "bgr" else frames
        logits = self.network(np.ascontiguousarray(ordered))
        if self.from_probabilities:
            logits = np.log(np.maximum(logits, np.finfo(np.float32).tiny))
        if not np.isfinite(logits).all():
            bad = int(np.flatnonzero(~np.isfinite(logits).all(1))[0])
            where = f" for {of[bad]}" if of else f" for frame {bad}"
            raise CheckpointError(
                f"teacher {self.name} ({self.source}) gives {_first_bad(logits[bad])}{where}: its weights or its "
                "input's normalisation are not what they should be"
            )
        return logits

    def center_crop(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames as the teacher's own resize leaves them, [N,H,W,3] -> [N,S,S,3]; smaller ones are enlarged."""
        side = self.spec.crop
        height, width = frames.shape[1:3]
        short = min(height, width)
        if short < side:
            size = (max(side, round(width * side / short)), max(side, round(height * side / short)))
            frames = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_LINEAR) for f in frames]).astype(np.uint8)
            height, width = frames.shape[1:3]
        top, left = center_offset(height, side), center_offset(width, side)
        return frames[:, top : top + side, left : left + side]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: who it is, for reports and to tell it from others."""
        return {
            "name": self.name,
            "source": self.source,
            "identity": self.identity,
            "classes": self.num_classes,
            "spec": self.spec.to_dict(),
            "runtime": self.network.runtime,
        }


def head_labels(teachers: tuple[FrameTeacher, ...]) -> tuple[str, ...]:
    """The classes of all heads in their order, each with its teacher: they are never those of a labelled set."""
    return tuple(f"{teacher.name}: {label}" for teacher in teachers for label in teacher.labels)


def _first_bad(row: NDArray[np.float32]) -> str:
    value = row[~np.isfinite(row)][0]
    return "NaN" if np.isnan(value) else "infinity"
