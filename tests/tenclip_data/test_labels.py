"""Label spaces, files of class names, numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_labels, read_manifest

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
