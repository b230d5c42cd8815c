"""The option groups of `tenclip curate duplicates`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_training.commands.curate.options import Videos, print_notes
from tenclip_training.commands.options import VIDEOS, usage_errors

if TYPE_CHECKING:
    from tenclip_training.curation.duplicates import DuplicateRules
    from tenclip_training.curation.video_sets import SetVideo


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """The videos that those of the source are compared with: a target set, or the source itself."""

    against: Annotated[
        Path | None, typer.Option(help="The videos that must not be in SOURCE, a test set for one.", show_default=False)
    ] = None
    within: Annotated[bool, typer.Option("--within", help="Look for duplicates among the videos of SOURCE.")] = False
    videos: Videos = None
    against_videos: Annotated[
        Path | None,
        typer.Option(help="As --videos, for the list of --against.", show_default=False, rich_help_panel=VIDEOS),
    ] = None

    def read(self, source: Path) -> tuple[list[SetVideo], list[SetVideo]]:
        """The videos of the source and of the target. Raises DatasetError, InvalidRequest."""
        from tenclip_api.errors import DatasetError, InvalidRequest
        from tenclip_training.curation.video_sets import read_set, same_files

        if self.within == (self.against is not None):
            raise InvalidRequest("give either --against TARGET or --within")
        source_set, notes = read_set(source, videos=self.videos)
        if self.against is None:
            print_notes(notes)
            return source_set, source_set
        target_set, more = read_set(self.against, videos=self.against_videos)
        print_notes([*notes, *more])
        same = same_files(source_set, target_set)
        if same == len(source_set) and same == len(target_set):
            raise DatasetError(
                f"{source} and {self.against} are the same {same} videos, so that each would be found as its own "
                "duplicate; name another target set, or use --within to look for duplicates among them"
            )
        if same:
            print_notes([f"{same} of {len(source_set)} source videos are files of the target set"])
        return source_set, target_set

    def title(self, source: Path) -> str:
        """The heading of the report."""
        return f"Near-duplicates: {source} " + ("within" if self.within else f"against {self.against}")


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """Which matches count as duplicates."""

    min_share: Annotated[float, typer.Option(help="Least part of the source's frames that match.")] = 0.05
    min_seconds: Annotated[float, typer.Option(help="Or least seconds that match in order.")] = 2.0
    radius: Annotated[int, typer.Option(help="Bits of 64 in which codes of matching frames may differ.")] = 6
    mirrors: Annotated[bool, typer.Option("--mirrors", help="Look for mirrored copies, too.")] = False
    flips: Annotated[
        int, typer.Option(help="1: find codes of up to 7 differing bits for sure; 0: of 3, and faster.")
    ] = 1
    reviewed: Annotated[
        Path | None,
        typer.Option(help="CSV with columns source and target: pairs that are no duplicates.", show_default=False),
    ] = None

    def rules(self) -> DuplicateRules:
        """Raises InvalidRequest for a number out of range."""
        from tenclip_training.curation.duplicates import DuplicateRules

        with usage_errors():
            return DuplicateRules(
                radius=self.radius,
                min_share=self.min_share,
                min_seconds=self.min_seconds,
                mirrors=self.mirrors,
                flips=self.flips,
            )

    def reviewed_pairs(self) -> frozenset[tuple[str, str]]:
        """(source, target) names of pairs that are no duplicates. Raises DatasetError, FileNotFoundError."""
        from tenclip_training.curation.reviewed import read_reviewed

        return read_reviewed(self.reviewed) if self.reviewed else frozenset()
