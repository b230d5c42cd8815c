"""Teacher filtering: pseudo-labels, confidences, and the threshold of each source (OmniSource, section 3.4).

The paper labels web data by PseudoLabel(M(x)) and discards what has a low confidence, 70% to 80% of it; it gives no
threshold. Here a threshold is a number, or what keeps a share of each source, or the least at which the teacher is as
precise as is wanted on held-out data of the target.

N files, K classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest

# teacher: the teacher's best class, whatever was asked for (the paper's text). agree: the same, where it is also what
# was asked for. query: what was asked for, with the teacher's score of it as the confidence.
PseudoLabel = Literal["teacher", "agree", "query"]
# The paper rejects 70% to 80%.
KEEP_SHARE = 0.25

LOW, DISAGREES = "low confidence", "not what was asked for"


class Candidates(NamedTuple):
    """labels: int64 [N], the pseudo-label. teacher: int64 [N], the teacher's best class. confidences: float32 [N].
    eligible: bool [N], whether a file can be kept at all.
    """

    labels: NDArray[np.int64]
    teacher: NDArray[np.int64]
    confidences: NDArray[np.float32]
    eligible: NDArray[np.bool_]


def pseudo_labels(scores: NDArray[np.float32], queries: Sequence[tuple[int, ...]], rule: PseudoLabel) -> Candidates:
    """Pseudo-labels of files with scores [N,K]. queries: the classes that each was asked for by, used by agree, query.

    >>> found = pseudo_labels(np.float32([[0.9, 0.1], [0.6, 0.4]]), [(0,), (1,)], "agree")
    >>> found.labels.tolist(), found.eligible.tolist()
    ([0, 0], [True, False])
    """
    best = scores.argmax(1).astype(np.int64)
    top = scores.max(1)
    if rule == "teacher":
        return Candidates(best, best, top, np.ones(len(best), np.bool_))
    if rule == "agree":
        agrees = np.array([b in query for b, query in zip(best.tolist(), queries, strict=True)], np.bool_)
        return Candidates(best, best, top, agrees)
    asked = np.array([max(q, key=lambda c, i=i: scores[i, c]) for i, q in enumerate(queries)], np.int64)  # type: ignore[misc]
    return Candidates(asked, best, scores[np.arange(len(asked)), asked], np.ones(len(best), np.bool_))


def share_threshold(confidences: NDArray[np.float32], total: int, share: float) -> float:
    """The confidence of the last one that is kept, where `share` of `total` files are. confidences: of those that can
    be kept. Where these are fewer, all are; ties at the threshold are all kept.

    >>> share_threshold(np.float32([0.9, 0.6, 0.3, 0.2]), 4, 0.5)
    0.6000000238418579
    """
    if not len(confidences):
        return math.inf
    count = min(max(1, math.floor(share * total + 1e-9)), len(confidences))
    return float(np.sort(confidences)[::-1][count - 1])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The teacher on held-out data of the target. confidences: float32 [M] of its best classes; right: bool [M]."""

    confidences: NDArray[np.float32]
    right: NDArray[np.bool_]

    def precision(self, threshold: float) -> float | None:
        """The share of right ones among those at least so confident; None where there are none."""
        above = self.confidences >= threshold
        return float(self.right[above].mean()) if above.any() else None

    def threshold(self, precision: float) -> float:
        """The least confidence from which on the teacher is so precise. Raises InvalidRequest where it never is.

        >>> held_out = Calibration(confidences=np.float32([0.9, 0.8, 0.5]), right=np.array([True, True, False]))
        >>> round(held_out.threshold(0.9), 4), round(held_out.threshold(0.6), 4)
        (0.8, 0.5)
        """
        order = np.argsort(-self.confidences, kind="stable")
        sorted_confidences = self.confidences[order]
        shares = np.cumsum(self.right[order]) / np.arange(1, len(order) + 1)
        last_of_value = np.append(sorted_confidences[1:] != sorted_confidences[:-1], True)  # ties are kept together
        enough = np.flatnonzero(last_of_value & (shares >= precision))
        if not len(enough):
            best = float(shares[last_of_value].max()) if len(order) else 0.0
            raise InvalidRequest(
                f"the teacher is at no confidence {precision:.0%} right on the held-out target data, at most "
                f"{best:.1%} of {len(order)}; ask for less precision, or train a better teacher"
            )
        return float(sorted_confidences[enough[-1]])


