from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest

from .files import touch, write

# -- tables --


def test_csv_keeps_parts_splits_and_extra_columns(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(
        tmp_path / "m.csv",
        "path,label,start_seconds,end_seconds,split,speed\na.mp4,run,1.5,3,train,fast\nb.mp4,jump,,,val,slow\n",
    )
    manifest = read_manifest(file)
    assert manifest.labels == ("jump", "run")
    first, second = manifest.samples
    assert (first.path, first.name, first.labels) == (tmp_path / "a.mp4", "a.mp4", ("run",))
    assert (first.start_seconds, first.end_seconds, first.split, first.line) == (1.5, 3.0, "train", 2)
    assert first.extra == {"speed": "fast"}
    assert (second.start_seconds, second.end_seconds) == (None, None)
    assert manifest.targets(first) == (1,)
    assert first.key == "a.mp4[1.5:3]"
    assert second.key == "b.mp4"


@pytest.mark.parametrize("text", ["run;jump", "run|jump", " run ; jump ;", "run;jump;run"])
def test_several_labels_in_one_cell(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "m.csv", f"path,labels,split\na.mp4,{text},train\nb.mp4,run,test\n")
    manifest = read_manifest(file)
    assert manifest.samples[0].labels == ("run", "jump")
    assert manifest.multi_label
    assert manifest.targets(manifest.samples[0]) == (1, 0)


def test_hashtags_are_divided_by_blanks_and_other_labels_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "m.csv", "path,tags,split\na.mp4,#run #fun,train\nb.mp4,long jump,test\n")
    manifest = read_manifest(file, label_column="tags")
    assert [s.labels for s in manifest.samples] == [("#run", "#fun"), ("long jump",)]


def test_whole_videos_forgets_parts(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,start,end,split\na.mp4,run,1,2,train\n")
    assert read_manifest(file).samples[0].start_seconds == 1
    assert read_manifest(file, whole_videos=True).samples[0].key == "a.mp4"


def test_a_quoted_cell_may_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    touch(tmp_path, "a, b.mp4", "c.mp4")
    file = write(tmp_path / "m.csv", 'path,label,note,split\n"a, b.mp4",run,"one\ntwo",train\nc.mp4,run,,train\n')
    samples = read_manifest(file).samples
    assert [s.name for s in samples] == ["a, b.mp4", "c.mp4"]
    assert samples[0].extra["note"] == "one\ntwo"
    assert samples[1].line == 4


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = tmp_path / "m.csv"
    file.write_bytes("\ufeffpath,label,split\na.mp4,run,train\n".encode())
    assert read_manifest(file).samples[0].name == "a.mp4"


def test_parquet_with_a_list_column_equals_the_csv(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    table = {
        "path": ["a.mp4", "b.mp4"],
        "labels": [["run", "jump"], ["run"]],
        "split": ["train", "test"],
        "start_seconds": [None, 0.5],
        "end_seconds": [None, 1.0],
        "speed": ["fast", "slow"],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "m.parquet")
    text = "path,labels,split,start_seconds,end_seconds,speed\na.mp4,run;jump,train,,,fast\nb.mp4,run,test,0.5,1,slow\n"
    from_csv = read_manifest(write(tmp_path / "m.csv", text))
    from_parquet = read_manifest(tmp_path / "m.parquet")
    for a, b in zip(from_parquet.samples, from_csv.samples, strict=True):
        assert (a.path, a.labels, a.split, a.start_seconds, a.end_seconds, dict(a.extra)) == (
            *(b.path, b.labels, b.split, b.start_seconds, b.end_seconds),
            dict(b.extra),
        )
    assert from_parquet.labels == from_csv.labels


def test_videos_may_lie_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path / "far", "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,split\na.mp4,run,train\n")
    assert read_manifest(file, videos=tmp_path / "far").samples[0].path == tmp_path / "far" / "a.mp4"


# -- errors in tables --


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\nx,run\n", r"line 1: no column 'path' \(or video, video_path, file\); it has name, label"),
        ("path,split\na.mp4,train\n", r"line 1: no column 'label'"),
        ("", r"line 1: no column 'path'.*it has none"),
        ("path,label,split\n", "lists no videos"),
        ("path,label,split\na.mp4,,train\n", r"line 2 \(a\.mp4\): no label"),
        ("path,label,split\n,run,train\n", r"line 2: column 'path' is empty"),
        ("path,label,split\nmissing.mp4,run,train\n", r"line 2 \(missing\.mp4\): no such file"),
        ("path,label,start,end\na.mp4,run,3,3\n", r"line 2 \(a\.mp4\): end 3 s is not after start 3 s"),
        ("path,label,start,end\na.mp4,run,,0\n", r"line 2 \(a\.mp4\): end 0 s is not after start 0 s"),
        ("path,label,start,end\na.mp4,run,-1,3\n", r"line 2 \(a\.mp4\): start -1 s is negative"),
        ("path,label,start\na.mp4,run,soon\n", r"line 2: start is 'soon', not a number"),
        ("path,label,start\na.mp4,run,nan\n", r"line 2: start is 'nan', not a number"),
        (
            "path,label,split\na.mp4,run,train\na.mp4,run,test\n",
            r"in two splits: .*m\.csv, line 2 \(a\.mp4\) in 'train' and .*m\.csv, line 3 \(a\.mp4\) in 'test'",
        ),
        ("path,label,split\na.mp4,run,train\nb.mp4,run,\n", r"line 3 \(b\.mp4\): no split"),
        ("path,label,split\na.mp4,run\n", r"line 2: 2 fields where the header has 3"),
        ("path,label\na.mp4,run,train\n", r"line 2: 3 fields where the header has 2"),
        ("path,label,label\na.mp4,run,run\n", r"line 1: a column name stands twice"),
        ('path,label\n"a.mp4,run\n', r"line 2: cannot be read as CSV: unexpected end of data"),
    ],
)
def test_bad_tables_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(DatasetError, match=rf"m\.csv.*{message}"):
        read_manifest(write(tmp_path / "m.csv", text))


def test_the_same_video_may_stand_twice_with_different_parts(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,start,end,split\na.mp4,run,0,1,train\na.mp4,jump,1,2,train\n")
    assert len(read_manifest(file).samples) == 2


def test_missing_videos_can_be_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "m.csv", "path,label,split\nmissing.mp4,run,train\n")
    assert len(read_manifest(file, missing="keep").samples) == 1


@pytest.mark.parametrize("name", ["absent.csv", "absent"])
def test_absent_manifest(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="no such manifest or folder"):
        read_manifest(tmp_path / name)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a manifest that tenclip reads"):
        read_manifest(write(tmp_path / "m.json", "{}"))
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read_manifest(write(tmp_path / "m.parquet", "path,label\n"))
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff\xfe,run\n")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(DatasetError, match="no such folder of videos"):
        read_manifest(write(tmp_path / "n.csv", "path,label\n"), videos=tmp_path / "nowhere")


def test_without_a_held_out_part_samples_have_no_split(tmp_path: Path) -> None:
    """One video of each class is enough where all of them are used, as by `tenclip evaluate --split all`."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").write_bytes(name.encode())
    assert read_manifest(tmp_path, held_out=None).splits == ("",)
    with pytest.raises(DatasetError, match="none can be held out"):
        read_manifest(tmp_path)
