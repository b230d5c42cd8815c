"""The page of `tenclip omni filter`: sources, classes before and after, and pictures of what was kept and rejected."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tenclip_data.atomic import write_text
from tenclip_training.curation.report import template_environment, write_frames
from tenclip_training.omni.filter_files import FilterReport, Judged
from tenclip_training.omni.teacher_filter import SourceResult, Truth
from tenclip_training.omni.web_files import as_video, true_label


def write_filter_report(
    folder: Path,
    report: FilterReport,
    *,
    title: str,
    num_pictured: int = 24,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write report.html, filter.json and pictures/ to `folder`; returns the path of the page. Raises OSError.

    num_pictured: files of each source that are shown, half of them kept and half rejected, spread over confidences.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for left_over in pictures.glob("row-*.jpg"):
        left_over.unlink()
    shown = {s.source: _chosen(report.rows, s.source, num_pictured) for s in report.sources}
    total, done = sum(map(len, shown.values())), 0
    cards: dict[str, list[dict[str, Any]]] = {}
    for source, rows in shown.items():
        for row in rows:
            cards.setdefault(source, []).append(_card(pictures, done, row))
            done += 1
            if progress:
                progress(done, total)
    write_text(folder / "filter.json", json.dumps(report_dict(report), indent=2, allow_nan=False) + "\n")
    template = template_environment("tenclip_training.omni").get_template("filter.html")
    page = template.render(
        title=title, report=report, classes=class_rows(report), cards=cards, threshold_text=threshold_text
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def class_rows(report: FilterReport) -> list[dict[str, Any]]:
    """label, before, after: files of all sources, the most frequent class first; classes of none are in it."""
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for source in report.sources:
        before.update(source.before)
        after.update(source.after)
    labels = dict.fromkeys((*report.classes, *before))
    rows = [{"label": label, "before": before[label], "after": after[label]} for label in labels]
    return sorted(rows, key=lambda row: (-row["before"], -row["after"], row["label"]))


def report_dict(report: FilterReport) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "teacher": report.teacher,
        "pseudo_label": report.pseudo_label,
        "files": len(report.rows) + len(report.failures),
        "kept": len(report.kept),
        "sources": [_source_dict(s) for s in report.sources],
        "classes": class_rows(report),
        "sources_without_survivors": list(report.dropped),
        "classes_without_files": list(report.uncovered),
        "truth": None if report.truth is None else truth_dict(report.truth),
        "failures": [dataclasses.asdict(f) for f in report.failures],
    }


def _source_dict(source: SourceResult) -> dict[str, Any]:
    values = dataclasses.asdict(source)
    del values["before"], values["after"]
    return {
        **values,
        "threshold": source.threshold if math.isfinite(source.threshold) else None,
        "kept_share": round(source.kept_share, 6),
        "truth": None if source.truth is None else truth_dict(source.truth),
    }


def truth_dict(truth: Truth) -> dict[str, Any]:
    """Counts and rates."""
    rates = {name: getattr(truth, name) for name in ("precision_before", "precision", "recall")}
    return {**dataclasses.asdict(truth), **rates}


def threshold_text(source: SourceResult) -> str:
    """For people."""
    return f"{source.threshold:.3f}" if math.isfinite(source.threshold) else "none can be kept"


def _chosen(rows: Sequence[Judged], source: str, count: int) -> list[Judged]:
    """Kept and rejected ones of a source, evenly over their confidences, the most confident first."""
    found: list[Judged] = []
    for kept in (True, False):
        these = sorted((r for r in rows if r.source == source and r.kept == kept), key=lambda r: -r.confidence)
        step = max(1.0, len(these) / max(count // 2, 1))
        found += [these[int(i * step)] for i in range(min(count // 2, len(these)))]
    return found


def _card(pictures: Path, number: int, row: Judged) -> dict[str, Any]:
    sample = row.sample
    at = _middle(sample.start_seconds, sample.end_seconds)
    (picture,) = write_frames(pictures, f"row-{number:04d}", as_video(sample), [at])
    return {"row": row, "picture": picture, "truth": true_label(sample)}


def _middle(start: float | None, end: float | None) -> float:
    """Seconds: of a whole video one second, for its length is not known here."""
    start = start or 0.0
    return start + 1.0 if end is None else (start + end) / 2
