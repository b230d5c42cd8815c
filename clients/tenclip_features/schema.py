"""The schema of a feature table: a Parquet file with one row a clip, which the writer and the reader share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

# What a table needs to be read.
COLUMNS = ("video", "clip_index", "start_seconds", "end_seconds", "features", "model", "version")
# The state of the video's file when it was read (`VideoStamp`); null where the client had no file. Tables that were
# written by earlier versions do not have these columns. (Plain integers: not every reader takes times of nanoseconds.)
STAMP_COLUMNS = ("video_bytes", "video_mtime_ns", "video_sha256")
# Metadata: the settings of the extraction as one JSON object, beside `tenclip.NAME` for each of them.
SETTINGS_KEY = b"tenclip.settings"
METADATA_PREFIX = "tenclip."


def shown_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Metadata for people and other programs, one value each; those that are None are left out.

    >>> shown_settings({"model": "moves", "num_clips": 3, "start": None})
    {'tenclip.model': 'moves', 'tenclip.num_clips': '3'}
    """
    return {
        f"{METADATA_PREFIX}{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
        if value is not None
    }


def table_schema(feature_dim: int) -> pa.Schema:
    """The columns of a table of `feature_dim` features a clip.

    Features are lists of a fixed size, so that `table["features"].combine_chunks().flatten()` is the whole matrix.

    >>> table_schema(512).field("features").type.list_size
    512
    """
    return pa.schema(
        [
            ("video", pa.string()),
            ("clip_index", pa.int32()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("features", pa.list_(pa.float32(), feature_dim)),
            ("model", pa.string()),
            ("version", pa.string()),
            ("video_bytes", pa.int64()),
            ("video_mtime_ns", pa.int64()),
            ("video_sha256", pa.string()),
        ]
    )
