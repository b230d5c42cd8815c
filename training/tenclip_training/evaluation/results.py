"""Results of an evaluation: the scores of each video, and what is counted over them.

K classes, N videos, C clips of a video.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_features.scores import MeanAveragePrecision, average_precisions
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.calibration import Calibration
from tenclip_training.heads import Heads
from tenclip_video.protocols import Activation


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """`correct` of `total`."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """Between 0 and 1; NaN when there was nothing to count."""
        return self.correct / self.total if self.total else math.nan

    def __str__(self) -> str:
        return f"{100 * self.value:.2f}% ({self.correct} of {self.total})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not a number is None."""
        return {"value": self.value if self.total else None, **asdict(self)}


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoScore:
    """Scores of one video. clips: float32 [C,K]; video: float32 [K]; both after the model's softmax or sigmoids.

    `index` is the sample's place in the manifest, `targets` its classes, `seconds` the half-open interval of each clip.
    `is_damaged`: some of its frames are damaged, or were missing and had others stand in for them.
    """

    index: int
    name: str
    targets: tuple[int, ...]
    clips: NDArray[np.float32]
    video: NDArray[np.float32]
    seconds: tuple[tuple[float, float], ...]
    is_damaged: bool = False

    @property
    def predicted(self) -> int:
        return int(self.video.argmax())


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationResult:
    """Accuracies with their denominators.

    Of `videos_asked`, `videos_decoded` were scored and the rest are in `skipped`, with reasons; everything else counts
    the scored ones. A sample of several labels is right when any of them is hit.
    loss: the mean over videos of the cross entropy of the video's scores; with sigmoids of the binary cross entropies,
    averaged over classes, too.
    confusion [K][K]: true classes in rows; None where samples have several labels. calibration: None where scores are
    no probabilities of the labels, see `calibrate`. scores: every video's own, in the manifest's order.
    heads: where the model has several; accuracies then ask for all of them to be right.
    """

    split: str
    protocol: str
    labels: tuple[str, ...]
    videos_asked: int
    videos_decoded: int
    skipped: tuple[Failure, ...]
    clip_top1: Accuracy
    clip_top5: Accuracy
    video_top1: Accuracy
    video_top5: Accuracy
    per_class: tuple[Accuracy, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    loss: float
    calibration: Calibration | None = None
    activation: Activation = "softmax"
    heads: Heads | None = None
    scores: tuple[VideoScore, ...] = ()

    @property
    def damaged(self) -> tuple[str, ...]:
        """The scored videos with damaged or substituted frames."""
        return tuple(s.name for s in self.scores if s.is_damaged)

    @property
    def multi_label(self) -> bool:
        """Whether any scored video has other than one label."""
        return any(len(s.targets) != 1 for s in self.scores)

    @functools.cached_property
    def average_precisions(self) -> NDArray[np.float64]:
        """The average precision of each class over the video scores, float64 [K]; NaN for a class without a video."""
        if not self.scores:
            return np.full(len(self.labels), np.nan)
        return average_precisions(np.stack([s.video for s in self.scores]), truth_of(self.scores, len(self.labels)))

    @property
    def mean_average_precision(self) -> MeanAveragePrecision:
        """Over the classes that some scored video has; each class against the rest where videos have one label."""
        return MeanAveragePrecision.of(self.average_precisions, rows=len(self.scores))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with each video's top class and without its scores. What is not a number is None."""
        precisions = [None if math.isnan(p) else float(p) for p in self.average_precisions]
        return {
            "split": self.split,
            "protocol": self.protocol,
            "activation": self.activation,
            **({"heads": list(self.heads.names)} if self.heads else {}),
            "videos_asked": self.videos_asked,
            "videos_decoded": self.videos_decoded,
            "videos_skipped": len(self.skipped),
            "skipped": [asdict(f) for f in self.skipped],
            "damaged": list(self.damaged),
            "clip_top1": self.clip_top1.to_dict(),
            "clip_top5": self.clip_top5.to_dict(),
            "video_top1": self.video_top1.to_dict(),
            "video_top5": self.video_top5.to_dict(),
            "video_mAP": self.mean_average_precision.to_dict(),
            "loss": self.loss if math.isfinite(self.loss) else None,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "labels": list(self.labels),
            "per_class": {
                name: {**a.to_dict(), "average_precision": p}
                for name, a, p in zip(self.labels, self.per_class, precisions, strict=True)
            },
            "confusion": None if self.confusion is None else [list(row) for row in self.confusion],
            "videos": [self._video(s) for s in self.scores],
        }

    @property
    def mistakes(self) -> tuple[VideoScore, ...]:
        """The videos whose best class is none of theirs, the highest score first; () where there are heads."""
        wrong = (s for s in self.scores if self.heads is None and s.predicted not in s.targets)
        return tuple(sorted(wrong, key=lambda s: (-float(s.video.max()), s.index)))

    def _video(self, score: VideoScore) -> dict[str, Any]:
        labels = [self.labels[t] for t in score.targets]
        if self.heads is None:
            predicted, best_score = self.labels[score.predicted], float(score.video.max())
            shown = best_score if math.isfinite(best_score) else None
            return {"video": score.name, "labels": labels, "predicted": predicted, "score": shown}
        best = [(h, int(score.video[h.outputs].argmax())) for h in self.heads.heads]
        product = math.prod(float(score.video[h.start + i]) for h, i in best)
        predicted_heads = [self.labels[h.start + i] for h, i in best]
        return {"video": score.name, "labels": labels, "predicted": predicted_heads, "score": product}


def truth_of(scores: tuple[VideoScore, ...], num_classes: int) -> NDArray[np.bool_]:
    """Which classes each video has: [N,K]."""
    truth = np.zeros((len(scores), num_classes), bool)
    for row, score in zip(truth, scores, strict=True):
        row[list(score.targets)] = True
    return truth
