"""Standard output of a command: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

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
