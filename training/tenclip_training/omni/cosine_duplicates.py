"""Near-duplicates of a target set among web images and videos, by whitened cosine of frames (OmniSource, 3.3).

A pair of frames whose similarity lies above the mean similarity between different crops of the same frame is suspect.
In the paper that removes 0.1% of the web images, of which a person found less than a tenth to be real duplicates: it
errs on the side of removing, and among 10^9 pairs some lie above by chance. How many to expect is part of the report,
from the spread of pairs that are not alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

import faiss
import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_training.curation.video_store import StoreFailure
from tenclip_training.omni.frame_features import NUM_CROPS, FeatureTable
from tenclip_training.omni.whitening import SHRINKAGE, Whitening, crop_similarity, fit_whitening

# Source frames that are compared at once, and pairs of frames that the spread is measured on.
_BLOCK, _SPREAD_PAIRS = 4096, 200_000


@dataclass(frozen=True, kw_only=True)
class CosinePair:
    """similarity: of the two frames that are most alike, at source_seconds and target_seconds.
    source_share: of the source's frames, those that are above the threshold with any frame of this target.
    reviewed: a person has found them to be no duplicates.
    """

    source: str
    target: str
    similarity: float
    source_share: float
    source_seconds: float
    target_seconds: float
    reviewed: bool = False


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """value: similarities above it are suspect. crops: the mean between crops of the same frame, over crop_pairs;
    is_given: it was not taken from that.
    """

    value: float
    crops: float | None = None
    crop_pairs: int = 0
    is_given: bool = False


@dataclass(frozen=True, kw_only=True)
class CosineReport:
    """pairs: by falling similarity. frames: of source and target, compared. by_chance: pairs of frames that are to be
    expected above the threshold though they are not alike. dimensions: of the features; whitening is what it was
    compared in.
    """

    pairs: tuple[CosinePair, ...]
    threshold: Threshold
    source_files: int
    target_files: int
    frames: tuple[int, int]
    by_chance: float
    dimensions: int
    whitening: Whitening
    source_failures: tuple[StoreFailure, ...] = ()
    target_failures: tuple[StoreFailure, ...] = ()
    unused_reviews: tuple[tuple[str, str], ...] = ()

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Source files that are in a pair which no person has found to be none, each once."""
        return tuple(dict.fromkeys(p.source for p in self.pairs if not p.reviewed))


def find_threshold(crops: FeatureTable, whitening: Whitening) -> Threshold:
    """The mean similarity of different crops of the same frame; crops: five rows of features a frame.

    Raises DatasetError where there are none.
    """
    if not crops.num_frames:
        raise DatasetError("no frame of the target could be read, so there are no crops to take the threshold from")
    views = whitening.apply(crops.features).reshape(crops.num_frames, NUM_CROPS, -1)
    mean, pairs = crop_similarity(views)
    return Threshold(value=mean, crops=mean, crop_pairs=pairs)


def fit_to(*tables: FeatureTable, shrinkage: float = SHRINKAGE) -> Whitening:
    """The whitening of the frames of these sets. Raises DatasetError where there are none, or all are the same."""
    features = [t.features for t in tables if t.num_frames]
    if not features:
        raise DatasetError("no frame of the target could be read, so there is nothing to compare with")
    return fit_whitening(np.concatenate(features), shrinkage=shrinkage)


def find_duplicates(
    source: Iterable[FeatureTable],
    target: FeatureTable,
    whitening: Whitening,
    threshold: Threshold,
    *,
    reviewed: Collection[tuple[str, str]] = (),
    progress: Callable[[int], None] | None = None,
) -> CosineReport:
    """Compare every frame of the source with every frame of the target.

    source: in parts, each with all frames of its files. progress: called with the frames of the source that are done.
    """
    white_target = whitening.apply(target.features)
    index = faiss.IndexFlatIP(white_target.shape[1])
    index.add(white_target)
    pairs: dict[tuple[str, str], CosinePair] = {}
    by_chance, files, frames = 0.0, 0, 0
    for part in source:
        white = whitening.apply(part.features)
        by_chance += expected_by_chance(white, white_target, threshold.value)
        for start in range(0, len(white), _BLOCK):
            limits, scores, found = index.range_search(white[start : start + _BLOCK], threshold.value)
            rows = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits).astype(np.int64))
            _collect(pairs, part, target, rows, found.astype(np.int64), scores)
        files += len(np.unique(part.item))
        frames += part.num_frames
        if progress:
            progress(frames)
    marked = [replace(p, reviewed=(p.source, p.target) in reviewed) for p in pairs.values()]
    marked.sort(key=lambda p: (-p.similarity, p.source, p.target))
    return CosineReport(
        pairs=tuple(marked),
        threshold=threshold,
        source_files=files,
        target_files=len(np.unique(target.item)),
        frames=(frames, target.num_frames),
        by_chance=by_chance,
        dimensions=len(whitening.mean),
        whitening=whitening,
        unused_reviews=tuple(sorted(set(reviewed) - {(p.source, p.target) for p in marked})),
    )


def _collect(
    pairs: dict[tuple[str, str], CosinePair],
    source: FeatureTable,
    target: FeatureTable,
    rows: NDArray[np.int64],
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Enter pairs of frames as pairs of files: the most alike, and the share of the source's frames."""
    frames_of = np.bincount(source.item)
    keys = source.item[rows] * len(target.names) + target.item[found]
    by_key = np.lexsort((-scores, keys))  # the most alike of each pair of files comes first
    distinct, first = np.unique(keys[by_key], return_index=True)
    frames = np.unique(np.stack([keys, rows], axis=1), axis=0)[:, 0]
    matched = np.diff(np.searchsorted(frames, [*distinct, frames.max(initial=-1) + 1]))
    for key, best, count in zip(distinct.tolist(), by_key[first].tolist(), matched.tolist(), strict=True):
        s, t = divmod(key, len(target.names))
        share = count / int(frames_of[s])
        pair = CosinePair(
            source=source.names[s],
            target=target.names[t],
            similarity=float(scores[best]),
            source_share=share,
            source_seconds=float(source.seconds[rows[best]]),
            target_seconds=float(target.seconds[found[best]]),
        )
        known = pairs.get((pair.source, pair.target))  # of an earlier block, where a file lies in two
        if known is not None:
            better = max(pair, known, key=lambda p: p.similarity)
            pair = replace(better, source_share=known.source_share + share)
        pairs[pair.source, pair.target] = pair


def expected_by_chance(source: NDArray[np.float32], target: NDArray[np.float32], threshold: float) -> float:
    """Pairs of frames above the threshold if all pairs were unrelated: by the median and the median deviation of pairs
    drawn at random, which the few that are alike do not move, as of a normal distribution.
    """
    total = len(source) * len(target)
    rng = np.random.default_rng(0)
    count = min(_SPREAD_PAIRS, total)
    drawn = np.einsum(
        "nd,nd->n", source[rng.integers(0, len(source), count)], target[rng.integers(0, len(target), count)]
    )
    median = float(np.median(drawn))
    deviation = 1.4826 * float(np.median(np.abs(drawn - median)))
    if deviation == 0:
        return 0.0
    return total * 0.5 * math.erfc((threshold - median) / deviation / math.sqrt(2))
