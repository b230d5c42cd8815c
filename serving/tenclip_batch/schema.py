"""Columns of the two tables of a batch dataset: `clips/`, a row a clip, and `videos/`, a row a video.

Letters: D features, K classes.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from tenclip_features.schema import table_schema

Task = Literal["features", "predict"]
DONE, FAILED = "done", "failed"


def clips_schema(task: Task, *, feature_dim: int, num_classes: int) -> pa.Schema:
    """Of `clips/`: for features the columns of `tenclip features`, for predictions the scores of each clip.

    >>> clips_schema("predict", feature_dim=512, num_classes=400).field("scores").type.list_size
    400
    """
    if task == "features":
        return table_schema(feature_dim)
    return pa.schema(
        [
            ("video", pa.string()),
            ("clip_index", pa.int32()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            *_scores(num_classes),
            ("model", pa.string()),
            ("version", pa.string()),
        ]
    )


def videos_schema(task: Task, *, num_classes: int) -> pa.Schema:
    """Of `videos/`: what became of each video.

    state is "done" or "failed"; error_kind is the stable name of the error, `error` the error in words. file: where the
    features are, below the dataset, for --format npy and npz. video_bytes, video_mtime_ns, video_sha256: the state of
    the file when it was read, by which a change is noticed.
    """
    return pa.schema(
        [
            ("video", pa.string()),
            ("state", pa.string()),
            ("clips", pa.int32()),
            ("duration_seconds", pa.float64()),
            ("frames", pa.int64()),
            ("frames_per_second", pa.float64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("codec", pa.string()),
            ("frames_corrupt", pa.int64()),
            ("frames_substituted", pa.int64()),
            ("error_kind", pa.string()),
            ("error", pa.string()),
            ("file", pa.string()),
            ("video_bytes", pa.int64()),
            ("video_mtime_ns", pa.int64()),
            ("video_sha256", pa.string()),
            *(_scores(num_classes) if task == "predict" else ()),
        ]
    )


def _scores(num_classes: int) -> list[tuple[str, pa.DataType]]:
    return [
        ("top_labels", pa.list_(pa.string())),
        ("top_scores", pa.list_(pa.float32())),
        ("scores", pa.list_(pa.float32(), num_classes)),
    ]
