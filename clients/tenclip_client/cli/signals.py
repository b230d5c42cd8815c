"""SIGTERM: what `kill`, a service manager and Kubernetes send to end a command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends this as Ctrl-C does at that moment: asyncio cancels what it runs, other code gets KeyboardInterrupt.

    Where Ctrl-C is ignored, as in what a script starts with `&`, it is a KeyboardInterrupt. Outside of the main thread,
    where Python delivers no signals, nothing changes.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs this has the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def resumable(*, overwrite: bool = False) -> Iterator[None]:
    """Says at Ctrl-C or SIGTERM that the next run goes on: where this one has --overwrite, if that is left out."""
    try:
        yield
    except KeyboardInterrupt:
        again = "the same command without --overwrite" if overwrite else "the same command"
        typer.echo(f"stopped; {again} goes on from here", err=True)
        raise
