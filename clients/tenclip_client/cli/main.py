"""The root of `tenclip`: finds the sub-commands, loads the one that is asked for, and turns errors into one line.

Every package registers plain annotated functions in the entry-point group `tenclip.commands`, or a `typer.Typer` with
sub-commands of its own (`tenclip labels match`). Only what the command line names is imported; `tenclip --help` lists
the others from the summaries below.
Exit codes: 0 done; 1 an error, said in one line (output that cannot be written is one); 2 wrong usage; 3 done, but some
videos failed (see `exits`); 130 ended by Ctrl-C or SIGTERM, which are the same to every command.
A bug ends in a traceback. A reader of the output that has gone (`| head`) ends the command quietly, with exit code 1.
"""

from __future__ import annotations

import errno
import inspect
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import typer
from rich.markup import escape
from typer.main import get_command

from tenclip_api.errors import TenclipError
from tenclip_client.cli.messages import one_line
from tenclip_client.cli.output import finish_output, prepare_output, print_error
from tenclip_client.cli.signals import terminated_like_interrupted

GROUP = "tenclip.commands"
DEBUG_VARIABLE = "TENCLIP_DEBUG"

# First sentence of each command's help, in the order of a project's life, under the heading it is listed by.
SUMMARIES: dict[str, dict[str, str]] = {
    "Start here": {
        "demo": (
            "Train a small video model, export it, serve it, and ask it about videos: all of tenclip in ten minutes."
        ),
        "findings": "Repeat the findings of the papers in small, on generated videos or on your own.",
    },
    "Use a server": {
        "predict": "Recognise the actions in videos.",
        "live": "Watch streams, and tell what happens in them as it happens.",
        "features": "Extract features of many videos into one Parquet file.",
        "similar": "Find the clips of an index that are nearest to those of videos.",
        "index": "An index of clips by their features: neighbours of videos, and near-duplicates.",
        "ui": "A page in the browser: drop a video, see its prediction over time.",
        "models": "List the models of a server, show one of them, or change which are served.",
        "bench": "Put load on a server and report latency, throughput, stages and errors.",
    },
    "Choose data": {
        "labels": "Label spaces: hashtags of labels, and which videos carry them.",
        "curate": "Choose and clean videos: subsets, merged datasets, near-duplicates, corrupt files.",
        "omni": "Learn from web images and videos beside a labelled target set (OmniSource).",
        "shards": "Videos in tar files (WebDataset shards), to be read from a few large files or from URLs.",
    },
    "Train and export": {
        "synth": "Make action videos, or stills of their objects: real files whose classes only motion tells apart.",
        "recipes": "List the settings of published runs, or print one of them with its source.",
        "train": "Train a model.",
        "distill": "Train a network of clips from image networks, without labels (DistInit).",
        "train-sampler": "Train a light network that finds the clips of a video worth classifying (SCSampler).",
        "add-sampler": "Give a bundle a sampler, so that it predicts from salient clips.",
        "grid": "Choose settings of a run by a grid search, on a part of the training videos.",
        "inflate": "Inflate a network of frames to one of clips, as a checkpoint to fine-tune.",
        "inspect-model": "Show a network's first kernels over time, and its features by class.",
        "evaluate": "Evaluate a model on labelled videos.",
        "average-splits": "Average per-clip, top-1 and top-5 accuracy over splits (HMDB-51, UCF-101).",
        "evaluate-actions": "Evaluate verbs, nouns and actions (EPIC-KITCHENS).",
        "probe": "Fit a linear classifier on extracted features.",
        "export": "Turn a checkpoint into a bundle that `tenclip serve` serves.",
        "export-probe": "Give a bundle a fitted probe as its classifier, so that it is served.",
    },
    "Serve and inspect": {
        "batch": "Features or predictions of very many videos, without a server.",
        "serve": "Serve a directory of bundles over gRPC and, where asked to, HTTP.",
        "inspect": "Show what is in a video and the clips that a prediction would look at.",
    },
}
# What a user's file system answers; anything else is a bug.
_FILE_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
_FILE_ERROR_NUMBERS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ENAMETOOLONG", "ELOOP", "ESTALE", "EMFILE")
    if hasattr(errno, name)
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `tenclip` with `argv` (without the program's name; None: the process's own) and exit."""
    prepare_output()
    try:
        with terminated_like_interrupted():
            _run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.exit(finish_output(code))


def _run(arguments: list[str]) -> NoReturn:
    commands = {e.name: e for e in entry_points(group=GROUP)}
    name = requested_command(arguments, commands)
    debug = bool(os.environ.get(DEBUG_VARIABLE)) or "--traceback" in itertools.takewhile(lambda a: a != name, arguments)
    try:
        build_command(commands, name)(args=arguments, prog_name="tenclip")
        sys.exit(0)
    except ModuleNotFoundError as err:
        if debug or name is None or _is_ours(err.name):
            raise
        _fail(missing_module(commands[name], err.name or str(err)))
    except (TenclipError, OSError) as err:
        if not isinstance(err, (TenclipError, *_FILE_ERRORS)) and err.errno not in _FILE_ERROR_NUMBERS:
            raise
        if debug:
            traceback.print_exc()
        _fail(one_line(err))


def requested_command(arguments: Sequence[str], commands: dict[str, EntryPoint]) -> str | None:
    """The sub-command that the command line names: its first word. The root's own options take no values."""
    # Completion runs without arguments; the line so far is in the environment.
    words = arguments or os.environ.get("COMP_WORDS", os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]
    first = next((w for w in words if not w.startswith("-")), None)
    return first if first in commands else None


