from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tenclip_client.report.html import Markup
from tenclip_client.report.svg import short
from tenclip_demo import svg
from tenclip_demo.report import VideoCard

from .made_up import LABELS, card


def parse(drawing: Markup) -> ET.Element:
    return ET.fromstring(drawing)  # our own output: it must be well-formed XML


def texts(element: ET.Element) -> list[str]:
    return [t.text or "" for t in element.iter("text")]


def inside(element: ET.Element) -> None:
    """Every bar and cell lies within the picture."""
    width, height = map(float, element.attrib["viewBox"].split()[2:])
    for rect in element.iter("rect"):
        x, y, w, h = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
        assert -1 <= x <= x + w <= width + 1
        assert -1 <= y <= y + h <= height + 1


def test_line_chart() -> None:
    series = [
        ("train", "accent", [(1.0, 2.0), (2.0, 1.0), (3.0, 0.5)]),
        ("val", "second", [(2.0, 1.5)]),
        ("none", "bad", []),
    ]
    drawing = parse(svg.lines("Loss", "falls", series, x_label="epoch", y_format="{:g}".format))
    assert drawing.findtext("title") == "Loss"
    assert drawing.findtext("desc") == "falls"
    assert len(list(drawing.iter("polyline"))) == 2
    assert {"train", "val", "epoch", "1", "2", "3"} <= set(texts(drawing))
    points = [tuple(map(float, p.split(","))) for p in next(drawing.iter("polyline")).attrib["points"].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted(y for _, y in points), "falling values go down, and y grows downwards"


def test_a_line_of_one_point() -> None:
    parse(svg.lines("t", "d", [("a", "accent", [(1.0, 1.0)])], x_label="x", y_format=str))


def test_labels_at_the_ends_of_lines_do_not_overlap() -> None:
    places = svg._spread([10.0, 11.0, 10.5], 13.0)
    assert sorted(places) == [10.0, 23.0, 36.0]
    assert places[0] < places[2] < places[1]


def test_histogram_counts_every_value() -> None:
    values = [10.0, 10.1, 12.0, 55.0]
    drawing = parse(svg.histogram("Latency", "d", values, (("p50", 11.0), ("p95", 50.0)), x_label="ms"))
    counts = [int((r.findtext("title") or "").rsplit(": ", 1)[1]) for r in drawing.iter("rect")]
    assert sum(counts) == len(values)
    assert {"p50", "p95", "ms"} <= set(texts(drawing))
    inside(drawing)


@pytest.mark.parametrize("values", [[0.0], [1e-9, 1e-9], [3.0] * 100])
def test_histogram_of_equal_values(values: list[float]) -> None:
    parse(svg.histogram("t", "d", values, (), x_label="ms"))


def test_confusion_shows_every_count() -> None:
    counts = [[3, 1], [0, 0]]
    drawing = parse(svg.confusion("Confusion", "d", ["a<b", "c"], counts))
    titles = [t.text for t in drawing.iter("title")]
    assert "a<b, predicted c: 1" in titles
    assert {"3", "1", "a<b"} <= set(texts(drawing))
    assert "0" not in texts(drawing)
    inside(drawing)


def test_timeline_has_a_cell_for_each_clip_and_shown_class() -> None:
    shown = card(index=2, interval=True)
    drawing = parse(svg.timeline(shown, rows=3))
    cells = [r for r in drawing.iter("rect") if r.attrib.get("class") != "truth"]
    assert len(cells) == 3 * len(shown.segments)
    assert texts(drawing)[0] == shown.truth
    assert any("the action is from 2.5 to 5.0 s" in (t.text or "") for t in drawing.iter("title"))
    inside(drawing)


def test_timeline_shows_the_true_class_even_when_it_never_scores() -> None:
    assert svg._classes_shown(card(index=3, right=False), 2)[0] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"salience": ()},
        {"segments": ()},
        {"duration": 0.0},
        {"truth": None},
        {"truth": "not a class of the model"},
        {"salience": ((0.0, 1.0, 0.0), (1.0, 2.0, 0.0))},
        {"salience": ((0.0, 1.0, -3.0),)},
    ],
)
def test_timelines_of_odd_videos(changes: dict[str, object]) -> None:
    import dataclasses

    odd: VideoCard = dataclasses.replace(card(), **changes)  # type: ignore[arg-type]
    inside(parse(svg.timeline(odd)))


def test_names_of_the_demo_fit() -> None:
    assert [short(label) for label in LABELS] == list(LABELS)
