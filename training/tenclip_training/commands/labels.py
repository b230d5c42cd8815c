"""`tenclip labels`: a group of sub-commands about label spaces and tables of tagged videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from tenclip_training.labels.hashtags import Hashtags
    from tenclip_training.labels.spaces import LabelSpace

labels = typer.Typer(
    name="labels",
    help="""Label spaces: hashtags of labels, and which videos carry them.

    From a list of labels and a table of tagged videos to labelled videos, as
    IG-65M was made; then what is in them, and parts of them.

    \b
    Examples:
      tenclip labels hashtags "catching a fish"
      tenclip labels match videos.parquet labels.txt --tags hashtags --out labelled.parquet
      tenclip labels report labelled.parquet --out report.html
    """,
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
MaxHashtags = Annotated[int, typer.Option(min=1, help="Most hashtags of one label; those nearest to the label stay.")]
Column = Annotated[
    str | None, typer.Option(help="Column with the labels.", show_default="labels, else label", metavar="NAME")
]
Target = Annotated[
    Path | None,
    typer.Option(help="A file of class names, a label space or a labelled table to compare with.", show_default=False),
]
TargetColumn = Annotated[
    str | None, typer.Option(help="Column with the labels of --target.", show_default=False, metavar="NAME")
]
DEFAULT_MAX = 5000


@labels.command()
def hashtags(
    label: Annotated[
        str | None, typer.Argument(help='An action, such as "catching a fish".', show_default=False)
    ] = None,
    verb: Annotated[str | None, typer.Option(help="A verb, instead of a label.", show_default=False)] = None,
    noun: Annotated[
        str | None, typer.Option(help="A noun, instead of a label or beside --verb.", show_default=False)
    ] = None,
    max_hashtags: MaxHashtags = DEFAULT_MAX,
    json: Json = False,
) -> None:
    """Print the relevant hashtags of one label, or of a verb, a noun, or both.

    Of a label: every order of its words, each as it is and as its lemma, with
    and without function words. Of a verb and a noun: every form of one with
    every form of the other, in both orders. A cap that leaves some out is said
    on standard error.

    \b
    Examples:
      tenclip labels hashtags "catching a fish"
      tenclip labels hashtags --verb burning --noun candle --json
    """
    from tenclip_client.cli.output import print_json

    found = _hashtags_of(label, verb, noun, max_hashtags)
    if found.capped:
        typer.echo(
            f"{found.label!r}: {len(found.tags)} hashtags of {found.possible} possible ones; "
            "--max-hashtags allows more",
            err=True,
        )
    if json:
        print_json(list(found.tags))
    else:
        typer.echo("\n".join(f"#{tag}" for tag in found.tags))


@labels.command()
def space(
    out: Annotated[Path, typer.Option(help="Parquet file with columns label and tag.", show_default=False)],
    actions: Annotated[
        Path | None, typer.Option(help="File of actions, one a line, by themselves.", show_default=False)
    ] = None,
    verbs: Annotated[Path | None, typer.Option(help="File of verbs, one a line.", show_default=False)] = None,
    nouns: Annotated[
        Path | None, typer.Option(help="File of nouns; with --verbs: every verb with every noun.", show_default=False)
    ] = None,
    split_synonyms: Annotated[
        bool,
        typer.Option(
            "--split-synonyms",
            help="Verbs or nouns with commas between are labels of their own; else they share their line's label.",
        ),
    ] = False,
    max_hashtags: MaxHashtags = DEFAULT_MAX,
    json: Json = False,
) -> None:
    """Make a label space: labels and all their hashtags, as `tenclip labels match` reads it.

    Verbs and nouns become labels by their lemma: "burning" and "burn" are one.

    \b
    Examples:
      tenclip labels space --verbs verbs.txt --out verbs.parquet
      tenclip labels space --nouns synsets.txt --split-synonyms --out nouns.parquet
      tenclip labels space --verbs verbs.txt --nouns nouns.txt --out pairs.parquet
    """
    from tenclip_client.cli.output import print_json
    from tenclip_training.labels.console import say_capped, some
    from tenclip_training.labels.spaces import write_space

    made = _make_space(actions, verbs, nouns, split_synonyms, max_hashtags)
    write_space(made, out)
    merged = {label: list(seeds) for label, seeds in made.merged.items()}
    if json:
        print_json(
            {
                "out": str(out),
                "labels": len(made.labels),
                "hashtags": made.hashtags.num_rows,
                "max_hashtags": made.max_tags,
                "capped": made.capped,
                "merged": merged,
            }
        )
        return
    typer.echo(f"{len(made.labels):,} labels, {made.hashtags.num_rows:,} hashtags: {out}")
    say_capped(made.capped, made.max_tags)
    if merged:
        shown = some(f"{label} ({', '.join(seeds)})" for label, seeds in merged.items())
        typer.echo(f"merged, for they have the same lemma: {shown}")


@labels.command()
def match(
    videos: Annotated[Path, typer.Argument(help="Table of videos: CSV, Parquet, or a folder of Parquet files.")],
    label_file: Annotated[
        Path,
        typer.Argument(metavar="LABELS", help="File of class names, or a label space of `tenclip labels space`."),
    ],
    tags: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column with the tags: text, or a list.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Parquet file to write.", show_default=False)],
    kind: Annotated[
        Literal["action", "verb", "noun"], typer.Option(help="What the names of a file of class names are.")
    ] = "action",
    min_videos: Annotated[int, typer.Option(min=1, help="Drop labels with fewer videos.")] = 50,
    label_column: Annotated[str, typer.Option(help="Column to write the labels to, as a list.")] = "labels",
    fold_accents: Annotated[
        bool, typer.Option("--fold-accents", help="Take accented Latin letters for plain ones.")
    ] = False,
    check_files: Annotated[bool, typer.Option("--check-files", help="Leave out videos whose file is gone.")] = False,
    root: Annotated[
        Path | None,
        typer.Option("--videos", help="Folder that paths start from, for --check-files.", show_default="the table's"),
    ] = None,
    max_hashtags: MaxHashtags = DEFAULT_MAX,
    json: Json = False,
) -> None:
    """Find the labels of tagged videos, in tables of any size.

    Writes the videos that have at least one hashtag of a label, with all the
    columns of the table and all their labels. Letter case, '#', emoji and
    punctuation do not count; rows that name the same video are united.

    \b
    Examples:
      tenclip labels match videos.parquet labels.txt --tags hashtags --out labelled.parquet
      tenclip labels match videos.csv pairs.parquet --tags tags --out pairs-labelled.parquet --json
    """
    from tenclip_client.cli.output import print_json
    from tenclip_training.labels.console import print_match
    from tenclip_training.labels.match import match_labels
    from tenclip_training.labels.spaces import read_space

    read = read_space(label_file, kind=kind, max_tags=max_hashtags)
    with _progress() as progress:
        report = match_labels(
            videos,
            read,
            tags=tags,
            out=out,
            min_videos=min_videos,
            label_column=label_column,
            fold_accents=fold_accents,
            check_files=check_files,
            root=root,
            progress=progress,
        )
    if json:
        print_json(report.to_dict())
    else:
        print_match(report)


@labels.command()
def report(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Labelled tables, a source each.")],
    out: Annotated[
        Path | None, typer.Option(help="Report to write, .html or .svg, with the charts.", show_default=False)
    ] = None,
    column: Column = None,
    target: Target = None,
    target_column: TargetColumn = None,
    json: Json = False,
) -> None:
    """Report the videos and labels of tables: long tail, cumulative distribution, overlap with a target.

    \b
    Examples:
      tenclip labels report labelled.parquet --out report.html
      tenclip labels report verbs.parquet nouns.parquet --target epic-verbs.txt --json
    """
    from tenclip_client.cli.output import print_json
    from tenclip_training.labels.console import print_report
    from tenclip_training.labels.report import label_report, write_report

    found = label_report(tables, column=column, target=target, target_column=target_column)
    if out is not None:
        write_report(found, out)
    if json:
        print_json({**found.to_dict(), "out": None if out is None else str(out)})
    else:
        print_report(found, out)


@labels.command()
def subset(
    table: Annotated[Path, typer.Argument(help="Labelled table.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.", show_default=False)],
    num_labels: Annotated[
        int | None, typer.Option(min=1, help="How many labels, drawn by seed.", show_default=False)
    ] = None,
    target: Target = None,
    num_videos: Annotated[
        int | None, typer.Option(min=1, help="How many of their videos, drawn by seed.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Smaller subsets of a seed lie inside larger ones.")] = 0,
    column: Column = None,
    target_column: TargetColumn = None,
    json: Json = False,
) -> None:
    """Keep some labels of a labelled table: random ones, or those that a target has, too.

    With --target and --num-labels, the target's labels come first and random
    ones fill up.

    \b
    Examples:
      tenclip labels subset labelled.parquet --num-labels 90 --num-videos 1000000 --out 90.parquet
      tenclip labels subset labelled.parquet --target epic-verbs.txt --out overlapping.parquet
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_client.cli.output import print_json
    from tenclip_training.labels.console import print_subset
    from tenclip_training.labels.overlap import read_target
    from tenclip_training.labels.subset import write_subset

    if num_labels is None and target is None:
        raise InvalidRequest("tenclip labels subset needs --num-labels, --target, or both")
    with _progress() as progress:
        found = write_subset(
            table,
            out=out,
            num_labels=num_labels,
            num_videos=num_videos,
            target=None if target is None else read_target(target, column=target_column),
            seed=seed,
            column=column,
            progress=progress,
        )
    if json:
        print_json(found.to_dict())
    else:
        print_subset(found)


