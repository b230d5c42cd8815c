"""How jobs are done. A task gets the job's folder and its settings, and returns what it has found as values for JSON.

Every one of them calls what a command of tenclip calls: `tenclip synth`, `train`, `distill`, `curate`, the fc-only
probe, and the decoding and the test protocols that serving has. Only evaluation is apart: the clips of a test set are
decoded once for all networks, by `read_clips` as ever.

N videos, C clips of each, K classes, D features.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_data.samples import Sample
from tenclip_demo.fitting import train_or_resume
from tenclip_features.linear import fit_linear
from tenclip_features.probe import STRENGTHS
from tenclip_features.tuning import grid_scores, tuning_folds
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.curation.subsets import (
    Budget,
    class_subset,
    instance_subset,
    random_subset,
    tail_preserving_subset,
)
from tenclip_training.data.failures import Failure
from tenclip_training.distill.config import DistillConfig
from tenclip_training.distill.run import distill as run_distillation
from tenclip_training.evaluation.evaluate import clip_outputs, decoded_videos
from tenclip_training.loaders import load_any
from tenclip_training.models.video_model import eval_mode
from tenclip_training.runs.config import TrainConfig
from tenclip_training.synth import NoisyTags, SynthConfig, WebNoise, generate
from tenclip_video.aggregate import aggregate
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.spec import ClipSpec, Resize

Found = dict[str, Any]

MANIFEST, LAST, STUDENT, CLIPS, TABLE = "manifest.csv", "run/last.pt", "run/student.pt", "clips.npy", "videos.json"
FRAMES = "frames"  # folder of decoded videos by seed, beside those of the jobs


def synth(folder: Path, config: Mapping[str, Any]) -> Found:
    """Videos or stills of a `SynthConfig`."""
    path = generate(synth_config(config), folder, workers=1)
    return {"files": len(path.read_text(encoding="utf-8").splitlines()) - 1}


def synth_config(values: Mapping[str, Any]) -> SynthConfig:
    """From plain values, as JSON has them."""
    given = _plain(values)
    for name, kind in (("noisy_tags", NoisyTags), ("web", WebNoise)):
        if isinstance(given.get(name), Mapping):
            given[name] = kind(**given[name])
    return SynthConfig(**given)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def train(folder: Path, manifest: str, values: Mapping[str, Any]) -> Found:
    """A run of `tenclip train`; `values` by the names of its config's fields. Raises KeyboardInterrupt where it was
    stopped: what it is worth, only the end of a run says.
    """
    config = TrainConfig(manifest=manifest, out=str(folder / "run")).changed(
        **_plain(values), cache_dir=_store(folder, values)
    )
    result = train_or_resume(config)
    last = result.history[-1]
    return {
        "loss": last.loss,
        "train_clip_top1": last.train_clip_top1,
        "entropy": _entropy(config),
        "failures": len(result.failures),
    }


def _entropy(config: TrainConfig) -> float:
    """Of the labels of the training videos, in nats."""
    read = read_manifest(Path(config.manifest), label_column=config.label_column, leaks="allow", images=True)
    labels = Counter(label for s in read.split("train").samples for label in s.labels)
    return math.log(labels.total()) - sum(n * math.log(n) for n in labels.values()) / labels.total()


def distill(folder: Path, manifest: str, values: Mapping[str, Any]) -> Found:
    """A run of `tenclip distill`. Raises KeyboardInterrupt as `train` does."""
    config = DistillConfig(manifest=manifest, out=str(folder / "run")).changed(
        **_plain(values), cache_dir=_store(folder, values)
    )
    result = run_distillation(config, resume=True)
    if not result.run.completed:
        raise KeyboardInterrupt
    return {"loss": result.run.history[-1].loss, "dropped": result.dropped}


def frames_of(root: Path, seed: int) -> Path:
    """Folder of decoded videos that all jobs of a seed share."""
    return root / FRAMES / f"seed-{seed}"


def _store(folder: Path, values: Mapping[str, Any]) -> str:
    return str(frames_of(folder.parents[1], values["seed"]))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(map(_tuple, v)) if isinstance(v, list) else v for name, v in values.items()}


def rows(
    folder: Path,
    manifests: Sequence[str],
    label: str = "",
    split: str = "",
    keep: Mapping[str, Sequence[str]] | None = None,
    at_most: int | None = None,
    seed: int = 0,
    as_split: str = "train",
) -> Found:
    """A manifest of rows of others, nested by seed: the rows of a smaller `at_most` are among those of a larger one.

    label: column that becomes the label. split: rows of it alone. keep: values of columns that are kept.
    """
    from tenclip_training.curation.budgets import ranked

    samples = [s for path in manifests for s in read_manifest(Path(path), leaks="allow", images=True).samples]
    chosen = [s for s in samples if (not split or s.split == split) and _keeps(s, keep or {})]
    if at_most is not None:
        order = ranked([s.key for s in chosen], seed)[:at_most]
        wanted = set(order)
        chosen = [s for s in chosen if s.key in wanted]
    relabelled = [
        dataclasses.replace(s, labels=(str(s.extra[label]),) if label else s.labels, split=as_split) for s in chosen
    ]
    write_manifest(folder / MANIFEST, relabelled)
    return {"videos": len(relabelled)}


def _keeps(sample: Sample, keep: Mapping[str, Sequence[str]]) -> bool:
    return all(str(sample.extra.get(column)) in values for column, values in keep.items())


def clips(
    folder: Path, manifest: str, spec: Mapping[str, Any], split: str = "", protocol: str = "center-clip"
) -> Found:
    """Clips of every video as serving reads them, uint8 [N,C,T,H,W,3], and a table of what is known of each."""
    read = read_manifest(Path(manifest), leaks="allow", images=True)
    part = read.split(split) if split else read
    chosen, table = PROTOCOLS[protocol], []
    found: list[NDArray[np.uint8]] = []
    for index, video in decoded_videos(part, range(len(part.samples)), clip_spec(spec), chosen, 1):
        if isinstance(video, Failure):
            raise DatasetError(f"{manifest}: {video.message}")
        sample = part.samples[index]
        found.append(video.clips)
        table.append({**{k: str(v) for k, v in sample.extra.items()}, "key": sample.key, "label": sample.labels[0]})
    np.save(folder / CLIPS, np.stack(found))
    (folder / TABLE).write_text(json.dumps(table) + "\n", encoding="utf-8")
    return {"videos": len(table)}


def clip_spec(values: Mapping[str, Any]) -> ClipSpec:
    """From plain values: `num_frames`, `target_fps`, `resize` as (height, width), `crop`."""
    given = dict(values)
    height, width = given.pop("resize")
    return ClipSpec(resize=Resize(height=height, width=width), fully_convolutional_crop=None, **given)


def score(folder: Path, checkpoint: str, clips: str, column: str = "label") -> Found:
    """Which videos a network gets right: `scores.npz` has correct [N] and probabilities [N,K].

    The result has the share of the commonest class too, and of pairs how often their verb and their noun are named
    (None for other labels): networks that learn one of them alone all come near what it tells of the other.
    """
    loaded = load_any(Path(checkpoint))
    truth = _column(clips, column)
    assert loaded.labels is not None
    unknown = sorted(set(truth) - set(loaded.labels))
    if unknown:
        raise DatasetError(f"{checkpoint}: has no class {unknown[0]!r} of the test videos")
    probabilities, _ = outputs_of(Path(checkpoint), Path(clips))
    numbers = np.array([loaded.labels.index(name) for name in truth])
    correct = probabilities.argmax(axis=1) == numbers
    np.savez(folder / "scores.npz", correct=correct, probabilities=probabilities.astype(np.float32))
    named = [loaded.labels[k] for k in probabilities.argmax(axis=1)]
    pairs = truth == [row.get("pair") for row in _table(clips)]
    return {
        "top1": float(correct.mean()),
        "videos": len(correct),
        "commonest": max(Counter(truth).values()) / len(truth),
        "parts": _parts_named(truth, named) if pairs else None,
    }


def _parts_named(truth: Sequence[str], named: Sequence[str]) -> dict[str, float]:
    """How often the verb and the noun of pairs are named, whatever the other part.

    >>> _parts_named(["up-disc", "up-star"], ["up-star", "down-star"])
    {'verb': 0.5, 'noun': 0.5}
    """
    pairs = [(said.rsplit("-", 1), is_.rsplit("-", 1)) for said, is_ in zip(named, truth, strict=True)]
    return {part: sum(said[i] == is_[i] for said, is_ in pairs) / len(pairs) for i, part in enumerate(("verb", "noun"))}


def probe(
    folder: Path, checkpoint: str, train_clips: str, test_clips: str, column: str = "label", seed: int = 0
) -> Found:
    """fc-only: logistic regression on frozen features, its strength chosen on five folds of the training videos."""
    rows, tests = (outputs_of(Path(checkpoint), Path(c))[1] for c in (train_clips, test_clips))
    names, truth = _column(train_clips, column), _column(test_clips, column)
    classes = sorted(set(names))
    targets = np.array([[name == c for c in classes] for name in names])
    groups = np.arange(len(rows))
    folds = tuning_folds(targets, groups, folds=5, tune_on=None, seed=seed, source=Path(train_clips))
    grid = grid_scores(rows, targets, folds, STRENGTHS, multi_label=False, tick=lambda: None)
    strength = max(grid, key=lambda entry: (entry[1], -entry[0]))[0]
    fitted = fit_linear(rows, targets, strength)
    correct = np.array(classes)[fitted.logits(tests).argmax(axis=1)] == np.array(truth)
    seen = np.array(classes)[fitted.logits(rows).argmax(axis=1)] == np.array(names)
    np.savez(folder / "scores.npz", correct=correct)
    return {
        "top1": float(correct.mean()),
        "videos": len(correct),
        "strength": strength,
        "train_top1": float(seen.mean()),
    }


def outputs_of(checkpoint: Path, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(probabilities [N,K], features [N,D]) of the clips in a folder, averaged over those of a video."""
    loaded = load_any(checkpoint, features_only=False)
    arrays = np.load(folder / CLIPS, mmap_mode="r")
    probabilities, features = [], []
    with eval_mode(loaded.model), torch.inference_mode():
        for video in _groups(arrays):
            flat = np.array(video).reshape(-1, *video.shape[2:])
            outputs = clip_outputs(loaded.model, flat, loaded.clip_spec, "cpu")
            logits = np.concatenate([o.logits for o in outputs])
            logits = logits.reshape(*video.shape[:2], *logits.shape[1:])
            vectors = np.concatenate([o.features for o in outputs]).reshape(*video.shape[:2], -1)
            features.append(vectors.mean(axis=1))
            probabilities += [_average(clip_logits) for clip_logits in logits]
    return np.stack(probabilities), np.concatenate(features)


