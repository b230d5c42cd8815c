"""What is in the pages of the documentation and in the README: code blocks, commands, options, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PROJECT

PAGES = (PROJECT / "README.md", PROJECT / "k8s" / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
# `tenclip` is the first word, or what torchrun starts.
_COMMAND_LINE = re.compile(r"^(?:torchrun .* )?tenclip (.+)$")
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced code block. line: where it begins, counted from 1."""

    page: Path
    line: int
    language: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line of ours. whole: from a code block, so that it must run as it stands."""

    page: Path
    line: int
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}: {shlex.join(self.words)}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        yield Block(page=page, line=line, language=match[2], text=match[3])


def commands(page: Path) -> Iterator[Command]:
    """`tenclip ...` in blocks, one a line, and in inline code."""
    for block in blocks(page):
        if block.language in ("", "sh", "bash", "console"):
            for offset, line in _logical_lines(block.text):
                if match := _COMMAND_LINE.match(line.removesuffix(" &")):
                    words = tuple(shlex.split(match[1], comments=True))
                    yield Command(page=page, line=block.line + offset, words=words, whole=True)
    for line_number, code in inline_code(page):
        if code.startswith("tenclip ") and not code.startswith("tenclip COMMAND"):
            yield Command(page=page, line=line_number, words=tuple(shlex.split(code)[1:]), whole=False)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number from 0, line) where lines that end in a backslash go on in the next one."""
    start = 0
    parts: list[str] = []
    for number, line in enumerate(text.splitlines()):
        start = start if parts else number
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield start, "".join(parts)
            parts = []


def options(page: Path) -> Iterator[tuple[int, str]]:
    """(line, option) for each option that stands alone in inline code, such as `--max-clips 64`."""
    for line, code in inline_code(page):
        if code.startswith("--"):
            for option in _OPTION.findall(code):
                yield line, option


def inline_code(page: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of everything between single backticks, outside of code blocks."""
    text = page.read_text(encoding="utf-8")
    prose = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    for match in _INLINE.finditer(prose):
        yield prose.count("\n", 0, match.start()) + 1, " ".join(match[1].split())
