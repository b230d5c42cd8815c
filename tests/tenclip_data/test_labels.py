"""Label spaces, files of class names, numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.labels import ClassNames, label_space
from tenclip_data.manifest import Sample, read_labels, read_manifest

from .files import touch, write


def test_label_space_from_a_file_gives_the_order(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,split\na.mp4,run,train\n")
    labels = write(tmp_path / "labels.txt", "run\njump\n\n")
    manifest = read_manifest(file, labels=labels)
    assert manifest.labels == ("run", "jump")
    assert manifest.targets(manifest.samples[0]) == (0,)


def test_unknown_label_names_line_and_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "m.csv", "path,label,split\na.mp4,run,train\nb.mp4,jumping,train\n")
    with pytest.raises(DatasetError, match=r"m\.csv, line 3 \(b\.mp4\): label 'jumping'.*did you mean 'jump'"):
        read_manifest(file, labels=["run", "jump"])


def test_labels_file_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"l\.txt, line 3: 'run' stands on line 1"):
        read_labels(write(tmp_path / "l.txt", "run\njump\nrun\n"))
    with pytest.raises(DatasetError, match="holds no labels"):
        read_labels(write(tmp_path / "l.txt", "\n"))
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_labels(tmp_path / "absent.txt")


def test_the_projects_label_lists_are_read(data_dir: Path) -> None:
    assert len(read_labels(data_dir / "labels" / "ucf101.txt")) == 101
    assert len(read_labels(data_dir / "labels" / "kinetics400.txt")) == 400


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("k.txt", "run\njump\nlong hop\n"),
        ("k.txt", "\ufeffrun\r\njump\r\n\r\nlong hop"),
        ("k.txt", '"run"\n"jump"\n"long hop"\n'),
        ("classInd.txt", "1 run\n2 jump\n3 long hop\n"),
        ("classInd.txt", "3 long hop\n1 run\n2 jump\n"),
        ("k.txt", "0 run\n1 jump\n2 long hop\n"),
        ("k.csv", "0,run\n1,jump\n2,long hop\n"),
        ("k.csv", "run,0\njump,1\nlong hop,2\n"),
        ("k.csv", "run\t0\njump\t1\nlong hop\t2\n"),
        ("k.csv", "id,name\n0,run\n1,jump\n2,long hop\n"),
        (
            "EPIC_100_verb_classes.csv",
            "id,key,instances,category\n0,run,\"['run', 'jog']\",x\n1,jump,[],x\n2,long hop,[],y\n",
        ),
        ("k.csv", ",name\n0,run\n1,jump\n2,long hop\n"),
        ("k.csv", "Unnamed: 0;Label\n0;run\n1;jump\n2;long hop\n"),
        ("k.csv", "label\nrun\njump\nlong hop\n"),
        ("k.json", '["run", "jump", "long hop"]'),
        ("labels.json", '{"run": "0", "long hop": "2", "jump": "1"}'),
        ("kinetics_classnames.json", '{"\\"long hop\\"": 2, "run": 0, "jump": 1}'),
        ("k.json", '{"0": "run", "1": "jump", "2": "long hop"}'),
        ("imagenet_class_index.json", '{"0": ["n1", "run"], "1": ["n2", "jump"], "2": ["n3", "long hop"]}'),
    ],
)
def test_files_of_class_names(tmp_path: Path, name: str, text: str) -> None:
    assert read_labels(write(tmp_path / name, text)) == ("run", "jump", "long hop")


@pytest.mark.parametrize(
    "text", ["2 run\n3 jump\n", "run 1\njump 2\n", "class,0\nclass,1,x\n", "putting a, b and c\nshowing a, b\n"]
)
def test_names_with_numbers_and_commas_are_names(tmp_path: Path, text: str) -> None:
    assert read_labels(write(tmp_path / "k.txt", text)) == tuple(text.splitlines())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("k.json", "{", "cannot be read as JSON"),
        ("k.json", "[1, 2]", "is no file of labels; write a JSON list of names"),
        ("k.json", '{"run": [], "jump": 1}', "is no file of labels"),
        ("k.json", '{"run": 0, "jump": 2}', "number 2 of its 2 labels is out of order"),
        ("k.json", '{"run": 0, "jump": 0}', "number 0 of its 2 labels is out of order"),
        ("k.json", '["run", "run"]', "line 2: 'run' stands on line 1 already"),
        ("k.csv", "id,name\n0,run\n2,jump\n", "number 2 of its 2 labels is out of order"),
        ("k.txt", "1 run\n2 run\n", "line 2: 'run' stands on line 1 already"),
        ("k.txt", "", "holds no labels"),
    ],
)
def test_files_that_are_no_class_names(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"{name}.*{message}"):
        read_labels(write(tmp_path / name, text))


# -- numbers --

CLASSES = "walk\nrun\njump\n"
NUMBERED = "1 walk\n2 run\n3 jump\n"


def labels_of(root: Path, rows: str, classes: str) -> list[str]:
    names = [row.split()[0] for row in rows.splitlines()]
    touch(root, *names)
    manifest = read_manifest(write(root / "val.txt", rows), labels=write(root / "classes.txt", classes))
    assert manifest.labels == ("walk", "run", "jump")
    return [s.labels[0] for s in manifest.samples]


def test_numbers_count_the_lines_of_the_class_file_from_0(tmp_path: Path) -> None:
    assert labels_of(tmp_path, "a.mp4 2\nb.mp4 1\n", CLASSES) == ["jump", "run"]
    assert labels_of(tmp_path, "a.mp4 0\nb.mp4 2\n", NUMBERED) == ["walk", "jump"]
    assert labels_of(tmp_path, "a.mp4 1\nb.mp4 2\n", "0 walk\n1 run\n2 jump\n") == ["run", "jump"]


def test_numbers_of_the_class_file_itself(tmp_path: Path) -> None:
    assert labels_of(tmp_path, "a.mp4 3\nb.mp4 1\n", NUMBERED) == ["jump", "walk"]


def test_folders_tell_from_where_numbers_count(tmp_path: Path) -> None:
    assert labels_of(tmp_path, "run/a.mp4 1\nJump/b.mp4 2\n", NUMBERED) == ["run", "jump"]
    assert labels_of(tmp_path, "walk/a.mp4 1\nrun/b.mp4 2\n", NUMBERED) == ["walk", "run"]
    with pytest.raises(
        DatasetError, match=r"count the classes of .*classes\.txt from 1, as the folders of the videos tell"
    ):
        labels_of(tmp_path, "walk/a.mp4 1\nrun/b.mp4 2\n", CLASSES)


@pytest.mark.parametrize(
    ("rows", "classes", "message"),
    [
        ("a.mp4 1\nb.mp4 2\n", NUMBERED, "whether the labels count from 0 or from 1 cannot be told"),
        ("a.mp4 1\nb.mp4 3\n", CLASSES, r"line 2 \(b\.mp4\): label 3 is not one of the 3 .*if the labels count from 1"),
        ("a.mp4 0\nb.mp4 3\n", CLASSES, r"line 2 \(b\.mp4\): label 3 is not one of the 3 classes of .*count from 0$"),
        ("a.mp4 0\nb.mp4 3\n", NUMBERED, r"line 2 \(b\.mp4\): label 3 is not one of the 3 classes"),
        ("a.mp4 0\nb.mp4 run\n", CLASSES, r"line 1 \(a\.mp4\): label '0' is not one of the 3 known ones; for numbers"),
    ],
)
def test_numbers_that_no_class_file_explains(tmp_path: Path, rows: str, classes: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        labels_of(tmp_path, rows, classes)


def test_numbers_without_names_begin_at_0_and_sort_as_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    manifest = read_manifest(write(tmp_path / "val.txt", "a.mp4 10\nb.mp4 9\nc.mp4 0\n"))
    assert manifest.labels == tuple(str(i) for i in range(11))
    assert [manifest.targets(s) for s in manifest.samples] == [(10,), (9,), (0,)]
    assert manifest.warnings == ()


def test_numbers_that_begin_at_1_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    manifest = read_manifest(write(tmp_path / "val.txt", "a.mp4 1\nb.mp4 2\n"))
    assert manifest.labels == ("0", "1", "2")
    assert "no video has label 0 (they are 1 to 2)" in manifest.warnings[0]


def test_numbers_with_wide_gaps_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    manifest = read_manifest(write(tmp_path / "val.txt", "a.mp4 0\nb.mp4 2019\n"))
    assert "the largest label is 2019, so there are 2020 classes, and 2 occur" in manifest.warnings[0]


def test_digits_with_zeros_before_them_are_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    assert read_manifest(write(tmp_path / "val.txt", "a.mp4 010\nb.mp4 002\n")).labels == ("002", "010")


def test_class_names_that_are_digits(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    manifest = read_manifest(write(tmp_path / "val.txt", "a.mp4 5\nb.mp4 7\n"), labels=["7", "5", "3"])
    assert manifest.labels == ("7", "5", "3")
    assert [manifest.targets(s) for s in manifest.samples] == [(1,), (0,)]


@given(numbers=st.lists(st.integers(0, 399), min_size=1, max_size=8), first=st.sampled_from([0, 1]))
def test_numbers_and_names_agree(data_dir: Path, numbers: list[int], first: int) -> None:
    names = read_labels(data_dir / "labels" / "kinetics400.txt")
    samples = tuple(
        Sample(path=Path(names[n]) / f"{i}.mp4", name=f"{i}", labels=(str(n + first),)) for i, n in enumerate(numbers)
    )
    classes = ClassNames(names, first=first)
    renamed, space, _ = label_space(classes, None, samples, source=Path("l.txt"), fill=True)
    assert space == names
    assert [s.labels[0] for s in renamed] == [names[n] for n in numbers]
