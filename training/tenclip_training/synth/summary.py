"""What a generated folder holds, counted from its manifest."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_training.synth.nouns import Association

Row = Mapping[str, str]


def summarise(manifest: Path, seconds: float) -> dict[str, Any]:
    """Counts of a manifest and of the `synth.json` beside it, as plain values; `seconds`: how long making it took.

    verb_of_noun: how far a noun tells the verb, see nouns.Association, by the joint table and in the rows. Rows that
    show no verb or no noun do not count there.
    """
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    described = json.loads((manifest.parent / "synth.json").read_text(encoding="utf-8"))
    return {
        "manifest": str(manifest),
        "kind": described["config"]["kind"],
        "videos": len(rows),
        "frames": sum(int(row["frames"]) for row in rows),
        "video_seconds": round(sum(float(row["duration"] or 0) for row in rows), 1),
        "bytes": sum((manifest.parent / row["path"]).stat().st_size for row in rows),
        "encoder": described["encoder"],
        "classes": dict(Counter(row["label"] for row in rows)),
        "splits": dict(Counter(row["split"] for row in rows)),
        "wrong": sum(row["is_wrong"] == "1" for row in rows),
        "off_topic": sum(row["off_topic"] == "1" for row in rows),
        "nouns": dict(Counter(row["noun"] for row in rows if row["noun"])),
        "verb_of_noun": {"table": described["verb_of_noun"], "rows": _association(rows)},
        "seconds": round(seconds, 2),
    }


def in_words(summary: Mapping[str, Any]) -> str:
    """Two to four lines for people."""
    counts = summary["classes"].values()
    each = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    size = f"{summary['bytes'] / 1e6:.1f} MB ({_format(summary)})"
    lines = [
        f"{summary['videos']} {summary['kind']} of {len(summary['classes'])} classes ({each} each; "
        f"{', '.join(f'{count} {name}' for name, count in summary['splits'].items())}), "
        f"{summary['frames']} frames, {size} in {summary['seconds']:.1f} s"
    ]
    rows, table = summary["verb_of_noun"]["rows"], summary["verb_of_noun"]["table"]
    if table["noun_only_accuracy"] > table["chance"] + 1e-9 and rows is not None:
        lines.append(
            f"the noun alone names the verb in {table['noun_only_accuracy']:.1%} (chance {table['chance']:.1%}; "
            f"{table['mutual_information']:.2f} of {table['verb_entropy']:.2f} bits); "
            f"in these rows at most {rows['noun_only_accuracy']:.1%}"
        )
    if summary["wrong"] or summary["off_topic"]:
        lines.append(f"{summary['wrong']} are labelled wrong, {summary['off_topic']} show none of the classes")
    return "\n".join([*lines, str(summary["manifest"])])


def _association(rows: Sequence[Row]) -> dict[str, float] | None:
    both = [(row["verb"], row["noun"]) for row in rows if row["verb"] and row["noun"] and row["off_topic"] == "0"]
    if not both:
        return None
    verbs, nouns = (sorted(set(names)) for names in zip(*both, strict=True))
    table = np.zeros((len(verbs), len(nouns)), np.int64)
    for verb, noun in both:
        table[verbs.index(verb), nouns.index(noun)] += 1
    return dataclasses.asdict(Association.of(table))


def _format(summary: Mapping[str, Any]) -> str:
    names = {"libx264": "H.264", "jpg": "JPEG", "png": "PNG"}
    return names.get(summary["encoder"], "MPEG-4 part 2: FFmpeg has no libx264 here")
