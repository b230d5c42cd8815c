"""Option groups: written once, expanded into every command that names them."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tenclip_settings import with_option_groups


@dataclasses.dataclass(frozen=True)
class Shape:
    width: Annotated[int, typer.Option(min=1)] = 3
    name: Annotated[str, typer.Option("--label")] = ""


@with_option_groups
def show(*, text: Annotated[str, typer.Argument()], shape: Shape, loud: bool = False) -> None:
    """Show."""
    print(text, shape.width, shape.name, loud)


def run(*argv: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(show)
    result = CliRunner().invoke(app, argv)
    return result.exit_code, result.output


def test_the_options_of_a_group_are_options_of_the_command() -> None:
    assert run("hello") == (0, "hello 3  False\n")
    assert run("hello", "--width", "5", "--label", "big", "--loud") == (0, "hello 5 big True\n")
    code, output = run("hello", "--width", "0")
    assert code == 2
    assert "--width" in output


def test_called_directly_what_is_left_out_has_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    show(text="a", width=7)
    assert capsys.readouterr().out == "a 7  False\n"
    assert list(inspect.signature(show).parameters) == ["text", "width", "name", "loud"]
    assert show.__doc__ == "Show."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    where: Annotated[str, typer.Option()]
    floor: Annotated[int, typer.Option()] = 0

    def text(self) -> str:
        return f"{self.where}/{self.floor}"


@with_option_groups
def find(*, place: Place) -> None:
    print(place.text())


@with_option_groups
def paint(*, where: Shape, place: Place) -> None:
    print(where.width, place.where)


def test_a_group_may_be_called_as_an_option_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    paint(width=2, where="here")
    assert capsys.readouterr().out == "2 here\n"


def test_an_option_without_a_default_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()
    app.command()(find)
    refused = CliRunner().invoke(app, ["--floor", "2"])
    assert refused.exit_code == 2
    assert "--where" in refused.output
    assert CliRunner().invoke(app, ["--where", "here"]).output == "here/0\n"
    with pytest.raises(TypeError, match="where"):
        find(floor=2)


def test_the_package_imports_no_command_line() -> None:
    code = "import sys, tenclip_settings; sys.exit(bool({'typer', 'rich', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
