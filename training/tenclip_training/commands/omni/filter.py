"""`tenclip omni filter`: a teacher says what of the web data is kept, and as what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, LabelColumn, Videos, print_notes
from tenclip_training.commands.omni.teacher_options import TeacherOptions, decoding_of, report_folder
from tenclip_training.commands.options import Json, print_json, usage_errors

if TYPE_CHECKING:
    from tenclip_training.console import Reporter
    from tenclip_training.omni.filter_files import FilterReport
    from tenclip_training.omni.score_store import Decoding
    from tenclip_training.omni.teacher_filter import Calibration, PseudoLabel, ThresholdRule, Truth
    from tenclip_training.omni.teachers import Ensemble

THRESHOLDS = "Thresholds"


@dataclass(frozen=True, kw_only=True)
class ThresholdOptions:
    """From which confidence on a file is kept."""

    keep_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Keep this share of each source.", show_default="0.25", rich_help_panel=THRESHOLDS
        ),
    ] = None
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SOURCE=]CONFIDENCE",
            help="Keep what is at least so confident; for one source, or for all others.",
            show_default=False,
            rich_help_panel=THRESHOLDS,
        ),
    ] = None
    precision: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Keep from the confidence on at which the teacher is so often right on --calibrate.",
            show_default=False,
            rich_help_panel=THRESHOLDS,
        ),
    ] = None
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            help="Labelled target data that the teacher has not seen; its split val, where it has one.",
            show_default=False,
            rich_help_panel=THRESHOLDS,
        ),
    ] = None

    def rule(self, sources: tuple[str, ...]) -> ThresholdRule:
        """Raises InvalidRequest for options that do not go together, and sources that do not exist."""
        from tenclip_api.errors import InvalidRequest
        from tenclip_training.omni.teacher_filter import KEEP_SHARE, ThresholdRule

        fixed = dict(_parse_threshold(text) for text in self.threshold or ())
        if unknown := sorted(set(fixed) - {"", *sources}):
            raise InvalidRequest(f"--threshold: no source {', '.join(unknown)}; there are {', '.join(sources)}")
        if self.precision is not None and self.held_out is None:
            raise InvalidRequest("--precision is measured on held-out target data: name them with --calibrate")
        if self.precision is not None and self.keep_share is not None:
            raise InvalidRequest("--precision and --keep-share each decide about the threshold: leave one out")
        if "" in fixed and (self.precision is not None or self.keep_share is not None):
            raise InvalidRequest("--threshold decides about all sources: leave out --keep-share and --precision")
        if self.keep_share == 0:
            raise InvalidRequest("--keep-share 0 keeps nothing; give a share above 0")
        share = KEEP_SHARE if self.keep_share is None else self.keep_share
        return ThresholdRule(keep_share=share, fixed=fixed or None, precision=self.precision)


@with_option_groups
def filter_web(
    *,
    source: Annotated[Path, typer.Argument(help="Web images and videos, in any form that tenclip train reads.")],
    out: Annotated[Path, typer.Option(help="Manifest of what is kept, .csv or .parquet.")],
    teaching: TeacherOptions,
    pseudo_label: Annotated[
        str,
        typer.Option(
            metavar="[teacher|agree|query]",
            help="The teacher's best class (the paper); the same, where the file was asked for by it; or what it was "
            "asked for, by the teacher's score of that.",
        ),
    ] = "teacher",
    thresholds: ThresholdOptions,
    source_column: Annotated[
        str, typer.Option(help="Column that tells sources apart; without it all are one.")
    ] = "source",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="SOURCE has no labels, or they are to be passed over.")
    ] = False,
    videos: Videos = None,
    label_column: LabelColumn = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, filter.json, scored.parquet.", show_default="OUT's name-filter"),
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Files of each source that the report shows.")] = 24,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Keep the web images and videos that a teacher is sure of, with its labels.

    The teacher is trained on the target set (OmniSource, section 3.4): a
    network of frames for images, one of frames or of clips for videos. Each
    source gets a threshold of its own. Scores are kept: a run that was stopped
    goes on where it was, and another threshold costs nothing. Where the
    manifest has a column true_label, precision and recall are printed.

    \b
    Examples:
      tenclip omni filter web.csv --teacher run/best.pt --out kept.parquet
      tenclip omni filter web.csv --teacher run/best.pt --out kept.parquet --keep-share 0.4 --pseudo-label agree
      tenclip omni filter web.csv --teacher run/best.pt --out kept.parquet --precision 0.9 --calibrate target.csv
      tenclip omni filter web.csv --teacher run/best.pt --out kept.parquet --threshold 0.6 --threshold search=0.8
    """
    from tenclip_training.console import reporting
    from tenclip_training.omni.filter_files import filter_files, write_results
    from tenclip_training.omni.filter_report import report_dict, write_filter_report
    from tenclip_training.omni.teachers import refuse_images
    from tenclip_training.omni.web_files import check_classes, read_web

    rule_of = _known_rule(pseudo_label, unlabelled=unlabelled)
    web = read_web(
        source, videos=videos, label_column=label_column, labelled=not unlabelled, source_column=source_column
    )
    print_notes(web.notes)
    rule = thresholds.rule(web.source_names)
    with usage_errors():
        ensemble = teaching.open()
    if rule_of != "teacher":
        hint = "With --pseudo-label teacher the labels of the files are not used"
        check_classes(source, web.samples, ensemble.labels, hint)
    refuse_images(ensemble, web.num_images)
    folder = report_folder(out, report, "filter")
    stored, how = teaching.scores or folder / "scores", decoding_of(decoding)
    with reporting() as reporter:
        calibration = _calibration(ensemble, thresholds.held_out, stored, how, reporter)
        found = filter_files(
            ensemble,
            web,
            stored,
            how,
            pseudo_label=rule_of,
            rule=rule,
            calibration=calibration,
            progress=lambda done, total: reporter.update("scoring", done, total, "files"),
        )
        page = write_filter_report(
            folder,
            found,
            title=f"Filtered: {source}",
            num_pictured=pictures,
            progress=lambda done, total: reporter.update("pictures", done, total, "files"),
        )
    write_results(found, out, folder)
    if json:
        print_json({"manifest": str(out), "report": str(page), **report_dict(found)})
    else:
        _print_filter(found, page, out)


