from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tenclip_api.errors import InvalidRequest
from tenclip_client.cli.option_groups import with_option_groups


@dataclass(frozen=True, kw_only=True)
class Size:
    crop: Annotated[int, typer.Option(help="Side of the crop.", rich_help_panel="Size")] = 112
    scales: Annotated[list[float] | None, typer.Option("--scale", help="Repeatable.")] = None

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise ValueError(f"--crop must be at least 1, got {self.crop}")


@dataclass(frozen=True, kw_only=True)
class Output:
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to.")] = Path("models")
    overwrite: Annotated[bool, typer.Option("--overwrite")] = False


calls: list[tuple[Path, Size, Output]] = []


@with_option_groups
def resize(source: Annotated[Path, typer.Argument()], size: Size, output: Output) -> None:
    """Resize a video."""
    calls.append((source, size, output))


app = typer.Typer()
app.command()(resize)


def run(*arguments: str) -> tuple[Path, Size, Output]:
    calls.clear()
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return calls[0]


def test_each_field_is_an_option_and_each_group_one_value() -> None:
    assert run("a.mp4") == (Path("a.mp4"), Size(), Output())
    assert run("a.mp4", "--crop", "64", "-o", "there", "--overwrite", "--scale", "1", "--scale", "2.5") == (
        Path("a.mp4"),
        Size(crop=64, scales=[1.0, 2.5]),
        Output(out=Path("there"), overwrite=True),
    )


def test_the_help_shows_them_under_their_panels() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for part in ("Resize a video.", "--crop", "--scale", "--out", "--overwrite", "Side of the crop.", " Size "):
        assert part in text
    assert "--size" not in text
    assert "--output" not in text


def test_a_value_that_the_group_refuses() -> None:
    with pytest.raises(InvalidRequest, match="--crop must be at least 1, got 0"):
        run("a.mp4", "--crop", "0")


def test_wrong_types_and_unknown_options_are_wrong_usage() -> None:
    for arguments in (["a.mp4", "--crop", "large"], ["a.mp4", "--crp", "3"], []):
        assert CliRunner().invoke(app, arguments).exit_code == 2


def test_two_groups_with_one_option() -> None:
    def twice(size: Size, again: Size) -> None: ...

    with pytest.raises(TypeError, match="twice: several groups have the option crop, scales"):
        with_option_groups(twice)
