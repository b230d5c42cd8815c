"""Results as a page to look at (`report.html`) and as a table for the documentation (`docs/findings.md`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup, escape

from tenclip_data.atomic import write_text
from tenclip_findings.finding import DETECTABLE_POINTS
from tenclip_findings.run import RESULTS, Options

REPORT = "report.html"
_WIDTH, _ROW, _LEFT, _SPAN = 640, 26, 250, 330


def write_report(options: Options) -> Path:
    """The page of `results.json`, which needs nothing else to be looked at."""
    values = read_results(options.out)
    environment = Environment(
        loader=PackageLoader("tenclip_findings"), autoescape=select_autoescape(), trim_blocks=True
    )
    page = environment.get_template("findings.html").render(**values, bars=bars, effects=effects)
    path = options.out / REPORT
    write_text(path, page)
    return path


def read_results(folder: Path) -> dict[str, Any]:
    """What `run_findings` has written."""
    values: dict[str, Any] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return values


_ARM = Markup(
    '<text x="{name_x}" y="{base}" text-anchor="end" class="name">{name}</text>'
    '<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" class="range {kind}"/>{seeds}'
    '<circle cx="{mean}" cy="{y}" r="4.5" class="dot {kind}"/>'
    '<text x="{value_x}" y="{base}" class="value">{value}</text>'
)
_SEED = Markup('<circle cx="{x}" cy="{y}" r="2" class="seed"/>')
_GRID = Markup(
    '<line x1="{x}" x2="{x}" y1="8" y2="{bottom}" class="grid"/><text x="{x}" y="{below}" class="tick">{t}%</text>'
)
_ZERO = Markup('<line x1="{x}" x2="{x}" y1="8" y2="{bottom}" class="zero"/>')


def bars(finding: Mapping[str, Any]) -> Markup:
    """Accuracy of every arm, with the smallest and the largest of its seeds, as SVG."""
    arms = finding["top1"]
    height = 40 + len(arms) * _ROW

    def at(percent: float) -> float:
        return round(_LEFT + percent / 100 * _SPAN, 1)

    rows = [_GRID.format(x=at(t), bottom=height - 24, below=height - 8, t=t) for t in (0, 25, 50, 75, 100)]
    for place, (name, spread) in enumerate(arms.items()):
        low, mean, high = (at(spread[key]) for key in ("low", "mean", "high"))
        rows.append(_row(place, name, low, mean, high, f"{spread['mean']:.1f}%"))
    return _svg(f"Top-1 accuracy of the arms of {finding['name']}", height, rows)


def effects(finding: Mapping[str, Any]) -> Markup:
    """Every contrast with its interval, and its seeds as small dots, as SVG."""
    contrasts = finding["contrasts"]
    ends = [abs(c["effect"][key]) for c in contrasts for key in ("low", "high")]
    reach = max(DETECTABLE_POINTS, *ends, *(abs(s["mean"]) for c in contrasts for s in c["seeds"]))

    def at(value: float) -> float:
        return round(_LEFT + (value / float(reach) + 1) / 2 * _SPAN, 1)

    height = 32 + len(contrasts) * _ROW
    rows = [_ZERO.format(x=at(0), bottom=height - 16)]
    for place, contrast in enumerate(contrasts):
        effect = contrast["effect"]
        low, mean, high = (at(effect[key]) for key in ("low", "mean", "high"))
        seeds = Markup("").join(_SEED.format(x=at(s["mean"]), y=_y(place)) for s in contrast["seeds"])
        kind = contrast["verdict"].replace(" ", "-")
        rows.append(_row(place, contrast["name"], low, mean, high, f"{effect['mean']:+.1f}", kind, seeds))
    return _svg(f"Effects of {finding['name']}", height, rows)


def _row(
    place: int, name: str, low: float, mean: float, high: float, value: str, kind: str = "", seeds: str = ""
) -> Markup:
    y = _y(place)
    return _ARM.format(
        name_x=_LEFT - 10,
        base=y + 4,
        name=name,
        y=y,
        low=low,
        mean=mean,
        high=high,
        kind=kind,
        seeds=seeds,
        value_x=_WIDTH - 46,
        value=value,
    )


def _y(place: int) -> int:
    return 22 + place * _ROW


def _svg(title: str, height: float, rows: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}"><title>{title}</title>{content}</svg>'
    ).format(width=_WIDTH, height=height, title=title, content=Markup("").join(rows))


def write_page(values: Mapping[str, Any], path: Path) -> None:
    """The table of the documentation, between two marks of a page that has them, else as a page of its own."""
    begin, end = "<!-- findings: begin -->", "<!-- findings: end -->"
    text = path.read_text(encoding="utf-8") if path.exists() else f"# Findings\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    write_text(path, f"{before}{begin}\n\n{markdown(values)}\n{end}{after}")


def markdown(values: Mapping[str, Any]) -> str:
    """The results as Markdown: a table of contrasts and one of accuracies for each finding."""
    lines = [f"Measured on {values['date']}, {values['machine']}, by `tenclip findings`.", ""]
    for finding in values["findings"]:
        lines += [f"### {finding['number']}. {finding['question']}", ""]
        lines += [f"{finding['paper']}. {finding['data']}. {_extent(finding)}", ""]
        lines += ["| Effect | Mean | 95% interval | Seeds | The paper | Verdict |", "|---|---|---|---|---|---|"]
        for c in finding["contrasts"]:
            effect, seeds = c["effect"], " ".join(f"{s['mean']:+.1f}" for s in c["seeds"])
            verdict = c["verdict"] + (" (below what can be detected here)" if c["below_detection"] else "")
            lines.append(
                f"| {_cell(c['name'])} ({c['unit']}) | {effect['mean']:+.1f} | {effect['low']:+.1f} to "
                f"{effect['high']:+.1f} | {seeds} | {_cell(c['paper'])} | {verdict} |"
            )
        arms = ", ".join(f"{_cell(name)} {s['mean']:.1f}" for name, s in finding["top1"].items())
        lines += ["", f"Top-1 in per cent, mean of the seeds: {arms}; guessing {finding['chance']:.1f}."]
        lines += ["", finding["notes"], ""] if finding["notes"] else [""]
    return "\n".join(lines)


def _extent(finding: Mapping[str, Any]) -> str:
    scale = "" if finding["scale"] == 1 else f", at {finding['scale']:.2g} times the videos and clips"
    return f"{finding['seeds']} seeds of {finding['test_videos']} test videos{scale}."


def _cell(text: str) -> str:
    return str(escape(text)).replace("|", "\\|")
