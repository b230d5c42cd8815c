"""docs/architecture.md names files that exist, and each is a step of the journey that lists it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import PROJECT

ROOMS = ("clients", "serving", "training", "export")
PAGE = PROJECT / "docs" / "architecture.md"
_STEP = re.compile(r"^(\d+)\. `([\w/]+\.py)`: (.+)$", re.MULTILINE)


@cache
def journeys() -> dict[str, tuple[str, ...]]:
    """Title of each journey -> its files, in order, as the page writes them."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {s.partition("\n")[0]: tuple(step[1] for step in _STEP.findall(s)) for s in sections}
    return {title: files for title, files in found.items() if files}


def place(file: str) -> Path:
    return next((PROJECT / room / file for room in ROOMS if (PROJECT / room / file).is_file()), PROJECT / file)


def module_of(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


@cache
def imports(file: str) -> frozenset[str]:
    """Modules that a file names in imports, those within functions and for types included."""
    return frozenset(_imported(ast.parse(place(file).read_text(encoding="utf-8"))))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def tied(first: str, second: str) -> bool:
    """Does one of two files import the other, or the package that hands it on?"""

    def names(file: str, other: str) -> bool:
        module = module_of(other)
        packages = {module, module.rpartition(".")[0]} if module.count(".") > 1 else {module}
        return bool(packages & imports(file))

    return names(first, second) or names(second, first)


def test_there_are_ten_journeys() -> None:
    assert [title.removeprefix("The life of a ") for title in journeys()] == [
        "request",
        "training sample",
        "checkpoint",
        "distilled clip",
        "feature row",
        "neighbour",
        "batch",
        "report",
        "live stream",
        "video on the page",
    ]
    assert all(len(files) >= 8 for files in journeys().values())


@pytest.mark.parametrize("title", journeys())
def test_every_file_exists(title: str) -> None:
    assert [file for file in journeys()[title] if not place(file).is_file()] == []


@pytest.mark.parametrize("title", journeys())
def test_every_file_is_a_step(title: str) -> None:
    files = journeys()[title]
    assert len(set(files)) == len(files), "a file is listed twice"
    alone = [f for f in files if not any(tied(f, other) for other in files if other != f)]
    assert alone == [], f"no other file of the list imports these, nor do they import one: {alone}"


@pytest.mark.parametrize("title", journeys())
def test_steps_are_numbered_in_order(title: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index(f"## {title}") :]
    numbers = [int(step[0]) for step in _STEP.findall(section)][: len(journeys()[title])]
    assert numbers == list(range(1, len(numbers) + 1))


def test_an_import_ties_two_files() -> None:
    assert tied("tenclip_video/clips.py", "tenclip_video/sampling.py")
    assert not tied("tenclip_video/sampling.py", "tenclip_serving/engine.py")


def test_packages_of_the_house_exist() -> None:
    rows = re.findall(r"^\| `(\w+)/` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {(room, package) for room, packages in rows for package in re.findall(r"`(tenclip_\w+)`", packages)}
    there = {(path.parent.parent.name, path.parent.name) for r in ROOMS for path in (PROJECT / r).glob("*/__init__.py")}
    assert named == there
