"""Tables of features: how they are written, read, joined to labels, and probed.

Importing this package needs nothing else; its functions need pyarrow, probes scikit-learn too
(`pip install 'tenclip[probe]'`).

::

    rows stamps schema     what a table consists of
    journal writer         written: resumable, then merged
    table join             read, and joined to labels
    linear folds scores    linear classifiers, cross-validation, figures
    knn                    nearest neighbours as a classifier
    probe probe_results    a classifier on a table: fitted, counted, averaged
    probe_files console    saved, printed; `tenclip probe` is in commands
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

__all__ = ["read_features"]


def read_features(path: Path | str) -> tuple[NDArray[np.float32], pyarrow.Table]:
    """Read a table that `tenclip features` wrote: (matrix float32 [N,D], table of N rows), one row a clip.

    Row i of both is the same clip. The table has every column of the file: video, clip_index, start_seconds,
    end_seconds, features, model, version, and the state of the video's file when it was read (video_bytes,
    video_mtime_ns, video_sha256).
    Raises DatasetError that names the file where it is no Parquet file, has no rows or no column "features", or its
    vectors differ in length or are not finite.

    ::

        matrix, table = read_features("clips.parquet")
        videos = table["video"].to_pylist()
    """
    from tenclip_features import table

    return table.read_features(path)
