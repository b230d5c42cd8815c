"""Something-Something, Kinetics in JSON, and tables in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest

from .files import touch, write

SOMETHING = [
    {"id": "78687", "label": "holding a potato", "template": "Holding [something]", "placeholders": ["a potato"]},
    {"id": 42326, "label": "putting a; b", "template": "Putting [something] into [something]", "placeholders": []},
]


def dump(path: Path, data: Any) -> Path:
    return write(path, json.dumps(data))


@pytest.mark.parametrize("folder", ["", "20bn-something-something-v2", "videos"])
def test_something_something(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / folder, "78687.webm", "42326.webm")
    dump(tmp_path / "labels.json", {"Other": "2", "Putting something into something": "0", "Holding something": "1"})
    manifest = read_manifest(dump(tmp_path / "validation.json", SOMETHING))
    assert manifest.labels == ("Putting something into something", "Holding something", "Other")
    assert [manifest.targets(s) for s in manifest.samples] == [(1,), (0,)]
    assert [s.path for s in manifest.samples] == [tmp_path / folder / f"{i}.webm" for i in (78687, 42326)]
    assert manifest.splits == ("val",)


def test_something_something_labels_may_be_given(tmp_path: Path) -> None:
    touch(tmp_path, "78687.webm", "42326.webm")
    classes = dump(tmp_path / "my.json", {"Putting something into something": "1", "Holding something": "0"})
    manifest = read_manifest(dump(tmp_path / "validation.json", SOMETHING), labels=classes)
    assert manifest.labels == ("Holding something", "Putting something into something")
    free = read_manifest(tmp_path / "validation.json", label_column="label")
    assert [s.labels for s in free.samples] == [("holding a potato",), ("putting a; b",)]


def test_something_something_folder_of_lists(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "78687.webm", "42326.webm")
    dump(tmp_path / "train.json", SOMETHING[:1])
    dump(tmp_path / "validation.json", SOMETHING[1:])
    manifest = read_manifest(tmp_path)
    assert [s.split for s in manifest.samples] == ["train", "val"]


def test_kinetics(tmp_path: Path) -> None:
    touch(tmp_path, "testifying/abc_000084_000094.mp4")
    entry = {"annotations": {"label": "testifying", "segment": [84.0, 94.0]}, "duration": 10.0, "subset": "validate"}
    (sample,) = read_manifest(dump(tmp_path / "k.json", {"abc": entry})).samples
    assert (sample.name, sample.labels, sample.split) == ("testifying/abc_000084_000094.mp4", ("testifying",), "val")


ROWS: list[dict[str, Any]] = [
    {"path": "a.mp4", "label": 0, "split": "train"},
    {"path": "b.mp4", "label": [1, 2], "split": "val"},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", json.dumps(ROWS)),
        ("m.txt", json.dumps(ROWS)),
        ("m.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        ("m.json", json.dumps({k: {str(i): r[k] for i, r in enumerate(ROWS)} for k in ROWS[0]})),
        ("m.json", json.dumps({k: [r[k] for r in ROWS] for k in ROWS[0]})),
    ],
)
def test_tables(tmp_path: Path, name: str, text: str) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    manifest = read_manifest(write(tmp_path / name, text))
    assert [(s.name, s.labels, s.split) for s in manifest.samples] == [
        ("a.mp4", ("0",), "train"),
        ("b.mp4", ("1", "2"), "val"),
    ]
    assert manifest.labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.json", "{", r"m\.json: cannot be read as JSON"),
        ("m.json", "[" * 100_000, r"m\.json: cannot be read as JSON"),
        ("m.json", '[{"path": "\\ud800.mp4", "label": "x"}]', "no such file"),
        ("m.json", "[]", r"m\.json: not a manifest that tenclip reads: holds an empty list"),
        ("m.json", "3", r"holds '3'; use Something-Something's list"),
        ("m.json", '{"database": {}}', "holds an object with database"),
        ("m.json", '["a.mp4"]', r"m\.json, row 1: got 'a\.mp4', not an object"),
        ("m.json", '[{"path": "a.mp4"}]', "no column 'label'"),
        ("m.json", '[{"id": "1"}]', r"row 1 \(1\.webm\): no label"),
        ("m.json", '[{"id": ""}]', r"row 1: no id"),
        ("m.json", '{"path": ["a.mp4"], "label": []}', "columns of different lengths"),
        ("m.json", '{"x": {"annotations": {"label": "y"}}}', r"row 1 \(x\): segment is None, not \[start, end\]"),
        ("m.jsonl", '{"path": "a.mp4"}\n[1]\n', r"m\.jsonl, line 2: got '\[1\]', where an object is needed"),
        ("m.jsonl", '{"path": "a.mp4"}\n{\n', r"m\.jsonl, line 2: cannot be read as JSON"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(DatasetError, match=message):
        read_manifest(write(tmp_path / name, text))
