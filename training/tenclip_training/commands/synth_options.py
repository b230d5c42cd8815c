"""The option groups of `tenclip synth`, and the settings that their texts stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer


@dataclass(frozen=True, kw_only=True)
class ClassOptions:
    """The classes, how many videos each has, and how they are split."""

    num_classes: Annotated[int, typer.Option(help="The first so many of the 16 motion classes.")] = 8
    classes: Annotated[
        str | None, typer.Option(help="Names of classes instead, with commas between; `list` prints them all.")
    ] = None
    videos_per_class: Annotated[int, typer.Option(help="Videos of the most frequent class, over all splits.")] = 120
    splits: Annotated[str, typer.Option(help="Names and fractions, e.g. train=0.7,val=0.1,test=0.2.")] = (
        "train=0.8,test=0.2"
    )

    def settings(self) -> dict[str, Any]:
        """Arguments of `SynthConfig`. Raises InvalidRequest for a text that is not understood."""
        return {
            "classes": tuple(self.classes.split(",")) if self.classes else (),
            "num_classes": self.num_classes,
            "videos_per_class": self.videos_per_class,
            "splits": _splits(self.splits),
        }


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """The form of the videos, and what is to be seen in them."""

    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "112x84"
    seconds: Annotated[
        str | None, typer.Option(help="Shortest-longest duration. (default: 1.5-3; 8-16 with --untrimmed)")
    ] = None
    fps: Annotated[str, typer.Option(help="Frame rates to draw from, with commas between.")] = "30,25,15"
    vfr: Annotated[float, typer.Option(help="Fraction of videos with a variable frame rate.")] = 0.2
    objects: Annotated[str, typer.Option(help="Fewest-most moving objects.")] = "1-3"
    clutter: Annotated[int, typer.Option(help="Most motionless things that look like objects.")] = 2
    distractors: Annotated[int, typer.Option(help="Most things that wander aimlessly.")] = 0
    camera_shake: Annotated[float, typer.Option(help="Amplitude, as a fraction of the short side.")] = 0.01

    def settings(self, *, untrimmed: bool) -> dict[str, Any]:
        """Arguments of `SynthConfig`. Raises InvalidRequest for a text that is not understood.

        untrimmed: without --seconds, videos are longer.
        """
        width, height = _pair(self.size, "x", int, "--size", "112x84")
        return {
            "width": width,
            "height": height,
            "seconds": _pair(self.seconds or ("8-16" if untrimmed else "1.5-3"), "-", float, "--seconds", "1.5-3"),
            "frame_rates": _numbers(self.fps, "--fps"),
            "variable_frame_rate": self.vfr,
            "objects": _pair(self.objects, "-", int, "--objects", "1-3"),
            "clutter": self.clutter,
            "distractors": self.distractors,
            "camera_shake": self.camera_shake,
        }


@dataclass(frozen=True, kw_only=True)
class WeakSupervisionOptions:
    """How weak the supervision is: untrimmed videos, a long tail of classes, wrong and missing tags."""

    untrimmed: Annotated[
        bool, typer.Option("--untrimmed", help="The action fills only a part; start and end say which.")
    ] = False
    action: Annotated[
        str, typer.Option(help="With --untrimmed: least-most part of the video that the action fills.")
    ] = "0.1-0.3"
    long_tail: Annotated[
        float, typer.Option(help="First class's training videos over the last one's; 1: balanced.")
    ] = 1.0
    noisy_tags: Annotated[bool, typer.Option("--noisy-tags", help="Write hashtags with wrong and missing ones.")] = (
        False
    )

    def settings(self) -> dict[str, Any]:
        """Arguments of `SynthConfig`. Raises InvalidRequest for a text that is not understood."""
        from tenclip_training.synth import NoisyTags

        return {
            "untrimmed": _pair(self.action, "-", float, "--action", "0.1-0.3") if self.untrimmed else None,
            "long_tail": self.long_tail,
            "noisy_tags": NoisyTags() if self.noisy_tags else None,
        }


def _splits(text: str) -> tuple[tuple[str, float], ...]:
    return tuple(
        (name.strip(), _number(value, float, "--splits", "train=0.8,test=0.2"))
        for name, _, value in (part.partition("=") for part in text.split(","))
    )


def _numbers(text: str, option: str) -> tuple[float, ...]:
    return tuple(_number(part, float, option, "30,25,15") for part in text.split(","))


def _pair(text: str, separator: str, kind: type[Any], option: str, example: str) -> tuple[Any, Any]:
    """`1.5-3` -> (1.5, 3.0); a single number stands for both."""
    first, _, second = text.lower().partition(separator)
    return _number(first, kind, option, example), _number(second or first, kind, option, example)


def _number(text: str, kind: type[Any], option: str, example: str) -> Any:
    from tenclip_api.errors import InvalidRequest

    try:
        return kind(text)
    except ValueError as error:
        raise InvalidRequest(f"{option}: {text!r} is not a number; write it like {example}") from error
