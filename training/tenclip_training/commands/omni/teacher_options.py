"""Options that `tenclip omni filter` and `tenclip omni untrimmed` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_training.commands.options import MACHINE

if TYPE_CHECKING:
    from tenclip_training.commands.curate.options import DecodingOptions
    from tenclip_training.omni.score_store import Decoding
    from tenclip_training.omni.teachers import Ensemble

TEACHER = "Teacher"


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Which networks judge, and what they see."""

    teacher: Annotated[
        list[str],
        typer.Option(
            help="A bundle's folder or a checkpoint, trained on the target; several answer by their mean.",
            rich_help_panel=TEACHER,
        ),
    ]
    teacher_labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="File with the classes in order, for a teacher that does not name them.",
            show_default=False,
            rich_help_panel=TEACHER,
        ),
    ] = None
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Test protocol by which it sees a video, e.g. center-clip.",
            show_default="its own",
            rich_help_panel=TEACHER,
        ),
    ] = None
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Folder where scores are kept; runs may share it.",
            show_default="REPORT/scores",
            rich_help_panel=TEACHER,
        ),
    ] = None
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of the network; 0: the runtime's choice.", rich_help_panel=MACHINE)
    ] = 0

    def open(self) -> Ensemble:
        """Load the teachers."""
        from tenclip_training.omni.teachers import open_teachers

        return open_teachers(self.teacher, labels=self.teacher_labels, protocol=self.protocol, threads=self.threads)


def decoding_of(options: DecodingOptions) -> Decoding:
    """The options as stores take them."""
    from tenclip_training.omni.score_store import Decoding

    return Decoding(workers=options.num_workers(), timeout_seconds=options.timeout)


def report_folder(out: Path, wanted: Path | None, suffix: str) -> Path:
    """Where the report goes: beside the manifest, called after it."""
    return wanted or out.with_name(f"{out.stem}-{suffix}")
