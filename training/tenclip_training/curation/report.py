"""The folder that `tenclip curate duplicates` writes: report.html, duplicates.csv, duplicates.json and pictures/."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from tenclip_api.errors import TenclipError
from tenclip_data.atomic import replacing, write_text
from tenclip_training.curation.duplicates import DuplicateReport, Pair
from tenclip_training.curation.video_sets import SetVideo
from tenclip_video.images import read_image
from tenclip_video.spec import Resize
from tenclip_video.video import open_video

COLUMNS = (
    *("source", "target", "source_share", "target_share", "seconds", "source_from", "source_to"),
    *("target_from", "target_to", "mirrored", "reviewed"),
)
FRAMES_A_PAIR = 4
_PICTURE = Resize(mode="short_edge", short_edge=120)


def write_report(
    out: Path,
    report: DuplicateReport,
    *,
    title: str,
    source: Mapping[str, SetVideo],
    target: Mapping[str, SetVideo],
    num_pictured: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report to the folder `out`, made if need be; returns the path of its page.

    source, target: the videos by name. num_pictured: pairs with pictures, from the top. Raises OSError.
    """
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for left_over in pictures.glob("pair-*.jpg"):
        left_over.unlink()
    shown = []
    for number, pair in enumerate(report.pairs, start=1):
        frames = []
        if number <= num_pictured:
            frames = _pictures(pictures, number, pair, source[pair.source], target[pair.target])
        shown.append({"pair": pair, "row": pair_row(pair), "frames": frames})
        if progress:
            progress(number, len(report.pairs))
    write_text(out / "duplicates.csv", pairs_csv(report.pairs))
    write_text(out / "duplicates.json", json.dumps(report_dict(report), indent=2) + "\n")
    page = (
        template_environment()
        .get_template("duplicates.html")
        .render(title=title, report=report, pairs=shown, num_pictured=num_pictured)
    )
    write_text(out / "report.html", page)
    return out / "report.html"


def pair_row(pair: Pair) -> dict[str, Any]:
    """A pair as plain values; where it matches is its longest stretch. Times in seconds."""
    longest = pair.match.stretches[0]
    return {
        "source": pair.source,
        "target": pair.target,
        "source_share": round(pair.match.source_share, 4),
        "target_share": round(pair.match.target_share, 4),
        "seconds": round(pair.match.seconds, 3),
        **{name: round(value, 3) for name, value in dataclasses.asdict(longest).items()},
        "mirrored": pair.mirrored,
        "reviewed": pair.reviewed,
    }


def pairs_csv(pairs: Sequence[Pair]) -> str:
    """A row a pair, with the columns COLUMNS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(pair_row(pair) for pair in pairs)
    return text.getvalue()


def report_dict(report: DuplicateReport) -> dict[str, Any]:
    """The report as plain values, every stretch of every pair included."""
    return {
        "pairs": [
            {**pair_row(p), "stretches": [_rounded(dataclasses.asdict(s)) for s in p.match.stretches]}
            for p in report.pairs
        ],
        "duplicates": list(report.duplicates),
        "source": _set_dict(report, 0),
        "target": _set_dict(report, 1),
        "candidates": report.candidates,
        "rules": dataclasses.asdict(report.rules),
        "unused_reviews": [{"source": s, "target": t} for s, t in report.unused_reviews],
        "warnings": list(report.warnings),
    }


def _set_dict(report: DuplicateReport, which: int) -> dict[str, Any]:
    failures = (report.source_failures, report.target_failures)[which]
    compared = (report.source_videos, report.target_videos)[which]
    return {
        "videos": compared + len(failures),
        "compared": compared,
        "frames": report.frames[which],
        "flat_frames": report.flat_frames[which],
        "failures": [dataclasses.asdict(f) for f in failures],
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


# -- pictures --


def _pictures(folder: Path, number: int, pair: Pair, source: SetVideo, target: SetVideo) -> list[dict[str, Any]]:
    """Matched frames of both videos as files: spread over the pair, the most alike of each part."""
    parts = np.array_split(np.arange(len(pair.match.frames)), min(FRAMES_A_PAIR, len(pair.match.frames)))
    chosen = [min((pair.match.frames[i] for i in part), key=lambda f: f[2]) for part in parts]
    names = {}
    for side, video, times in (
        ("source", source, [c[0] for c in chosen]),
        ("target", target, [c[1] for c in chosen]),
    ):
        names[side] = write_frames(folder, f"pair-{number:04d}-{side}", video, times)
    return [
        {
            "source": names["source"][i],
            "target": names["target"][i],
            "source_seconds": c[0],
            "target_seconds": c[1],
            "bits": c[2],
        }
        for i, c in enumerate(chosen)
    ]


def write_frames(folder: Path, stem: str, video: SetVideo, seconds: Sequence[float]) -> list[str | None]:
    """Write the frames at these ascending times as JPEG files; None for each where the video can no longer be read.

    Of an image, itself for each.
    """
    try:
        if video.is_image:
            image = read_image(video.path, _PICTURE, name=video.name)
            return [_write_jpeg(folder, f"{stem}-{i}.jpg", image) for i in range(len(seconds))]
        with open_video(video.path, name=video.name) as opened:
            at = np.maximum(np.searchsorted(opened.times, np.array(seconds) + 1e-6, side="right") - 1, 0)
            indices = np.unique(at)
            frames = opened.read_frames(indices, _PICTURE)
    except (TenclipError, OSError, av.FFmpegError):
        return [None] * len(seconds)
    return [
        _write_jpeg(folder, f"{stem}-{i}.jpg", frames[int(np.searchsorted(indices, index))])
        for i, index in enumerate(at)
    ]


def _write_jpeg(folder: Path, name: str, frame: NDArray[np.uint8]) -> str:
    """The file's path as seen from the report."""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    with replacing(folder / name) as file:
        file.write(jpeg.tobytes())
    return f"pictures/{quote(name)}"


def template_environment(package: str = "tenclip_training.curation") -> Environment:
    """Jinja2 as reports use it, over the templates of a package."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
