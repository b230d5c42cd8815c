"""Tables as pandas, Excel and people write them."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_data.tables import find_delimiter, read_delimited

from .files import touch, write


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    touch(tmp_path, "a.mp4", "b.mp4", "e.mp4", "c d.mp4")
    return tmp_path


def parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "m.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a.mp4", "b.mp4", "e.mp4", "c d.mp4"], **columns}), path)
    return path


# -- Parquet --


@pytest.mark.parametrize(("name", "labels"), [("int", ("0", "1")), ("int12", ("0", "1", "2"))])
def test_integer_labels_as_pandas_writes_them(data_dir: Path, name: str, labels: tuple[str, ...]) -> None:
    manifest = read_manifest(data_dir / "faults" / f"{name}.parquet", missing="keep")
    assert manifest.labels == labels
    assert [s.labels for s in manifest.samples] == [(labels[-2],)] * 2 + [(labels[-1],)] * 2
    assert len(manifest.warnings) == (1 if name == "int12" else 0)


def test_integer_splits_as_pandas_writes_them(data_dir: Path) -> None:
    manifest = read_manifest(data_dir / "faults" / "splitint.parquet", missing="keep")
    assert [s.split for s in manifest.samples] == ["0", "0", "1", "1"]
    assert [s.name for s in manifest.split("0").samples] == ["a.mp4", "b.mp4"]
    with pytest.raises(DatasetError, match="no video in split 'train'; its splits are '0', '1'"):
        manifest.split("train")


LABELS = {
    "int8": pyarrow.array([0, 0, 1, 1], pyarrow.int8()),
    "float": pyarrow.array([0.0, 0.0, 1.0, 1.0]),
    "decimal": pyarrow.array([decimal.Decimal(v) for v in "0011"]),
    "category of integers": pyarrow.array([0, 0, 1, 1]).dictionary_encode(),
    "text": pyarrow.array(["0", "0", "1", "1"]),
    "large text": pyarrow.array(["0", "0", "1", "1"], pyarrow.large_string()),
    "category of text": pyarrow.array(["0", "0", "1", "1"]).dictionary_encode(),
    "bytes": pyarrow.array([b"0", b"0", b"1", b"1"]),
    "lists": pyarrow.array([[0], [0], [1], [1]]),
    "fixed-size lists": pyarrow.array([[0], [0], [1], [1]], pyarrow.list_(pyarrow.int32(), 1)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_type(videos: Path, kind: str) -> None:
    manifest = read_manifest(parquet(videos, label=LABELS[kind]))
    assert manifest.labels == ("0", "1")
    assert [s.labels for s in manifest.samples] == [("0",), ("0",), ("1",), ("1",)]


def test_booleans_read_as_in_the_csv_of_the_same_table(videos: Path) -> None:
    file = parquet(videos, label=[True, False, True, False], split=[True, True, False, False])
    text = "path,label,split\na.mp4,True,True\nb.mp4,False,True\ne.mp4,True,False\nc d.mp4,False,False\n"
    ours, theirs = read_manifest(file), read_manifest(write(videos / "m.csv", text))
    assert ours.labels == theirs.labels == ("False", "True")
    assert [(s.labels, s.split) for s in ours.samples] == [(s.labels, s.split) for s in theirs.samples]


def test_several_labels_as_lists_and_as_printed_lists(videos: Path) -> None:
    lists = [["run", "jump"], ["run"], ["it's"], ["a;b"]]
    file = parquet(videos, labels=lists, split=["train"] * 4)
    assert [s.labels for s in read_manifest(file).samples] == [tuple(x) for x in lists]
    printed = "path,labels,split\na.mp4,\"['run', 'jump']\",train\nb.mp4,['run'],train\ne.mp4,[1 2],train\n"
    samples = read_manifest(write(videos / "m.csv", printed)).samples
    assert [s.labels for s in samples] == [("run", "jump"), ("run",), ("1", "2")]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"label": [0, None, 1, 1]}, r"row 2 \(b\.mp4\): no label"),
        ({"label": [0.0, float("nan"), 1.0, 1.0]}, r"row 2 \(b\.mp4\): no label"),
        ({"label": [0.5, 1.0, 1.0, 1.0]}, r"row 1: column 'label': label 0\.5 is a number with a fraction"),
        ({"label": [["a"], [], ["a"], ["a"]]}, r"row 2 \(b\.mp4\): no label"),
        ({"label": [["a"], [None], ["a"], ["a"]]}, r"row 2: column 'label': a list of labels has an empty element"),
        ({"label": [{"x": 1}] * 4}, r"row 1: column 'label': holds \{'x': 1\}, where one value is needed"),
        ({"label": [0, 0, 1, 1], "split": [0, None, 1, 1]}, r"row 2 \(b\.mp4\): no split, where other"),
        ({"label": [0, 0, 1, 1], "split": [["a"]] * 4}, r"row 1: column 'split' holds \['a'\]"),
        ({"label": [0, 0, 1, 1], "start": [True, False, True, True]}, r"row 1: start is True, not a number"),
        ({"other": [0, 0, 1, 1]}, r"no column 'label' \(or labels, .*it has path, other"),
        ({"label": [-1, 0, 1, 1]}, r"row 1 \(a\.mp4\): label -1 is negative"),
        ({"label": [2019, 2020, 2**40, 2021]}, r"row 3 \(e\.mp4\): label 1099511627776 is no number of a class"),
    ],
)
def test_columns_that_cannot_be_used(videos: Path, column: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=rf"m\.parquet.*{message}"):
        read_manifest(parquet(videos, **column))


def test_paths_as_categories_and_what_is_left_out(videos: Path) -> None:
    table = pyarrow.table(
        {
            "Video_Path": pyarrow.array(["a.mp4", "b.mp4"]).dictionary_encode(),
            "LABEL": ["run", "run"],
            "Split": ["Training", "VALIDATION"],
            "when": pyarrow.array([1, 2], pyarrow.timestamp("ns")),
            "far": pyarrow.array([2**60, 2], pyarrow.timestamp("ms")),
            "nested": pyarrow.array([[1], [2]], pyarrow.list_(pyarrow.timestamp("ns"))),
            "__index_level_0__": [0, 1],
        }
    )
    (videos / "split=all").mkdir()
    file = videos / "split=all" / "m.parquet"
    pyarrow.parquet.write_table(table, file)
    first, second = read_manifest(file, videos=videos).samples
    assert (first.path, first.split, second.split) == (videos / "a.mp4", "train", "val")
    assert set(first.extra) == {"when", "far", "nested"}


def test_seconds_of_every_type(videos: Path) -> None:
    starts = pyarrow.array([1_500_000_000, 0, 0, 0], pyarrow.duration("ns"))
    ends = [datetime.time(0, 1, 2, 500000), None, None, None]
    first = read_manifest(parquet(videos, label=["x"] * 4, start_time=starts, stop_timestamp=ends)).samples[0]
    assert (first.start_seconds, first.end_seconds) == (1.5, 62.5)


# -- delimited text --


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt"])
def test_headers_in_any_case_delimiters_and_encodings(videos: Path, delimiter: str, encoding: str, suffix: str) -> None:
    lines = (("Path", "Label", "SPLIT"), ("a.mp4", "run", "Train"), ("c d.mp4", "jump", "Valid"))
    text = "\r\n".join(delimiter.join(fields) for fields in lines)
    samples = read_manifest(write(videos / f"m.{suffix}", text, encoding)).samples
    assert [(s.name, s.labels, s.split, s.extra) for s in samples] == [
        ("a.mp4", ("run",), "train", {}),
        ("c d.mp4", ("jump",), "val", {}),
    ]


def test_blanks_as_delimiters_need_quotes_around_blanks(videos: Path) -> None:
    file = write(videos / "m.txt", 'path label\na.mp4 run\n"c d.mp4" run\n')
    assert [s.name for s in read_manifest(file).samples] == ["a.mp4", "c d.mp4"]
    with pytest.raises(DatasetError, match=r"line 3: 3 fields where the header has 2; write fields .* in quotes"):
        read_manifest(write(videos / "m.txt", "path label\na.mp4 run\nc d.mp4 run\n"))


@pytest.mark.parametrize(
    "text",
    [
        ",path,label\n0,a.mp4,run\n1,b.mp4,run\n",
        "Unnamed: 0,path,label\n0,a.mp4,run\n1,b.mp4,run\n",
        "Unnamed: 0.1,Unnamed: 0,path,label\n0,0,a.mp4,run\n1,1,b.mp4,run\n",
        ",,path,label\n0,0,a.mp4,run\n1,1,b.mp4,run\n",
        "sep=,\r\npath,label\r\na.mp4,run\r\nb.mp4,run\r\n",
        "path,label,\na.mp4,run,\nb.mp4,run,,\n,,\n",
        '"path", "label"\n"a.mp4", "run"\n"b.mp4", "run"\n\n\n',
        "\n\npath,label\na.mp4,run\n\nb.mp4,run",
    ],
)
def test_what_pandas_and_excel_add(videos: Path, text: str) -> None:
    samples = read_manifest(write(videos / "m.csv", text)).samples
    assert [(s.name, s.labels) for s in samples] == [("a.mp4", ("run",)), ("b.mp4", ("run",))]
    assert all(not {k for k in s.extra if k == "Unnamed: 0"} for s in samples)


@pytest.mark.parametrize("column", ["Path", "VIDEO", "video_path", "File", "filename", "file_path", "video_id"])
@pytest.mark.parametrize("label", ["Label", "labels", "CLASS", "action", "label_id"])
def test_names_of_columns(videos: Path, column: str, label: str) -> None:
    (first, _) = read_manifest(write(videos / "m.csv", f"{label},{column}\nrun,a.mp4\nrun,b.mp4\n")).samples
    assert (first.name, first.labels) == ("a.mp4", ("run",))


def test_ids_stand_for_files(tmp_path: Path) -> None:
    touch(tmp_path, "12.webm", "7.mp4")
    samples = read_manifest(write(tmp_path / "m.csv", "video_id,label\n12,run\n7,run\n")).samples
    assert [s.path.name for s in samples] == ["12.webm", "7.mp4"]


def test_numbers_are_numbers_in_text_too(videos: Path) -> None:
    manifest = read_manifest(write(videos / "m.csv", "path,label\na.mp4,10.0\nb.mp4,2.0\ne.mp4,10.0\n"))
    assert manifest.labels == tuple(map(str, range(11)))
    assert manifest.targets(manifest.samples[0]) == (10,)


def test_a_label_with_a_separator_needs_the_label_space(videos: Path) -> None:
    file = write(videos / "m.csv", "path,label,split\na.mp4,run;jump,train\nb.mp4,run,train\n")
    assert read_manifest(file).labels == ("jump", "run")
    assert read_manifest(file, labels=["run", "run;jump"]).samples[0].labels == ("run;jump",)


def test_frames_are_no_seconds(videos: Path) -> None:
    file = write(videos / "m.csv", "path,label,start_frame,end_frame\na.mp4,run,3,9\nb.mp4,run,3,9\n")
    (warning,) = read_manifest(file).warnings
    assert "column 'start_frame' counts frames and is not used" in warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Path,path,label\na.mp4,b.mp4,run\n", "line 1: a column name stands twice"),
        ("path,label\na.mp4,run\n\n,jump\n", r"line 4: column 'path' is empty"),
        ("path,label,start\na.mp4,run,1;5\n", r"line 2: start is '1;5', not a number of seconds \(nor HH:MM:SS\)"),
        ("path,label\na/0001.jpg,run\nb.mp4,run\n", r"line 2 \(a/0001\.jpg\): 'a/0001\.jpg' is a picture"),
        ("path,label\n$NOT_SET_ANYWHERE/gone.mp4,run\n", r"line 2: .*begins with \$NOT_SET_ANYWHERE"),
        ("name;thing\na.mp4;run\n", r"line 1: no column 'path' .*; it has name, thing"),
        ("path,label\na\0b,run\n", "holds zero bytes"),
        ("path,labels\na/0001.jpg,\n", r"line 2 \(a/0001\.jpg\): 'a/0001\.jpg' is a picture"),
        (
            "path,label\nhttps://host/a.mp4,run\n",
            r"line 2 \(https://host/a\.mp4\): is a URI; videos are read from files",
        ),
        (f"path,label\n{'x' * 300},run\nb.mp4,run\n", r"line 2 \(x+\): no such file"),
        ('path,label,start\na.mp4,run,"1,5"\n', r"line 2: start is '1,5', .*write a dot for the decimal comma"),
    ],
)
def test_what_is_refused_names_the_line(videos: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"m\.csv.*{message}"):
        read_manifest(write(videos / "m.csv", text))


def test_latin_1_names_the_line_and_the_fix(videos: Path) -> None:
    file = write(videos / "m.csv", "path,label\na.mp4,run\nb.mp4,caf\xe9\n", "latin-1")
    with pytest.raises(DatasetError, match=r"m\.csv, line 3: .*byte 0xe9\); save the file as UTF-8"):
        read_manifest(file)


def test_splits_that_are_floats_in_text(videos: Path) -> None:
    manifest = read_manifest(write(videos / "m.csv", "path,label,split\na.mp4,run,0.0\nb.mp4,run,1.0\n"))
    assert manifest.splits == ("0", "1")


def test_excel_delimiters_stand_before_lists_too(videos: Path) -> None:
    samples = read_manifest(write(videos / "m.csv", "sep=;\na.mp4;run\nc d.mp4;run\n")).samples
    assert [s.name for s in samples] == ["a.mp4", "c d.mp4"]


def test_pickles_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04\x95\x00\x00")
    with pytest.raises(DatasetError, match="holds zero bytes, so it is another kind of file"):
        read_manifest(tmp_path / "m.pkl")


@pytest.mark.parametrize("name", ["m.xlsx", "m.csv.gz", "m.mp4"])
def test_other_kinds_of_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(DatasetError, match="not a manifest that tenclip reads; use a folder"):
        read_manifest(tmp_path / name)


# -- what is written is read --

_CELL = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=5),
    delimiter=st.sampled_from([",", ";", "\t", "|", " "]),
)
def test_round_trip(rows: list[tuple[str, str]], delimiter: str) -> None:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = [("path", "note"), *rows]
    text = "\r\n".join(delimiter.join(map(quoted, fields)) for fields in lines)
    source = Path("m.csv")
    assert find_delimiter(source, text) == delimiter
    table = read_delimited(source, text, delimiter)
    assert [(row["path"], row["note"]) for _, row in table.rows] == rows