def build_command(commands: dict[str, EntryPoint], name: str | None) -> Any:
    """The root command. Only `name` is imported; the others are there to be listed."""
    app = typer.Typer(
        name="tenclip",
        help="Train, export and serve video action-recognition models.",
        epilog=f"{DEBUG_VARIABLE}=1 or --traceback shows where an error comes from.",
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    app.callback()(_root)
    for heading, summary, command in _listed(commands):
        loaded = load(commands[command]) if command == name else _placeholder
        described: dict[str, Any] = {
            "help": escape(help_text(loaded)) if command == name else summary,
            "short_help": summary,
            "rich_help_panel": heading,
        }
        if isinstance(loaded, typer.Typer):
            app.add_typer(_with_plain_help(loaded), name=command, no_args_is_help=True, **described)
        else:
            app.command(command, no_args_is_help=False, **described)(loaded)
    root = get_command(app)
    _escape_options(getattr(root, "commands", {}).get(name, root))
    return root


def load(entry: EntryPoint) -> Callable[..., Any] | typer.Typer:
    """The function behind a command, or its group of sub-commands.

    Raises ModuleNotFoundError where its extra is not installed.
    """
    loaded: Callable[..., Any] | typer.Typer = entry.load()
    return loaded


def help_text(command: Callable[..., Any] | typer.Typer) -> str:
    r"""The text for the help page: a function's docstring, or what a group of sub-commands says of itself.

    It is without the `\b` marks that only say "keep these lines".
    """
    text = command.info.help if isinstance(command, typer.Typer) else command.__doc__
    return "\n".join(line for line in inspect.cleandoc(text or "").splitlines() if line.strip() != "\b")


def missing_module(entry: EntryPoint, module: str) -> str:
    """The message for a command that needs a module which is not installed."""
    package = f"tenclip[{','.join(entry.extras)}]" if entry.extras else "tenclip"
    return f"`tenclip {entry.name}` needs {module}, which is not installed: pip install '{package}'"


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tenclip {version('tenclip')}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
    ),
    # Read by main() before anything is imported; named here so that it is known and listed.
    traceback: bool = typer.Option(False, "--traceback", help="Show where an error comes from."),
) -> None:
    """Options of the root; they are over when a sub-command begins."""


def _with_plain_help(group: typer.Typer) -> typer.Typer:
    """The same group, whose sub-commands' docstrings are plain text, too."""
    for command in group.registered_commands:
        if command.callback is not None and command.help is None:
            command.help = escape(help_text(command.callback))
    return group


def _escape_options(command: Any) -> None:
    """Docstrings and option helps are plain text: what stands in brackets is no markup."""
    for parameter in command.params:
        parameter.help = escape(parameter.help) if getattr(parameter, "help", None) else None
    for sub_command in getattr(command, "commands", {}).values():
        _escape_options(sub_command)


def _listed(commands: dict[str, EntryPoint]) -> list[tuple[str, str, str]]:
    """(heading, summary, name) of every installed command; ones of other packages come last."""
    known = [(heading, text, name) for heading, group in SUMMARIES.items() for name, text in group.items()]
    names = {name for _, _, name in known}
    other = [("Others", f"From {e.module.partition('.')[0]}.", n) for n, e in sorted(commands.items())]
    return [k for k in known if k[2] in commands] + [o for o in other if o[2] not in names]


def _placeholder() -> None:
    raise AssertionError("a command that was listed was run without being loaded")


def _is_ours(module: str | None) -> bool:
    return module is not None and module.partition(".")[0].startswith("tenclip")


def _fail(message: str) -> NoReturn:
    print_error(message)
    sys.exit(1)
