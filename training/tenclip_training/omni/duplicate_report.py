"""The folder that `tenclip omni duplicates` writes: report.html, duplicates.csv, duplicates.json and pictures/."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tenclip_data.atomic import write_text
from tenclip_training.curation.report import template_environment, write_frames
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni.cosine_duplicates import CosinePair, CosineReport

COLUMNS = ("source", "target", "similarity", "source_share", "source_seconds", "target_seconds", "reviewed")


def write_report(
    out: Path,
    report: CosineReport,
    *,
    title: str,
    source: Mapping[str, SetVideo],
    target: Mapping[str, SetVideo],
    num_pictured: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report to the folder `out`, made if need be; returns the path of its page. Raises OSError.

    source, target: the files by name. num_pictured: pairs with pictures, from the top.
    """
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for left_over in pictures.glob("pair-*.jpg"):
        left_over.unlink()
    shown = []
    for number, pair in enumerate(report.pairs, start=1):
        row: dict[str, Any] = {"pair": pair, "source": None, "target": None}
        if number <= num_pictured:
            stem = f"pair-{number:04d}"
            (row["source"],) = write_frames(pictures, f"{stem}-source", source[pair.source], [pair.source_seconds])
            (row["target"],) = write_frames(pictures, f"{stem}-target", target[pair.target], [pair.target_seconds])
        shown.append(row)
        if progress:
            progress(number, len(report.pairs))
    write_text(out / "duplicates.csv", _csv(report))
    write_text(out / "duplicates.json", json.dumps(report_dict(report), indent=2) + "\n")
    template = template_environment("tenclip_training.omni").get_template("duplicates.html")
    write_text(out / "report.html", template.render(title=title, report=report, pairs=shown, num_pictured=num_pictured))
    return out / "report.html"


def pair_row(pair: CosinePair) -> dict[str, Any]:
    """A pair as plain values, times in seconds."""
    values = dataclasses.asdict(pair)
    return {name: round(values[name], 6) if isinstance(values[name], float) else values[name] for name in COLUMNS}


def report_dict(report: CosineReport) -> dict[str, Any]:
    """The report as plain values."""
    sides = []
    for which, failures in enumerate((report.source_failures, report.target_failures)):
        compared = (report.source_files, report.target_files)[which]
        sides.append(
            {
                "files": compared + len(failures),
                "compared": compared,
                "frames": report.frames[which],
                "failures": [dataclasses.asdict(f) for f in failures],
            }
        )
    return {
        "pairs": [pair_row(p) for p in report.pairs],
        "duplicates": list(report.duplicates),
        "threshold": dataclasses.asdict(report.threshold),
        "expected_by_chance": report.by_chance,
        "whitening": {
            "frames": report.whitening.frames,
            "dimensions": report.dimensions,
            "directions": report.whitening.directions,
            "shrinkage": report.whitening.shrinkage,
        },
        "source": sides[0],
        "target": sides[1],
        "unused_reviews": [{"source": s, "target": t} for s, t in report.unused_reviews],
    }


def _csv(report: CosineReport) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(pair_row(pair) for pair in report.pairs)
    return text.getvalue()
