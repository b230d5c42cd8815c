"""Matching the tags of a generated table of ten million videos to labels: time and memory of the process.

The table has an id, a file name and about five tags a row: hashtags of labels and chatter, each drawn by a power law,
as people write them (letter case, emoji, accents). It is matched to two label spaces: actions, and a product of verbs
and nouns. Each matching runs in a process of its own, so that its peak of resident memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from tenclip_training.labels.match import match_labels
from tenclip_training.labels.spaces import LabelSpace, action_space, verb_noun_space

VERBS = ("catching", "burning", "riding", "playing", "eating", "washing", "throwing", "cutting", "opening", "painting")
NOUNS = ("fish", "candle", "horse", "guitar", "apple", "car", "ball", "bread", "door", "wall", "boat", "camera")
MANY_VERBS = (*VERBS, "walking", "jumping", "cleaning", "holding", "making", "drawing", "pulling", "pushing", "lifting")
CHATTER = 200_000  # distinct tags that are no label's
_ROWS_AT_ONCE = 500_000


@dataclass(frozen=True, kw_only=True)
class Line:
    """One matching. peak_mib: resident memory of its process, generation left out."""

    space: str
    labels: int
    hashtags: int
    rows: int
    tags: int
    videos: int
    labels_kept: int
    seconds: float
    peak_mib: float


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--table", type=Path, help="match this table here and print JSON: what the parent starts")
    parser.add_argument("--space", default="actions", choices=("actions", "verb x noun"))
    options = parser.parse_args(argv)
    if options.table is not None:
        print(json.dumps(asdict(measure(options.table, options.space))))
        return {}
    with tempfile.TemporaryDirectory(prefix="tenclip-bench-") as folder:
        table = Path(folder) / "videos.parquet"
        began = time.perf_counter()
        generate(table, options.rows)
        size = table.stat().st_size
        print(f"{options.rows} rows, {size / 1e6:.0f} MB, generated in {time.perf_counter() - began:.1f} s")
        lines = [in_a_process(table, name) for name in ("actions", "verb x noun")]
    show(lines)
    return {"table_bytes": size, "lines": [asdict(line) for line in lines]}


def in_a_process(table: Path, space: str) -> Line:
    command = [sys.executable, "-m", "tests.benchmarks.bench_labels", "--table", str(table), "--space", space]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Line(**json.loads(done.stdout))


def measure(table: Path, name: str) -> Line:
    began = time.perf_counter()
    space = make_space(name)
    report = match_labels(table, space, tags="tags", out=table.with_name("matched.parquet"))
    return Line(
        space=name,
        labels=len(space.labels),
        hashtags=report.hashtags,
        rows=report.rows,
        tags=report.tags,
        videos=report.videos,
        labels_kept=report.labels,
        seconds=time.perf_counter() - began,
        # Kibibytes on Linux.
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def make_space(name: str) -> LabelSpace:
    """120 actions ("catching a fish"), or 438 verbs x 1,428 nouns as in the paper, most of which nobody tags."""
    if name == "actions":
        return action_space([f"{verb} a {noun}" for verb in VERBS for noun in NOUNS])
    verbs = [*MANY_VERBS, *(f"verb{i}" for i in range(438 - len(MANY_VERBS)))]
    nouns = [*NOUNS, *(f"noun{i}" for i in range(1428 - len(NOUNS)))]
    return verb_noun_space(verbs, nouns)


def generate(path: Path, rows: int) -> None:
    """Write the table, in parts so that memory stays small."""
    rng = np.random.default_rng(0)
    space = action_space([f"{verb} a {noun}" for verb in VERBS for noun in NOUNS])
    hashtags = rng.permutation(space.hashtags["tag"].to_pylist())
    emoji = ("", "", "", "", "", "", "🔥", "É")
    words = pa.array([f"#{tag.title() if i % 3 else tag}{emoji[i % 8]}" for i, tag in enumerate(hashtags)])
    chatter = pa.array([f"#Chatter{i}{emoji[i % 8]}" for i in range(CHATTER)])
    schema = pa.schema([("id", pa.int64()), ("file", pa.string()), ("tags", pa.string())])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, _ROWS_AT_ONCE):
            n = min(_ROWS_AT_ONCE, rows - first)
            ids = pa.array(np.arange(first, first + n))
            tags = [draw(rng, chatter, n)]
            for _ in range(4):
                use = pa.array(rng.random(n) < 0.1)
                tags.append(pc.if_else(use, draw(rng, words, n), draw(rng, chatter, n)))
            files = pc.binary_join_element_wise(ids.cast(pa.string()), "mp4", ".")
            writer.write_table(pa.table([ids, files, pc.binary_join_element_wise(*tags, " ")], schema=schema))


def draw(rng: np.random.Generator, words: pa.StringArray, n: int) -> pa.StringArray:
    """n of the words, the first ones most often (Zipf's law)."""
    ranks = np.exp(rng.random(n) * np.log(len(words))).astype(np.int64) - 1
    return words.take(pa.array(np.minimum(ranks, len(words) - 1)))


def show(lines: list[Line]) -> None:
    print(
        f"{'label space':14}{'labels':>9}{'hashtags':>10}{'rows':>12}{'tags':>12}{'videos':>11}{'kept':>7}"
        f"{'seconds':>9}{'peak MiB':>10}"
    )
    for x in lines:
        print(
            f"{x.space:14}{x.labels:9}{x.hashtags:10}{x.rows:12}{x.tags:12}{x.videos:11}{x.labels_kept:7}"
            f"{x.seconds:9.1f}{x.peak_mib:10.0f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
