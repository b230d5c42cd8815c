"""Near-duplicates between two sets of videos (IG-65M, section 3.2 and appendix A.2).

The paper errs on the side of removing too much and gives no threshold. Here a pair is reported when at least
`min_share` of the source's frames match, or `min_seconds` match in order. The second rule is for short targets within
long sources: 10 s in a source of a minute can be 17% of it at most.

What the method survives, and what not, is measured by `make bench ARGS=duplicates`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import numpy as np

from tenclip_training.curation.candidates import find_candidates
from tenclip_training.curation.census import mirrored
from tenclip_training.curation.code_store import CodeTable
from tenclip_training.curation.matching import DEFAULT_RADIUS, Match, match_pair
from tenclip_training.curation.video_store import StoreFailure


@dataclass(frozen=True, kw_only=True)
class DuplicateRules:
    """radius: bits in which codes of matching frames may differ. min_share, min_seconds: see the module.
    mirrors: look for mirrored copies, too. flips: see `candidates`.
    """

    radius: int = DEFAULT_RADIUS
    min_share: float = 0.05
    min_seconds: float = 2.0
    mirrors: bool = False
    flips: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= 16:
            raise ValueError(f"radius must lie within 0..16 of the 64 bits, got {self.radius}")
        if not 0 < self.min_share <= 1:
            raise ValueError(f"min_share must lie above 0 and up to 1, got {self.min_share}")
        if not self.min_seconds > 0:
            raise ValueError(f"min_seconds must be above 0, got {self.min_seconds}")
        if self.flips not in (0, 1):
            raise ValueError(f"flips must be 0 or 1, got {self.flips}")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two videos that match. reviewed: a person has found them to be no duplicates. mirrored: left and right are
    exchanged between them.
    """

    source: str
    target: str
    match: Match
    reviewed: bool = False
    mirrored: bool = False


@dataclass(frozen=True, kw_only=True)
class DuplicateReport:
    """pairs: by falling share of the source. failures: videos that could not be read, of both sets.
    unused_reviews: reviewed pairs that match no more. flat_frames: of the source and of the target, left out.
    """

    pairs: tuple[Pair, ...]
    source_videos: int
    target_videos: int
    source_failures: tuple[StoreFailure, ...] = ()
    target_failures: tuple[StoreFailure, ...] = ()
    flat_frames: tuple[int, int] = (0, 0)
    frames: tuple[int, int] = (0, 0)
    candidates: int = 0
    unused_reviews: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    rules: DuplicateRules = field(default_factory=DuplicateRules)

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Source videos that are in a pair which no person has found to be none, each once."""
        return tuple(dict.fromkeys(p.source for p in self.pairs if not p.reviewed))


def find_duplicates(
    source: CodeTable,
    target: CodeTable,
    *,
    rules: DuplicateRules | None = None,
    reviewed: Collection[tuple[str, str]] = (),
    within: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DuplicateReport:
    """Compare every source video with every target video.

    within: both are one set; a video is not compared with itself, and each pair comes once.
    """
    rules = rules or DuplicateRules()
    pairs: list[Pair] = []
    compared = 0
    for is_mirrored in (False, True) if rules.mirrors else (False,):
        queries = replace(source, codes=mirrored(source.codes)) if is_mirrored else source
        candidates = find_candidates(queries, target, radius=rules.radius, flips=rules.flips)
        if within:
            candidates = candidates[candidates[:, 0] < candidates[:, 1]]
        compared += len(candidates)
        for done, (s, t) in enumerate(candidates.tolist(), start=1):
            match = match_pair(queries.video(s), target.video(t), radius=rules.radius)
            if match is not None and _counts(match, rules):
                name = (source.names[s], target.names[t])
                pairs.append(Pair(source=name[0], target=name[1], match=match, mirrored=is_mirrored))
            if progress:
                progress(done, len(candidates))
    pairs = [replace(p, reviewed=(p.source, p.target) in reviewed) for p in _best(pairs)]
    matched = {(p.source, p.target) for p in pairs}
    return DuplicateReport(
        pairs=tuple(pairs),
        source_videos=len(source),
        target_videos=len(target),
        flat_frames=(int(source.flat.sum()), int(target.flat.sum())),
        frames=(len(source.flat), len(target.flat)),
        candidates=compared,
        unused_reviews=tuple(sorted(set(reviewed) - matched)),
        warnings=_copies_warning(pairs, source, within),
        rules=rules,
    )


def _counts(match: Match, rules: DuplicateRules) -> bool:
    return match.source_share >= rules.min_share or match.seconds >= rules.min_seconds


def _best(pairs: list[Pair]) -> list[Pair]:
    """Each pair once (a symmetric video is its own mirror image), sorted."""
    best: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        known = best.get((pair.source, pair.target))
        if known is None or pair.match.seconds > known.match.seconds:
            best[pair.source, pair.target] = pair
    return sorted(best.values(), key=lambda p: (-p.match.source_share, -p.match.seconds, p.source, p.target))


def _copies_warning(pairs: list[Pair], source: CodeTable, within: bool) -> tuple[str, ...]:
    """A target that is a copy of the source, file by file, is a mistake of whoever named them."""
    whole = {p.source for p in pairs if p.match.source_share > 0.99 and p.match.target_share > 0.99}
    usable = int(np.count_nonzero(np.diff(source.starts)))
    if within or usable < 2 or len(whole) < usable:
        return ()
    return (f"every one of the {usable} source videos is in the target set from beginning to end: is it a copy of it?",)
