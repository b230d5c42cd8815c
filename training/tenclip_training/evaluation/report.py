"""Files of an evaluation: a page to look at, the confusion matrix, the scores of every video.

`tenclip evaluate --out FOLDER` writes all of them: report.html, confusion.csv, confusion.png, scores.parquet and
evaluation.json. Each is written whole or not at all.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.atomic import replacing, write_text
from tenclip_data.scan import printable_name
from tenclip_training.evaluation.counting import confused_pairs
from tenclip_training.evaluation.results import EvaluationResult

LARGEST_TABLE = 40  # classes whose confusion matrix is a table; larger ones are a picture
MOST_MISTAKES = 50
MOST_PAIRS = 20
_PICTURE_SIDE = 640  # pixels, at least
# Kind of file -> the file of that kind in a folder.
FILES = {
    ".html": "report.html",
    ".csv": "confusion.csv",
    ".png": "confusion.png",
    ".parquet": "scores.parquet",
    ".json": "evaluation.json",
}


def check_out(out: Path) -> None:
    """Before anything is evaluated. Raises InvalidRequest for a file of a kind that is not written."""
    if out.suffix and out.suffix.lower() not in FILES and not out.is_dir():
        raise InvalidRequest(f"{out}: an evaluation is written as {', '.join(FILES)}, or as a folder with all of them")


def write_evaluation(out: Path, result: EvaluationResult, *, title: str) -> list[Path]:
    """Write all files into the folder `out`, or the one kind that its suffix names; returns what was written.

    Without a confusion matrix (several labels a video) a folder has none. Raises DatasetError where a file cannot be
    written, InvalidRequest for another suffix and for the confusion matrix alone where there is none.
    """
    check_out(out)
    kind = "" if out.is_dir() else out.suffix.lower()
    if kind in (".csv", ".png") and result.confusion is None:
        raise InvalidRequest(f"{out}: videos with several labels have no confusion matrix; write .html or .parquet")
    writers = _writers(title)
    wanted = {out: writers[kind]} if kind else {out / FILES[k]: write for k, write in writers.items()}
    written = []
    try:
        (out.parent if kind else out).mkdir(parents=True, exist_ok=True)
        for path, write in wanted.items():
            if result.confusion is not None or path.suffix not in (".csv", ".png"):
                write(path, result)
                written.append(path)
    except OSError as err:
        raise DatasetError(f"{err.filename or out}: cannot be written: {err.strerror or err}") from err
    return written


def _writers(title: str) -> dict[str, Callable[[Path, EvaluationResult], None]]:
    def write_bytes(path: Path, content: bytes) -> None:
        with replacing(path) as file:
            file.write(content)

    def write_json(path: Path, result: EvaluationResult) -> None:
        write_text(path, json.dumps({"title": title, **result.to_dict()}, indent=2, allow_nan=False) + "\n")

    return {
        ".csv": lambda path, result: write_text(path, confusion_csv(result)),
        ".png": lambda path, result: write_bytes(path, heat_map(_confusion(result))),
        ".parquet": write_scores,
        ".json": write_json,
        ".html": lambda path, result: write_text(path, page(result, title=title)),
    }


def confusion_csv(result: EvaluationResult) -> str:
    """True classes in rows, predicted ones in columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *result.labels])
    for label, row in zip(result.labels, _confusion(result).tolist(), strict=True):
        writer.writerow([label, *row])
    return text.getvalue()


def heat_map(confusion: NDArray[np.int64]) -> bytes:
    """A PNG of [K,K]: each row by its share, white (none) to dark blue (all); a row without videos is grey."""
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    white, blue = np.array([255.0, 255.0, 255.0]), np.array([120.0, 40.0, 10.0])  # BGR
    picture = white + shares[..., None] * (blue - white)
    picture[totals[:, 0] == 0] = 225
    scale = max(1, -(-_PICTURE_SIDE // len(confusion)))
    large = np.kron(picture.round().astype(np.uint8), np.ones((scale, scale, 1), np.uint8))
    written, encoded = cv2.imencode(".png", large)
    if not written:
        raise OSError(f"a picture of {large.shape} cannot be encoded")
    return encoded.tobytes()


def write_scores(path: Path, result: EvaluationResult) -> None:
    """One row a video: video, labels, predicted (with heads one for each), score, correct, damaged, clips (their
    number) and scores, float32 [K] in the order of the metadata's `tenclip.labels` (JSON)."""
    import pyarrow
    import pyarrow.parquet

    values = result.to_dict()["videos"]
    names = [printable_name(v["video"]) for v in values]
    predicted = [v["predicted"] if isinstance(v["predicted"], list) else [v["predicted"]] for v in values]
    correct = [
        set(p) <= set(v["labels"]) if result.heads else p[0] in v["labels"]
        for p, v in zip(predicted, values, strict=True)
    ]
    flat = np.stack([s.video for s in result.scores]).astype(np.float32).ravel()
    table = pyarrow.table(
        {
            "video": names,
            "labels": pyarrow.array([v["labels"] for v in values], pyarrow.list_(pyarrow.string())),
            "predicted": predicted if result.heads else [p[0] for p in predicted],
            "score": pyarrow.array([v["score"] for v in values], pyarrow.float32()),
            "correct": correct,
            "damaged": [s.is_damaged for s in result.scores],
            "clips": [len(s.clips) for s in result.scores],
            "scores": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), len(result.labels)),
        }
    )
    facts = {
        "tenclip.labels": json.dumps(list(result.labels)),
        "tenclip.protocol": result.protocol,
        "tenclip.split": result.split,
        "tenclip.activation": result.activation,
    }
    with replacing(path) as file:
        pyarrow.parquet.write_table(table.replace_schema_metadata(facts), file)


# -- the page --


def page(result: EvaluationResult, *, title: str) -> str:
    """One HTML file that needs nothing else: figures, classes by accuracy, confusion, calibration, mistakes."""
    confusion = None if result.confusion is None else _confusion(result)
    values: dict[str, Any] = {
        "title": title,
        "result": result,
        "mean_ap": result.mean_average_precision,
        "classes": _classes(result),
        "table": None,
        "picture": None,
        "pairs": [],
        "mistakes": [(s, float(s.video.max()), result.labels[s.predicted]) for s in result.mistakes[:MOST_MISTAKES]],
        "most_skipped": 100,
    }
    if confusion is not None:
        values["pairs"] = confused_pairs(confusion)[:MOST_PAIRS]
        if len(result.labels) <= LARGEST_TABLE:
            values["table"] = _table(confusion)
        else:
            values["picture"] = base64.b64encode(heat_map(confusion)).decode()
    environment = Environment(
        loader=PackageLoader("tenclip_training.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Names of files may hold bytes that are no text.
    return environment.get_template("evaluation.html").render(values).encode(errors="replace").decode()


def _classes(result: EvaluationResult) -> list[tuple[str, Any, float]]:
    """(class, its accuracy, its average precision), the least accurate first; those without a video come last."""
    rows = list(zip(result.labels, result.per_class, result.average_precisions.tolist(), strict=True))
    return sorted(rows, key=lambda row: (row[1].total == 0, row[1].value if row[1].total else 0.0, -row[1].total))


def _table(confusion: NDArray[np.int64]) -> list[list[tuple[int, float]]]:
    """(count, share of its row) of each cell."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return [list(zip(c, s, strict=True)) for c, s in zip(confusion.tolist(), shares.tolist(), strict=True)]


def _confusion(result: EvaluationResult) -> NDArray[np.int64]:
    assert result.confusion is not None
    return np.array(result.confusion, np.int64)
