from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tenclip_training.curation.code_store import CodeTable
from tenclip_training.curation.duplicates import DuplicateReport, find_duplicates
from tenclip_training.curation.frame_codes import compute_codes
from tenclip_training.curation.report import COLUMNS, write_report
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import StoreFailure

from .helpers import smooth_video

EVIL = "<img src=x onerror=alert(1)>.mp4"


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")


def report_of(source: dict[str, Path], target: dict[str, Path]) -> DuplicateReport:
    tables = (CodeTable.of({n: compute_codes(p) for n, p in videos.items()}) for videos in (source, target))
    return find_duplicates(*tables)


def videos_of(paths: dict[str, Path]) -> dict[str, SetVideo]:
    return {name: SetVideo(name=name, path=path) for name, path in paths.items()}


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return {
        name: smooth_video(tmp_path / f"{i}.mp4", i // 2)
        for i, name in enumerate((EVIL, "copy.mp4", "b.mp4", "b2.mp4"))
    }


def test_the_report_shows_matched_frames_side_by_side(tmp_path: Path, paths: dict[str, Path]) -> None:
    source, target = {n: paths[n] for n in (EVIL, "b.mp4")}, {n: paths[n] for n in ("copy.mp4", "b2.mp4")}
    out = tmp_path / "report"
    page = write_report(
        out, report_of(source, target), title="A & B", source=videos_of(source), target=videos_of(target)
    )
    text = page.read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(text)
    assert EVIL not in text  # escaped
    assert "A &amp; B" in text
    assert len(parsed.images) == 2 * 2 * 4
    for left, right in zip(parsed.images[::2], parsed.images[1::2], strict=True):
        one, other = (cv2.imread(str(out / name)) for name in (left, right))
        assert one is not None
        assert other is not None
        assert one.shape[0] == 120
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 10


def test_tables_say_the_same(tmp_path: Path, paths: dict[str, Path]) -> None:
    report = report_of({EVIL: paths[EVIL]}, {"copy.mp4": paths["copy.mp4"]})
    names = videos_of(paths)
    write_report(tmp_path / "r", report, title="t", source=names, target=names)
    with (tmp_path / "r" / "duplicates.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert (row["source"], row["target"], row["source_share"]) == (EVIL, "copy.mp4", "1.0")
    data = json.loads((tmp_path / "r" / "duplicates.json").read_text())
    assert data["duplicates"] == [EVIL]
    assert data["pairs"][0]["stretches"][0]["source_from"] == float(row["source_from"]) == 0.0


def test_videos_that_are_gone_and_pictures_of_the_first_pairs_only(tmp_path: Path, paths: dict[str, Path]) -> None:
    source, target = {n: paths[n] for n in (EVIL, "b.mp4")}, {n: paths[n] for n in ("copy.mp4", "b2.mp4")}
    report = report_of(source, target)
    paths[report.pairs[0].source].unlink()
    page = write_report(
        tmp_path / "r", report, title="t", source=videos_of(source), target=videos_of(target), num_pictured=1
    )
    text = page.read_text()
    assert "(source cannot be read)" in text
    assert "Pictures are shown of the first 1 pairs" in text
    assert len(list((tmp_path / "r" / "pictures").iterdir())) == 4


def test_nothing_found_and_failures(tmp_path: Path) -> None:
    failure = StoreFailure(video="x.mp4", reason="EMPTY_VIDEO", message="x.mp4: is empty")
    report = DuplicateReport(pairs=(), source_videos=0, target_videos=3, source_failures=(failure,))
    text = write_report(tmp_path, report, title="t", source={}, target={}).read_text()
    assert "0 pairs match" in text
    assert "x.mp4: is empty (EMPTY_VIDEO)" in text
