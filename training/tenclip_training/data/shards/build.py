"""An index for tars that have none: those that others wrote for WebDataset, in a folder or behind URLs.

The members of a sample share a key. One of them is the video, by its suffix; its label is in `.cls`, in a field of
`.json`, or is the text of `.txt`. The split is said by the name of the tar or of its folder (`train-0001.tar`), or by
`split` in `.json`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tenclip_api.errors import DatasetError, TenclipError, TruncatedVideo
from tenclip_data.atomic import write_text
from tenclip_data.braces import expand_braces
from tenclip_data.cells import to_labels, to_seconds
from tenclip_data.labels import ClassNames, label_space, read_class_names
from tenclip_data.lists import split_of_file
from tenclip_data.paths import is_video_name
from tenclip_data.samples import Sample, split_name
from tenclip_data.scan import VIDEO_SUFFIXES, is_data_name, is_packed_tar, is_tar
from tenclip_data.table_rows import LABEL_COLUMNS
from tenclip_training.data.failures import Failure
from tenclip_training.data.shards.index import INDEX_NAME, Shard, ShardIndex, ShardRow, write_index
from tenclip_training.data.shards.places import as_url, open_file_system, shown
from tenclip_training.data.shards.storage import Retries, with_retries
from tenclip_training.data.shards.tars import Member, NotATar, TarWalk, split_key
from tenclip_training.data.shards.write import LABELS_NAME

PROBLEMS_NAME = "index_failures.jsonl"
# Annotations are small; what is larger is no label.
_ANNOTATION_BYTES = 1 << 20
_PACKED = "packed: unpack it to a plain tar first"


@dataclass(frozen=True, kw_only=True)
class TarSet:
    """Tars below one folder or URL. names, packed: paths below `base`, with slashes; packed tars cannot be used."""

    base: Path | str
    names: tuple[str, ...]
    packed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """index: of the samples that can be used. problems: the others, and tars that are cut off."""

    index: ShardIndex
    problems: tuple[Failure, ...]
    warnings: tuple[str, ...]


def find_tars(sources: Sequence[str]) -> TarSet:
    """The tars of a folder, or those that URLs name: `https://host/train-{0000..0012}.tar`.

    Raises DatasetError where there are none, or where they are not below one folder.
    """
    urls = [url for source in sources for url in (as_url(source),) if url is not None]
    if urls and len(urls) == len(sources):
        return _remote(urls)
    if len(sources) != 1:
        raise DatasetError(f"{', '.join(sources)}: name one folder, or URLs of tars in one folder")
    folder = Path(sources[0])
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder of tars")
    found = [path for path in folder.rglob("*") if is_tar(path.name) and path.is_file()]
    every = sorted(path.relative_to(folder).as_posix() for path in found)
    every = [name for name in every if all(map(is_data_name, name.split("/")))]
    packed = tuple(name for name in every if is_packed_tar(name))
    names = tuple(name for name in every if not is_packed_tar(name))
    if not names:
        hint = f" but {packed[0]}, which is {_PACKED}" if packed else ""
        raise DatasetError(f"{folder}: holds no .tar files{hint}")
    return TarSet(base=folder, names=names, packed=packed)


def _remote(urls: Sequence[str]) -> TarSet:
    expanded = [one for url in urls for one in expand_braces(url)]
    base = expanded[0].rpartition("/")[0]
    while not all(url.startswith(f"{base}/") for url in expanded):
        base = base.rpartition("/")[0]
    if base.endswith(":/") or not base:
        raise DatasetError(f"{shown(expanded[0])}: the URLs are of several hosts; make an index for each")
    return TarSet(base=base, names=tuple(url[len(base) + 1 :] for url in expanded))


def build_index(
    tars: TarSet,
    *,
    labels: Path | None = None,
    label_field: str | None = None,
    split: str | None = None,
    retries: Retries | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BuildResult:
    """Read every tar once and make their index.

    labels: the class names that numbers stand for; None: `labels.json` beside the tars, else what the labels say
    themselves. label_field: of `.json`. split: of all samples. `progress` gets (tars done, tars in all).
    Raises DatasetError where a file is no tar or nothing can be used; a VideoError where a URL cannot be read.
    """
    reader = _Reader(label_field=label_field, split=split)
    shards: list[Shard] = []
    for number, name in enumerate(tars.names):
        with _local(tars, name, retries or Retries()) as path:
            shards.append(reader.read(path, name, number))
        if progress is not None:
            progress(number + 1, len(tars.names))
    for name in tars.packed:
        reader.problem(name, DatasetError(f"{name}: is {_PACKED}"))
    source = Path(shown(tars.base))
    if not reader.samples:
        first = f" The first: {reader.problems[0].message}" if reader.problems else ""
        raise DatasetError(f"{shown(tars.base)}: no sample of {len(shards)} tars can be used.{first}")
    samples, space, warnings = label_space(_classes(tars, labels), None, reader.samples, source=source, fill=True)
    known = set(space)
    for sample in samples:
        if unknown := next((label for label in sample.labels if label not in known), None):
            raise DatasetError(f"{sample.name}: label {unknown!r} is not one of the {len(space)} classes")
    rows = tuple(dataclasses.replace(row, labels=s.labels) for row, s in zip(reader.rows, samples, strict=True))
    index = ShardIndex(labels=space, shards=tuple(shards), rows=rows)
    return BuildResult(index=index, problems=tuple(reader.problems), warnings=warnings)


def save_index(result: BuildResult, tars: TarSet, folder: Path | None) -> Path:
    """Write the index beside the tars, or into another folder, from where it names theirs; the path of the file.

    Problems, where there are any, are listed beside it. Raises DatasetError where there is an index already, OSError.
    """
    beside = folder is None or folder == tars.base
    target = Path(tars.base if folder is None else folder)
    path = target / INDEX_NAME
    if path.exists():
        raise DatasetError(f"{path}: is there already; remove it to make it anew")
    base = "" if beside else str(tars.base.resolve()) if isinstance(tars.base, Path) else tars.base
    target.mkdir(parents=True, exist_ok=True)
    if result.problems:
        lines = [json.dumps(dataclasses.asdict(f), ensure_ascii=False) + "\n" for f in result.problems]
        write_text(target / PROBLEMS_NAME, "".join(lines))
    write_index(path, dataclasses.replace(result.index, base=base))
    return path


def _classes(tars: TarSet, labels: Path | None) -> ClassNames | None:
    if labels is None and isinstance(tars.base, Path) and (tars.base / LABELS_NAME).is_file():
        labels = tars.base / LABELS_NAME
    return None if labels is None else read_class_names(labels)


class _local:  # noqa: N801  # a context manager, used as a function
    """A tar as a file: fetched into a temporary folder where it is behind a URL."""

    def __init__(self, tars: TarSet, name: str, retries: Retries) -> None:
        self.tars, self.name, self.retries = tars, name, retries
        self.scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        if isinstance(self.tars.base, Path):
            return self.tars.base / self.name
        self.scratch = tempfile.TemporaryDirectory(prefix="tenclip-shards-")
        path = Path(self.scratch.name) / "shard.tar"
        url = f"{self.tars.base}/{self.name}"
        try:
            files, remote = open_file_system(url)
            with_retries(lambda: files.get_file(remote, str(path)), shown(url), self.retries)
        except BaseException:
            self.scratch.cleanup()
            raise
        return path

    def __exit__(self, *_: object) -> None:
        if self.scratch is not None:
            self.scratch.cleanup()


class _Reader:
    """Collects the samples of tars, one after the other."""

    def __init__(self, *, label_field: str | None, split: str | None) -> None:
        self.label_field, self.split = label_field, split
        self.rows: list[ShardRow] = []
        self.samples: list[Sample] = []  # a row each
        self.problems: list[Failure] = []

    def read(self, path: Path, name: str, number: int) -> Shard:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            num_bytes = file.seek(0, 2)
            file.seek(0)
            walk = TarWalk(file)
            try:
                for key, members in _groups(walk.members(keep=_ANNOTATION_BYTES)):
                    try:
                        self._sample(name, number, key, members)
                    except (TenclipError, ValueError) as err:
                        self.problem(f"{name}/{key}", err if isinstance(err, TenclipError) else DatasetError(str(err)))
            except NotATar as err:
                raise DatasetError(f"{path if self._is_local(path, name) else name}: {err}") from err
        if walk.cut_off:
            self.problem(name, TruncatedVideo(f"{name}: is cut off ({walk.cut_off}); what follows is lost"))
        return Shard(name=name, num_bytes=num_bytes, sha256=digest)

    @staticmethod
    def _is_local(path: Path, name: str) -> bool:
        return path.as_posix().endswith(name)

    def problem(self, what: str, error: TenclipError) -> None:
        """Something that cannot be used."""
        self.problems.append(Failure(video=what, reason=error.reason, message=error.message))

    def _sample(self, shard: str, number: int, key: str, members: Sequence[Member]) -> None:
        """Take up one sample, or its parts. Raises DatasetError, TruncatedVideo or ValueError that says why not."""
        videos = [m for m in members if f".{split_key(m.name)[1].lower().rpartition('.')[2]}" in VIDEO_SUFFIXES]
        if len(videos) != 1:
            names = ", ".join(m.name for m in (videos or members))
            raise DatasetError(f"{shard}: {'several videos' if videos else 'no video'} in the sample {key!r}: {names}")
        video = videos[0]
        if video.available < video.num_bytes:
            raise TruncatedVideo(f"{shard}: is cut off within {video.name}")
        notes = {split_key(m.name)[1].lower(): m.content for m in members if m.content is not None}
        about = _json(notes.get("json"), f"{shard}: {key}.json")
        said = about.get("name")
        name = said if isinstance(said, str) and is_video_name(said) else f"{shard}/{video.name}"
        parts = about.get("parts")
        for part in parts if isinstance(parts, list) else [about]:
            labels = self._labels(part, notes)
            if not labels:
                raise DatasetError(
                    f"{shard}: no label for {key!r}: it has neither .cls nor .txt, nor a field "
                    f"{self.label_field or 'label'} in .json"
                )
            row = ShardRow(
                key=key,
                name=name,
                labels=labels,
                split=self._split(shard, about),
                shard=number,
                offset=video.offset,
                num_bytes=video.num_bytes,
                sha256=video.sha256,
                start_seconds=to_seconds(part.get("start_seconds")),
                end_seconds=to_seconds(part.get("end_seconds")),
                extra=part["extra"] if isinstance(part.get("extra"), dict) else {},
            )
            self.rows.append(row)
            self.samples.append(Sample(path=Path(shard) / video.name, name=name, labels=labels, split=row.split))

    def _labels(self, about: Mapping[str, Any], notes: Mapping[str, bytes | None]) -> tuple[str, ...]:
        """The labels of a sample; () where it has none. Raises DatasetError for what is no label."""
        if self.label_field is not None:
            return to_labels(about.get(self.label_field))
        if isinstance(about.get("labels"), list):
            return to_labels(about["labels"])
        if notes.get("cls"):
            return (_text(notes["cls"]),)
        column = next((name for name in LABEL_COLUMNS if about.get(name) not in (None, "")), None)
        if column is not None:
            return to_labels(about[column])
        text = _text(notes.get("txt"))
        return (text,) if text else ()

    def _split(self, shard: str, about: Mapping[str, Any]) -> str:
        if self.split is not None:
            return split_name(self.split)
        if isinstance(about.get("split"), str):
            return split_name(about["split"])
        named = (split_of_file(Path(part)) for part in reversed(PurePosixPath(shard).parts))
        return next(filter(None, named), "")


def _groups(members: Iterator[Member]) -> Iterator[tuple[str, list[Member]]]:
    for key, group in itertools.groupby(members, lambda m: split_key(m.name)[0]):
        # What operating systems and WebDataset itself put beside samples.
        if is_data_name(PurePosixPath(key).name or "."):
            yield key, list(group)


def _json(data: bytes | None, place: str) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        values = json.loads(data)
    except ValueError as err:
        raise DatasetError(f"{place}: cannot be read as JSON: {err}") from err
    return values if isinstance(values, dict) else {}


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode("utf-8", errors="replace").strip()
