"""The demo's results as plain values: the page is drawn from them and `summary.json` is a part of them.

Seconds are wall-clock seconds unless they say "seconds of the video". Scores are probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tenclip_export.parity import Row
from tenclip_video.bundle import Tolerance


@dataclass(frozen=True, kw_only=True)
class Count:
    """`correct` of `total`: no accuracy without its denominator."""

    correct: int
    total: int

    @property
    def value(self) -> float | None:
        return self.correct / self.total if self.total else None

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "correct": self.correct, "total": self.total}


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """`reused`: done by an earlier run, which took so long."""

    name: str
    title: str
    seconds: float
    reused: bool = False


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The videos: where from, how many, which classes. `held_out_classes` were kept from training for the probe."""

    source: str
    description: str
    classes: tuple[str, ...]
    held_out_classes: tuple[str, ...] = ()
    train_videos: int
    held_out_videos: int
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Epoch:
    epoch: int
    loss: float
    train_top1: float
    val_loss: float | None = None
    val_top1: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """How the model came about. `curve`: one point for each epoch."""

    architecture: str
    parameters: int
    clip: str
    curve: tuple[Epoch, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out videos through torch. `confusion` [K][K]: true classes in rows; None for videos of several labels."""

    split: str
    protocol: str
    labels: tuple[str, ...]
    video_top1: Count
    video_top5: Count
    clip_top1: Count
    confusion: tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A clip of a video: the half-open interval that it shows, in seconds of the video, and [K] probabilities."""

    start: float
    end: float
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class VideoCard:
    """One video on the page.

    truth: its class, None where nobody knows. interval: where the action really is, seconds of the video. part: `top`
    is of this interval, else of the whole video.
    salient: the best class and its score when only the most salient clips are classified, where that was asked.
    thumbnails: JPEG files, evenly spaced. salience: (start, end, score) of each window.
    """

    name: str
    group: str
    truth: str | None
    top: tuple[tuple[str, float], ...]
    labels: tuple[str, ...]
    duration: float
    facts: str
    segments: tuple[Segment, ...]
    salience: tuple[tuple[float, float, float], ...]
    thumbnails: tuple[bytes, ...] = field(repr=False)
    interval: tuple[float, float] | None = None
    part: bool = False
    salient: tuple[str, float] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def predicted(self) -> str:
        return self.top[0][0]


@dataclass(frozen=True, kw_only=True)
class FailedVideo:
    """A video that the server would not take: its typed error."""

    name: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """Predictions through the client. `latencies`: seconds of each request, one after another.

    agreement: how often the served top class is that of torch on the same video. stage_seconds: medians, on the server.
    """

    runtime: str
    runtime_reason: str
    protocol: str
    latencies: tuple[float, ...]
    stage_seconds: tuple[tuple[str, float], ...]
    top1: Count
    agreement: Count
    p50: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class ProbeFacts:
    """A linear probe on served features. `chance`: accuracy of always answering the most frequent class."""

    label_set: str
    description: str
    classes: tuple[str, ...]
    train_videos: int
    accuracy: Count
    chance: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything on the page. `required`: the top-1 that counts as success, None where none was set."""

    title: str
    quick: bool
    seed: int
    machine: str
    versions: tuple[tuple[str, str], ...]
    data: DataFacts
    training: TrainingFacts
    evaluation: Evaluation
    required: float | None
    server: ServerFacts
    probes: tuple[ProbeFacts, ...]
    parity: tuple[Row, ...]
    tolerance: Tolerance
    cards: tuple[VideoCard, ...]
    failed_videos: tuple[FailedVideo, ...] = ()
    stages: tuple[StageTime, ...]
    commands: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        top1 = self.evaluation.video_top1.value
        return self.required is None or (top1 is not None and top1 >= self.required)

    def summary(self) -> dict[str, Any]:
        """`summary.json`: the figures, each with its denominator, in plain values."""
        probe = self.probes[0]
        return {
            "passed": self.passed,
            "required_top1": self.required,
            "quick": self.quick,
            "seed": self.seed,
            "machine": self.machine,
            "versions": dict(self.versions),
            "data": {
                "source": self.data.source,
                "classes": list(self.data.classes),
                "held_out_classes": list(self.data.held_out_classes),
                "train_videos": self.data.train_videos,
                "held_out_videos": self.data.held_out_videos,
                "skipped": len(self.data.skipped),
            },
            "protocol": self.evaluation.protocol,
            "top1": self.evaluation.video_top1.value,
            "top5": self.evaluation.video_top5.value,
            "clip_top1": self.evaluation.clip_top1.value,
            "counts": {
                "top1": self.evaluation.video_top1.to_dict(),
                "top5": self.evaluation.video_top5.to_dict(),
                "clip_top1": self.evaluation.clip_top1.to_dict(),
                "served_top1": self.server.top1.to_dict(),
                "served_agrees_with_torch": self.server.agreement.to_dict(),
            },
            "probe_accuracy": probe.accuracy.value,
            "probes": [
                {
                    "label_set": p.label_set,
                    "classes": list(p.classes),
                    "train_videos": p.train_videos,
                    "accuracy": p.accuracy.to_dict(),
                    "chance": p.chance,
                }
                for p in self.probes
            ],
            "server": {
                "runtime": self.server.runtime,
                "requests": len(self.server.latencies),
                "p50_seconds": self.server.p50,
                "p95_seconds": self.server.p95,
                "stage_seconds": dict(self.server.stage_seconds),
            },
            "seconds": {s.name: round(s.seconds, 3) for s in self.stages},
            "seconds_reused": [s.name for s in self.stages if s.reused],
            "seconds_total": round(sum(s.seconds for s in self.stages), 3),
        }
