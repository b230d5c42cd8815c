"""Docstrings of ours as Markdown: doctests and indented blocks after `::` become code, parameters become lists.

An extension of griffe, which reads the sources for the API reference (`extensions` in mkdocs.yml). The tests import it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

import griffe

_DOCTEST = re.compile(r"^(>>>|\.\.\.)( |$)")
# "num_clips: how many" or "start, end: seconds", names that may stand between backticks included.
_PARAMETERS = re.compile(r"^(`?\w+`?(?:(?:,| and) `?\w+`?)*): (.*)$")
# Code between backticks, which stays as it is, or a character that would mean something in Markdown.
_SPECIAL = re.compile(r"(`[^`]*`)|([\[\]<*])")


class DocstringsAsMarkdown(griffe.Extension):
    """Rewrites every docstring that has been read."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        _rewrite(pkg)


def _rewrite(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        obj.docstring.value = as_markdown(obj.docstring.value, names=_names(obj))
    for member in obj.members.values():
        if not member.is_alias:
            _rewrite(member)  # type: ignore[arg-type]


def _names(obj: griffe.Object) -> set[str]:
    """What a docstring may describe by name: parameters of a function, attributes of a class."""
    if isinstance(obj, griffe.Function):
        return {parameter.name for parameter in obj.parameters}
    if isinstance(obj, griffe.Class):
        return {*obj.members, *(parameter.name for parameter in obj.parameters)}
    return set()


def as_markdown(docstring: str, names: Collection[str] = ()) -> str:
    """Fence doctests with their results, and the indented lines after a line that ends in `::`; escape the rest.

    Lines that begin with some of `names` and a colon become items of a list.

    >>> print(as_markdown("Adds.\\n\\na: float32 [B]\\n>>> add(1, 2)\\n3", names=["a"]))
    Adds.
    <BLANKLINE>
    - `a`: float32 \\[B\\]
    <BLANKLINE>
    ```pycon
    >>> add(1, 2)
    3
    ```
    """
    return "\n".join(_rendered(docstring.splitlines(), names))


def _rendered(lines: list[str], names: Collection[str]) -> Iterator[str]:
    at, in_list = 0, False
    while at < len(lines):
        line = lines[at]
        if _DOCTEST.match(line):
            end = _first(lines, at, lambda text: not text.strip())
            yield from (*([""] if in_list else []), "```pycon", *lines[at:end], "```")
            at, in_list = end, False
        elif line.endswith("::"):
            start = _first(lines, at + 1, lambda text: bool(text.strip()))
            end = _first(lines, start, lambda text: bool(text.strip()) and not text.startswith("    "))
            yield from _code(line, lines[start:end])
            at, in_list = end, False
        else:
            item = _item(line, names)
            if item is not None and not in_list:
                yield ""
            in_list = item is not None or (in_list and bool(line.strip()))
            yield item or (f"    {_escaped(line.strip())}" if in_list else _escaped(line))
            at += 1


def _code(introduction: str, block: list[str]) -> Iterator[str]:
    code = "\n".join(line[4:] for line in block).rstrip().splitlines()
    before = _escaped(introduction[:-2].rstrip())
    language = "python" if any(word in "\n".join(code) for word in ("import ", "await ", " = ")) else "text"
    yield from (f"{before}:" if before else "", "", f"```{language}", *code, "```", "")


def _item(line: str, names: Collection[str]) -> str | None:
    match = _PARAMETERS.match(line)
    if match is None:
        return None
    described = re.findall(r"\w+", match[1].replace(" and ", ", "))
    if not set(described) <= set(names):
        return None
    return f"- {', '.join(f'`{name}`' for name in described)}: {_escaped(match[2])}"


def _escaped(line: str) -> str:
    return _SPECIAL.sub(lambda match: match[1] or f"\\{match[2]}", line)


def _first(lines: list[str], start: int, holds: Callable[[str], bool]) -> int:
    """Index of the first line from `start` on for which it holds; the number of lines where there is none."""
    return next((i for i in range(start, len(lines)) if holds(lines[i])), len(lines))
