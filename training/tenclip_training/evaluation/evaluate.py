"""Evaluation is the serving path: clips come from `tenclip_video.clips.read_clips` and their scores are averaged by
`tenclip_video.aggregate.aggregate`, as for a prediction. So accuracy here is what the server will have.

K classes, N videos, C clips of a video, V views of a clip, P positions of the classifier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest, VideoError
from tenclip_data.manifest import Manifest, Sample
from tenclip_training.data.dataset import within
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.counting import summarise
from tenclip_training.evaluation.results import Accuracy, EvaluationResult, VideoScore
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.loaders import load_any
from tenclip_training.models import VideoModel
from tenclip_training.models.video_model import eval_mode
from tenclip_training.preprocess import normalise
from tenclip_video.aggregate import Outputs
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol
from tenclip_video.spec import ClipSpec
from tenclip_video.still_clips import read_image_clips

__all__ = [
    "Accuracy",
    "EvaluationResult",
    "VideoScore",
    "clip_outputs",
    "evaluate",
    "find_protocol",
    "score_videos",
    "summarise",
]

CLIPS_AT_ONCE = 32  # in one pass of the network, and so in memory

# (videos done, videos asked for)
EvaluateProgress = Callable[[int, int], None]


def evaluate(
    model: VideoModel | Path | str,
    manifest: Manifest,
    *,
    split: str,
    clip_spec: ClipSpec | None = None,
    protocol: str | Protocol | None = None,
    family: str | None = None,
    scoring: Scoring | None = None,
    device: str | torch.device = "cpu",
    decode_threads: int = 1,
    progress: EvaluateProgress | None = None,
) -> EvaluationResult:
    """Score every video of a split and count what is right.

    model: a checkpoint, which brings its own clip_spec, or a model together with one. A public checkpoint does not name
    its classes: the manifest's labels must be given in its order. split: "" takes all videos. protocol: None takes that
    of the checkpoint's family (`family` where its weights leave open which), ten-clip for ours.
    scoring: how logits become scores; None takes what the checkpoint's loss asks for, a softmax for a model.
    A video that cannot be decoded is skipped and listed. Raises DatasetError when none could be, or when the manifest's
    labels are not the checkpoint's; CheckpointError; InvalidRequest for an unknown protocol, one that does not fit the
    loss, and a checkpoint of several heads, which `evaluate_actions` takes.

    ::

        result = evaluate("run/best.pt", read_manifest("videos/manifest.csv"), split="test")
        print(result.video_top1, len(result.skipped))  # 93.75% (75 of 80) 0
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    if not isinstance(model, VideoModel):
        source = str(model)
        checkpoint = load_any(model, family=family)
        model, clip_spec = checkpoint.model, clip_spec or checkpoint.clip_spec
        protocol = protocol or find_protocol(checkpoint.protocol)
        scoring = scoring or Scoring.of_checkpoint(checkpoint.labels, checkpoint.provenance, source=source)
        if scoring.heads is not None:
            raise InvalidRequest(
                f"{source}: has the heads {' and '.join(scoring.heads.names)}; tenclip evaluate-actions evaluates them"
            )
        if checkpoint.labels is not None:
            manifest = manifest.with_labels(checkpoint.labels)
    if clip_spec is None:
        raise ValueError("a model without a checkpoint needs its clip_spec")
    if len(manifest.labels) != model.num_classes:
        raise DatasetError(f"{manifest.source}: {len(manifest.labels)} labels for a model of {model.num_classes}")
    protocol, scoring = protocol or find_protocol(DEFAULT_PROTOCOL), scoring or Scoring()
    scoring.check(protocol)
    part = manifest.split(split) if split else manifest
    indices = range(len(part.samples))
    outcomes = score_videos(
        model, clip_spec, part, indices, protocol, scoring=scoring, device=device, decode_threads=decode_threads
    )
    watched = watch(outcomes, len(part.samples), progress)
    return summarise(watched, part, split=split, protocol=protocol.name, scoring=scoring)


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
    scoring: Scoring | None = None,
    device: str | torch.device = "cpu",
    decode_threads: int = 1,
) -> Iterator[VideoScore | Failure]:
    """Scores of the samples at `indices`, in that order; the next ones are decoded while the network runs."""
    model.to(device)
    with eval_mode(model):
        for index, clips in decoded_videos(manifest, indices, spec, protocol, decode_threads):
            if isinstance(clips, Failure):
                yield clips
                continue
            outputs = clip_outputs(model, clips.clips, spec, device)
            yield _score(manifest, index, clips, outputs, protocol, scoring or Scoring())


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


def decoded_videos(
    manifest: Manifest, indices: Sequence[int], spec: ClipSpec, protocol: Protocol, threads: int
) -> Iterator[tuple[int, VideoClips | Failure]]:
    """The clips of the samples at `indices`, in that order, a few videos ahead."""

    def read(sample: Sample) -> VideoClips | Failure:
        try:
            segment = replace(protocol, selection=within(protocol.selection, sample))
            if sample.is_image:
                return read_image_clips(sample.source(), spec, segment, name=sample.name)
            return read_clips(sample.source(), spec, segment, name=sample.name)
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
    manifest: Manifest,
    index: int,
    clips: VideoClips,
    outputs: Sequence[Outputs],
    protocol: Protocol,
    scoring: Scoring,
) -> VideoScore:
    sample = manifest.samples[index]
    scores = scoring.aggregate(outputs, protocol.averaging, views=clips.views)
    return VideoScore(
        index=index,
        name=sample.key,
        targets=manifest.targets(sample),
        clips=scores.clip_probabilities,
        video=scores.probabilities,
        seconds=clips.seconds,
        is_damaged=bool(clips.report.frames_substituted or clips.report.frames_corrupt),
    )


def watch(
    outcomes: Iterable[VideoScore | Failure], total: int, progress: EvaluateProgress | None
) -> Iterator[VideoScore | Failure]:
    """The outcomes as they come, with progress after each."""
    for done, outcome in enumerate(outcomes, start=1):
        if progress is not None:
            progress(done, total)
        yield outcome
