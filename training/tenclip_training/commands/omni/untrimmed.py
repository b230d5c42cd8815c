"""`tenclip omni untrimmed`: what of long videos is learned from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, LabelColumn, Videos, print_notes
from tenclip_training.commands.omni.teacher_options import TeacherOptions, decoding_of, report_folder
from tenclip_training.commands.options import Json, print_json, usage_errors

if TYPE_CHECKING:
    from tenclip_training.omni.teachers import Ensemble
    from tenclip_training.omni.untrimmed_files import UntrimmedReport, UntrimmedRules

PIECES = "Pieces"
FORMS, USES, SCORES = ("snippets", "clips"), ("whole", "rest", "part"), ("own", "max")


@dataclass(frozen=True, kw_only=True)
class PieceOptions:
    """What is cut out, and what of it is kept."""

    form: Annotated[
        str | None,
        typer.Option(
            metavar="[snippets|clips]",
            help="Single frames for networks of segments, or pieces for networks of clips.",
            show_default="snippets of a teacher of frames, else clips",
            rich_help_panel=PIECES,
        ),
    ] = None
    use: Annotated[
        str,
        typer.Option(
            metavar="[whole|rest|part]",
            help="All of a video, all but its part from start to end, or that part.",
            rich_help_panel=PIECES,
        ),
    ] = "whole"
    score_of: Annotated[
        str | None,
        typer.Option(
            metavar="[own|max]",
            help="Score of the video's own label, or of what the teacher is surest of.",
            show_default="own, max with --unlabelled",
            rich_help_panel=PIECES,
        ),
    ] = None
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Least score of what is positive.", rich_help_panel=PIECES)
    ] = 0.5
    rate: Annotated[float, typer.Option(min=0.01, help="Of snippets: frames a second.", rich_help_panel=PIECES)] = 1.0
    piece_seconds: Annotated[float, typer.Option(min=0.1, help="Length of clips.", rich_help_panel=PIECES)] = 10.0
    shortest: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Leave out clips of fewer seconds.",
            show_default="the teacher's clip at 30 frames a second",
            rich_help_panel=PIECES,
        ),
    ] = None

    def rules(self, ensemble: Ensemble, *, labelled: bool) -> UntrimmedRules:
        """Raises InvalidRequest for words that are none."""
        from tenclip_api.errors import InvalidRequest
        from tenclip_training.omni.untrimmed_files import UntrimmedRules

        form = self.form or ("snippets" if ensemble.of_frames else "clips")
        score_of = self.score_of or ("own" if labelled else "max")
        for option, word, words in (
            ("--form", form, FORMS),
            ("--use", self.use, USES),
            ("--score-of", score_of, SCORES),
        ):
            if word not in words:
                raise InvalidRequest(f"{option} {word!r} is not one of {', '.join(words)}")
        if score_of == "own" and not labelled:
            raise InvalidRequest("--score-of own needs the labels of the videos: no --unlabelled")
        shortest = self.shortest
        if shortest is None:
            shortest = max(t.spec.span / (t.spec.target_fps or 30.0) for t in ensemble.teachers)
        return UntrimmedRules(
            form=form,  # type: ignore[arg-type]
            use=self.use,  # type: ignore[arg-type]
            score_of=score_of,  # type: ignore[arg-type]
            threshold=self.threshold,
            rate=self.rate,
            piece_seconds=self.piece_seconds,
            shortest_seconds=min(shortest, self.piece_seconds),
        )


@with_option_groups
def untrimmed(
    *,
    source: Annotated[Path, typer.Argument(help="Long videos, in any form that tenclip train reads.")],
    out: Annotated[Path, typer.Option(help="Manifest of what is learned from, .csv or .parquet.")],
    teaching: TeacherOptions,
    pieces: PieceOptions,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="SOURCE has no labels, or they are to be passed over.")
    ] = False,
    videos: Videos = None,
    label_column: LabelColumn = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for scores and untrimmed.json.", show_default="OUT's name-untrimmed"),
    ] = None,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Choose from untrimmed videos what a teacher finds the action in.

    For networks of segments (tenclip train --segments 3) a row is a video with
    the times of its positive and negative frames, of which training draws 1
    and 2 at each visit; for networks of clips a row is a piece of 10 seconds
    (OmniSource, section 3.5). Videos that are too short are counted. Scores
    are kept: a run that was stopped goes on where it was.

    \b
    Examples:
      tenclip omni untrimmed raw.csv --teacher tsn/best.pt --out snippets.parquet
      tenclip omni untrimmed raw.csv --teacher r3d/best.pt --out clips.parquet --threshold 0.3
      tenclip omni untrimmed k400.csv --teacher r3d/best.pt --out rest.parquet --use rest
      tenclip omni untrimmed folder/ --teacher r3d/best.pt --out clips.parquet --unlabelled
    """
    from json import dumps

    from tenclip_data.atomic import write_text
    from tenclip_training.console import reporting
    from tenclip_training.curation.manifests import write_manifest
    from tenclip_training.omni.untrimmed_files import use_untrimmed
    from tenclip_training.omni.web_files import read_web

    web = read_web(source, videos=videos, label_column=label_column, labelled=not unlabelled)
    print_notes(web.notes)
    with usage_errors():
        ensemble = teaching.open()
    rules = pieces.rules(ensemble, labelled=not unlabelled)
    folder = report_folder(out, report, "untrimmed")
    with reporting() as reporter:
        found = use_untrimmed(
            ensemble,
            web,
            teaching.scores or folder / "scores",
            decoding_of(decoding),
            rules,
            progress=lambda done, total: reporter.update("scoring", done, total, rules.form),
        )
    write_manifest(out, found.rows)
    folder.mkdir(parents=True, exist_ok=True)
    values = {"manifest": str(out), **found.to_dict()}
    write_text(folder / "untrimmed.json", dumps(values, indent=2) + "\n")
    if json:
        print_json(values)
    else:
        _print(found, rules, out)


def _print(report: UntrimmedReport, rules: UntrimmedRules, out: Path) -> None:
    from tenclip_client.cli.output import output_console

    console = output_console()
    what = "frames" if rules.form == "snippets" else f"pieces of {rules.piece_seconds:g} s"
    lines = [
        f"{report.pieces} {what} of {report.videos} videos, {report.positive} of them positive "
        f"(from {rules.threshold:g} on); {len(report.rows)} rows",
        *(f"{label}: {count}" for label, count in sorted(report.classes.items(), key=lambda c: (-c[1], c[0]))),
        *(f"left out, {reason}: {count}" for reason, count in report.skipped.most_common()),
    ]
    if report.filled:
        lines.append(f"videos with fewer than 2 negative frames, where positive ones take their place: {report.filled}")
    if report.failures:
        lines.append(f"not readable: {len(report.failures)}, the first: {report.failures[0].message}")
    for line in [*lines, str(out)]:
        console.print(line, markup=False, soft_wrap=True)
