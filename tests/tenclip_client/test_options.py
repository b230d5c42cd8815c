"""The options that the commands of the client share."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from tenclip_client.cli.options import ClipOptions, ConnectionOptions
from tenclip_client.commands import bench, features, models, predict


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


def test_a_sampler_and_adaptive_are_arguments_of_a_call() -> None:
    choice = ClipOptions(selection="salient", adaptive=True, error_bound=0.2, sampler="moves/2").choice()
    assert (choice.clips, choice.adaptive, choice.sampler) == ("salient", True, "moves/2")
    assert choice.error_bound == 0.2
    assert (ClipOptions().choice().adaptive, ClipOptions().choice().sampler) == (False, None)


def test_no_timeout_and_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENCLIP_TOKEN", "")
    settings = ConnectionOptions().client_settings(0)
    assert settings["timeout"] is settings["token"] is settings["tls"] is None
    monkeypatch.setenv("TENCLIP_TOKEN", "a-token")
    assert ConnectionOptions().client_settings(5)["token"] == "a-token"
