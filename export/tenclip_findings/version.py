"""Which code found something."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

_TIMEOUT = 10.0  # seconds that git may take


def code_version() -> str:
    """tenclip's version, with its commit where it runs from a checkout: "0.1.0 (73d7336)"; "+" after the commit: there
    are changes that are in none, those of docs left out, where a run writes.
    """
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "--short", "HEAD") if _git(folder, "ls-files", Path(__file__).name) else ""
    if not commit:
        return version("tenclip")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs")
    return f"{version('tenclip')} ({commit}{'+' if changed else ''})"


def _git(folder: Path, *arguments: str) -> str:
    """ "" where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
