"""The option groups of `tenclip curate subset`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_training.commands.curate.options import LabelColumn, Videos, with_notes_printed
from tenclip_training.commands.options import VIDEOS, KeepMissing, usage_errors

if TYPE_CHECKING:
    from tenclip_data.samples import Manifest, Sample
    from tenclip_training.curation.subsets import Bands, Budget


class Kinds(enum.StrEnum):
    """The values of `--kind`."""

    RANDOM = "random"
    TAIL_PRESERVING = "tail-preserving"
    CLASSES = "classes"
    INSTANCES = "instances"
    SHORT = "short"
    LONG = "long"
    LONG_CENTER = "long-center"


@dataclass(frozen=True, kw_only=True)
class ChoiceOptions:
    """How videos are chosen, and how many."""

    kind: Annotated[Kinds, typer.Option(help="How videos are chosen, see above.")] = Kinds.RANDOM
    num_videos: Annotated[int | None, typer.Option("--num-videos", min=1, help="Budget: so many videos.")] = None
    minutes: Annotated[float | None, typer.Option(help="Budget: so many minutes.")] = None
    fraction: Annotated[
        float | None, typer.Option(help="Budget: this part of the videos; with --kind classes, of the classes.")
    ] = None
    seed: Annotated[
        int, typer.Option(help="The same seed chooses the same videos, and nested ones for other budgets.")
    ] = 0

    def budget(self) -> Budget | None:
        """None for all videos of a duration. Raises InvalidRequest where not exactly one budget is given."""
        from tenclip_api.errors import InvalidRequest
        from tenclip_training.curation.subsets import DURATION_KINDS, Budget

        given = (self.num_videos, self.minutes, self.fraction)
        if self.kind.value in DURATION_KINDS and all(g is None for g in given):
            return None
        if self.kind in (Kinds.CLASSES, Kinds.INSTANCES) and (self.fraction is None or self.num_videos or self.minutes):
            raise InvalidRequest(f"--kind {self.kind.value} takes a --fraction, and no other budget")
        if sum(g is not None for g in given) != 1:
            raise InvalidRequest("give one budget: --num-videos, --minutes or --fraction")
        return Budget(videos=self.num_videos, minutes=self.minutes, fraction=self.fraction)


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which split is chosen from, and whether the others are kept."""

    split: Annotated[
        str | None,
        typer.Option(
            help="Split to choose from; the others are kept whole.", show_default="train, if there are splits"
        ),
    ] = None
    only: Annotated[bool, typer.Option("--only", help="Leave the other splits out.")] = False

    def choose(self, manifest: Manifest) -> tuple[list[Sample], list[Sample]]:
        """(videos to choose from, others). Raises DatasetError for a split that is not there."""
        name = self.split or ("train" if "train" in manifest.splits else None)
        if name is None:
            return list(manifest.samples), []
        chosen = manifest.split(name).samples
        ids = {id(s) for s in chosen}
        return list(chosen), [s for s in manifest.samples if id(s) not in ids]


@dataclass(frozen=True, kw_only=True)
class BandOptions:
    """The durations that count as short and as long."""

    short: Annotated[str, typer.Option(help="Seconds of short videos, from-to.")] = "1-5"
    long: Annotated[str, typer.Option(help="Seconds of long videos, from-to.")] = "55-60"
    center: Annotated[float, typer.Option(min=0.1, help="Seconds in the middle of a long video for long-center.")] = 4.0

    def bands(self) -> Bands:
        """Raises InvalidRequest for a text that is not understood."""
        from tenclip_training.curation.subsets import Bands

        with usage_errors():
            short, long = _band("--short", self.short), _band("--long", self.long)
            return Bands(short=short, long=long, center_seconds=self.center)


@dataclass(frozen=True, kw_only=True)
class LabelledOptions:
    """How labelled videos are read."""

    videos: Videos = None
    labels: Annotated[
        Path | None,
        typer.Option(help="File of class names that numbers count.", show_default=False, rich_help_panel=VIDEOS),
    ] = None
    label_column: LabelColumn = None
    keep_missing: KeepMissing = False

    def read(self, source: Path) -> Manifest:
        """The videos and labels of `source`; what is odd about them is printed. Raises DatasetError."""
        from tenclip_training.curation.manifests import read_labelled

        return with_notes_printed(
            read_labelled(
                source,
                labels=self.labels,
                videos=self.videos,
                label_column=self.label_column,
                missing="keep" if self.keep_missing else "error",
            )
        )

    def read_plain(self, source: Path) -> Manifest:
        """The videos of `source`, which need no labels; what is odd about them is printed. Raises DatasetError."""
        from tenclip_training.curation.manifests import read_plain

        return with_notes_printed(
            read_plain(source, videos=self.videos, missing="keep" if self.keep_missing else "error")
        )


def _band(option: str, text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    try:
        band = (float(low), float(high))
    except ValueError:
        band = (1.0, 0.0)
    if not dash or not 0 <= band[0] <= band[1] < float("inf"):
        raise ValueError(f"{option} is from-to in seconds, such as 1-5, not {text!r}")
    return band
