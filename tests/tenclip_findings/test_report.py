"""Results become a page and a table, from results.json alone."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_findings.catalog import all_findings, chosen
from tenclip_findings.evidence import Evidence, SeedEvidence
from tenclip_findings.finding import Contrast, Finding, difference
from tenclip_findings.report import read_results, section, write_page, write_report
from tenclip_findings.run import Measured, Options, write_results

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
        seeds=3,
    )
    seeds = tuple(
        SeedEvidence(
            seed=seed, correct=a, date="2026-01-02", version="1.2.3", machine="a machine", seconds=4.0, precision=None
        )
        for seed, a in enumerate(arms, start=1)
    )
    evidence = Evidence(name=finding.name, settings="of this", scale=0.5, seeds=seeds)
    return Measured(finding=finding, evidence=evidence)


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
    assert "3 seeds of 500 test videos (fewer than 1,600: small effects are not seen), at 0.5 times" in text


def test_a_page_keeps_the_tables_of_findings_that_are_not_in_this_run(tmp_path: Path) -> None:
    write_results([measured()], Options(out=tmp_path))
    values, page = read_results(tmp_path), tmp_path / "findings.md"
    (first,) = values["findings"]
    write_page(values, page)
    other = {**first, "name": "another", "number": 2, "question": "Is the other so?"}
    write_page({"findings": [other]}, page)
    text = page.read_text()
    assert text.index("### 2. Is the other so?") < text.index("### 7. Is it so?"), "by number"
    write_page({"findings": [{**first, "question": "Is it really?"}]}, page)
    text = page.read_text()
    assert "### 2. Is the other so?" in text
    assert "### 7. Is it really?" in text
    assert "### 7. Is it so?" not in text
    assert text.count("<!-- finding: another -->") == 1
    write_page({"findings": []}, page)
    assert page.read_text() == text


def test_a_page_whose_tables_do_not_end_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "findings.md"
    page.write_text("# Mine\n\n<!-- findings: begin -->\n\nmine\n")
    with pytest.raises(DatasetError, match=r"findings\.md: has .* and no"):
        write_page({"findings": []}, page)
    assert "mine" in page.read_text()


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
    assert "Measured on 2026-01-02, a machine, tenclip 1.2.3" in section(finding)


def test_findings_are_chosen_by_name_or_number_and_others_are_listed() -> None:
    assert [f.name for f in chosen(["log-linear"])] == ["log-linear"]
    assert "log-linear" in [f.name for f in chosen(["1"])]
    assert chosen([]) == all_findings()
    with pytest.raises(InvalidRequest, match=r"no finding nonsense; there are .*log-linear"):
        chosen(["nonsense"])
