"""What a second run takes over of a user's data, and what it does again."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tenclip_demo.config import DemoConfig
from tenclip_demo.console import StageConsole
from tenclip_demo.learn import _prepare
from tenclip_demo.stages import Stages

Rows = list[dict[str, str]]


def write(table: Path, rows: Rows) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Four classes of four videos each, of which one is held out; nothing here opens them."""
    found = []
    for label in "abcd":
        for n in range(4):
            (tmp_path / f"{label}{n}.mp4").touch()
            part = {"start": "0", "end": "2"}
            found.append({"path": f"{label}{n}.mp4", "label": label, "split": "val" if n == 3 else "train", **part})
    return found


def reused(tmp_path: Path) -> bool:
    """Whether the stage that reads the data, on whose key all later stages hang, was taken from an earlier run."""
    stages = Stages(tmp_path / "demo", StageConsole(Console(file=io.StringIO())))
    _prepare(DemoConfig(out=tmp_path / "demo", data=tmp_path / "videos.csv"), stages)
    return stages.times[0].reused


def relabel(rows: Rows) -> None:
    rows[0]["label"], rows[4]["label"] = "b", "a"


def resplit(rows: Rows) -> None:
    rows[0]["split"], rows[3]["split"] = "val", "train"


def move_start(rows: Rows) -> None:
    rows[0]["start"] = "1"


def move_end(rows: Rows) -> None:
    rows[0]["end"] = "1"


@pytest.mark.parametrize("change", [relabel, resplit, move_start, move_end])
def test_data_of_which_anything_is_changed_is_begun_anew(
    tmp_path: Path, rows: Rows, change: Callable[[Rows], None]
) -> None:
    table = tmp_path / "videos.csv"
    write(table, rows)
    assert [reused(tmp_path), reused(tmp_path)] == [False, True]
    change(rows)
    write(table, rows)
    assert not reused(tmp_path)
