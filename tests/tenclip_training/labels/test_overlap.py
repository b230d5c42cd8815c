"""Overlap of two label spaces."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.labels.overlap import canonical_label, label_overlap, read_target
from tenclip_training.labels.spaces import noun_space, write_space

from .tables import write_csv, write_parquet

NAMES = st.lists(st.sampled_from(["run", "jumping", "jump", "swim", "fly a kite", "ice cream"]), min_size=1)


def test_the_worked_example() -> None:
    found = label_overlap(["run", "jump", "swim", "fly", "walk"], ["run", "jump", "swim", "sit", "lie"])
    assert (found.share_of_target, found.share_of_source) == (0.6, 0.6)
    assert (found.shared_target_labels, found.target_labels) == (3, 5)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("catching a fish", "fish_catch", True),
        ("put-down", "putting down", True),
        ("Running", "run", True),
        ("run", "jump", False),
        ("to the", "to the", True),
        ("not in game", "in game", False),
    ],
)
def test_labels_that_mean_the_same(first: str, second: str, same: bool) -> None:
    assert (canonical_label(first) == canonical_label(second)) is same


def test_both_denominators() -> None:
    found = label_overlap(["take", "taking", "cut"], ["take", "wash", "mix", "open"])
    assert (found.shared_source_labels, found.source_labels) == (2, 3)
    assert (found.shared_target_labels, found.target_labels) == (1, 4)
    assert found.common == (("take", "take"), ("taking", "take"))


@given(NAMES, NAMES)
def test_overlap_is_the_same_from_both_sides(first: list[str], second: list[str]) -> None:
    one, other = label_overlap(first, second), label_overlap(second, first)
    assert one.share_of_source == other.share_of_target
    assert one.shared_target_labels == other.shared_source_labels
    assert 0 <= one.share_of_target <= 1
    assert label_overlap(first, first).share_of_target == 1


def test_an_empty_space_has_no_overlap() -> None:
    with pytest.raises(ValueError, match="without labels"):
        label_overlap([], ["run"])


def test_targets(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("run\njump\n")
    assert read_target(tmp_path / "names.txt") == ("run", "jump")
    assert read_target(write_parquet(tmp_path / "t.parquet", labels=[["run"], ["run", "fly"]])) == ("run", "fly")
    table = write_csv(tmp_path / "t.csv", [{"id": "1", "verb": "cut"}, {"id": "2", "verb": "mix"}])
    assert read_target(table, column="verb") == ("cut", "mix")
    write_space(noun_space(["candles"]), tmp_path / "space.parquet")
    assert read_target(tmp_path / "space.parquet") == ("candle",)
    with pytest.raises(FileNotFoundError):
        read_target(tmp_path / "none.txt")
