"""Videos per label: counts, cumulative share, skew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_training.labels.distribution import LabelDistribution, count_videos_with, label_distribution

from .tables import write_csv, write_parquet


def distribution(*counts: int) -> LabelDistribution:
    by_label = {f"label{i}": n for i, n in enumerate(sorted(counts, reverse=True))}
    return LabelDistribution(source="x", column="labels", rows=sum(counts), videos=sum(counts), counts=by_label)


def test_the_cumulative_distribution() -> None:
    found = distribution(1, 8, 1)
    assert found.cumulative.tolist() == pytest.approx([0.8, 0.9, 1.0])
    assert found.labels_for_80_percent == 1
    assert found.gini == pytest.approx((1 * -2 + 1 * 0 + 8 * 2) / (3 * 10))


@pytest.mark.parametrize(
    ("counts", "gini", "labels"), [((5,), 0.0, 1), ((7, 7, 7, 7, 7), 0.0, 4), ((1000, 1, 1, 1), 2997 / 4012, 1)]
)
def test_skew(counts: tuple[int, ...], gini: float, labels: int) -> None:
    found = distribution(*counts)
    assert found.gini == pytest.approx(gini, abs=1e-3)
    assert found.labels_for_80_percent == labels


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_bounds(counts: list[int]) -> None:
    found = distribution(*counts)
    assert -1e-9 <= found.gini < 1
    assert found.cumulative[-1] == pytest.approx(1)
    assert (np.diff(found.cumulative) > 0).all()
    assert found.cumulative[found.labels_for_80_percent - 1] >= 0.8 - 1e-9


def test_lists_and_text_count_alike(tmp_path: Path) -> None:
    lists = write_parquet(tmp_path / "a.parquet", labels=[["run", "jump"], ["run", "run"], [], None, ["ice cream"]])
    text = write_csv(tmp_path / "b.csv", [{"label": t} for t in ("run; jump", "run|run", " ", "", "ice cream")])
    tags = write_csv(tmp_path / "c.csv", [{"x": "", "label": "#run #jump"}, {"x": "", "label": "#run"}])
    for path in (lists, text):
        found = label_distribution(path)
        assert dict(found.counts) == {"run": 2, "ice cream": 1, "jump": 1}
        assert found.videos == 3
    assert dict(label_distribution(tags).counts) == {"#run": 2, "#jump": 1}
    assert label_distribution(lists).rows == 5
    described = label_distribution(lists).to_dict()
    assert described["videos_per_label"] == {"least": 1, "median": 1.0, "most": 2}
    assert (described["labels"], described["label_assignments"], described["labels_with_one_video"]) == (3, 4, 2)


def test_videos_with_one_of_some_labels(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "a.parquet", labels=[["run", "jump"], ["run"], None, ["ice cream"], ["jump"]])
    assert count_videos_with(table, {"run", "jump"}) == 3
    assert count_videos_with(table, {"none"}) == 0


def test_bad_tables(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "a.parquet", id=[1], empty=pa.array([None], pa.list_(pa.string())))
    with pytest.raises(DatasetError, match="no column 'labels' or 'label'; it has id, empty; name the column"):
        label_distribution(table)
    with pytest.raises(DatasetError, match="no column 'nothing'"):
        label_distribution(table, column="nothing")
    with pytest.raises(DatasetError, match="column 'empty' holds no label in any of its 1 rows"):
        label_distribution(table, column="empty")
    with pytest.raises(FileNotFoundError):
        label_distribution(tmp_path / "none.parquet")
