"""`match_labels`: what is written and counted, and what happens to tables that cannot be used."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.labels.match import MatchReport, match_labels
from tenclip_training.labels.spaces import LabelSpace, action_space, verb_noun_space
from tenclip_training.synth import NoisyTags
from tenclip_training.synth.tags import draw_tags

from .tables import nothing_left_beside, rows_of, write_csv, write_parquet

SPACE = action_space(["burning candles", "catching a fish", "yoga"])
ROWS = [
    {"id": "1", "path": "a.mp4", "tags": "#BurnCandle #fun"},
    {"id": "2", "path": "b.mp4", "tags": "#catchfish🔥 #BURNINGCANDLE #burningcandle"},
    {"id": "3", "path": "c.mp4", "tags": ""},
    {"id": "4", "path": "d.mp4", "tags": "candle_burning"},
    {"id": "007", "path": "e.mp4", "tags": "#nothing"},
    {"id": "1", "path": "a.mp4", "tags": "#fishcatching"},
]


def match(videos: Path, out: Path, space: LabelSpace = SPACE, **options: Any) -> MatchReport:
    return match_labels(videos, space, out=out, **{"tags": "tags", "min_videos": 1, **options})


def test_a_csv_file(tmp_path: Path) -> None:
    report = match(write_csv(tmp_path / "v.csv", ROWS), tmp_path / "out.parquet")
    assert rows_of(tmp_path / "out.parquet") == [
        {**ROWS[0], "labels": ["burning candles", "catching a fish"]},
        {**ROWS[1], "labels": ["burning candles", "catching a fish"]},
        {**ROWS[3], "labels": ["burning candles"]},
    ]
    assert (report.rows, report.rows_without_tags, report.rows_matched, report.repeated_rows) == (6, 1, 4, 1)
    assert (report.videos, report.label_assignments, report.videos_with_several_labels) == (3, 5, 2)
    assert (report.tags, report.tags_matched) == (8, 6)
    assert report.videos_per_label == {"burning candles": 3, "catching a fish": 2}
    assert report.unmatched == ("yoga",)
    assert report.missing_files is None
    assert nothing_left_beside(tmp_path / "out.parquet", tmp_path / "v.csv")


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    videos = write_csv(tmp_path / "v.csv", ROWS, delimiter=delimiter)
    assert match(videos, tmp_path / "out.parquet").videos == 3


def test_parquet_with_lists_of_tags_and_other_columns(tmp_path: Path) -> None:
    videos = write_parquet(
        tmp_path / "v.parquet",
        video=["a", "b", "c"],
        hashtags=[["Burn Candle", "fun"], None, ["#catchfish"]],
        seconds=pa.array([1.5, 2.5, None], pa.float32()),
    )
    report = match(videos, tmp_path / "out.parquet", tags="HashTags")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("seconds").type == pa.float32()
    assert table.schema.field("labels").type == pa.list_(pa.string())
    assert table["labels"].to_pylist() == [["burning candles"], ["catching a fish"]]
    assert report.rows_without_tags == 1


def test_a_folder_of_parts(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for i in (0, 1):
        write_parquet(tmp_path / "parts" / f"{i}.parquet", id=[i], tags=["#catchfish"])
    assert match(tmp_path / "parts", tmp_path / "out.parquet").videos == 2
    assert [row["id"] for row in rows_of(tmp_path / "out.parquet")] == [0, 1]


@pytest.mark.parametrize("batch_rows", [1, 3, 1000])
def test_batches_do_not_change_the_result(tmp_path: Path, batch_rows: int) -> None:
    n = 5000
    tags = [["#catchfish", "#burncandle", "#yoga #catchfish", "#fun"][i % 4] for i in range(n if batch_rows > 3 else 9)]
    videos = write_parquet(tmp_path / "v.parquet", row=list(range(len(tags))), tags=tags)
    report = match(videos, tmp_path / "out.parquet", batch_rows=batch_rows)
    found = rows_of(tmp_path / "out.parquet")
    assert [row["row"] for row in found] == [i for i in range(len(tags)) if i % 4 != 3]
    expected = {0: ["catching a fish"], 1: ["burning candles"], 2: ["catching a fish", "yoga"]}
    assert all(row["labels"] == expected[row["row"] % 4] for row in found)
    assert report.videos == len(found)


def test_the_floor_keeps_50_and_drops_49(tmp_path: Path) -> None:
    tags = ["#catchfish"] * 50 + ["#burncandle"] * 49 + ["#catchfish #burncandle"] * 0
    videos = write_parquet(tmp_path / "v.parquet", tags=tags)
    report = match_labels(videos, SPACE, tags="tags", out=tmp_path / "out.parquet")
    assert report.min_videos == 50
    assert report.videos_per_label == {"catching a fish": 50}
    assert report.dropped == {"burning candles": 49}
    assert report.videos == 50


def test_repeated_videos_count_once_for_the_floor(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", id=["a"] * 60 + ["b"], tags=["#catchfish"] * 60 + ["#yoga"])
    with pytest.raises(DatasetError, match="no label has 2 videos; 'catching a fish' has most, 1"):
        match(videos, tmp_path / "out.parquet", min_videos=2)
    assert nothing_left_beside(tmp_path / "out.parquet", videos)


def test_parts_of_one_video_are_videos_of_their_own(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", path=["a", "a"], start=[0, 5], end=[5, 9], tags=["#yoga", "#yoga"])
    assert match(videos, tmp_path / "out.parquet").videos == 2


def test_rows_without_a_name_are_not_united(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", id=[None, None, "x"], tags=["#yoga"] * 3)
    assert match(videos, tmp_path / "out.parquet").repeated_rows == 0


def test_a_hashtag_of_two_labels_gives_both(tmp_path: Path) -> None:
    space = verb_noun_space(["fish"], ["fish", "fishes"])
    space = LabelSpace(labels=("a", "b"), hashtags=pa.table({"label": [0, 1], "tag": ["both", "#Both"]}))
    videos = write_parquet(tmp_path / "v.parquet", tags=["#both"])
    report = match(videos, tmp_path / "out.parquet", space)
    assert report.hashtags_shared == 1
    assert rows_of(tmp_path / "out.parquet") == [{"tags": "#both", "labels": ["a", "b"]}]


def test_pairs_of_verbs_and_nouns(tmp_path: Path) -> None:
    space = verb_noun_space(["burning", "cutting"], ["candle", "bread"])
    videos = write_parquet(tmp_path / "v.parquet", tags=["#candlesburning", "#breadcut", "#burn #candle"])
    report = match(videos, tmp_path / "out.parquet", space)
    assert report.videos_per_label == {"burn candle": 1, "cut bread": 1}
    assert set(report.unmatched) == {"burn bread", "cut candle"}


@pytest.mark.parametrize("fold", [False, True])
def test_accents(tmp_path: Path, fold: bool) -> None:
    space = action_space(["jalapeño", "yoga"])
    videos = write_parquet(tmp_path / "v.parquet", tags=["#Jalapen\u0303o", "#jalapeno", "#yoga"])
    assert match(videos, tmp_path / "out.parquet", space, fold_accents=fold).videos == (3 if fold else 2)


def test_files_that_are_gone(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "b.mp4").write_bytes(b"x")
    videos = write_csv(tmp_path / "v.csv", ROWS)
    options = {"check_files": True, "root": tmp_path / "clips"}
    report = match(videos, tmp_path / "out.parquet", **options)
    assert (report.videos, report.missing_files) == (1, 3)
    assert report.missing_examples == ("a.mp4", "d.mp4", "a.mp4")
    (tmp_path / "clips" / "b.mp4").unlink()
    with pytest.raises(DatasetError, match=r"the file of every video that matches is gone \(4, such as a\.mp4\)"):
        match(videos, tmp_path / "none.parquet", **options)
    assert not (tmp_path / "none.parquet").exists()


def test_checking_files_needs_a_column_with_them(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", id=[1], tags=["#yoga"])
    with pytest.raises(DatasetError, match="no column names the files of the videos"):
        match(videos, tmp_path / "out.parquet", check_files=True)


def test_tags_that_match_nothing(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", tags=["#fun #sun", "#fun"])
    with pytest.raises(DatasetError) as caught:
        match(videos, tmp_path / "out.parquet")
    text = str(caught.value)
    assert "none of its 2 rows has a hashtag of the 3 labels" in text
    assert "'tags' holds #fun, #sun" in text
    assert "#burncandle" in text
    assert nothing_left_beside(tmp_path / "out.parquet", videos)


@pytest.mark.parametrize("cells", [["", None], ["🔥", "#"]])
def test_a_column_without_tags(tmp_path: Path, cells: list[str | None]) -> None:
    videos = write_parquet(tmp_path / "v.parquet", tags=cells)
    with pytest.raises(DatasetError, match="column 'tags' holds no tags in any of its 2 rows"):
        match(videos, tmp_path / "out.parquet")


def test_an_unknown_column_lists_what_there_is(tmp_path: Path) -> None:
    for videos in (write_csv(tmp_path / "v.csv", ROWS), write_parquet(tmp_path / "v.parquet", id=[1], path=["a"])):
        with pytest.raises(DatasetError, match=f"{videos}: no column 'hashtags'; it has id, path"):
            match(videos, tmp_path / "out.parquet", tags="hashtags")


def test_a_column_of_labels_is_not_overwritten(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", Labels=["x"], tags=["#yoga"])
    with pytest.raises(DatasetError, match="has a column 'labels' already"):
        match(videos, tmp_path / "out.parquet")
    match(videos, tmp_path / "out.parquet", label_column="found")
    assert rows_of(tmp_path / "out.parquet") == [{"Labels": "x", "tags": "#yoga", "found": ["yoga"]}]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("v.csv", b"", "is empty"),
        ("v.csv", b"id,tags\n", "has no rows"),
        ("v.csv", b"id,tags\n1,#yoga\n2,#yoga,3,4\n", "cannot be read"),
        ("v.csv", b"id,tags,id\n1,#yoga,2\n", "line 1: a column name stands twice in id, tags, id"),
        ("v.csv", b"id,tags\n1,#caf\xe9\n", "cannot be read"),
        ("v.csv", b"sep=;\nid;tags\n1;#yoga\n", "line 1: 'sep='"),
        ("v.parquet", b"PAR1 and no more", "cannot be read"),
        ("v.xlsx", b"x", "is neither CSV"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=says) as caught:
        match(tmp_path / name, tmp_path / "out.parquet")
    assert str(caught.value).startswith(f"{tmp_path / name}: " if "line" not in says else str(tmp_path))
    assert "\n" not in str(caught.value)
    assert nothing_left_beside(tmp_path / "out.parquet", tmp_path / name)


def test_a_table_that_is_empty_or_missing(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", tags=pa.array([], pa.string()))
    with pytest.raises(DatasetError, match="has no rows"):
        match(videos, tmp_path / "out.parquet")
    with pytest.raises(FileNotFoundError):
        match(tmp_path / "none.csv", tmp_path / "out.parquet")
    with pytest.raises(FileNotFoundError, match="No such folder"):
        match(videos, tmp_path / "no" / "out.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match="has no Parquet files"):
        match(tmp_path / "folder", tmp_path / "out.parquet")


def test_what_was_there_stays_when_a_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"earlier")
    videos = write_csv(tmp_path / "v.csv", ROWS)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        match(videos, out)
    assert out.read_bytes() == b"earlier"
    assert nothing_left_beside(out, videos)


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    videos = write_csv(tmp_path / "v.csv", ROWS)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        match(videos, tmp_path / "out.parquet", progress=stop)
    assert nothing_left_beside(tmp_path / "out.parquet", videos)


def test_progress(tmp_path: Path) -> None:
    videos = write_parquet(tmp_path / "v.parquet", tags=["#yoga"] * 7 + ["#fun"] * 3)
    said: list[tuple[str, int, int]] = []
    match(videos, tmp_path / "out.parquet", batch_rows=10, progress=lambda *what: said.append(what))
    assert said == [("matching", 10, 10), ("writing", 7, 7)]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbftags,id\r\n#yoga,1\r\n#fun,2\r\n",
        b"\n\ntags,id\n#yoga,1\n#fun,2",
        b'"tags","id"\n"#yoga\n#fun","1"\n#fun,"say ""2"""\n',
        b"tags,id\n#yoga,1\n,2\n",
    ],
)
def test_csv_as_programs_write_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.csv").write_bytes(content)
    report = match(tmp_path / "v.csv", tmp_path / "out.parquet")
    assert (report.rows, report.videos) == (2, 1)
    (row,) = rows_of(tmp_path / "out.parquet")
    assert (row["id"], row["labels"]) == ("1", ["yoga"])


