"""How many videos each class has in each split."""

from __future__ import annotations

from collections.abc import Sequence

from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.nouns import zipf_weights


def class_counts(config: SynthConfig) -> dict[str, dict[str, int]]:
    """Class of the column `label` -> split -> videos.

    Only the first split, that of training, has a long tail, so that accuracies stay comparable.
    """
    classes, shares = config.class_names, _shares(config)
    if config.total is None:
        counts = {name: split_counts(config.videos_per_class, config.splits) for name in classes}
        first = config.splits[0][0]
        for name, share in zip(classes, shares, strict=True):
            if counts[name][first]:
                counts[name][first] = max(1, round(counts[name][first] * share))
        return counts
    totals = split_counts(config.total, config.splits)
    of_splits = {
        split: shared_out(count, shares if i == 0 else [1.0] * len(classes))
        for i, (split, count) in enumerate(totals.items())
    }
    return {name: {split: of_splits[split][k] for split in totals} for k, name in enumerate(classes)}


def _shares(config: SynthConfig) -> list[float]:
    """Of the most frequent class's training videos, for each class."""
    if config.label == "pair":
        found = list(config.joint_table().pairs().values())
        return [share / max(found) for share in found]
    count = len(config.class_names)
    if config.zipf:
        weights = zipf_weights(count, config.zipf)
        return [float(w / weights[0]) for w in weights]
    return [long_tail_share(k, count, config.long_tail) for k in range(count)]


def shared_out(count: int, weights: Sequence[float]) -> list[int]:
    """`count` videos, one for each class as far as they go, the rest by weight.

    >>> shared_out(10, [3.0, 1.0, 0.0])
    [6, 3, 1]
    """
    classes = len(weights)
    if count < classes:
        return [int(k < count) for k in range(classes)]
    total = sum(weights)
    rest = largest_remainder([(count - classes) * w / total for w in weights], count - classes)
    return [1 + share for share in rest]


def largest_remainder(exact: Sequence[float], count: int) -> list[int]:
    """Whole numbers near `exact` that sum to `count`."""
    shares = [int(e + 1e-9) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return shares


def split_counts(count: int, splits: tuple[tuple[str, float], ...]) -> dict[str, int]:
    """`count` videos shared out by the largest remainder.

    >>> split_counts(10, (("train", 0.75), ("test", 0.25)))
    {'train': 8, 'test': 2}
    """
    shares = largest_remainder([count * fraction for _, fraction in splits], count)
    return {name: share for (name, _), share in zip(splits, shares, strict=True)}


def long_tail_share(position: int, num_classes: int, factor: float) -> float:
    """Videos of the class at `position` over those of the first: 1 / factor for the last, exponential in between
    (the profile of long-tailed CIFAR: Cui et al., "Class-Balanced Loss", 2019, section 5.1).

    >>> [long_tail_share(k, 3, 100.0) for k in range(3)]
    [1.0, 0.1, 0.01]
    """
    share: float = factor ** (-position / max(num_classes - 1, 1))
    return share
