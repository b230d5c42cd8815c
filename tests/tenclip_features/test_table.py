"""Feature tables as they are written, and as everyone reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tenclip_api.errors import DatasetError
from tenclip_features import read_features
from tenclip_features.rows import ClipRow, VideoRows
from tenclip_features.schema import COLUMNS
from tenclip_features.stamps import VideoStamp
from tenclip_features.table import count_rows, read_feature_table, read_names, read_settings, read_stamps, read_videos
from tenclip_features.writer import write_features

from .tables import SCHEMA, row, write_table

SETTINGS = {"model": "demo", "version": "1", "weights": "abc", "num_clips": None}
# 2026-01-01, and a nanosecond that no float holds.
NS = 1_767_225_600_123_456_789
STAMP = VideoStamp(10, NS, "ff")


def video(name: str, num_clips: int, *, dim: int = 4, stamp: VideoStamp | None = STAMP) -> VideoRows:
    clips = [ClipRow(k, k * 0.5, k * 0.5 + 1, array("f", [k + d / 8 for d in range(dim)])) for k in range(num_clips)]
    return VideoRows(name, stamp, clips)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    videos = [video("a.mp4", 2), video("ü.mp4", 3, stamp=None), video("b.mp4", 1, stamp=VideoStamp(11, 0))]
    assert write_features(tmp_path / "f.parquet", tmp_path / "draft", videos, SETTINGS, protocol="custom: 2") == 6
    return tmp_path / "f.parquet"


MATRIX = [[0, 0.125, 0.25, 0.375], [1, 1.125, 1.25, 1.375]]
NAMES = ["a.mp4", "a.mp4", "ü.mp4", "ü.mp4", "ü.mp4", "b.mp4"]


def test_one_call_gives_the_matrix(written: Path) -> None:
    column = pyarrow.parquet.read_table(written)["features"]
    assert column.type == pyarrow.list_(pyarrow.float32(), 4)
    flat = column.combine_chunks().flatten()
    assert np.asarray(flat).reshape(-1, 4)[:2].tolist() == MATRIX
    matrix, table = read_features(written)
    assert (matrix.shape, str(matrix.dtype), table.num_rows) == ((6, 4), "float32", 6)
    assert matrix[:2].tolist() == MATRIX
    assert table["video"].to_pylist() == NAMES
    assert read_features(str(written))[0].tolist() == matrix.tolist()


def test_pandas_reads_it(written: Path) -> None:
    import pandas

    frame = pandas.read_parquet(written)
    assert np.stack(frame["features"].tolist())[:2].tolist() == MATRIX
    assert frame["video"].tolist() == NAMES
    assert frame["video_mtime_ns"].isna().tolist() == [False, False, True, True, True, False]
    exact = pandas.read_parquet(written, dtype_backend="pyarrow")
    assert exact["video_mtime_ns"][0] == NS
    assert frame["video_bytes"][0] == 10
    assert frame.groupby("video").size().to_dict() == {"a.mp4": 2, "ü.mp4": 3, "b.mp4": 1}


def test_polars_reads_it(written: Path) -> None:
    import polars

    frame = polars.read_parquet(written)
    assert frame.schema["features"] == polars.Array(polars.Float32, 4)
    assert frame["features"].to_numpy()[:2].tolist() == MATRIX
    assert frame["video"].to_list() == NAMES
    assert frame["video_mtime_ns"][0] == NS
    assert frame["video_sha256"].to_list() == ["ff", "ff", None, None, None, None]


def test_duckdb_reads_it(written: Path) -> None:
    import duckdb

    with duckdb.connect() as database:
        rows = database.execute(
            f"SELECT video, count(*), any_value(features), any_value(video_bytes) FROM '{written}' "
            "WHERE clip_index = 1 GROUP BY video ORDER BY video"
        ).fetchall()
        ((time,),) = database.execute(f"SELECT max(video_mtime_ns) FROM '{written}'").fetchall()
        everything = database.execute(f"SELECT * FROM '{written}'").fetchall()
    assert len(everything) == 6
    assert [r[:2] for r in rows] == [("a.mp4", 1), ("ü.mp4", 1)]
    assert list(rows[0][2]) == MATRIX[1]
    assert (rows[0][3], time) == (10, NS)


def test_what_is_written_is_read(written: Path) -> None:
    assert read_settings(written) == SETTINGS
    assert read_stamps(written) == {"a.mp4": VideoStamp(10, NS, "ff"), "ü.mp4": None, "b.mp4": VideoStamp(11, 0)}
    assert (read_names(written), count_rows(written)) == (["a.mp4", "ü.mp4", "b.mp4"], 6)
    expected = [video("a.mp4", 2), video("ü.mp4", 3, stamp=None), video("b.mp4", 1, stamp=VideoStamp(11, 0))]
    assert list(read_videos(written)) == expected
    assert read_feature_table([written]).weights == "abc"
    metadata = pyarrow.parquet.read_schema(written).metadata
    assert metadata[b"tenclip.protocol"] == b"custom: 2"
    assert b"tenclip.num_clips" not in metadata


def test_a_video_over_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenclip_features.writer._ROWS_PER_GROUP", 3)
    videos = [video("a", 2), video("b", 7), video("c", 1)]
    write_features(tmp_path / "f.parquet", tmp_path / "d", videos, SETTINGS, protocol="")
    assert pyarrow.parquet.ParquetFile(tmp_path / "f.parquet").num_row_groups == 4
    assert list(read_videos(tmp_path / "f.parquet")) == videos


def test_vectors_of_several_lengths_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"f\.parquet: clip 0 of b has 3 features, those before it have 4"):
        write_features(
            tmp_path / "f.parquet", tmp_path / "d", [video("a", 1), video("b", 1, dim=3)], SETTINGS, protocol=""
        )
    with pytest.raises(DatasetError, match="no clips to write"):
        write_features(tmp_path / "f.parquet", tmp_path / "d", [], SETTINGS, protocol="")
    assert not (tmp_path / "f.parquet").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"f\.parquet: cannot be written: .*No space left"):
        write_features(tmp_path / "f.parquet", Path("/dev/full"), [video("a", 1)], SETTINGS, protocol="")


def test_importing_the_package_needs_nothing() -> None:
    code = "import tenclip_features, sys; sys.exit(bool({'numpy', 'pyarrow', 'sklearn'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("column", ["video", "clip_index", "start_seconds", "model"])
def test_an_empty_cell_is_named(tmp_path: Path, column: str) -> None:
    path = write_table(tmp_path / "f.parquet", [row("v", 0, [1]), row("w", 0, [1]) | {column: None}])
    with pytest.raises(DatasetError, match=f"row 2: column '{column}' is empty"):
        read_feature_table([path])


def test_features_that_are_text(tmp_path: Path) -> None:
    schema = SCHEMA.set(4, pyarrow.field("features", pyarrow.list_(pyarrow.string())))
    path = write_table(tmp_path / "f.parquet", [row("v", 0, [1]) | {"features": ["x"]}], schema)
    with pytest.raises(DatasetError, match="holds lists of string, not of numbers"):
        read_features(path)


def test_a_table_without_stamps(tmp_path: Path) -> None:
    assert read_stamps(write_table(tmp_path / "f.parquet", [row("v", 0, [1])])) is None


def test_tables_of_different_weights(tmp_path: Path) -> None:
    for name, weights in (("a", "x"), ("b", "y")):
        write_features(tmp_path / name, tmp_path / "d", [video(name, 1)], SETTINGS | {"weights": weights}, protocol="")
    with pytest.raises(DatasetError, match="with different weights"):
        read_feature_table([tmp_path / "a", tmp_path / "b"])


def test_read_feature_table(tmp_path: Path) -> None:
    a = write_table(tmp_path / "a.parquet", [row("v", 0, [1, 2]), row("v", 1, [3, 4])])
    b = write_table(tmp_path / "b.parquet", [row("w", 0, [5, 6])])
    table = read_feature_table([a, b])
    assert table.videos == ("v", "v", "w")
    assert table.features.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert table.features.dtype == np.float32
    assert table.seconds.tolist() == [[0, 1], [1, 2], [0, 1]]
    assert (table.model, table.version) == ("demo", "1")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no clips"),
        ([row("v", 0, [])], "row 1: 0 features"),
        ([row("v", 0, [1, 2]), row("v", 1, [1])], "row 2: 1 features where the first row has 2"),
        ([row("v", 0, [1, 2]), row("v", 1, [1, np.nan])], "row 2: features that are not finite"),
        ([row("v", 0, [1]), row("w", 0, [1], version="2")], "demo version 1, demo version 2; .*cannot be mixed"),
        ([row("v", 0, [1]), row("v", 0, [1])], "clip 0 of v is there twice"),
        ([row("v", 0, [1]), row("w", 0, [1]) | {"features": None}], "row 2: 0 features where the first row has 1"),
    ],
)
def test_bad_tables(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = write_table(tmp_path / "f.parquet", rows)
    with pytest.raises(DatasetError, match=rf"f\.parquet.*{message}"):
        read_feature_table([path])


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    schema = pyarrow.schema([f for f in SCHEMA if f.name != column])
    rows = [{k: v for k, v in row("v", 0, [1]).items() if k != column}]
    with pytest.raises(DatasetError, match=f"no column '{column}'"):
        read_feature_table([write_table(tmp_path / "f.parquet", rows, schema)])


def test_features_that_are_no_lists(tmp_path: Path) -> None:
    schema = SCHEMA.set(4, pyarrow.field("features", pyarrow.float32()))
    with pytest.raises(DatasetError, match="column 'features' holds float, not lists of numbers"):
        read_feature_table([write_table(tmp_path / "f.parquet", [row("v", 0, [1]) | {"features": 1.0}], schema)])


@pytest.mark.parametrize("kind", [pyarrow.large_list(pyarrow.float64()), pyarrow.list_(pyarrow.float32(), 2)])
def test_other_kinds_of_lists(tmp_path: Path, kind: pyarrow.DataType) -> None:
    schema = SCHEMA.set(4, pyarrow.field("features", kind))
    path = write_table(tmp_path / "f.parquet", [row("v", 0, [1, 2]), row("v", 1, [3, 4])], schema)
    assert read_feature_table([path]).features.tolist() == [[1, 2], [3, 4]]


def test_absent_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file; `tenclip features"):
        read_feature_table([tmp_path / "f.parquet"])
    (tmp_path / "f.parquet").write_text("video\n")
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read_feature_table([tmp_path / "f.parquet"])
    a = write_table(tmp_path / "a.parquet", [row("v", 0, [1])])
    for name, other in (("b", row("w", 0, [1, 2])), ("c", row("w", 0, [1], model="x"))):
        with pytest.raises(DatasetError, match=rf"{name}\.parquet"):
            read_feature_table([a, write_table(tmp_path / f"{name}.parquet", [other])])
