from __future__ import annotations

import xml.etree.ElementTree as ET

from tenclip_findings.salience.chart import all_series, draw
from tenclip_findings.salience.report import CHART, page
from tenclip_findings.salience.verdicts import verdicts

from .made_up import BOUNDS, SCORERS, results


def test_the_page_says_what_the_verdicts_say() -> None:
    found = results()
    text = page(found)
    for line in verdicts(found):
        assert f"| {line.claim} | {line.scorer} | **{line.verdict}** | {line.figures} |" in text
    assert "Seeds: 1, 2, 3" in text
    assert "a made-up machine" in text
    assert f"({CHART})" in text
    assert "A quick run" not in text


def test_tables_are_of_one_width() -> None:
    width = 0
    for line in page(results()).splitlines():
        columns = line.count("|") if line.startswith("|") else 0
        assert columns in (width, 0) or width == 0, line
        width = columns


def test_an_arm_has_its_spread_and_its_difference() -> None:
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in page(results()).splitlines()}
    row = rows[f"salient ({SCORERS[0]}), 10"]
    assert "75.0% (75.0% to 75.0%)" in row
    assert "+25.0 points (+" in row
    assert "101%" in row


def test_the_chart_is_xml_with_every_arm() -> None:
    found = results()
    root = ET.fromstring(draw(found))
    text = " ".join(root.itertext())
    names = [s.name for s in all_series(found, "test")]
    assert names[:3] == ["uniform", "all windows", "oracle: windows of the action"]
    assert all(name in text for name in names)
    assert len(names) == 3 + 2 * len(SCORERS)
    adaptive = next(s for s in all_series(found, "test") if s.name == f"adaptive ({SCORERS[0]})")
    assert len(adaptive.points) == len(BOUNDS), "one for each error bound"
