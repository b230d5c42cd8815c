from __future__ import annotations

import numpy as np
import pytest

from tenclip_training.curation.census import mirrored
from tenclip_training.curation.code_store import CodeTable
from tenclip_training.curation.duplicates import DuplicateRules, find_duplicates
from tenclip_training.curation.frame_codes import VideoCodes

from .helpers import random_codes


def table(**videos: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> CodeTable:
    return CodeTable.of({n: VideoCodes(codes=c, flat=np.zeros(len(c), np.bool_)) for n, c in videos.items()})


TARGET = table(t0=random_codes(100, 160), t1=random_codes(101, 160))
SOURCE = table(
    whole=random_codes(100, 160),
    part=np.concatenate([random_codes(1, 1000), random_codes(101, 160)[40:76], random_codes(2, 1000)]),
    bit_of_short=np.concatenate([random_codes(3, 60), random_codes(101, 160)[:8]]),
    glimpse=np.concatenate([random_codes(4, 500), random_codes(101, 160)[:8]]),
    stranger=random_codes(5, 160),
)


def test_shares_and_seconds_decide() -> None:
    report = find_duplicates(SOURCE, TARGET)
    assert [(p.source, p.target) for p in report.pairs] == [("whole", "t0"), ("bit_of_short", "t1"), ("part", "t1")]
    assert report.duplicates == ("whole", "bit_of_short", "part")
    assert report.pairs[0].match.source_share == 1.0
    assert report.pairs[2].match.source_share == pytest.approx(36 / 2036)  # less than 5%, but more than 2 s
    (stretch,) = report.pairs[2].match.stretches
    assert stretch.source_from == 1000 / 16
    assert (report.source_videos, report.target_videos) == (5, 2)


def test_rules_are_kept_to() -> None:
    strict = find_duplicates(SOURCE, TARGET, rules=DuplicateRules(min_share=0.9, min_seconds=60))
    assert [p.source for p in strict.pairs] == ["whole"]
    loose = find_duplicates(SOURCE, TARGET, rules=DuplicateRules(min_share=0.01))
    assert "glimpse" in loose.duplicates
    assert "stranger" not in loose.duplicates


@pytest.mark.parametrize(
    "options", [{"radius": 17}, {"radius": -1}, {"min_share": 0}, {"min_share": 1.1}, {"min_seconds": 0}, {"flips": 2}]
)
def test_rules_that_cannot_be(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        DuplicateRules(**options)  # type: ignore[arg-type]


def test_mirrored_copies_when_asked_for() -> None:
    source = table(copy=mirrored(random_codes(100, 160)))
    assert find_duplicates(source, TARGET).pairs == ()
    (pair,) = find_duplicates(source, TARGET, rules=DuplicateRules(mirrors=True)).pairs
    assert pair.mirrored
    assert pair.match.source_share == 1.0


def test_reviewed_pairs_are_listed_and_no_duplicates() -> None:
    report = find_duplicates(SOURCE, TARGET, reviewed={("whole", "t0"), ("stranger", "t1")})
    assert [p.reviewed for p in report.pairs] == [True, False, False]
    assert report.duplicates == ("bit_of_short", "part")
    assert report.unused_reviews == (("stranger", "t1"),)


def test_within_one_set() -> None:
    both = table(a=random_codes(1, 100), b=random_codes(2, 100), again=random_codes(1, 100))
    report = find_duplicates(both, both, within=True)
    assert [(p.source, p.target) for p in report.pairs] == [("a", "again")]
    assert report.warnings == ()


def test_a_copy_of_the_whole_set_is_said() -> None:
    report = find_duplicates(TARGET, TARGET)
    assert "is it a copy of it?" in report.warnings[0]
    assert find_duplicates(SOURCE, TARGET).warnings == ()


def test_sets_of_nothing_but_flat_frames() -> None:
    black = CodeTable.of({"b": VideoCodes(codes=np.zeros(50, np.uint64), flat=np.ones(50, np.bool_))})
    report = find_duplicates(black, black)
    assert report.pairs == ()
    assert report.flat_frames == (50, 50)
