"""Evaluation is the serving path: clips come from `tenclip_video.clips.read_clips` and their scores are averaged by
`tenclip_video.aggregate.aggregate`, as for a prediction. So accuracy here is what the server will have.

K classes, N videos, C clips of a video, V views of a clip, P positions of the classifier.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest, VideoError
from tenclip_data.manifest import Manifest, Sample
from tenclip_training.data.dataset import within
from tenclip_training.data.failures import Failure
from tenclip_training.loaders import load_any
from tenclip_training.models import VideoModel
from tenclip_training.preprocess import normalise
from tenclip_video.aggregate import Outputs, aggregate
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol
from tenclip_video.spec import ClipSpec
from tenclip_video.still_clips import read_image_clips

CLIPS_AT_ONCE = 32  # in one pass of the network, and so in memory

# (videos done, videos asked for)
EvaluateProgress = Callable[[int, int], None]


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


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoScore:
    """Scores of one video. clips: float32 [C,K]; video: float32 [K]; both after the protocol's softmax.

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

    Of `videos_asked`, `videos_decoded` were scored and the rest are in `skipped`, with reasons; accuracies count the
    scored ones. A sample of several labels is right when any of them is hit. `loss` is the mean over videos of the
    cross entropy of the video's scores. `confusion` [K][K] has true classes in rows, and is None where samples have
    several labels. `scores`: every video's own, in the manifest's order.
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
    scores: tuple[VideoScore, ...] = ()

    @property
    def damaged(self) -> tuple[str, ...]:
        """The scored videos with damaged or substituted frames."""
        return tuple(s.name for s in self.scores if s.is_damaged)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with each video's top class and without its scores. What is not a number is None."""

        def accuracy(a: Accuracy) -> dict[str, Any]:
            return {"value": a.value if a.total else None, **asdict(a)}

        return {
            "split": self.split,
            "protocol": self.protocol,
            "videos_asked": self.videos_asked,
            "videos_decoded": self.videos_decoded,
            "videos_skipped": len(self.skipped),
            "skipped": [asdict(f) for f in self.skipped],
            "damaged": list(self.damaged),
            "clip_top1": accuracy(self.clip_top1),
            "clip_top5": accuracy(self.clip_top5),
            "video_top1": accuracy(self.video_top1),
            "video_top5": accuracy(self.video_top5),
            "loss": self.loss if math.isfinite(self.loss) else None,
            "labels": list(self.labels),
            "per_class": {name: accuracy(a) for name, a in zip(self.labels, self.per_class, strict=True)},
            "confusion": None if self.confusion is None else [list(row) for row in self.confusion],
            "videos": [
                {
                    "video": s.name,
                    "labels": [self.labels[t] for t in s.targets],
                    "predicted": self.labels[s.predicted],
                    "score": float(s.video.max()),
                }
                for s in self.scores
            ],
        }


