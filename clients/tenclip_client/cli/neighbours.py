"""Options and output of the commands about neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from tenclip_client._similar import Wanted
    from tenclip_data.manifest import Manifest
    from tenclip_index.metadata import IndexInfo
    from tenclip_index.results import Duplicates, IndexedClip

_NEIGHBOURS, _LABELS = "Which neighbours", "Labels"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighbourOptions:
    """How many neighbours, and which."""

    k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="How many.", rich_help_panel=_NEIGHBOURS)] = (
        10
    )
    by_video: Annotated[
        bool,
        typer.Option(
            "--by-video", help="The nearest videos, each with its nearest pair of clips.", rich_help_panel=_NEIGHBOURS
        ),
    ] = False
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Only clips with this label. Repeatable: one of them.", show_default=False, rich_help_panel=_NEIGHBOURS
        ),
    ] = None
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Only clips of this source. Repeatable: one of them.", show_default=False, rich_help_panel=_NEIGHBOURS
        ),
    ] = None
    other_videos: Annotated[
        bool,
        typer.Option(
            "--other-videos", help="No clips of the video itself, if the index has it.", rich_help_panel=_NEIGHBOURS
        ),
    ] = False

    def wanted(self) -> Wanted:
        from tenclip_client._similar import Wanted

        return Wanted(
            k=self.k,
            by_video=self.by_video,
            labels=tuple(self.label or ()),
            sources=tuple(self.source or ()),
            other_videos=self.other_videos,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowOptions:
    """What the rows of an index are given beside their features."""

    labels: Annotated[
        Path | None,
        typer.Option(
            help="Manifest with labels of the videos, or of parts of them, in any form that training reads.",
            show_default=False,
            rich_help_panel=_LABELS,
        ),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of it to take labels from.", show_default="label", rich_help_panel=_LABELS),
    ] = None
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder that its relative paths start from.", show_default="the manifest's", rich_help_panel=_LABELS
        ),
    ] = None
    classes: Annotated[
        Path | None,
        typer.Option(
            help="File with the classes in order, one a line, for lists that number them.",
            show_default="from the labels",
            rich_help_panel=_LABELS,
        ),
    ] = None
    source: Annotated[
        str | None,
        typer.Option(
            help="A name for where these clips come from, to filter by.",
            show_default="that of each file or folder",
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Arguments of `build_index` and `add_to_index`. Raises DatasetError, InvalidRequest."""
        from tenclip_api.errors import InvalidRequest

        if self.source is not None and not self.source.strip():
            raise InvalidRequest("--source must not be empty")
        return {"labels": self._manifest(), "source": self.source}

    def _manifest(self) -> Manifest | None:
        from tenclip_data.manifest import read_manifest

        if self.labels is None:
            return None
        return read_manifest(
            self.labels,
            labels=self.classes,
            videos=self.videos,
            label_column=self.label_column,
            missing="keep",
            held_out=None,
            leaks="allow",
        )


@contextmanager
def rows_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error of what is done with how many rows, on terminals only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)


def print_neighbours(console: Console, answers: Sequence[dict[str, Any]]) -> None:
    """A table for each video."""
    from rich.table import Table
    from rich.text import Text

    for answer in answers:
        about = answer["index"]
        console.print(Text(answer["video"], style="bold"))
        line = f"  of {about['model']} version {about['version']}, in index {about['name']}"
        console.print(Text(line, style="dim"), soft_wrap=True)
        if not answer["neighbours"]:
            console.print("  no clip may be found: the filters leave none")
            continue
        table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
        table.add_column("  cosine", justify="right", no_wrap=True)
        table.add_column("video", overflow="fold")
        table.add_column("seconds", justify="right", no_wrap=True)
        table.add_column("labels", overflow="fold")
        table.add_column("source", overflow="fold")
        table.add_column("nearest to", justify="right", style="dim", no_wrap=True)
        for n in answer["neighbours"]:
            table.add_row(
                f"{n['score']:.4f}",
                Text(n["video"]),
                _span(n["start_seconds"], n["end_seconds"]),
                Text(", ".join(n["labels"]), style="cyan"),
                Text(n["source"]),
                _span(n["query_clip"]["start_seconds"], n["query_clip"]["end_seconds"]),
            )
        console.print(table)


def print_duplicates(console: Console, found: Duplicates) -> None:
    """A row a pair."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("cosine", justify="right", no_wrap=True)
    for _ in range(2):
        table.add_column("video", overflow="fold")
        table.add_column("seconds", justify="right", no_wrap=True)
    for pair in found.pairs:
        table.add_row(f"{pair.score:.4f}", *(cell for clip in (pair.first, pair.second) for cell in _cells(clip, Text)))
    if found.pairs:
        console.print(table)
    shown = f", the first {len(found.pairs)} shown" if len(found.pairs) < found.found else ""
    console.print(f"{found.found} pairs of cosine {found.threshold:g} or more among {found.compared} clips{shown}")


def print_index(console: Console, folder: Path, info: IndexInfo) -> None:
    """What an index is, a line each."""
    from tenclip_index.metadata import describe_model

    lines = [
        f"{folder}: {info.rows} clips of {info.videos} videos, {info.dimension} numbers each",
        f"features of {describe_model(info.model, info.version, info.weights)}",
    ]
    if info.protocols:
        lines.append(f"clips chosen by {'; '.join(info.protocols)}")
    if info.exact:
        lines.append(f"{info.kind}: every clip is looked at")
    else:
        lines.append(f"{info.kind}: {info.probes} of {info.lists} lists are looked into")
    if info.recall is not None:
        r = info.recall
        lines.append(
            f"recall@{r.k} {r.value:.4f} against an exact search of {r.against} vectors ({r.queries} clips of {r.rows})"
        )
    lines.append(f"sources: {', '.join(f'{name} ({count})' for name, count in info.sources.items())}")
    lines.append(f"labels: {info.labels}")
    if info.repeated:
        lines.append(f"{info.repeated} clips left out: the same frames as another clip of their video")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _cells(clip: IndexedClip, text: Callable[[str], Any]) -> tuple[Any, str]:
    return text(clip.video), _span(clip.start_seconds, clip.end_seconds)


def _span(start: float, end: float) -> str:
    return f"{start:.2f} - {end:.2f}"
