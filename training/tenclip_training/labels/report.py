"""The report on label spaces: a table of sources, the long tail, the cumulative distribution, overlaps.

It is one HTML file with its charts as SVG (IG-65M table 1, section 4.2.1 and figure 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import write_text
from tenclip_training.labels.charts import Axis, Series, line_chart
from tenclip_training.labels.distribution import LabelDistribution, count_videos_with, label_distribution
from tenclip_training.labels.overlap import Overlap, label_overlap, read_target

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .3rem .8rem; border-bottom: 1px solid #8884 }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child, th:first-child { text-align: left }
svg { max-width: 44rem; display: block; margin: 1rem 0 }
"""


@dataclass(frozen=True, kw_only=True)
class SourceOverlap:
    """The overlap of one source with the target. shared_videos: its videos that have a shared label."""

    overlap: Overlap
    shared_videos: int
    share_of_source_videos: float

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.overlap.to_dict(),
            "shared_videos": self.shared_videos,
            "share_of_source_videos": self.share_of_source_videos,
        }


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """What is known of one or more labelled tables. overlaps: one for each source, where there is a target."""

    names: tuple[str, ...]
    sources: tuple[LabelDistribution, ...]
    target: str | None
    overlaps: tuple[SourceOverlap, ...]

    def to_dict(self) -> dict[str, Any]:
        rows = [{"name": name, **found.to_dict()} for name, found in zip(self.names, self.sources, strict=True)]
        for row, overlap in zip(rows, self.overlaps, strict=False):
            row["overlap"] = {"target": self.target, **overlap.to_dict()}
        return {"sources": rows}


def label_report(
    sources: Sequence[Path | str],
    *,
    column: str | None = None,
    target: Path | str | None = None,
    target_column: str | None = None,
) -> LabelReport:
    """Read the tables. target: what the overlap is computed with, see `read_target`.

    Raises FileNotFoundError and DatasetError.
    """
    found = tuple(label_distribution(source, column=column) for source in sources)
    wanted = None if target is None else read_target(target, column=target_column)
    overlaps: list[SourceOverlap] = []
    for source, distribution in zip(sources, found, strict=True):
        if wanted is not None:
            overlap = label_overlap(distribution.counts, wanted)
            videos = count_videos_with(source, {ours for ours, _ in overlap.common}, column=column)
            overlaps.append(
                SourceOverlap(
                    overlap=overlap, shared_videos=videos, share_of_source_videos=videos / distribution.videos
                )
            )
    return LabelReport(
        names=_distinct_names([Path(source) for source in sources]),
        sources=found,
        target=None if target is None else str(target),
        overlaps=tuple(overlaps),
    )


def long_tail_chart(report: LabelReport) -> Element:
    """Videos of each label by its rank, both axes logarithmic."""
    most = max(int(source.sizes[0]) for source in report.sources)
    longest = max(len(source.counts) for source in report.sources)
    series = [
        Series(name=name, x=np.arange(1.0, len(source.counts) + 1), y=source.sizes.astype(np.float64))
        for name, source in zip(report.names, report.sources, strict=True)
    ]
    says = "; ".join(
        f"{name}: {source.sizes[0]} to {source.sizes[-1]} videos a label"
        for name, source in zip(report.names, report.sources, strict=True)
    )
    return line_chart(
        "Long tail",
        says,
        series,
        x=Axis(label="labels, most frequent first", low=1, high=max(longest, 10), log=True),
        y=Axis(label="videos per label", low=1, high=max(most, 10), log=True),
    )


def cumulative_chart(report: LabelReport) -> Element:
    """Share of the videos that the most frequent labels hold, against their share of all labels: figure 3."""
    series = [
        Series(
            name=name,
            x=np.arange(len(source.counts) + 1) / len(source.counts),
            y=np.concatenate([[0.0], source.cumulative]),
        )
        for name, source in zip(report.names, report.sources, strict=True)
    ]
    says = "; ".join(
        f"{name}: {source.labels_for_80_percent} of {len(source.counts)} labels hold 80%"
        for name, source in zip(report.names, report.sources, strict=True)
    )
    return line_chart(
        "Cumulative distribution of videos per label",
        says,
        series,
        x=Axis(label="share of labels, most frequent first", low=0, high=1, percent=True),
        y=Axis(label="share of videos", low=0, high=1, percent=True),
    )


def write_report(report: LabelReport, out: Path | str) -> None:
    """Write one HTML file, or, with the suffix .svg, the cumulative distribution alone.

    Raises OSError, and DatasetError for another suffix.
    """
    out = Path(out)
    if out.suffix.lower() == ".svg":
        chart = cumulative_chart(report)
        chart.set("color", "#444")
        write_text(out, ElementTree.tostring(chart, encoding="unicode"))
    elif out.suffix.lower() in (".html", ".htm"):
        text = ElementTree.tostring(_page(report), encoding="unicode", method="html")
        write_text(out, f"<!doctype html>\n{text}\n")
    else:
        raise DatasetError(f"{out}: a report is written as .html, or as .svg (the cumulative distribution alone)")


def _page(report: LabelReport) -> Element:
    html = Element("html", lang="en")
    head, body = SubElement(html, "head"), SubElement(html, "body")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "title").text = "Label spaces"
    SubElement(head, "style").text = _STYLE
    SubElement(body, "h1").text = "Label spaces"
    body.append(_sources_table(report))
    SubElement(body, "h2").text = "Long tail"
    body.append(long_tail_chart(report))
    SubElement(body, "h2").text = "Cumulative distribution of videos per label"
    body.append(cumulative_chart(report))
    if report.overlaps:
        SubElement(body, "h2").text = f"Overlap with {report.target}"
        body.append(_overlap_table(report))
    return html


def _sources_table(report: LabelReport) -> Element:
    header = ("source", "videos", "labels", "least", "median", "most", "labels for 80%", "Gini")
    rows = [
        (
            *(name, f"{source.videos:,}", f"{len(source.counts):,}", f"{source.sizes[-1]:,}"),
            *(f"{np.median(source.sizes):,g}", f"{source.sizes[0]:,}"),
            *(f"{source.labels_for_80_percent:,}", f"{source.gini:.2f}"),
        )
        for name, source in zip(report.names, report.sources, strict=True)
    ]
    return _table(header, rows)


def _overlap_table(report: LabelReport) -> Element:
    header = ("source", "of the target's labels", "of the source's labels", "of the source's videos")
    rows = [
        (
            name,
            f"{o.overlap.share_of_target:.1%} ({o.overlap.shared_target_labels} of {o.overlap.target_labels})",
            f"{o.overlap.share_of_source:.1%} ({o.overlap.shared_source_labels} of {o.overlap.source_labels})",
            f"{o.share_of_source_videos:.1%} ({o.shared_videos:,} of {source.videos:,})",
        )
        for name, source, o in zip(report.names, report.sources, report.overlaps, strict=True)
    ]
    return _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Element:
    table = Element("table")
    for kind, cells in (("th", header), *(("td", row) for row in rows)):
        line = SubElement(table, "tr")
        for cell in cells:
            SubElement(line, kind).text = cell
    return table


def _distinct_names(sources: Sequence[Path]) -> tuple[str, ...]:
    """Names of files without their suffix, or whole paths where two are alike."""
    stems = [source.stem for source in sources]
    return tuple(stems if len(set(stems)) == len(stems) else map(str, sources))
