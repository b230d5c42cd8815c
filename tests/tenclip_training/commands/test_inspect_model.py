"""`tenclip inspect-model`: the page, and the numbers beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_training.runs.checkpoint import load_checkpoint
from tests.tenclip_features.tables import row, write_table
from tests.tenclip_training.commands.helpers import error_of, output_of, run


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_page_of_kernels_and_features(trained: Path, action_videos: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    last = trained / "last.pt"
    values = output_of(
        run("inspect-model", last, "--out", page, "--manifest", action_videos, "--split", "train", "--json")
    )
    (facts,) = values["models"]
    assert facts["architecture"] == "r2plus1d_10"
    assert (facts["videos"], facts["classes_shown"]) == (12, ["move_left", "move_right"])
    assert facts["temporal_variance"] > 0
    assert -1 <= facts["silhouette"] <= 1
    text = page.read_text()
    tags = Tags(text).found
    assert sum(tag == "circle" for tag, _ in tags) == 12
    images = [attrs["src"] for tag, attrs in tags if tag == "img"]
    assert images
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in images)
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    weights = load_checkpoint(last).model.state_dict()["stem.0.weight"]
    assert f"{weights.shape[0]} filters of 1x7x7 over 3 channels" in text


def test_two_models_side_by_side_without_videos(trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("inspect-model", trained / "last.pt", trained / "best.pt", "--out", page)
    assert result.exit_code == 0, result.exception
    assert page.read_text().count("<h1>") == 2
    assert "variance over time" in result.output


def test_features_from_a_table(trained: Path, action_videos: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = sorted(path.relative_to(action_videos.parent).as_posix() for path in action_videos.parent.rglob("*.mp4"))
    table = write_table(tmp_path / "f.parquet", [row(name, 0, rng.normal(size=6)) for name in names[:10]])
    page = tmp_path / "page.html"
    values = output_of(
        run("inspect-model", trained / "last.pt", "--out", page, "--manifest", action_videos, "--features", table,
            "--json")
    )  # fmt: skip
    (facts,) = values["models"]
    assert (facts["videos"], facts["videos_without_features"]) == (10, 6)


def test_videos_that_cannot_be_read_are_counted(trained: Path, broken_manifest: Path, tmp_path: Path) -> None:
    result = run("inspect-model", trained / "last.pt", "--out", tmp_path / "p.html", "--manifest", broken_manifest)
    assert result.exit_code == 0, result.exception
    assert "16 videos of 2 classes" in result.output
    assert "2 videos without features" in result.output


def test_mistakes(trained: Path, action_videos: Path, tmp_path: Path) -> None:
    last, page = trained / "last.pt", tmp_path / "p.html"
    for arguments, kind, message in (
        (["--features", "f.parquet"], InvalidRequest, "--features needs --manifest"),
        (["--split", "train"], InvalidRequest, "--split is of --manifest"),
        (["--manifest", action_videos, "--split", "dev"], DatasetError, "no video in split 'dev'"),
        (["--manifest", action_videos, "--protocol", "x"], InvalidRequest, "protocol 'x' is not one of"),
    ):
        error = error_of(run("inspect-model", last, "--out", page, *arguments))
        assert isinstance(error, kind)
        assert message in str(error)
    # Before anything is looked at: there is no such checkpoint.
    for out, says in ((tmp_path / "no" / "folder.html", "there is no folder"), (tmp_path, "it is a folder")):
        lost = error_of(run("inspect-model", tmp_path / "nothing.pt", "--out", out))
        assert isinstance(lost, InvalidRequest)
        assert f"{out}: cannot be written: {says}" in str(lost)


def test_importing_the_command_loads_no_torch() -> None:
    name = "tenclip_training.commands.inspect_model"
    code = f"import {name}, sys; assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
