"""Subsets of a label space are nested, and hold what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_training.labels.subset import choose_labels, random_order, write_subset

from .tables import nothing_left_beside, rows_of, write_csv, write_parquet

LABELS = [f"label {i}" for i in range(40)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    labels = [[LABELS[i % 40], LABELS[(7 * i + 3) % 40]] for i in range(1000)]
    return write_parquet(tmp_path / "all.parquet", path=[f"{i}.mp4" for i in range(1000)], n=range(1000), labels=labels)


@given(st.integers(0, 1000), st.integers(1, 39))
def test_smaller_choices_lie_inside_larger_ones(seed: int, num_labels: int) -> None:
    smaller = choose_labels(LABELS, num_labels=num_labels, target=None, seed=seed)
    larger = choose_labels(LABELS, num_labels=num_labels + 1, target=None, seed=seed)
    assert larger[:num_labels] == smaller
    assert len(set(larger)) == num_labels + 1


def test_the_order_follows_from_the_seed_alone() -> None:
    assert random_order(LABELS, seed=3) == random_order(reversed(LABELS), seed=3)
    assert random_order(LABELS, seed=3) != random_order(LABELS, seed=4)
    few = LABELS[::2]
    assert random_order(few, seed=3) == [label for label in random_order(LABELS, seed=3) if label in few]


def test_a_targets_labels_come_first() -> None:
    space = ["cutting bread", "run", "jump", "burn candle", "swim"]
    target = ["bread cut", "burning candles", "fly"]
    assert set(choose_labels(space, num_labels=None, target=target, seed=0)) == {"cutting bread", "burn candle"}
    for seed in range(5):
        chosen = choose_labels(space, num_labels=3, target=target, seed=seed)
        assert set(chosen[:2]) == {"cutting bread", "burn candle"}
    with pytest.raises(ValueError, match="no label means the same"):
        choose_labels(space, num_labels=2, target=["fly"], seed=0)
    with pytest.raises(ValueError, match="6 labels asked for; there are 5"):
        choose_labels(space, num_labels=6, target=None, seed=0)


def test_rows_keep_chosen_labels_alone(table: Path, tmp_path: Path) -> None:
    report = write_subset(table, out=tmp_path / "out.parquet", num_labels=10, seed=1)
    rows = rows_of(tmp_path / "out.parquet")
    chosen = set(report.chosen)
    assert len(chosen) == report.labels == 10
    source = rows_of(table)
    kept = [row for row in source if set(row["labels"]) & chosen]
    assert [row["n"] for row in rows] == [row["n"] for row in kept]
    assert all(set(row["labels"]) == set(source[row["n"]]["labels"]) & chosen for row in rows)
    assert report.chosen == {label: sum(label in row["labels"] for row in rows) for label in report.chosen}
    assert (report.videos, report.available_videos, report.source_labels) == (len(rows), len(rows), 40)
    assert nothing_left_beside(tmp_path / "out.parquet", table)


@pytest.mark.parametrize("seed", [0, 1])
def test_numbers_of_videos_are_exact_and_nested(table: Path, tmp_path: Path, seed: int) -> None:
    found: dict[int, set[str]] = {}
    for num_videos in (1, 50, 51, 300):
        out = tmp_path / f"{num_videos}.parquet"
        report = write_subset(table, out=out, num_labels=20, num_videos=num_videos, seed=seed)
        assert report.videos == num_videos
        rows = rows_of(out)
        assert set(rows[0]) == {"path", "n", "labels"}
        found[num_videos] = {row["path"] for row in rows}
        assert len(found[num_videos]) == num_videos
    assert found[1] <= found[50] <= found[51] <= found[300]


def test_too_few_videos_are_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"5000 videos asked for; the 3 labels have \d+\. Take more labels"):
        write_subset(table, out=tmp_path / "out.parquet", num_labels=3, num_videos=5000)
    assert nothing_left_beside(tmp_path / "out.parquet", table)


def test_videos_with_the_same_hash_are_counted(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "t.parquet", path=["same"] * 10, labels=[["run"]] * 10)
    assert write_subset(table, out=tmp_path / "out.parquet", num_labels=1, num_videos=4).videos == 4
    assert len(rows_of(tmp_path / "out.parquet")) == 4


def test_text_columns_become_lists(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", [{"id": "1", "label": "run;jump"}, {"id": "2", "label": "fly"}])
    report = write_subset(table, out=tmp_path / "out.parquet", target=["running", "jumping", "sit"])
    assert rows_of(tmp_path / "out.parquet") == [{"id": "1", "label": ["jump", "run"]}]
    assert (report.overlapping, report.labels) == (2, 2)


def test_bad_requests(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with pytest.raises(DatasetError, match=f"{table}: 41 labels asked for; there are 40"):
        write_subset(table, out=out, num_labels=41)
    with pytest.raises(DatasetError, match="no label means the same as one of the target's"):
        write_subset(table, out=out, target=["fly"])
    with pytest.raises(DatasetError, match="no column 'x'"):
        write_subset(table, out=out, num_labels=1, column="x")
    nameless = write_parquet(tmp_path / "t.parquet", labels=[["run"]])
    with pytest.raises(DatasetError, match="no column names the videos"):
        write_subset(nameless, out=out, num_labels=1, num_videos=1)
    assert not out.exists()
