"""Neighbours of videos by their features: an index on disk, exact or approximate search, duplicates.

Importing this package needs nothing else; its functions need pyarrow and faiss (`pip install 'tenclip[index]'`).

::

    metadata folder rows   what an index on disk consists of
    inputs tables build    made from tables of features
    recall                 how many of the nearest rows it finds, measured
    index duplicates       searched
    search_process process searched from a process that must not load faiss: one that holds torch, a server
    vectors                the only module that knows faiss
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenclip_index.index import Index

__all__ = ["open_index"]


def open_index(folder: Path | str, *, threads: int = 0) -> Index:
    """Open what `tenclip index build` wrote. threads: of all searches of this process; 0: as many as there are cores.

    Raises IndexNotFound where no index is, DatasetError for one that is damaged, MissingDependency without faiss.

    ::

        index = open_index("index")
        for neighbour in index.neighbours(matrix, k=5, by_video=True):  # float32 [Q,D]
            print(neighbour.score, neighbour.video, neighbour.start_seconds)
    """
    from tenclip_index.index import Index

    return Index.open(folder, threads=threads)
