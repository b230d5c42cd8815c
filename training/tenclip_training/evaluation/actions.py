"""Evaluate verbs, nouns and actions: one checkpoint with two heads, or one for each (IG-65M, A.4).

Clips are read and averaged as in `evaluate`; `action_counting` counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.action_counting import (
    MANY_SHOT,
    Pair,
    TaskResult,
    TaskScores,
    count_actions,
    count_pairs,
    count_task,
)
from tenclip_training.evaluation.action_models import ActionModel, for_model, head_names, label_of, load_action_models
from tenclip_training.evaluation.evaluate import EvaluateProgress, find_protocol, score_videos, watch
from tenclip_training.evaluation.results import VideoScore
from tenclip_video.protocols import Protocol

__all__ = ["ActionModel", "ActionResult", "Pairs", "evaluate_actions", "head_names", "load_action_models"]

Pairs = Literal["seen", "all"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ActionResult:
    """Figures of both heads and of actions, over the `videos_decoded` of `videos_asked`; the others are in `skipped`.

    pairs: whether actions were the pairs seen in training, or all. videos_of_unseen_pairs: those whose action is not
    among them and so cannot be right. predictions: of each video its name, the true labels and the predicted ones: of
    each head by itself and of the best action.
    """

    split: str
    protocols: tuple[str, ...]
    checkpoints: tuple[str, ...]
    pairs: Pairs
    videos_asked: int
    videos_decoded: int
    skipped: tuple[Failure, ...]
    verb: TaskResult
    noun: TaskResult
    action: TaskResult
    videos_of_unseen_pairs: int
    training_videos: int | None
    predictions: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "split": self.split,
            "protocols": list(self.protocols),
            "checkpoints": list(self.checkpoints),
            "videos_asked": self.videos_asked,
            "videos_decoded": self.videos_decoded,
            "videos_skipped": len(self.skipped),
            "skipped": [asdict(f) for f in self.skipped],
            "pairs": self.pairs,
            "videos_of_unseen_pairs": self.videos_of_unseen_pairs,
            "training_videos": self.training_videos,
            "heads": {task.name: task.to_dict() for task in (self.verb, self.noun)},
            "action": self.action.to_dict(),
            "videos": list(self.predictions),
        }


def evaluate_actions(
    models: Sequence[ActionModel],
    manifest: Manifest,
    *,
    split: str,
    training: Manifest | None = None,
    pairs: Pairs = "seen",
    more_than: int = MANY_SHOT,
    protocol: str | Protocol | None = None,
    device: str | torch.device = "cpu",
    decode_threads: int = 1,
    progress: EvaluateProgress | None = None,
) -> ActionResult:
    """Score every video of a split by each model and count verbs, nouns and actions.

    manifest: read with `heads=head_names(models)`; so is `training`, the videos that say which pairs were seen and
    which classes are many-shot (more than `more_than` videos). protocol: None takes that of each checkpoint.
    A video that a model cannot be run on is skipped and listed. Raises DatasetError when that leaves none, when labels
    are not the checkpoints', and for pairs "seen" without training videos.

    ::

        models = load_action_models(["verb/best.pt", "noun/best.pt"])
        videos = read_manifest("EPIC_100_validation.csv", heads=head_names(models))
        result = evaluate_actions(models, videos, split="val", pairs="all")
        print(result.action.top1)  # 38.12% (3686 of 9668)
    """
    if pairs == "seen" and training is None:
        raise DatasetError(f"{manifest.source}: pairs seen in training need training videos; name them, or take all")
    names = head_names(models)
    part = manifest.split(split) if split else manifest
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    protocols = [protocol or find_protocol(m.protocol) for m in models]
    streams = [
        _scores(m, part, chosen, names, device, decode_threads) for m, chosen in zip(models, protocols, strict=True)
    ]
    first = watch(streams[0], len(part.samples), progress)
    scored: list[tuple[VideoScore, ...]] = []
    skipped: list[Failure] = []
    for row in zip(first, *streams[1:], strict=True):
        failure = next((o for o in row if isinstance(o, Failure)), None)
        if failure is None:
            scored.append(tuple(o for o in row if isinstance(o, VideoScore)))
        else:
            skipped.append(failure)
    if not scored:
        raise DatasetError(
            f"{manifest.source}: none of {len(skipped)} videos could be used. The first: {skipped[0].message}"
        )
    return _count(models, protocols, scored, tuple(skipped), training, names, split, pairs, more_than)


def _scores(
    model: ActionModel,
    manifest: Manifest,
    protocol: Protocol,
    names: tuple[str, str],
    device: str | torch.device,
    decode_threads: int,
) -> Iterator[VideoScore | Failure]:
    model.scoring.check(protocol)
    ours = for_model(model, manifest)
    indices = range(len(ours.samples))
    return score_videos(
        model.model,
        model.clip_spec,
        ours,
        indices,
        protocol,
        scoring=model.scoring,
        device=device,
        decode_threads=decode_threads,
    )


def _count(
    models: Sequence[ActionModel],
    protocols: Sequence[Protocol],
    scored: Sequence[tuple[VideoScore, ...]],
    skipped: tuple[Failure, ...],
    training: Manifest | None,
    names: tuple[str, str],
    split: str,
    pairs: Pairs,
    more_than: int,
) -> ActionResult:
    labels = [labels for model in models for _, labels in model.parts]
    seen = None
    if training is not None:
        trained = [(label_of(s.labels, names[0]), label_of(s.labels, names[1])) for s in training.samples]
        seen = count_pairs(trained, *labels)
        if not seen:
            raise DatasetError(f"{training.source}: none of its pairs has classes of the checkpoints")
    tasks = []
    for which, (name, classes) in enumerate(zip(names, labels, strict=True)):
        scores, targets = _of_head(models, scored, which, len(labels[0]))
        counts = None
        if seen is not None:
            of_class = [sum(n for pair, n in seen.items() if pair[which] == k) for k in range(len(classes))]
            counts = np.array(of_class, np.int64)
        tasks.append(TaskScores(name=name, labels=classes, scores=scores, targets=targets, in_training=counts))
    verb, noun = tasks
    allowed: list[Pair] = sorted(seen) if pairs == "seen" and seen is not None else _all_pairs(verb, noun)
    results = [count_task(task, more_than=more_than) for task in tasks]
    action = count_actions(verb, noun, allowed, in_training=seen, more_than=more_than)
    possible = set(allowed)
    true = list(zip(verb.targets.tolist(), noun.targets.tolist(), strict=True))
    return ActionResult(
        split=split,
        protocols=tuple(p.name for p in protocols),
        checkpoints=tuple(str(m.path) for m in models),
        pairs=pairs,
        videos_asked=len(scored) + len(skipped),
        videos_decoded=len(scored),
        skipped=skipped,
        verb=results[0],
        noun=results[1],
        action=action,
        videos_of_unseen_pairs=sum(pair not in possible for pair in true),
        training_videos=None if training is None else len(training.samples),
        predictions=tuple(_predictions(scored, verb, noun, results, action, allowed)),
    )


def _of_head(
    models: Sequence[ActionModel], scored: Sequence[tuple[VideoScore, ...]], which: int, first: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(scores [N,V], targets [N]) of a head: of the one model's outputs, or of its own model."""
    if len(models) == 2:
        return np.stack([row[which].video for row in scored]), np.array([row[which].targets[0] for row in scored])
    outputs = slice(0, first) if which == 0 else slice(first, None)
    scores = np.stack([row[0].video[outputs] for row in scored])
    return scores, np.array([row[0].targets[which] for row in scored]) - (0 if which == 0 else first)


def _all_pairs(verb: TaskScores, noun: TaskScores) -> list[Pair]:
    return [(v, n) for v in range(len(verb.labels)) for n in range(len(noun.labels))]


def _predictions(
    scored: Sequence[tuple[VideoScore, ...]],
    verb: TaskScores,
    noun: TaskScores,
    results: Sequence[TaskResult],
    action: TaskResult,
    allowed: Sequence[Pair],
) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(scored):
        v, n = allowed[int(action.predicted[i])]
        score = float(verb.scores[i, v] * noun.scores[i, n])
        yield {
            "video": row[0].name,
            "true": {t.name: t.labels[int(t.targets[i])] for t in (verb, noun)},
            "predicted": {t.name: t.labels[int(r.predicted[i])] for t, r in zip((verb, noun), results, strict=True)},
            "action": {verb.name: verb.labels[v], noun.name: noun.labels[n]},
            "score": score if math.isfinite(score) else None,
        }
