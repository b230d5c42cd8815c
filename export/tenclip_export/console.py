"""Progress on standard error: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Steps:
    """Says what is being done now. `step` may be called from anywhere in the work; the line goes away at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = console.status("") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def step(self, message: str) -> None:
        if self._status is not None:
            self._status.update(escape(message))
        else:
            self._console.print(message, highlight=False, markup=False)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
