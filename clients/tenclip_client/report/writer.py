"""Reports on disk: one page, or a folder with a page for each video, written whole or not at all.

A report is written whatever ends the command, with the videos that were done by then.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from tenclip_api.errors import InvalidRequest
from tenclip_client._types import ModelInfo
from tenclip_client.report.html import Markup
from tenclip_client.report.page import Entry, closing, head_of_many, index_page, section_of_many, video_page
from tenclip_client.report.section import Outcome, Section, section
from tenclip_client.report.words import counted
from tenclip_data.atomic import replacing

INDEX = "index.html"
_PAGES = (".html", ".htm")
_NAME_CHARACTERS = 60


class Report:
    """Takes the outcome of each video; `report_to` makes it and writes it.

    names: of all videos, in the order of the report. title: what they were asked, `Predictions of`. model: of the
    answers, for what they do not say themselves; None: unknown.
    """

    def __init__(self, path: Path, names: Sequence[str], title: str, model: ModelInfo | None) -> None:
        self.path = path
        self._title, self._model = title, model
        self._places = {name: place for place, name in reversed(list(enumerate(names)))}
        self.num_done = 0

    def add(self, name: str, outcome: Outcome) -> None:
        """Put a video into the report. Raises OSError where it cannot be written."""
        self._add(section(name, outcome, self._model))
        self.num_done += 1

    def finish(self) -> None:
        """Write what is not written yet. Raises OSError."""
        raise NotImplementedError

    def _add(self, part: Section) -> None:
        raise NotImplementedError

    def _name(self) -> str:
        """What the report is of."""
        total = len(self._places)
        done = counted(self.num_done, "video") if self.num_done == total else f"{self.num_done} of {total:,} videos"
        return f"{self._title} {done}"


class PageReport(Report):
    """One page. Sections wait in a file without a name beside it, so that memory is that of one video."""

    def __init__(self, path: Path, names: Sequence[str], title: str, model: ModelInfo | None) -> None:
        super().__init__(path, names, title, model)
        self._parts: list[tuple[int, Entry, int]] = []  # place, line of the list, size
        self._waiting: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed by `finish`)

    def _add(self, part: Section) -> None:
        place = self._places.get(part.name, len(self._places))
        single = len(self._places) == 1
        anchor = f"video-{place + 1}"
        pieces = video_page(part) if single else [section_of_many(part, anchor)]
        size = _write(self._waiting, pieces)
        entry = Entry(name=part.name, link=f"#{anchor}", words=part.verdict, failed=part.failed)
        self._parts.append((place, entry, size))

    def finish(self) -> None:
        with self._waiting:
            if not self._parts:
                return
            with replacing(self.path) as file:
                if len(self._places) == 1:
                    file.write(self._part(0))
                    return
                order = sorted(range(len(self._parts)), key=lambda i: self._parts[i][0])
                _write(file, [head_of_many(self._name(), [self._parts[i][1] for i in order])])
                for i in order:
                    file.write(self._part(i))
                _write(file, [closing()])

    def _part(self, index: int) -> bytes:
        self._waiting.seek(sum(size for _, _, size in self._parts[:index]))
        return self._waiting.read(self._parts[index][2])


class FolderReport(Report):
    """A page for each video as soon as it is done, and `index.html`, which lists those of earlier runs, too."""

    def __init__(self, path: Path, names: Sequence[str], title: str, model: ModelInfo | None) -> None:
        super().__init__(path, names, title, model)
        self._entries: dict[str, Entry] = {}

    def _add(self, part: Section) -> None:
        page = page_name(part.name)
        with replacing(self.path / page) as file:
            _write(file, video_page(part))
        self._entries[part.name] = Entry(name=part.name, link=page, words=part.verdict, failed=part.failed)

    def finish(self) -> None:
        entries = [entry for name in sorted(self._places, key=self._places.__getitem__) for entry in self._entry(name)]
        if entries:
            with replacing(self.path / INDEX) as file:
                _write(file, index_page(self._name(), entries))

    def _entry(self, name: str) -> Iterator[Entry]:
        if name in self._entries:
            yield self._entries[name]
        elif (self.path / page_name(name)).is_file():
            yield Entry(name=name, link=page_name(name), words="from an earlier run", failed=False)


@contextlib.contextmanager
def report_to(path: Path, names: Sequence[str], title: str, model: ModelInfo | None) -> Iterator[Report]:
    """A report of these videos, written at the end of the block however that ends.

    path: `NAME.html` for one page with a section for each video, anything else for a folder with a page for each.
    Folders are made. Raises OSError and InvalidRequest at once for a place that nothing can be written to.
    """
    report = _open(path, names, title, model)
    try:
        yield report
    finally:
        report.finish()


def _open(path: Path, names: Sequence[str], title: str, model: ModelInfo | None) -> Report:
    if path.suffix.lower() in _PAGES and not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        return PageReport(path, names, title, model)
    if path.exists() and not path.is_dir():
        raise InvalidRequest(f"--report {path}: a file is there; name a page (NAME.html) or a folder")
    path.mkdir(parents=True, exist_ok=True)
    return FolderReport(path, names, title, model)


def page_name(name: str) -> str:
    """The file name of a video's page: its own, in characters that every system takes, and a hash of all of it.

    >>> page_name("clips/run 1.mp4")
    'run-1.mp4-5b7b6d54.html'
    """
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")[:_NAME_CHARACTERS]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain or 'video'}-{digest}.html"


def _write(file: IO[bytes], pieces: Iterable[Markup]) -> int:
    return sum(file.write(piece.encode()) for piece in pieces)