def _known_rule(text: str, *, unlabelled: bool) -> PseudoLabel:
    from typing import get_args

    from tenclip_api.errors import InvalidRequest
    from tenclip_training.omni.teacher_filter import PseudoLabel

    if text not in get_args(PseudoLabel):
        raise InvalidRequest(f"--pseudo-label {text!r} is not one of {', '.join(get_args(PseudoLabel))}")
    if unlabelled and text != "teacher":
        raise InvalidRequest(f"--pseudo-label {text} needs the labels that files were asked for by: no --unlabelled")
    rule: PseudoLabel = text  # type: ignore[assignment]
    return rule


def _parse_threshold(text: str) -> tuple[str, float]:
    from tenclip_api.errors import InvalidRequest

    source, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidRequest(f"--threshold {text!r}: write a confidence from 0 to 1, e.g. 0.6, or search=0.6")
    return source, value


def _calibration(
    ensemble: Ensemble, held_out: Path | None, folder: Path, decoding: Decoding, reporter: Reporter
) -> Calibration | None:
    if held_out is None:
        return None
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.curation.manifests import read_labelled
    from tenclip_training.omni.filter_files import calibrate

    manifest = read_labelled(held_out, missing="keep")
    if "val" in manifest.splits:
        manifest = manifest.split("val")
    elif "train" in manifest.splits:
        raise InvalidRequest(
            f"--calibrate {held_out}: has splits {', '.join(manifest.splits)} and no val; what the teacher was trained "
            "on says nothing of its precision, so write the held-out videos to a list of their own"
        )
    return calibrate(
        ensemble,
        manifest.samples,
        folder,
        decoding,
        lambda done, total: reporter.update("held-out data", done, total, "videos"),
    )


def _print_filter(report: FilterReport, page: Path, out: Path) -> None:
    from rich.text import Text

    from tenclip_client.cli.output import output_console
    from tenclip_training.omni.filter_report import class_rows, threshold_text

    console = output_console()
    columns = ["source", "scored", "unreadable", "kept", "share", "threshold", "chosen"]
    if any(s.held_out is not None for s in report.sources):
        columns.append("held-out precision")
    table = _table(columns)
    for source in report.sources:
        cells: list[Any] = [
            *(Text(source.source), source.scored, source.failed, source.kept, f"{source.kept_share:.1%}"),
            *(threshold_text(source), source.chosen),
        ]
        if len(columns) > len(cells):
            cells.append("-" if source.held_out is None else f"{source.held_out:.1%}")
        table.add_row(*[c if isinstance(c, Text) else str(c) for c in cells])
    console.print(table)
    table = _table(["class", "before", "after"])
    for row in class_rows(report):
        table.add_row(Text(row["label"]), str(row["before"]), str(row["after"]))
    console.print(table)
    lines = []
    if report.truth is not None:
        lines += [_truth_line(report.truth)]
    if report.dropped:
        lines.append(f"nothing is left of: {', '.join(report.dropped)}")
    if report.uncovered:
        lines.append(f"classes of which nothing is kept: {', '.join(report.uncovered)}")
    if report.failures:
        lines.append(f"not readable: {len(report.failures)} files, listed in failures.jsonl beside the report")
    for line in [*lines, str(page), str(out)]:
        console.print(line, markup=False, soft_wrap=True)


def _truth_line(truth: Truth) -> str:
    def rate(value: float | None, part: int, whole: int) -> str:
        return "none" if value is None else f"{value:.1%} ({part} of {whole})"

    before = rate(truth.precision_before, truth.claimed_right, truth.claimed)
    return (
        f"true labels are known of {truth.files} files: {before} came with the right one; of the kept "
        f"{rate(truth.precision, truth.kept_right, truth.kept)} are right (precision), and of those that show a class "
        f"{rate(truth.recall, truth.kept_right, truth.relevant)} are kept as it (recall)"
    )


def _table(columns: list[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
