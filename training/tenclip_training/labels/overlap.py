"""How much two label spaces have in common (IG-65M section 4.2.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tenclip_data.labels import read_labels
from tenclip_training.labels.distribution import label_distribution
from tenclip_training.labels.forms import lemma
from tenclip_training.labels.tables import PARQUET_SUFFIXES
from tenclip_training.labels.words import FUNCTION_WORDS, split_words


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Labels that two spaces share.

    share_of_target: labels of the target that the source has, of all of the target's: the paper's 62% of EPIC-Kitchens
    verbs and 42% of its nouns. share_of_source: the same of the source's labels. The paper does not say which it means.
    common: pairs (label of the source, label of the target) that mean the same.
    """

    source_labels: int
    target_labels: int
    shared_source_labels: int
    shared_target_labels: int
    share_of_target: float
    share_of_source: float
    common: tuple[tuple[str, str], ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def canonical_label(label: str) -> str:
    """What labels of two spaces are compared by: lemmas of the words, without function words, in no order.

    >>> canonical_label("catching a fish") == canonical_label("fish catch")
    True
    """
    words = split_words(label)
    content = [word for word in words if word not in FUNCTION_WORDS] or list(words)
    return " ".join(sorted(map(lemma, content)))


def label_overlap(source: Iterable[str], target: Iterable[str]) -> Overlap:
    """Compare two label spaces by `canonical_label`. Raises ValueError where one of them is empty.

    >>> overlap = label_overlap(["run", "jump", "swim", "fly"], ["running", "jump", "swim", "sit", "lie"])
    >>> overlap.share_of_target, overlap.share_of_source
    (0.6, 0.75)
    """
    first, second = _by_meaning(source), _by_meaning(target)
    if not first or not second:
        raise ValueError("a label space without labels has no overlap")
    shared = sorted(first.keys() & second.keys())
    ours, theirs = (sum(len(space[key]) for key in shared) for space in (first, second))
    num_source, num_target = (sum(map(len, space.values())) for space in (first, second))
    return Overlap(
        source_labels=num_source,
        target_labels=num_target,
        shared_source_labels=ours,
        shared_target_labels=theirs,
        share_of_target=theirs / num_target,
        share_of_source=ours / num_source,
        common=tuple((a, b) for key in shared for a in first[key] for b in second[key]),
    )


def read_target(path: Path | str, *, column: str | None = None) -> tuple[str, ...]:
    """The labels to compare with: a file of class names, a label space, or a table with labels.

    Parquet files and folders are tables, and so is any file for which a column is named.
    Raises FileNotFoundError and DatasetError.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if path.suffix.lower() in PARQUET_SUFFIXES or path.is_dir() or column is not None:
        return tuple(label_distribution(path, column=column).counts)
    return read_labels(path)


def _by_meaning(labels: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        found.setdefault(canonical_label(label), []).append(label)
    return found
