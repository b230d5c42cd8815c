"""The option groups of `tenclip synth`: what their texts stand for."""

from __future__ import annotations

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.commands.synth_options import (
    ClassOptions,
    NounOptions,
    SceneOptions,
    UntrimmedOptions,
    WeakSupervisionOptions,
)


def test_the_defaults_of_the_command_are_those_of_the_configuration() -> None:
    from tenclip_training.synth import SynthConfig

    settings = {
        **ClassOptions().settings(),
        **NounOptions().settings(),
        **SceneOptions().settings(untrimmed=False),
        **UntrimmedOptions().settings(),
        **WeakSupervisionOptions().settings(),
    }
    assert SynthConfig(**settings) == SynthConfig()


def test_untrimmed_videos_are_longer_unless_told() -> None:
    assert SceneOptions().settings(untrimmed=True)["seconds"] == (8.0, 16.0)
    assert SceneOptions(seconds="2").settings(untrimmed=True)["seconds"] == (2.0, 2.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (SceneOptions(size="wide"), "--size: 'wide' is not a number; write it like 112x84"),
        (SceneOptions(fps="30,x"), "--fps: 'x' is not a number"),
        (SceneOptions(objects="1-2.5"), "--objects: '2.5' is not a number"),
    ],
)
def test_texts_that_are_no_numbers(options: SceneOptions, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        options.settings(untrimmed=False)
