"""Neighbours: recall@10, time and size of every kind of index, against an exact search of float32 vectors.

    python -m tests.benchmarks.bench_index [--rows 1000000] [--dimension 512] [--queries 200] [--json]

The vectors are clustered as features of videos are: a tree of centres, videos around the leaves, clips around their
video, so that the nearest clips are of the video itself and the next ones hard to tell apart. `--random` takes vectors
without any structure instead, of which nothing that looks into some lists can find much. Queries are new clips of
indexed videos, and of videos that are not in the index. Time is that of one query after the other, and of all at once.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from tenclip_client.cli.output import output_console
from tenclip_index.recall import NearestRows
from tenclip_index.vectors import (
    FEWEST_PROBES,
    FEWEST_TRAINING_ROWS,
    TRAINING_ROWS_PER_LIST,
    Vectors,
    number_of_lists,
    unit_vectors,
)

Floats = NDArray[np.float32]
ROWS, DIMENSION, QUERIES, K = 1_000_000, 512, 200, 10
CLIPS = 10  # of a video
_ROWS_AT_ONCE = 8192


class Made:
    """Vectors made block by block, always the same: 20 topics, 50 actions of each, videos, clips."""

    def __init__(self, rows: int, dimension: int, *, random: bool) -> None:
        self.rows, self.dimension, self._random = rows, dimension, random
        rng = np.random.default_rng(0)
        topics = rng.normal(size=(20, 1, dimension))
        actions = topics + 0.7 * rng.normal(size=(20, 50, dimension))
        self._actions = actions.reshape(-1, dimension).astype(np.float32)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        for first in range(0, self.rows, _ROWS_AT_ONCE):
            yield first, self._block(first, min(_ROWS_AT_ONCE, self.rows - first), seed=1)

    def queries(self, count: int) -> Floats:
        """Half are new clips of videos that are indexed, half of others."""
        half = count // 2
        block = self._block(0, min(self.rows, _ROWS_AT_ONCE), seed=1, clip_seed=2)
        known = block[:: max(1, len(block) // half)][:half]
        return np.concatenate([known, self._block(0, count - len(known), seed=3)])

    def _block(self, first: int, count: int, *, seed: int, clip_seed: int = 0) -> Floats:
        rng = np.random.default_rng([seed, first])
        if self._random:
            return unit_vectors(rng.normal(size=(count, self.dimension)).astype(np.float32))
        videos = -(-count // CLIPS)
        centres = self._actions[rng.integers(0, len(self._actions), videos)]
        centres = centres + 0.5 * rng.standard_normal(centres.shape, np.float32)
        clips = np.random.default_rng([seed, first, clip_seed])
        rows = np.repeat(centres, CLIPS, axis=0)[:count]
        return unit_vectors(rows + 0.3 * clips.standard_normal(rows.shape, np.float32))


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_index", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--dimension", type=int, default=DIMENSION)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--random", action="store_true", help="vectors without clusters")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    options = parser.parse_args(argv)
    made = Made(options.rows, options.dimension, random=options.random)
    queries = made.queries(options.queries)
    truth = NearestRows(queries, np.full(len(queries), -2), k=K)
    for first, unit in made.blocks():
        truth.add(first, unit)
    results = {
        "rows": options.rows,
        "dimension": options.dimension,
        "queries": len(queries),
        "random": options.random,
        "kinds": [
            line
            for kind in ("exact-float32", "exact-fp16", "ivf-sq8")
            for line in measure_kind(kind, made, queries, truth)
        ],
    }
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        _print(results)
    return results


def measure_kind(kind: Any, made: Made, queries: Floats, truth: NearestRows) -> Iterator[dict[str, Any]]:
    """A line for the kind; for lists, one for each number of lists that are looked into."""
    began = time.perf_counter()
    vectors = build(kind, made)
    built = time.perf_counter() - began
    with tempfile.TemporaryFile() as file:
        vectors.write(file)
        size = file.tell()
    most, few = vectors.lists, queries[:: max(1, len(queries) // 50)]
    for probes in [p for p in (FEWEST_PROBES // 4, FEWEST_PROBES, 4 * FEWEST_PROBES) if p <= most] or [most]:
        search = partial(vectors.search, k=K + 1, probes=probes)
        singly = _seconds(search, [query[None] for query in few])
        together = _seconds(search, [queries])
        _, rows = search(queries)
        yield {
            "kind": kind,
            "lists": most,
            "probes": probes,
            "build_seconds": built,
            "megabytes": size / 1e6,
            "query_ms": 1000 * singly / len(few),
            "query_in_batch_ms": 1000 * together / len(queries),
            "recall_at_10": truth.found(rows),
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def build(kind: Any, made: Made) -> Vectors:
    lists = number_of_lists(made.rows) if kind == "ivf-sq8" else 0
    training: list[Floats] = []
    if lists:
        wanted = max(TRAINING_ROWS_PER_LIST * lists, FEWEST_TRAINING_ROWS)
        step = max(1, made.rows // wanted)
        training = [unit[::step] for _, unit in made.blocks()]
    sample = np.concatenate(training) if training else None
    vectors = Vectors.create(kind, made.dimension, training=sample, lists=lists)
    for _, unit in made.blocks():
        vectors.add(unit)
    return vectors


def _seconds(search: Callable[[Floats], Any], asked: list[Floats]) -> float:
    search(asked[0])  # memory and caches
    began = time.perf_counter()
    for queries in asked:
        search(queries)
    return time.perf_counter() - began


def _print(results: dict[str, Any]) -> None:
    kind = "random" if results["random"] else "clustered"
    table = Table(title=f"{results['rows']:,} x {results['dimension']}, {kind}, {results['queries']} queries")
    for column in ("index", "lists", "looked into", "build s", "MB", "ms a query", "in a batch", "recall@10"):
        table.add_column(column, justify="left" if column == "index" else "right")
    for line in results["kinds"]:
        table.add_row(
            line["kind"],
            str(line["lists"] or ""),
            str(line["probes"] or ""),
            f"{line['build_seconds']:.1f}",
            f"{line['megabytes']:.0f}",
            f"{line['query_ms']:.2f}",
            f"{line['query_in_batch_ms']:.2f}",
            f"{line['recall_at_10']:.4f}",
        )
    output_console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
