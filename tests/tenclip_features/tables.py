"""Small feature tables and manifests for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from tenclip_data.manifest import Manifest, read_manifest

DIM = 6
# As tables of earlier versions are: lists of any length, and nothing on the state of the videos.
SCHEMA = pyarrow.schema(
    [
        ("video", pyarrow.string()),
        ("clip_index", pyarrow.int32()),
        ("start_seconds", pyarrow.float64()),
        ("end_seconds", pyarrow.float64()),
        ("features", pyarrow.list_(pyarrow.float32())),
        ("model", pyarrow.string()),
        ("version", pyarrow.string()),
    ]
)


def row(video: str, clip: int, features: Any, **changes: Any) -> dict[str, Any]:
    values = {
        "video": video,
        "clip_index": clip,
        "start_seconds": float(clip),
        "end_seconds": clip + 1.0,
        "features": np.asarray(features, np.float32).tolist(),
        "model": "demo",
        "version": "1",
    }
    return values | changes


def write_table(path: Path, rows: list[dict[str, Any]], schema: pyarrow.Schema = SCHEMA) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)
    return path


def write_labels(path: Path, rows: Sequence[tuple[str, ...]], header: str = "path,label,split") -> Manifest:
    path.write_text(f"{header}\n" + "".join(f"{','.join(r)}\n" for r in rows))
    return read_manifest(path, missing="keep")


def clusters(
    tmp_path: Path, *, classes: int = 3, train: int = 8, test: int = 4, noise: float = 0.5, clips: int = 2
) -> tuple[Path, Manifest]:
    """Videos whose features lie around a centre of their class, on very different scales."""
    rng = np.random.default_rng(0)
    centers, scale = rng.normal(size=(classes, DIM)) * 2, 10.0 ** np.arange(-3, DIM - 3)
    rows, labels = [], []
    for c in range(classes):
        for i in range(train + test):
            name = f"{'abcdef'[c]}/{i}.mp4"
            labels.append((name, "abcdef"[c], "train" if i < train else "test"))
            rows += [row(name, k, (centers[c] + rng.normal(size=DIM) * noise) * scale + 5) for k in range(clips)]
    rng.shuffle(rows)
    return write_table(tmp_path / "f.parquet", rows), write_labels(tmp_path / "m.csv", labels)
