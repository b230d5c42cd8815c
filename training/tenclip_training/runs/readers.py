"""The processes of a DataLoader that read clips, and what they say when they fail."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tenclip_api.errors import TenclipError
from tenclip_training.processes import end_with_parent

T = TypeVar("T")


def begin_reader(_worker: int) -> None:
    """`worker_init_fn` of a DataLoader: a reader ends when the run's own process says so or has gone, and not before.

    Ctrl-C reaches every process of a terminal, and SIGTERM every process of a job that is cancelled (systemd, Slurm);
    the run's own process then takes a last step, with what its readers have for it. It ends a reader that hangs by
    SIGTERM, too, so who has sent the signal decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # of threads that begin later, too
    threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()
    end_with_parent()


def _end_when_told(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(1)


def from_readers(loader: Iterable[T]) -> Iterator[T]:
    """What the readers give. Their errors are raised as they raised them, without the trace that torch writes into the
    text; it stays in the error's cause.
    """
    try:
        yield from loader
    except TenclipError as err:
        name = f"\n{type(err).__module__}.{type(err).__qualname__}: "
        _, found, text = err.message.rpartition(name)
        if not found:
            raise
        raise type(err)(text.rstrip("\n")) from err
