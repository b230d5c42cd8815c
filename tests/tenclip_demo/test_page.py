from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from tenclip_client.report.words import seconds
from tenclip_demo.page import render_page
from tenclip_demo.report import Count, DataFacts, FailedVideo, Report

from .made_up import LABELS, card, report

NASTY = "<script>alert('&')</script>\"{{ title }}"


class Page(HTMLParser):
    """Checks that every element is closed in order, and gathers what a test asks for."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_whole_page_is_well_formed_and_has_every_part() -> None:
    page = Page(render_page(report()))
    assert page.headings == [
        "tenclip demo",
        "Videos through the server",
        "Held-out accuracy",
        "Training",
        "Linear probe on served features",
        "Server",
        "Runtimes against torch",
        "Stages",
        "Go on from here",
    ]
    for figure in (
        "98.8%",
        "158 of 160",
        "75.0%",
        "AMD EPYC 7B13",
        "onnxruntime",
        "NOT_A_VIDEO",
        "from an earlier run",
    ):
        assert figure in page.text, figure
    assert not re.search(r"\{\{|\{%|\{#", render_page(report())), "a placeholder was left"


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = render_page(report())
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed"), tag
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset"):
                assert (value or "").startswith("data:image/jpeg;base64,"), (tag, value)
            assert not name.startswith("on"), f"{tag} has a script in {name}"
    assert not re.search(r"https?://|@import|url\(", text)


def test_pictures_and_charts_are_described_in_words() -> None:
    page = Page(render_page(report()))
    images = [a for tag, a in page.elements if a.get("role") == "img"]
    assert len(images) >= 9 + 9 + 4
    assert page.text.count("predicted for the whole video") == 9
    assert all("alt" in a for tag, a in page.elements if tag == "img")
    assert all("scope" in a for tag, a in page.elements if tag == "th")
    assert ("html", {"lang": "en"}) in page.elements
    text = render_page(report())
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_all_text_is_escaped() -> None:
    nasty = report(
        title=NASTY,
        machine=NASTY,
        data=DataFacts(
            source=NASTY,
            description=NASTY,
            classes=LABELS,
            train_videos=1,
            held_out_videos=1,
            skipped=((NASTY, NASTY),),
        ),
        cards=(dataclasses.replace(card(), name=NASTY, group=NASTY, facts=NASTY, truth=NASTY, warnings=(NASTY,)),),
        failed_videos=(FailedVideo(name=NASTY, reason=NASTY, message=NASTY),),
        commands=(NASTY,),
        versions=((NASTY, NASTY),),
    )
    page = Page(render_page(nasty))
    assert "script" not in [tag for tag, _ in page.elements]
    assert page.text.count(NASTY) > 10


@pytest.mark.parametrize(
    ("changes", "expected", "unexpected"),
    [
        ({}, "Passed.", "Failed."),
        ({"required": 0.999}, "Failed.", "Passed."),
        ({"required": None}, "No accuracy was required", "Passed."),
        ({"quick": True}, "A quick run.", "Passed."),
    ],
)
def test_the_banner_says_what_it_is(changes: dict[str, object], expected: str, unexpected: str) -> None:
    text = Page(render_page(report(**changes))).text
    assert expected in text
    assert unexpected not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "✓ move_left"),
        ({"truth": "shake"}, "✗ move_left 8"),
        ({"truth": None}, "move_left 8"),
        ({"salient": ("shake", 0.5)}, "uniform clips ✓ move_left"),
        ({"salient": ("shake", 0.5)}, "salient clips ✗ shake 50%, truly move_left"),
        ({"salient": ("shake", 0.5), "truth": None}, "salient clips shake 50%"),
    ],
)
def test_verdicts(changes: dict[str, object], words: str) -> None:
    one = dataclasses.replace(card(), **changes)  # type: ignore[arg-type]
    assert words in Page(render_page(report(cards=(one,)))).text


def test_pages_of_little() -> None:
    base = report()
    evaluation = dataclasses.replace(base.evaluation, confusion=None, video_top1=Count(correct=0, total=0))
    training = dataclasses.replace(base.training, curve=base.training.curve[:1])
    for little in (
        dataclasses.replace(base, cards=(), failed_videos=(), commands=(), evaluation=evaluation),
        dataclasses.replace(base, training=training),
        dataclasses.replace(base, training=dataclasses.replace(training, curve=())),
    ):
        Page(render_page(little))
    assert not dataclasses.replace(base, evaluation=evaluation).passed


def test_the_summary_is_json_with_denominators() -> None:
    made: Report = report()
    summary = json.loads(json.dumps(made.summary(), allow_nan=False))
    assert summary["passed"] is True
    assert summary["top1"] == 158 / 160
    assert summary["counts"]["top1"] == {"value": 158 / 160, "correct": 158, "total": 160}
    assert summary["probe_accuracy"] == 0.75
    assert summary["seconds"]["train"] == 181.0
    assert summary["seconds_reused"] == ["generate"]
    assert summary["server"]["requests"] == 160
    assert summary["server"]["p50_seconds"] <= summary["server"]["p95_seconds"]
    assert summary["machine"] == made.machine


@pytest.mark.parametrize(
    ("value", "text"), [(0.0004, "0.4 ms"), (0.012, "12 ms"), (3.44, "3.4 s"), (312.2, "5 min 12 s"), (0, "0.0 ms")]
)
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text