@dataclass(frozen=True, kw_only=True)
class ThresholdRule:
    """fixed: by source; "" is for all that have none of their own. precision: as held-out data say. Else keep_share."""

    keep_share: float = KEEP_SHARE
    fixed: Mapping[str, float] | None = None
    precision: float | None = None

    def find(self, source: str, candidates: Candidates, calibration: Calibration | None) -> tuple[float, str]:
        """(threshold, how it was chosen) of one source. Raises InvalidRequest."""
        if self.fixed is not None and (source in self.fixed or "" in self.fixed):
            return self.fixed.get(source, self.fixed.get("", 0.0)), "given"
        if self.precision is not None and calibration is not None:
            return calibration.threshold(self.precision), f"precision {self.precision:g} on held-out target data"
        eligible = candidates.confidences[candidates.eligible]
        value = share_threshold(eligible, len(candidates.labels), self.keep_share)
        return value, f"keeps {self.keep_share:.0%}"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """How well a filter does where the truth is known. files: with truth; claimed: those of them that come with a
    label, claimed_right: that one is true; relevant: those that show a class at all; kept, kept_right: of the filter.
    """

    files: int
    claimed: int
    claimed_right: int
    relevant: int
    kept: int
    kept_right: int

    @property
    def precision_before(self) -> float | None:
        """Right labels among all that came with one."""
        return self.claimed_right / self.claimed if self.claimed else None

    @property
    def precision(self) -> float | None:
        """Right pseudo-labels among the kept."""
        return self.kept_right / self.kept if self.kept else None

    @property
    def recall(self) -> float | None:
        """Kept with their true class, of all that show a class."""
        return self.kept_right / self.relevant if self.relevant else None


def measure_truth(
    truths: Sequence[str | None],
    labels: Sequence[str],
    claims: Sequence[tuple[str, ...]],
    kept: NDArray[np.bool_],
    classes: Sequence[str],
) -> Truth | None:
    """Of files with true labels, None where none is known. labels: pseudo-labels; claims: what files came with."""
    known = [i for i, truth in enumerate(truths) if truth is not None]
    if not known:
        return None
    names = set(classes)
    return Truth(
        files=len(known),
        claimed=sum(bool(claims[i]) for i in known),
        claimed_right=sum(truths[i] in claims[i] for i in known),
        relevant=sum(truths[i] in names for i in known),
        kept=sum(bool(kept[i]) for i in known),
        kept_right=sum(bool(kept[i]) and labels[i] == truths[i] for i in known),
    )


@dataclass(frozen=True, kw_only=True)
class SourceResult:
    """One source. threshold: of the confidence, inf where nothing could be kept; chosen: how. held_out: precision of
    the teacher on held-out target data at that threshold, where it was measured. before, after: files by class, as they
    were asked for (by the teacher's best class where they came with no label) and as they are kept.
    """

    source: str
    scored: int
    failed: int
    kept: int
    threshold: float
    chosen: str
    reasons: Mapping[str, int]
    before: Mapping[str, int]
    after: Mapping[str, int]
    held_out: float | None = None
    truth: Truth | None = None

    @property
    def kept_share(self) -> float:
        """Of what was scored."""
        return self.kept / self.scored if self.scored else 0.0


@dataclass(frozen=True, eq=False)
class SourceVerdicts:
    """kept: bool [N]; reasons: of what is not kept, "" for what is."""

    result: SourceResult
    candidates: Candidates
    kept: NDArray[np.bool_]
    reasons: tuple[str, ...]


def filter_source(
    source: str,
    scores: NDArray[np.float32],
    claims: Sequence[tuple[str, ...]],
    truths: Sequence[str | None],
    classes: Sequence[str],
    *,
    pseudo_label: PseudoLabel,
    rule: ThresholdRule,
    calibration: Calibration | None = None,
    failed: int = 0,
) -> SourceVerdicts:
    """Decide about the files of one source with scores [N,K]. claims: the labels that they came with, truths: their
    true labels, where known. classes: the teacher's, in order; claims outside of them count and match nothing.
    """
    number = {label: i for i, label in enumerate(classes)}
    queries = [tuple(number[c] for c in claim if c in number) for claim in claims]
    if pseudo_label == "query" and (empty := next((i for i, q in enumerate(queries) if not q), None)) is not None:
        raise DatasetError(f"source {source}: {list(claims[empty])} is no class of the teacher, so it has no score")
    found = pseudo_labels(scores, queries, pseudo_label)
    threshold, chosen = rule.find(source, found, calibration)
    confident = found.confidences >= np.float32(threshold)
    kept = found.eligible & confident
    reasons = tuple(
        "" if keep else DISAGREES if not can else LOW
        for keep, can in zip(kept.tolist(), found.eligible.tolist(), strict=True)
    )
    names = [classes[i] for i in found.labels.tolist()]
    before = Counter(
        label for claim, best in zip(claims, found.teacher.tolist(), strict=True) for label in claim or (classes[best],)
    )
    after = Counter(name for name, keep in zip(names, kept.tolist(), strict=True) if keep)
    result = SourceResult(
        source=source,
        scored=len(names),
        failed=failed,
        kept=int(kept.sum()),
        threshold=threshold,
        chosen=chosen,
        reasons=dict(Counter(r for r in reasons if r)),
        before=dict(before),
        after=dict(after),
        held_out=None if calibration is None else calibration.precision(threshold),
        truth=measure_truth(truths, names, claims, kept, classes),
    )
    return SourceVerdicts(result, found, kept, reasons)


def total_truth(results: Sequence[SourceResult]) -> Truth | None:
    """Over all sources of which the truth is known."""
    truths = [r.truth for r in results if r.truth is not None]
    if not truths:
        return None
    names = Truth.__dataclass_fields__
    return Truth(**{name: sum(getattr(t, name) for t in truths) for name in names})