def evaluate(
    model: VideoModel | Path | str,
    manifest: Manifest,
    *,
    split: str,
    clip_spec: ClipSpec | None = None,
    protocol: str | Protocol | None = None,
    family: str | None = None,
    device: str | torch.device = "cpu",
    decode_threads: int = 1,
    progress: EvaluateProgress | None = None,
) -> EvaluationResult:
    """Score every video of a split and count what is right.

    model: a checkpoint, which brings its own clip_spec, or a model together with one. A public checkpoint does not name
    its classes: the manifest's labels must be given in its order. split: "" takes all videos. protocol: None takes that
    of the checkpoint's family (`family` where its weights leave open which), ten-clip for ours.
    A video that cannot be decoded is skipped and listed. Raises DatasetError when none could be, or when the manifest's
    labels are not the checkpoint's; CheckpointError; InvalidRequest for an unknown protocol.

    ::

        result = evaluate("run/best.pt", read_manifest("videos/manifest.csv"), split="test")
        print(result.video_top1, len(result.skipped))  # 93.75% (75 of 80) 0
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    if not isinstance(model, VideoModel):
        checkpoint = load_any(model, family=family)
        model, clip_spec = checkpoint.model, clip_spec or checkpoint.clip_spec
        protocol = protocol or find_protocol(checkpoint.protocol)
        if checkpoint.labels is not None:
            manifest = manifest.with_labels(checkpoint.labels)
    if clip_spec is None:
        raise ValueError("a model without a checkpoint needs its clip_spec")
    if len(manifest.labels) != model.num_classes:
        raise DatasetError(f"{manifest.source}: {len(manifest.labels)} labels for a model of {model.num_classes}")
    protocol = protocol or find_protocol(DEFAULT_PROTOCOL)
    part = manifest.split(split) if split else manifest
    outcomes = score_videos(
        model, clip_spec, part, range(len(part.samples)), protocol, device=device, decode_threads=decode_threads
    )
    return summarise(_watch(outcomes, len(part.samples), progress), part, split=split, protocol=protocol.name)


def find_protocol(protocol: str) -> Protocol:
    """Raises InvalidRequest that lists the known ones."""
    if protocol not in PROTOCOLS:
        raise InvalidRequest(f"protocol {protocol!r} is not one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def score_videos(
    model: VideoModel,
    spec: ClipSpec,
    manifest: Manifest,
    indices: Sequence[int],
    protocol: Protocol,
    *,
    device: str | torch.device = "cpu",
    decode_threads: int = 1,
) -> Iterator[VideoScore | Failure]:
    """Scores of the samples at `indices`, in that order; the next ones are decoded while the network runs."""
    was_training = model.training
    model.to(device).eval()
    try:
        for index, clips in _decoded(manifest, indices, spec, protocol, decode_threads):
            if isinstance(clips, Failure):
                yield clips
                continue
            yield _score(manifest, index, clips, clip_outputs(model, clips.clips, spec, device), protocol)
    finally:
        model.train(was_training)


@torch.inference_mode()
def clip_outputs(
    model: VideoModel, clips: NDArray[np.uint8], spec: ClipSpec, device: str | torch.device
) -> list[Outputs]:
    """Logits and features of clips uint8 [B,T,H,W,3], in batches of `CLIPS_AT_ONCE`."""
    batches = []
    for i in range(0, len(clips), CLIPS_AT_ONCE):
        logits, features = model(normalise(torch.from_numpy(clips[i : i + CLIPS_AT_ONCE]).to(device), spec))
        batches.append(Outputs(logits.float().cpu().numpy(), features.float().cpu().numpy()))
    return batches


def summarise(
    outcomes: Iterable[VideoScore | Failure], manifest: Manifest, *, split: str, protocol: str
) -> EvaluationResult:
    """Count. Raises DatasetError when nothing was scored."""
    outcomes = list(outcomes)
    scores = sorted((o for o in outcomes if isinstance(o, VideoScore)), key=lambda s: s.index)
    skipped = tuple(o for o in outcomes if isinstance(o, Failure))
    if not scores:
        first = f" The first: {skipped[0].message} ({skipped[0].reason})" if skipped else ""
        raise DatasetError(f"{manifest.source}: none of {len(skipped)} videos of split {split!r} could be used.{first}")
    single_label = all(len(s.targets) == 1 for s in scores)
    return EvaluationResult(
        split=split,
        protocol=protocol,
        labels=manifest.labels,
        videos_asked=len(outcomes),
        videos_decoded=len(scores),
        skipped=skipped,
        clip_top1=_top_k(((c, s.targets) for s in scores for c in s.clips), 1),
        clip_top5=_top_k(((c, s.targets) for s in scores for c in s.clips), 5),
        video_top1=_top_k(((s.video, s.targets) for s in scores), 1),
        video_top5=_top_k(((s.video, s.targets) for s in scores), 5),
        per_class=_per_class(scores, len(manifest.labels)),
        confusion=_confusion(scores, len(manifest.labels)) if single_label else None,
        loss=float(np.mean([-np.log(s.video[list(s.targets)].clip(1e-12)).mean() for s in scores])),
        scores=tuple(scores),
    )


def _decoded(
    manifest: Manifest, indices: Sequence[int], spec: ClipSpec, protocol: Protocol, threads: int
) -> Iterator[tuple[int, VideoClips | Failure]]:
    def read(sample: Sample) -> VideoClips | Failure:
        try:
            segment = replace(protocol, selection=within(protocol.selection, sample))
            read_sample = read_image_clips if sample.is_image else read_clips
            return read_sample(sample.path, spec, segment, name=sample.name)
        except (VideoError, InvalidRequest) as err:
            return Failure.of(sample, err)

    waiting = deque(indices)
    running: deque[tuple[int, Future[VideoClips | Failure]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        while waiting or running:
            while waiting and len(running) < 2 * threads:
                index = waiting.popleft()
                running.append((index, pool.submit(read, manifest.samples[index])))
            index, future = running.popleft()
            yield index, future.result()


def _score(
    manifest: Manifest, index: int, clips: VideoClips, outputs: Sequence[Outputs], protocol: Protocol
) -> VideoScore:
    sample = manifest.samples[index]
    scores = aggregate(outputs, protocol.averaging, views=clips.views)
    return VideoScore(
        index=index,
        name=sample.key,
        targets=manifest.targets(sample),
        clips=scores.clip_probabilities,
        video=scores.probabilities,
        seconds=clips.seconds,
        is_damaged=bool(clips.report.frames_substituted or clips.report.frames_corrupt),
    )


def _top_k(scored: Iterable[tuple[NDArray[np.float32], tuple[int, ...]]], k: int) -> Accuracy:
    hits = [any(t in targets for t in np.argsort(-scores, kind="stable")[:k]) for scores, targets in scored]
    return Accuracy(correct=sum(hits), total=len(hits))


def _per_class(scores: Sequence[VideoScore], num_classes: int) -> tuple[Accuracy, ...]:
    """Videos that have the class, and how many of them the model puts into it."""
    correct, total = [0] * num_classes, [0] * num_classes
    for score in scores:
        for target in score.targets:
            total[target] += 1
            correct[target] += score.predicted == target
    return tuple(Accuracy(correct=c, total=n) for c, n in zip(correct, total, strict=True))


def _confusion(scores: Sequence[VideoScore], num_classes: int) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((num_classes, num_classes), np.int64)
    for score in scores:
        counts[score.targets[0], score.predicted] += 1
    return tuple(tuple(int(n) for n in row) for row in counts)


def _watch(
    outcomes: Iterable[VideoScore | Failure], total: int, progress: EvaluateProgress | None
) -> Iterator[VideoScore | Failure]:
    for done, outcome in enumerate(outcomes, start=1):
        if progress is not None:
            progress(done, total)
        yield outcome
