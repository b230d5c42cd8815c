"""Codes of many videos in a folder of Parquet files, computed once; see `video_store`.

Columns: `start_seconds`, `codes` (a list of uint64, one for each 1/16 s), `flat` (a list of bool), `bars` (top, bottom,
left, right), beside those of every store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_training.curation.frame_codes import RECIPE, VideoCodes, compute_codes
from tenclip_training.curation.killable import DEFAULT_TIMEOUT_SECONDS
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import Progress, StoreFailure, VideoStore, only_chunk

_COLUMNS = (
    ("start_seconds", pa.float64()),
    ("codes", pa.large_list(pa.uint64())),
    ("flat", pa.large_list(pa.bool_())),
    ("bars", pa.list_(pa.int32())),
)


@dataclass(frozen=True)
class CodeTable:
    """Codes of videos one behind the other, in memory.

    codes, flat: [total]. starts: [V + 1], video v has codes[starts[v] : starts[v + 1]]. start_seconds: [V], the time of
    each video's first code.
    """

    names: tuple[str, ...]
    codes: NDArray[np.uint64]
    flat: NDArray[np.bool_]
    starts: NDArray[np.int64]
    start_seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def video(self, index: int) -> VideoCodes:
        """The codes of one video."""
        part = slice(self.starts[index], self.starts[index + 1])
        return VideoCodes(codes=self.codes[part], flat=self.flat[part], start_seconds=float(self.start_seconds[index]))

    @classmethod
    def of(cls, videos: Mapping[str, VideoCodes]) -> CodeTable:
        """The table of these videos, by name."""
        lengths = [len(v.codes) for v in videos.values()]
        return cls(
            names=tuple(videos),
            codes=np.concatenate([np.zeros(0, np.uint64), *(v.codes for v in videos.values())]),
            flat=np.concatenate([np.zeros(0, np.bool_), *(v.flat for v in videos.values())]),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            start_seconds=np.array([v.start_seconds for v in videos.values()], np.float64),
        )


class CodeStore(VideoStore):
    """The codes in one folder. Raises DatasetError for files that are damaged or of another recipe."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, noun="codes", columns=_COLUMNS, recipe=RECIPE)

    def update(
        self,
        videos: Sequence[SetVideo],
        *,
        workers: int,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        progress: Progress | None = None,
    ) -> int:
        """Compute the codes of the videos that have none or whose files have changed; returns how many those were.

        A video that cannot be read is entered with the reason, and tried again only when its file has changed.
        """
        return self.fill(
            videos, codes_of, _columns, workers=workers, timeout_seconds=timeout_seconds, progress=progress
        )

    def read(self, videos: Sequence[SetVideo]) -> tuple[CodeTable, list[StoreFailure]]:
        """The codes of these videos, in their order, under their names; and those that have none."""
        rows, names, failures = self.rows_of(videos)
        codes, flat = (only_chunk(rows.column(name)) for name in ("codes", "flat"))
        table = CodeTable(
            names=names,
            codes=np.asarray(codes.flatten().to_numpy(zero_copy_only=False), np.uint64),
            flat=np.asarray(flat.flatten().to_numpy(zero_copy_only=False), np.bool_),
            starts=np.concatenate([[0], np.cumsum(codes.value_lengths().to_numpy(zero_copy_only=False))]).astype(
                np.int64
            ),
            start_seconds=np.asarray(rows.column("start_seconds").to_numpy(), np.float64),
        )
        return table, failures


def codes_of(video: SetVideo) -> VideoCodes:
    """`compute_codes` of a video of a set."""
    return compute_codes(video.path, start_seconds=video.start_seconds, end_seconds=video.end_seconds, name=video.name)


def _columns(video: SetVideo, codes: VideoCodes) -> dict[str, Any]:
    return {
        "start_seconds": video.start_seconds or 0.0,
        "codes": codes.codes,
        "flat": codes.flat,
        "bars": list(astuple(codes.bars)),
    }