def test_an_index_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(",tags\n0,#yoga\n")
    match(tmp_path / "v.csv", tmp_path / "out.parquet")
    assert rows_of(tmp_path / "out.parquet") == [{"column0": "0", "tags": "#yoga", "labels": ["yoga"]}]


def test_file_names_that_look_like_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "it's [1]*"
    folder.mkdir()
    videos = write_csv(folder / "v*.csv", ROWS)
    assert match(videos, folder / "out.parquet").videos == 3


def test_a_manifest_is_made_of_the_result(tmp_path: Path) -> None:
    for row in ROWS:
        (tmp_path / row["path"]).write_bytes(row["path"].encode())
    match(write_csv(tmp_path / "v.csv", ROWS), tmp_path / "out.parquet")
    manifest = read_manifest(tmp_path / "out.parquet")
    assert manifest.labels == ("burning candles", "catching a fish")
    assert [s.labels for s in manifest.samples if s.name == "d.mp4"] == [("burning candles",)]


def test_noisy_tags_of_made_up_videos(tmp_path: Path) -> None:
    """Tags as `tenclip synth --noisy-tags` writes them, with synonyms that no lemma finds."""
    import numpy as np

    rng = np.random.default_rng(0)
    classes = ("shake", "bounce", "pulse")
    truth = [classes[i % 3] for i in range(300)]
    tags = [" ".join(draw_tags(label, classes, NoisyTags(), rng)) for label in truth]
    videos = write_parquet(tmp_path / "v.parquet", truth=truth, tags=tags)
    report = match(
        videos,
        tmp_path / "out.parquet",
        action_space([f"{label}ing" if label != "bounce" else "bouncing" for label in classes]),
    )
    rows = rows_of(tmp_path / "out.parquet")
    assert 0 < report.videos < 300
    right = sum(any(label.startswith(row["truth"][:4]) for label in row["labels"]) for row in rows)
    assert right / len(rows) > 0.5
