"""The report: numbers, and charts that a browser can show."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.labels.charts import MAX_POINTS, Axis, Series, line_chart
from tenclip_training.labels.report import cumulative_chart, label_report, long_tail_chart, write_report

from .tables import write_parquet

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    skewed = [["run"]] * 80 + [["jump", "run"]] * 10 + [["fly <a> kite"]]
    even = [[f"label {i % 1000}"] for i in range(3000)]
    return [
        write_parquet(tmp_path / "skewed.parquet", labels=skewed),
        write_parquet(tmp_path / "even.parquet", labels=even),
    ]


def points_of(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    read = ElementTree.fromstring(ElementTree.tostring(svg))
    lines = [line.attrib["points"].split() for line in read.iter(f"{SVG}polyline")]
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in line)] for line in lines]


def test_numbers(sources: list[Path], tmp_path: Path) -> None:
    (tmp_path / "target.txt").write_text("running\njumping\nswim\nsit\n")
    report = label_report(sources, target=tmp_path / "target.txt")
    skewed, even = report.to_dict()["sources"]
    assert (skewed["name"], skewed["videos"], skewed["labels"], skewed["labels_for_80_percent"]) == ("skewed", 91, 3, 1)
    assert skewed["counts"] == {"run": 90, "jump": 10, "fly <a> kite": 1}
    overlap = skewed["overlap"]
    assert (overlap["share_of_target"], overlap["shared_videos"]) == (0.5, 90)
    assert overlap["share_of_source"] == pytest.approx(2 / 3)
    assert overlap["share_of_source_videos"] == pytest.approx(90 / 91)
    assert even["gini"] == pytest.approx(0)
    assert even["overlap"]["share_of_target"] == 0


def test_charts_are_of_the_numbers(sources: list[Path]) -> None:
    report = label_report(sources)
    for chart in (long_tail_chart(report), cumulative_chart(report)):
        lines = points_of(chart)
        assert len(lines) == 2
        for line in lines:
            xs = [x for x, _ in line]
            assert xs == sorted(xs)
            assert len(line) <= MAX_POINTS + 1
            assert all(0 <= x <= 640 and 0 <= y <= 360 for x, y in line)
    skewed, even = points_of(cumulative_chart(report))
    # The first of three labels holds 90 of 101: above the diagonal, on which equal labels lie.
    left, bottom = skewed[0]
    right, top = skewed[-1]
    assert (skewed[1][0] - left) / (right - left) == pytest.approx(1 / 3, abs=0.01)
    assert (bottom - skewed[1][1]) / (bottom - top) == pytest.approx(90 / 101, abs=0.01)
    assert all((bottom - y) / (bottom - top) == pytest.approx((x - left) / (right - left), abs=0.01) for x, y in even)


def test_html(sources: list[Path], tmp_path: Path) -> None:
    report = label_report(sources, target=sources[0])
    write_report(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("<svg") == 2
    assert "Overlap with" in text
    assert "100.0% (3 of 3)" in text
    assert not re.search(r"""(?:src|href)=["']""", text), "nothing is fetched"


def test_svg(sources: list[Path], tmp_path: Path) -> None:
    write_report(label_report(sources[:1]), tmp_path / "figure.svg")
    read = ElementTree.parse(tmp_path / "figure.svg").getroot()
    assert read.tag == f"{SVG}svg"
    assert read.findtext(f"{SVG}desc") == "skewed: 1 of 3 labels hold 80%"


def test_other_suffixes_are_refused(sources: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"report\.pdf: a report is written as \.html"):
        write_report(label_report(sources[:1]), tmp_path / "report.pdf")


def test_one_label_of_one_video(tmp_path: Path) -> None:
    report = label_report([write_parquet(tmp_path / "one.parquet", labels=[["run"]])])
    write_report(report, tmp_path / "report.html")
    (line,) = points_of(long_tail_chart(report))
    assert len(line) == 1


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_parquet(tmp_path / folder / "t.parquet", labels=[["run"]])
    report = label_report([tmp_path / "a" / "t.parquet", tmp_path / "b" / "t.parquet"])
    assert len(set(report.names)) == 2


def test_text_in_charts_is_escaped() -> None:
    axis = Axis(label="<b>", low=0, high=1)
    chart = line_chart("t", "d", [Series(name="a & <b>", x=np.array([0.0, 1]), y=np.array([0.0, 1]))], x=axis, y=axis)
    assert b"a &amp; &lt;b&gt;" in ElementTree.tostring(chart)


def test_ticks() -> None:
    assert Axis(label="", low=1, high=2500, log=True).ticks() == [1, 10, 100, 1000]
    assert [Axis(label="", low=0, high=1, percent=True).text(t) for t in (0, 0.2)] == ["0%", "20%"]