def _average(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """[C,K,P] -> [K], as the ten-clip protocol averages."""
    from tenclip_video.aggregate import Outputs

    empty = np.zeros((len(logits), 1), np.float32)
    return aggregate([Outputs(logits, empty)], "probabilities", views=1).probabilities


def _groups(arrays: NDArray[np.uint8], size: int = 32) -> list[NDArray[np.uint8]]:
    return [arrays[i : i + size] for i in range(0, len(arrays), size)]


def _column(folder: str, column: str) -> list[str]:
    return [row[column] for row in _table(folder)]


def _table(folder: str) -> list[dict[str, str]]:
    table: list[dict[str, str]] = json.loads((Path(folder) / TABLE).read_text(encoding="utf-8"))
    return table


def subset(folder: Path, manifest: str, kind: str, seed: int, videos: int = 0, fraction: float = 0.0) -> Found:
    """`tenclip curate subset`: "random" or "tail-preserving" of so many videos; a fraction of "classes", with all of
    their videos, or of the "instances" of every class.
    """
    samples = read_manifest(Path(manifest), leaks="allow", images=True).samples
    if kind in _BY_FRACTION:
        kept = _BY_FRACTION[kind](samples, fraction, seed=seed)
    else:
        kept = _BY_COUNT[kind](samples, Budget(videos=videos), seed=seed)
    write_manifest(folder / MANIFEST, kept)
    return {"videos": len(kept), "classes": len({label for s in kept for label in s.labels})}


_BY_COUNT = {"random": random_subset, "tail-preserving": tail_preserving_subset}
_BY_FRACTION = {"classes": class_subset, "instances": instance_subset}
