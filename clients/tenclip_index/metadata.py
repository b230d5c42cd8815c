"""`index.json`: what an index is of, how it searches, how well, and which files it consists of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tenclip_api.errors import DatasetError, IndexMismatch, IndexNotFound

FORMAT = "tenclip-index"
FORMAT_VERSION = 1
FILE_NAME = "index.json"
METRIC = "cosine"

# How vectors are kept and searched: every row in float16 or float32, or the nearest lists of rows of 8 bits a number.
Kind = Literal["exact-fp16", "exact-float32", "ivf-sq8"]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """How many of the nearest rows a search finds, on average: `value`, from 0 to 1.

    Measured with `queries` rows of the index, each against its `k` nearest other rows by an exact search of the vectors
    named by `against`: "float32", as they were in the tables of features, or "stored", as the index keeps them. `rows`:
    how many the index had then.
    """

    value: float
    k: int
    queries: int
    rows: int
    against: Literal["float32", "stored"]


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """A file of an index: its name in the folder, its size and SHA-256."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """The content of index.json.

    rows, videos: how many. dimension: of a vector. model, version, weights: whose features they are; weights is the
    hash of the bundle's files, "" where no table had it. protocols: the clips that were taken. sources: rows by source.
    repeated: clips that were left out, for they are of the same frames as another of their video. lists, probes: of an
    ivf-sq8 index, into how many lists it is divided and how many of them a search looks into; 0 for others.
    versions: of the programs that wrote it. files: "vectors" and "rows". generation: how often it was written.
    """

    kind: Kind
    dimension: int
    rows: int
    videos: int
    model: str
    version: str
    weights: str
    protocols: tuple[str, ...]
    sources: Mapping[str, int]
    labels: int
    recall: Recall | None
    repeated: int = 0
    lists: int = 0
    probes: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, IndexFile] = field(default_factory=dict)
    generation: int = 0

    @property
    def exact(self) -> bool:
        """Every row is looked at."""
        return self.kind != "ivf-sq8"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, "metric": METRIC, **asdict(self)}

    def to_json(self) -> str:
        """The text of index.json."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def describe_model(model: str, version: str, weights: str = "") -> str:
    """E.g. "moves version 2 (weights 0123456789abcdef)"."""
    return f"{model} version {version}" + (f" (weights {weights})" if weights else "")


def read_info(folder: Path) -> IndexInfo:
    """Raises IndexNotFound where no index is, DatasetError for one that is damaged or of a later version."""
    path = folder / FILE_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFound(
            f"{folder}: no index here; `tenclip index build FEATURES --out {folder}` makes one"
        ) from None
    except (OSError, ValueError) as err:
        raise DatasetError(f"{path}: cannot be read: {err}") from err
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DatasetError(f"{path}: is no index of tenclip")
    if values.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: is of format {values.get('format_version')}, this version of tenclip reads {FORMAT_VERSION}"
        )
    try:
        return info_from_dict(values)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise DatasetError(f"{path}: is damaged: {err}") from err


def check_same_model(
    info: IndexInfo, index: Path | str, *, model: str, version: str, weights: str, dimension: int, source: str
) -> None:
    """Raises IndexMismatch that names both where `source` has features of another model than the index."""
    theirs, ours = describe_model(model, version, weights), describe_model(info.model, info.version, info.weights)
    other = (model, version) != (info.model, info.version) or (weights and info.weights and weights != info.weights)
    if other:
        raise IndexMismatch(
            f"{source}: features of {theirs}, and the index {index} is of {ours}; features of different models cannot "
            "be compared"
        )
    if dimension != info.dimension:
        raise IndexMismatch(
            f"{source}: {dimension} features a clip, and the index {index} of {ours} has {info.dimension}"
        )


def info_from_dict(values: Mapping[str, Any]) -> IndexInfo:
    """What `IndexInfo.to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
    known = {k: v for k, v in values.items() if k not in ("format", "format_version", "metric")}
    if known["kind"] not in get_args(Kind):
        raise ValueError(f"kind {known['kind']!r} is none of {', '.join(get_args(Kind))}")
    files = {name: IndexFile(**file) for name, file in known["files"].items()}
    for name in ("vectors", "rows"):
        if Path(files[name].name).name != files[name].name:
            raise ValueError(f"file {files[name].name!r} is not a name")
    recall = None if known["recall"] is None else Recall(**known["recall"])
    return IndexInfo(**{**known, "files": files, "recall": recall, "protocols": tuple(known["protocols"])})
