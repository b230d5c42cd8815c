"""What a search finds: exact kinds are equal to numpy's, whatever the vectors, ties and filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, IndexMismatch, IndexNotFound, InvalidRequest
from tenclip_data.manifest import read_manifest
from tenclip_features.table import read_feature_table
from tenclip_index import open_index
from tenclip_index.build import build_index
from tenclip_index.index import Index, exact_scores
from tenclip_index.metadata import IndexInfo, Kind
from tenclip_index.results import Filters
from tenclip_index.rows import Rows, joined, rows_table
from tenclip_index.vectors import Vectors, unit_vectors

from .made_up import CLIPS, clustered, write

DIM = 12


def made(tmp_path: Path, features: NDArray[np.float32], **options: Any) -> Index:
    build_index([write(tmp_path / "f.parquet", features)], tmp_path / "index", overwrite=True, **options)
    return open_index(tmp_path / "index")


def in_memory(features: NDArray[np.float32], kind: Kind) -> Index:
    """An exact index that was never on disk."""
    count, dimension = features.shape
    vectors = Vectors.create(kind, dimension)
    vectors.add(unit_vectors(features))
    seconds = np.stack([np.arange(count), np.arange(count) + 1.0], axis=1)
    rows = Rows(joined([rows_table(["a.mp4"] * count, np.arange(count), seconds, "made up")]))
    info = IndexInfo(
        kind=kind, dimension=dimension, rows=count, videos=1, model="moves", version="1", weights="", protocols=(),
        sources={}, labels=0, recall=None,
    )  # fmt: skip
    return Index(Path("memory"), info, vectors, rows)


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    return clustered(200, DIM)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, features: NDArray[np.float32]) -> Index:
    """20 videos of source a, labelled "even" or "odd", the first one "first" as well, and 20 of b without labels."""
    folder = tmp_path_factory.mktemp("index")
    inputs = [write(folder / "a.parquet", features[:100]), write(folder / "b.parquet", features[100:], prefix="w")]
    (folder / "labels.csv").write_text(
        "path,labels\n"
        + "".join(f"v/v{i:03d}.mp4,{'even' if i % 2 == 0 else 'odd'}{';first' if i == 0 else ''}\n" for i in range(20))
    )
    labels = read_manifest(folder / "labels.csv", missing="keep", leaks="allow")
    build_index(inputs, folder / "index", labels=labels)
    return open_index(folder / "index")


def best_rows(stored: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[int]:
    """By numpy alone: all scores, the highest first, equal ones in the order of the rows."""
    scores = np.asarray([np.float32(np.dot(v.astype(np.float64), query.astype(np.float64))) for v in stored])
    return [int(row) for row in np.lexsort((np.arange(len(stored)), -scores))[:k]]


# Few different numbers, so that many rows are as near as others, and rows that are the same.
_rows = st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4).filter(any), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(_rows, st.integers(1, 50), st.sampled_from(["exact-fp16", "exact-float32"]), st.data())
def test_an_exact_index_finds_what_numpy_finds(rows: list[list[int]], k: int, kind: Kind, data: st.DataObject) -> None:
    values = np.array(rows, np.float32)
    index = in_memory(values, kind)
    stored = unit_vectors(values)
    if kind == "exact-fp16":
        stored = stored.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(index.vectors.decode(np.arange(len(rows))), stored)
    query = unit_vectors(np.array([data.draw(st.sampled_from(rows)), data.draw(_rows)[0]], np.float32))
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    for mask in (None, allowed):
        scores, found = index.search(query, k, allowed=mask)
        for line, line_scores, one in zip(found, scores, query, strict=True):
            numbers = np.arange(len(rows)) if mask is None else np.flatnonzero(mask)
            expected = numbers[best_rows(stored[numbers], one, k)].tolist() if len(numbers) else []
            assert line[line >= 0].tolist() == expected
            np.testing.assert_array_equal(line_scores[: len(expected)], exact_scores(stored[expected], one))


def test_the_same_as_numpy_on_features_as_they_are(index: Index, features: NDArray[np.float32]) -> None:
    stored = unit_vectors(features).astype(np.float16).astype(np.float32)
    queries = unit_vectors(clustered(20, DIM, seed=3))
    _, found = index.search(queries, 17)
    for line, query in zip(found, queries, strict=True):
        assert line.tolist() == best_rows(stored, query, 17)


def test_neighbours_say_which_clip_of_which_video(index: Index, features: NDArray[np.float32]) -> None:
    first, *others = index.neighbours(features[[7]] * 100, k=3)  # of any length
    assert (first.video, first.clip_index, first.start_seconds, first.end_seconds) == ("v/v001.mp4", 2, 2.0, 3.0)
    assert first.score == pytest.approx(1, abs=1e-3)
    assert (first.labels, first.source, first.row) == (("odd",), "a", 7)
    assert all(0 < o.score <= first.score for o in others)


def test_each_row_is_found_once_with_the_clip_that_it_is_nearest_to(
    index: Index, features: NDArray[np.float32]
) -> None:
    asked = features[[3, 60]]
    found = index.neighbours(asked, k=200)
    assert sorted(n.row for n in found) == list(range(200))
    scores = unit_vectors(features) @ unit_vectors(asked).T
    near = np.abs(scores[:, 0] - scores[:, 1]) > 1e-2
    assert all(n.query_clip == scores[n.row].argmax() for n in found if near[n.row])
    assert {n.query_clip for n in found} == {0, 1}


def test_by_video(index: Index, features: NDArray[np.float32]) -> None:
    asked = features[10:15]
    scores = (unit_vectors(features) @ unit_vectors(asked).T).reshape(40, -1).max(axis=1)
    found = index.neighbours(asked, k=40, by_video=True)
    assert len({n.video for n in found}) == 40
    assert [n.score for n in found] == pytest.approx(np.sort(scores)[::-1].tolist(), abs=2e-3)
    few = index.neighbours(asked, k=6, by_video=True)
    assert few == found[:6]
    assert few[0].video == "v/v002.mp4"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 199), st.integers(1, 45), st.sampled_from(["even", "odd", "first"]))
def test_filters_leave_the_order_of_the_others(
    index: Index, features: NDArray[np.float32], row: int, k: int, label: str
) -> None:
    everything = index.neighbours(features[[row]], k=200)
    found = index.neighbours(features[[row]], k=k, filters=Filters(labels=(label,)))
    assert found == [n for n in everything if label in n.labels][:k]
    found = index.neighbours(features[[row]], k=k, filters=Filters(sources=("b",), without_videos=("w/w000.mp4",)))
    assert found == [n for n in everything if n.source == "b" and n.video != "w/w000.mp4"][:k]


def test_several_labels_are_one_of_them(index: Index, features: NDArray[np.float32]) -> None:
    found = index.neighbours(features[[0]], k=200, filters=Filters(labels=("first", "odd")))
    assert {n.video for n in found} == {"v/v000.mp4"} | {f"v/v{i:03d}.mp4" for i in range(1, 20, 2)}
    nothing = index.neighbours(features[[0]], filters=Filters(labels=("odd",), sources=("b",)))
    assert nothing == []


def test_clips_of_an_indexed_video(index: Index) -> None:
    assert index.rows_of("w/w001.mp4").tolist() == list(range(105, 110))
    assert index.rows_of("w/w001.mp4", at_seconds=3.5).tolist() == [108]
    with pytest.raises(InvalidRequest, match=r"no clip of w/w001.mp4 shows 7 s; its clips: 0 to 1"):
        index.rows_of("w/w001.mp4", at_seconds=7)
    with pytest.raises(InvalidRequest, match=r"no video 'x/w001.mp4'; it has w/w001.mp4"):
        index.rows_of("x/w001.mp4")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"filters": Filters(labels=("evn",))}, "has the label 'evn'; it has even, first, odd"),
        ({"filters": Filters(sources=("c",))}, "has the source 'c'; it has a, b"),
        ({"k": 0}, "k must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_asked(index: Index, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        index.neighbours(np.ones((1, DIM), np.float32), **arguments)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (np.ones((2, 5)), r"features must be \[Q,12\], got \[2, 5\]"),
        (np.ones((0, DIM)), r"got \[0, 12\]"),
        (np.vstack([np.ones(DIM), np.zeros(DIM)]), "clip 1: features that are all zero or not finite"),
        (np.full((1, DIM), np.nan), "clip 0: features"),
    ],
)
def test_features_that_cannot_be_asked_about(index: Index, asked: NDArray[np.float64], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        index.neighbours(asked)


def test_a_table_of_another_model(index: Index, tmp_path: Path, features: NDArray[np.float32]) -> None:
    index.check_table(read_feature_table([write(tmp_path / "same.parquet", features)]))
    other = read_feature_table([write(tmp_path / "other.parquet", features, weights="f" * 16)])
    with pytest.raises(IndexMismatch) as caught:
        index.check_table(other)
    assert "moves version 1 (weights ffffffffffffffff)" in caught.value.message
    assert "moves version 1 (weights 0123456789abcdef)" in caught.value.message
    assert str(tmp_path / "other.parquet") in caught.value.message


# -- lists --


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, NDArray[np.float32]]:
    folder = tmp_path_factory.mktemp("lists")
    features = clustered(4000, 16, clusters=60)
    build_index([write(folder / "f.parquet", features)], folder / "index", max_exact_rows=1000)
    return open_index(folder / "index"), features


def test_lists_find_most_of_the_nearest(lists: tuple[Index, NDArray[np.float32]]) -> None:
    index, features = lists
    info = index.info
    assert (info.kind, info.lists) == ("ivf-sq8", 100)
    assert info.recall is not None
    assert (info.recall.k, info.recall.rows, info.recall.against) == (10, 4000, "float32")
    # What was measured at the build is what is found: other rows, the true neighbours by numpy.
    unit = unit_vectors(features)
    rows = np.arange(0, 4000, 37)
    _, found = index.search(unit[rows], 11)
    shares = []
    for row, line in zip(rows.tolist(), found, strict=True):
        true = set(np.argsort(-(unit @ unit[row]))[:11].tolist()) - {row}
        shares.append(len(true & set(line.tolist())) / len(true))
    assert np.mean(shares) > 0.95
    assert np.mean(shares) == pytest.approx(info.recall.value, abs=0.03)


def test_lists_find_the_few_that_may_be_found(lists: tuple[Index, NDArray[np.float32]]) -> None:
    """A filter may leave rows in lists that are far away."""
    index, features = lists
    allowed = np.zeros(4000, bool)
    allowed[[5, 1500, 3999]] = True
    scores, found = index.search(unit_vectors(features[:2]), 10, allowed=allowed)
    assert all(sorted(line[line >= 0].tolist()) == [5, 1500, 3999] for line in found)
    assert np.all(np.diff(scores[:, :3]) <= 0)
    by_video = index.neighbours(features[:3], k=800, by_video=True)
    assert len({n.video for n in by_video}) == 4000 // CLIPS


# -- damage --


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFound, match="no index here; `tenclip index build FEATURES"):
        open_index(tmp_path)
    with pytest.raises(IndexNotFound):
        open_index(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["vectors.faiss", "rows.parquet", "index.json"])
def test_a_damaged_index(tmp_path: Path, features: NDArray[np.float32], name: str) -> None:
    made(tmp_path, features)
    path = tmp_path / "index" / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=name):
        open_index(tmp_path / "index")
    path.unlink()
    with pytest.raises((DatasetError, IndexNotFound), match="No such file" if name != "index.json" else "no index"):
        open_index(tmp_path / "index")


def test_files_of_two_indexes(tmp_path: Path, features: NDArray[np.float32]) -> None:
    made(tmp_path, features)
    (tmp_path / "other").mkdir()
    made(tmp_path / "other", features[:100])
    for name in ("vectors.faiss", "rows.parquet"):
        ours, theirs = tmp_path / "index" / name, tmp_path / "other" / "index" / name
        size = ours.stat().st_size
        kept = ours.read_bytes()
        data = theirs.read_bytes()
        ours.write_bytes(data + b"\0" * (size - len(data)))
        with pytest.raises(DatasetError, match=name):
            open_index(tmp_path / "index")
        ours.write_bytes(kept)
    open_index(tmp_path / "index")
