"""Results as a page to look at (`report.html`) and as a table for the documentation (`docs/findings.md`)."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import write_text
from tenclip_findings.charts import bars, effects
from tenclip_findings.lab.arms import WIDTH
from tenclip_findings.lab.sets import TEST_VIDEOS
from tenclip_findings.run import RESULTS, Options

REPORT = "report.html"


def write_report(options: Options) -> Path:
    """The page of `results.json`, which needs nothing else to be looked at."""
    values = read_results(options.out)
    environment = Environment(
        loader=PackageLoader("tenclip_findings"), autoescape=select_autoescape(), trim_blocks=True
    )
    page = environment.get_template("findings.html").render(
        **values, bars=bars, effects=effects, extent=_extent, learned=_learned, expected=_EXPECTED
    )
    path = options.out / REPORT
    write_text(path, page)
    return path


def read_results(folder: Path) -> dict[str, Any]:
    """What `run_findings` has written."""
    values: dict[str, Any] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return values


def write_page(values: Mapping[str, Any], path: Path, *, evidence: Path | None = None) -> None:
    """The tables of the documentation, between two marks of a page that has them, else as a page of its own. Findings
    that the page has and `values` has not, stay as they are.

    evidence: folder that the page links to, where it lies beside the page.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else f"# Findings\n\n{_BEGIN}\n{_END}\n"
    before, begin, rest = text.partition(_BEGIN)
    old, end, after = rest.partition(_END)
    if begin and not end:
        raise DatasetError(f"{path}: has {_BEGIN} and no {_END} after it; put it where the tables end")
    sections = dict[str, str](_SECTION.findall(old))
    links = evidence.name if evidence is not None and evidence.parent == path.parent else ""
    sections |= {f["name"]: section(f, links) for f in values["findings"]}
    tables = "\n\n".join(f"{_mark(name)}\n\n{text.strip()}" for name, text in sorted(sections.items(), key=_place))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{before}{_BEGIN}\n\n{tables or NOTHING}\n\n{_END}{after}")


_EXPECTED = {
    "positive": "",
    "negative": " (a loss is expected)",
    "none": " (no effect is expected)",
    "no gain": " (no gain is expected)",
    "no loss": " (no loss is expected)",
}
_BEGIN, _END = "<!-- findings: begin -->", "<!-- findings: end -->"
_SECTION = re.compile(r"<!-- finding: (\S+) -->\n(.*?)(?=<!-- finding: \S+ -->|\Z)", re.DOTALL)
NOTHING = "The tables are written here by `make findings`."


def _mark(name: str) -> str:
    return f"<!-- finding: {name} -->"


def _place(named: tuple[str, str]) -> tuple[int, str]:
    """By the number in its heading, then by name."""
    name, text = named
    number = re.search(r"^### (\d+)\.", text, re.MULTILINE)
    return (int(number[1]) if number else 1000, name)


def section(finding: Mapping[str, Any], links: str = "") -> str:
    """A finding as Markdown: its contrasts, and what its arms got right. links: folder of evidence files."""
    lines = [f"### {finding['number']}. {finding['question']}", ""]
    lines += [f"`{finding['name']}`: {finding['paper']}. {finding['data']}. {_extent(finding)}", ""]
    lines += ["| Effect | Mean | 95% interval | Seeds | The paper | Verdict |", "|---|---|---|---|---|---|"]
    for c in finding["contrasts"]:
        effect, seeds = c["effect"], " ".join(f"{s['mean']:+.1f}" for s in c["seeds"])
        below = " (below what can be detected here)" if c["below_detection"] else ""
        verdict = c["verdict"] + _EXPECTED[c["expected"]] + below
        lines.append(
            f"| {_cell(c['name'])} ({c['unit']}) | {effect['mean']:+.1f} | {effect['low']:+.1f} to "
            f"{effect['high']:+.1f} | {seeds} | {_cell(c['paper'])} | {verdict} |"
        )
    arms = "; ".join(f"{_cell(name)} {s['mean']:.1f}" for name, s in finding["top1"].items())
    lines += ["", f"Top-1 in per cent, mean of the seeds: {arms}; guessing {finding['chance']:.1f}."]
    lines += [line for text in (_fitted(finding), _learned(finding)) if text for line in ("", text)]
    if finding["notes"]:
        lines += ["", finding["notes"]]
    return "\n".join([*lines, "", _origin(finding, links)])


def _origin(finding: Mapping[str, Any], links: str) -> str:
    """When, where and with what it was measured."""
    words = f"Measured on {_both(finding['dates'])}, {_both(finding['machines'])}, tenclip {_both(finding['versions'])}"
    settings = f"settings `{finding['settings']}`"
    words += _trained(finding["precisions"])
    if not finding["of_these_settings"]:
        settings += ", which have changed since"
    link = f"; [hits of every video]({links}/{finding['name']}.json)" if links else ""
    return f"{words}, {settings}{link}."


def _fitted(finding: Mapping[str, Any]) -> str:
    """What arms made of their own training."""
    each = [f"{_cell(name)} {share:.1f}" for name, share in finding.get("fitted", {}).items()]
    return f"Of their own training, at its end: {'; '.join(each)}." if each else ""


def _learned(finding: Mapping[str, Any]) -> str:
    """What pre-trainings made of their own clips."""
    each = [
        f"{_cell(p['title'])} {100 * p['top1']:.1f}% right, loss {p['loss']:.2f} of {p['entropy']:.2f}"
        for p in finding["pretrainings"]
    ]
    said = f"Training clips of what came before, in its last epoch: {'; '.join(each)}." if each else ""
    if finding["unchecked_seeds"]:
        seeds = ", ".join(map(str, finding["unchecked_seeds"]))
        said += f" Of seeds {seeds} the evidence does not say whether pre-trainings have learned."
    return said.strip()


def _trained(precisions: Mapping[str, Sequence[int]]) -> str:
    """With the seeds where there are two."""
    if len(precisions) < 2:
        return "".join(f", trained in {name}" for name in precisions)
    parts = [f"in {name} (seeds {', '.join(map(str, seeds))})" for name, seeds in precisions.items()]
    return f", trained {' and '.join(parts)}"


def _both(words: Sequence[str]) -> str:
    return _cell(" and ".join(words))


def _extent(finding: Mapping[str, Any]) -> str:
    scale = "" if finding["scale"] == 1 else f", at {finding['scale']:.2g} times the videos and clips"
    if finding["width"] != WIDTH:
        scale += f", with networks {finding['width']} planes wide"
    few = "" if finding["test_videos"] >= TEST_VIDEOS else f" (fewer than {TEST_VIDEOS:,}: small effects are not seen)"
    return f"{_capital(finding['extent'])} of {finding['test_videos']:,} test videos{few}{scale}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|")
