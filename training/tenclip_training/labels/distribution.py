"""Videos per label of labelled tables: sizes of the labels, long tail, skew (IG-65M table 1 and figure 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_training.labels.lists import filter_lists
from tenclip_training.labels.tables import BATCH_ROWS, SourceTable, connect, labels_sql, open_table, readable

# Columns that hold labels, where none is named.
LABEL_COLUMNS = ("labels", "label")


@dataclass(frozen=True, kw_only=True)
class LabelDistribution:
    """How the videos of one source fall on its labels.

    videos: rows with a label; rows: all rows. counts: label -> videos, most first. A video counts for each of its
    labels.
    """

    source: str
    column: str
    rows: int
    videos: int
    counts: Mapping[str, int] = field(repr=False)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Videos of each label, most first. int64 [K]"""
        return np.fromiter(self.counts.values(), np.int64, len(self.counts))

    @property
    def cumulative(self) -> NDArray[np.float64]:
        """Share of all assignments that the first k labels hold, most frequent first: figure 3. float64 [K]"""
        return np.asarray(np.cumsum(self.sizes) / self.sizes.sum(), np.float64)

    @property
    def labels_for_80_percent(self) -> int:
        """The fewest labels that hold 80% of all assignments."""
        return int(np.searchsorted(self.cumulative, 0.8 - 1e-12)) + 1

    @property
    def gini(self) -> float:
        """0 where all labels are equally frequent, towards 1 where one label holds everything."""
        ascending = self.sizes[::-1]
        ranks = np.arange(1, len(ascending) + 1)
        return float((2 * ranks - len(ascending) - 1) @ ascending / (len(ascending) * ascending.sum()))

    def to_dict(self) -> dict[str, Any]:
        sizes = self.sizes
        return {
            "source": self.source,
            "column": self.column,
            "rows": self.rows,
            "videos": self.videos,
            "labels": len(sizes),
            "label_assignments": int(sizes.sum()),
            "videos_per_label": {"least": int(sizes[-1]), "median": float(np.median(sizes)), "most": int(sizes[0])},
            "labels_with_one_video": int((sizes == 1).sum()),
            "labels_for_80_percent": self.labels_for_80_percent,
            "gini": self.gini,
            "counts": dict(self.counts),
        }


def label_distribution(source: Path | str, *, column: str | None = None) -> LabelDistribution:
    """Count the videos of each label of a table that has labels: `match_labels`' output, or any CSV or Parquet.

    column: list or text (`;` and `|` between labels); `labels` or `label` where none is named. A row is a video.
    Raises FileNotFoundError, and DatasetError where there are no labels.
    """
    with connect() as db:
        table = open_table(source, db=db, needs=column)
        name = label_column(table, column)
        labels = f"SELECT {labels_sql(table, name)} AS labels FROM {table.sql}"
        with readable(table.source):
            ((rows, videos),) = db.sql(
                f"SELECT count(*), count(*) FILTER (WHERE len(labels) > 0) FROM ({labels})"
            ).fetchall()
            counts = db.sql(
                f"SELECT label, count(*) AS n FROM (SELECT unnest(labels) AS label FROM ({labels})) GROUP BY label "
                "ORDER BY n DESC, label"
            ).fetchall()
    if not counts:
        raise DatasetError(f"{table.source}: column {name!r} holds no label in any of its {rows} rows")
    return LabelDistribution(source=str(source), column=name, rows=rows, videos=videos, counts=dict(counts))


def count_videos_with(source: Path | str, labels: Collection[str], *, column: str | None = None) -> int:
    """How many videos of a labelled table have at least one of these labels. Errors as in `label_distribution`."""
    wanted = pa.array(sorted(labels), pa.string())
    videos = 0
    with connect() as db:
        table = open_table(source, db=db, needs=column)
        sql = f"SELECT {labels_sql(table, label_column(table, column))} AS labels FROM {table.sql}"
        with readable(table.source):
            for batch in db.sql(sql).to_arrow_reader(BATCH_ROWS):
                lists = batch.column("labels")
                keep = pc.is_in(lists.flatten(), value_set=wanted).to_numpy(zero_copy_only=False)
                videos += int(filter_lists(lists, keep).rows.sum())
    return videos


def label_column(table: SourceTable, column: str | None) -> str:
    """The column with labels. Raises DatasetError that lists the columns there are."""
    if column is not None:
        return table.need(column)
    found = table.find(LABEL_COLUMNS)
    if found is None:
        raise DatasetError(
            f"{table.source}: no column {' or '.join(map(repr, LABEL_COLUMNS))}; it has {', '.join(table.columns)}; "
            "name the column with the labels"
        )
    return found