def _hashtags_of(label: str | None, verb: str | None, noun: str | None, max_hashtags: int) -> Hashtags:
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.labels.hashtags import noun_hashtags, pair_hashtags, relevant_hashtags, verb_hashtags

    if (label is None) == (verb is None and noun is None):
        raise InvalidRequest("tenclip labels hashtags needs a label, or --verb, --noun or both, and not all of them")
    if label is not None:
        return relevant_hashtags(label, max_tags=max_hashtags)
    if verb is not None and noun is not None:
        return pair_hashtags(verb, noun)
    return verb_hashtags(verb) if verb is not None else noun_hashtags(noun or "")


def _make_space(
    actions: Path | None, verbs: Path | None, nouns: Path | None, split_synonyms: bool, max_hashtags: int
) -> LabelSpace:
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.labels.spaces import action_space, noun_space, read_seeds, verb_noun_space, verb_space

    if (actions is None) == (verbs is None and nouns is None):
        raise InvalidRequest("tenclip labels space needs --actions, or --verbs, --nouns or both, and not all of them")
    if actions is not None:
        return action_space(read_seeds(actions), max_tags=max_hashtags)
    if verbs is not None and nouns is not None:
        return verb_noun_space(read_seeds(verbs), read_seeds(nouns), split_synonyms=split_synonyms)
    if verbs is not None:
        return verb_space(read_seeds(verbs), split_synonyms=split_synonyms)
    assert nouns is not None
    return noun_space(read_seeds(nouns), split_synonyms=split_synonyms)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    from tenclip_training.console import reporting

    with reporting() as reporter:
        yield lambda stage, done, total: reporter.update(stage, done, max(total, done), "rows")
