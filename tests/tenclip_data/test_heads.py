"""Several label columns of a table: a verb and a noun of each video."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, read_manifest

ROWS = (
    "path,verb,noun,split\n"
    "a.mp4,cut,tomato,train\n"
    "b.mp4,wash,pan:dust,train\n"
    "c.mp4,cut,knife,test\n"
)  # fmt: skip


def read(folder: Path, text: str, *heads: str, name: str = "m.csv", **options: object) -> Manifest:
    (folder / name).write_text(text)
    return read_manifest(folder / name, heads=heads or ("verb", "noun"), missing="keep", **options)  # type: ignore[arg-type]


def test_a_label_of_each_head(tmp_path: Path) -> None:
    manifest = read(tmp_path, ROWS)
    assert manifest.labels == ("verb:cut", "verb:wash", "noun:knife", "noun:pan:dust", "noun:tomato")
    assert [s.labels for s in manifest.samples] == [
        ("verb:cut", "noun:tomato"),
        ("verb:wash", "noun:pan:dust"),
        ("verb:cut", "noun:knife"),
    ]
    assert [manifest.targets(s) for s in manifest.samples] == [(0, 4), (1, 3), (0, 2)]
    assert manifest.samples[0].extra == {}
    assert manifest.splits == ("train", "test")


def test_heads_stand_in_the_order_given(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS, "noun", "verb").labels[0] == "noun:knife"


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    """Classes that do not occur have no output, unlike with numbers alone."""
    text = "path,verb_class,noun_class\na.mp4,10,1\nb.mp4,2,0\nc.mp4,2,11\n"
    manifest = read(tmp_path, text, "verb_class", "noun_class", held_out=None)
    assert manifest.labels == ("verb_class:2", "verb_class:10", "noun_class:0", "noun_class:1", "noun_class:11")


def test_epic_kitchens(tmp_path: Path) -> None:
    text = (
        "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb,noun\n"
        "P01_01_0,P01,P01_01,00:00:00.14,00:00:03.37,open,door\n"
        "P01_01_1,P01,P01_01,00:00:04.37,00:00:06.17,turn-on,light\n"
    )
    manifest = read(tmp_path, text, name="EPIC_100_train.csv", held_out=None)
    assert [s.labels for s in manifest.samples] == [("verb:open", "noun:door"), ("verb:turn-on", "noun:light")]
    assert manifest.samples[0].end_seconds == pytest.approx(3.37)
    assert "verb" not in manifest.samples[0].extra


def test_a_class_file_gives_the_order(tmp_path: Path) -> None:
    labels = ["verb:wash", "verb:cut", "verb:peel", "noun:tomato", "noun:knife", "noun:pan:dust"]
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    assert read(tmp_path, ROWS, labels=tmp_path / "labels.txt").labels == tuple(labels)
    with pytest.raises(DatasetError, match=r"line 4.*'noun:knife' is not one of the 5 known ones"):
        read(tmp_path, ROWS, labels=[label for label in labels if label != "noun:knife"])


def test_a_label_with_a_separator_is_one_where_it_is_known(tmp_path: Path) -> None:
    text = "path,verb,noun\na.mp4,put;down,cup\n"
    with pytest.raises(DatasetError, match=r"line 2: column 'verb' has the labels put, down; a head takes one"):
        read(tmp_path, text)
    manifest = read(tmp_path, text, labels=["verb:put;down", "noun:cup"], held_out=None)
    assert manifest.samples[0].labels == ("verb:put;down", "noun:cup")


def test_lists_of_splits_in_a_folder(tmp_path: Path) -> None:
    """A verb that only val.csv has belongs to the label space; a test list without labels is passed over."""
    (tmp_path / "train.csv").write_text("path,verb,noun\na.mp4,cut,tomato\n")
    (tmp_path / "val.csv").write_text("path,verb,noun\nb.mp4,wash,cup\n")
    (tmp_path / "test.csv").write_text("path\nc.mp4\n")
    manifest = read_manifest(tmp_path, heads=("verb", "noun"), missing="keep")
    assert manifest.labels == ("verb:cut", "verb:wash", "noun:cup", "noun:tomato")
    assert [s.split for s in manifest.samples] == ["train", "val"]
    assert any("test.csv: has no labels" in w for w in manifest.warnings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,verb\na.mp4,cut\n", r"line 1: no column 'noun'; it has path, verb"),
        ("path,verb,noun\na.mp4,cut,\n", r"line 2: column 'noun' is empty; every head needs a label"),
        ("path,verb,noun\na.mp4,,cup\n", r"line 2: column 'verb' is empty"),
        ("path,verb,noun\na.mp4,cut,cup\nb.mp4,,\n", r"line 3 \(b.mp4\): no label"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("heads", "options", "message"),
    [
        (("verb",), {}, "heads are two columns or more, got verb"),
        (("verb", "verb"), {}, "head 'verb' is named twice"),
        (("verb", "a:b"), {}, "head 'a:b': a name without ':'"),
        (("verb", ""), {}, "head ''"),
        (("verb", "noun"), {"label_column": "label"}, r"one label column \(label\), or several heads \(verb, noun\)"),
    ],
)
def test_heads_that_are_none(tmp_path: Path, heads: tuple[str, ...], options: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, ROWS, *heads, **options)


def test_folders_have_no_columns(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").write_bytes(b"x")
    with pytest.raises(
        DatasetError, match=r"heads are columns of a table \(verb, noun\), and its format has one label"
    ):
        read_manifest(tmp_path, heads=("verb", "noun"))
    (tmp_path / "list.txt").write_text("run/a.mp4 3\n")
    with pytest.raises(DatasetError, match="heads are columns of a table"):
        read_manifest(tmp_path / "list.txt", heads=("verb", "noun"))
