"""Results become a page and a table, from results.json alone."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_findings.catalog import all_findings, chosen
from tenclip_findings.finding import Contrast, Finding, contrast_of, difference
from tenclip_findings.report import markdown, read_results, write_page, write_report
from tenclip_findings.run import Measured, Options, write_results
from tenclip_findings.statistics import Spread

HOSTILE = "a <b> & | c"


def measured() -> Measured:
    contrast = Contrast(name=HOSTILE, weights=difference("after", "before"), paper="+1.0", below_detection=True)
    luck = [np.random.default_rng(seed).random(500) for seed in range(3)]
    arms = [{"after": x < 0.7, "before": x < 0.5} for x in luck]
    finding = Finding(
        number=7,
        name="an-example",
        question="Is it so?",
        paper="a paper, table 1",
        data="generated",
        arms=lambda lab: {},
        contrasts=(contrast,),
        baseline="before",
        chance=6.25,
        notes="Only in small.",
    )
    top1 = {name: Spread.of([100 * float(a[name].mean()) for a in arms]) for name in ("after", "before")}
    return Measured(
        finding=finding,
        seeds=3,
        scale=0.5,
        top1=top1,
        results=[contrast_of(contrast, arms)],
        videos=500,
        seconds=12.3,
    )


class Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_says_what_was_found_and_escapes_it(tmp_path: Path) -> None:
    options = Options(out=tmp_path)
    write_results([measured()], options)
    page = Words()
    page.feed(write_report(options).read_text(encoding="utf-8"))
    words = " ".join(page.text)
    assert HOSTILE in words
    assert "shown" in words
    assert "below what can be detected" in words
    assert "Only in small." in words
    assert "b" not in page.tags
    assert page.tags.count("svg") == 2


def test_the_table_takes_the_place_of_the_one_before_and_leaves_the_rest(tmp_path: Path) -> None:
    write_results([measured()], Options(out=tmp_path))
    values, page = read_results(tmp_path), tmp_path / "findings.md"
    page.write_text("# Findings\n\nBefore.\n\n<!-- findings: begin -->\nold\n<!-- findings: end -->\n\nAfter.\n")
    for _ in range(2):
        write_page(values, page)
    text = page.read_text()
    assert text.startswith("# Findings\n\nBefore.")
    assert text.endswith("\n\nAfter.\n")
    assert "old" not in text
    assert text.count("### 7. Is it so?") == 1
    (row,) = [line for line in text.splitlines() if line.startswith("| a ")]
    assert row.replace("\\|", "").count("|") == 7, "a bar in a name is no cell"
    assert "3 seeds of 500 test videos, at 0.5 times the videos and clips." in text


def test_results_are_plain_json_and_have_all_that_the_verdict_follows_from(tmp_path: Path) -> None:
    values = json.loads(write_results([measured()], Options(out=tmp_path)).read_text())
    (finding,) = values["findings"]
    (contrast,) = finding["contrasts"]
    assert contrast["verdict"] == "shown"
    assert len(contrast["seeds"]) == 3
    assert contrast["effect"]["low"] > 0
    assert contrast["effect"]["mean"] == pytest.approx(
        finding["top1"]["after"]["mean"] - finding["top1"]["before"]["mean"]
    )
    assert "Measured on" in markdown(values)


def test_findings_are_chosen_by_name_or_number_and_others_are_listed() -> None:
    assert [f.name for f in chosen(["log-linear"])] == ["log-linear"]
    assert "log-linear" in [f.name for f in chosen(["1"])]
    assert chosen([]) == all_findings()
    with pytest.raises(InvalidRequest, match=r"no finding nonsense; there are .*log-linear"):
        chosen(["nonsense"])
