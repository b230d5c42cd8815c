"""Standard output of a command: tables for people, JSON for programs, and what is done when it cannot be written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def output_console() -> Console:
    """Standard output as a rich console; wide where it is no terminal, so that no line of a file is wrapped."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    return console


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def prepare_output() -> None:
    """Make sure that no character and no missing stream ends a command.

    Characters that the terminal's encoding lacks (cp1252, ASCII) are printed as `?`.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `tenclip ... >&-`
            setattr(sys, name, _nowhere())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def finish_output(exit_code: int) -> int:
    """Write out what is still buffered. Returns the exit code: 1 in place of 0 when that fails.

    A full disk is said on standard error, if that can be written. A reader that has gone (`| head`) is nobody's fault,
    and ends quietly.
    """
    try:
        sys.stdout.flush()
    except OSError as err:
        if not isinstance(err, BrokenPipeError):
            print_error(f"standard output cannot be written: {err.strerror or err}")
        _discard("stdout")
        exit_code = exit_code or 1
    try:
        sys.stderr.flush()
    except OSError:
        _discard("stderr")
    return exit_code


def print_error(message: str) -> None:
    """`Error: message` on standard error, if that can be written."""
    import typer

    with contextlib.suppress(OSError):
        typer.secho(f"Error: {message}", fg="red", err=True)


def _discard(name: str) -> None:
    """Let a stream of `sys` lead nowhere: the interpreter flushes it again at its end, and would complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, name).fileno())
    except (OSError, ValueError):  # no real file
        setattr(sys, name, _nowhere())


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
