"""Option groups: written once, expanded into every command that names them."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tenclip_client.cli.options import ClipOptions, ConnectionOptions, with_option_groups
from tenclip_client.commands import bench, features, models, predict


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


@pytest.mark.parametrize("command", [predict, features, models, bench])
def test_every_command_reaches_its_server_alike(command: object) -> None:
    assert callable(command)
    ours = inspect.signature(command).parameters
    for field in dataclasses.fields(ConnectionOptions):
        assert ours[field.name].default == field.default
        (option,) = ours[field.name].annotation.__metadata__
        assert option.help


def test_clip_options_are_the_arguments_of_a_call() -> None:
    choice = ClipOptions(model="a:1", selection="windows", window_step=8, start=1.5).choice()
    assert (choice.model, choice.clips, choice.window_step, choice.start, choice.end) == (
        "a:1",
        "windows",
        8,
        1.5,
        None,
    )


def test_no_timeout_and_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENCLIP_TOKEN", "")
    settings = ConnectionOptions().client_settings(0)
    assert settings["timeout"] is settings["token"] is settings["tls"] is None
    monkeypatch.setenv("TENCLIP_TOKEN", "a-token")
    assert ConnectionOptions().client_settings(5)["token"] == "a-token"
