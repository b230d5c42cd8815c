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
    videos: Annotated[int | None, typer.Option(help="How many videos in all, instead.")] = None
    images: Annotated[int | None, typer.Option(help="Make so many stills in all, instead of videos.")] = None
    image_format: Annotated[str, typer.Option(help="jpg or png.")] = "jpg"
    image_quality: Annotated[int, typer.Option(help="Of JPEG, 1-100.")] = 90
    splits: Annotated[str, typer.Option(help="Names and fractions, e.g. train=0.7,val=0.1,test=0.2.")] = (
        "train=0.8,test=0.2"
    )

    def settings(self) -> dict[str, Any]:
        """Arguments of `SynthConfig`. Raises InvalidRequest for a text that is not understood."""
        from tenclip_api.errors import InvalidRequest

        if self.images is not None and self.videos is not None:
            raise InvalidRequest("--images and --videos exclude each other; a folder holds one kind, so make two")
        return {
            "classes": tuple(self.classes.split(",")) if self.classes else (),
            "num_classes": self.num_classes,
            "videos_per_class": self.videos_per_class,
            "total": self.videos if self.images is None else self.images,
            "kind": "videos" if self.images is None else "images",
            "image_format": self.image_format,
            "image_quality": self.image_quality,
            "splits": _splits(self.splits),
        }


@dataclass(frozen=True, kw_only=True)
class NounOptions:
    """What moves: the nouns, and how far they give the verb away."""

    label: Annotated[str, typer.Option(help="What the column label says: verb, noun or pair.")] = "verb"
    nouns: Annotated[
        str | None, typer.Option(help="Names of nouns, with commas between; `list` prints them all. (default: all 16)")
    ] = None
    pairs: Annotated[
        str | None,
        typer.Option(
            help="With --label pair: only these, with commas between, e.g. shake-striped_disc. (default: all)"
        ),
    ] = None
    held_out_nouns: Annotated[int, typer.Option(help="Keep so many nouns apart, for another set.")] = 0
    noun_set: Annotated[str, typer.Option(help="With --held-out-nouns: kept or held-out.")] = "kept"
    overlap: Annotated[
        float, typer.Option(help="0: nouns are independent of verbs; 1: a noun determines its verb.")
    ] = 0.0

    def settings(self) -> dict[str, Any]:
        """Arguments of `SynthConfig`."""
        return {
            "label": self.label,
            "nouns": tuple(self.nouns.split(",")) if self.nouns else (),
            "pairs": tuple(self.pairs.split(",")) if self.pairs else (),
            "held_out_nouns": self.held_out_nouns,
            "noun_set": self.noun_set,
            "overlap": self.overlap,
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
    contrast: Annotated[float, typer.Option(help="About middle grey; below 1 is harder.")] = 1.0
    noise: Annotated[float, typer.Option(help="Standard deviation, in levels of 255.")] = 0.0
    blur: Annotated[float, typer.Option(help="Standard deviation, as a fraction of the short side.")] = 0.0
    site: Annotated[
        str,
        typer.Option(
            help="Style of a site: a name (`list` prints them) or random:NUMBER. Sets background, light, size, "
            "frame rate, shake and quality."
        ),
    ] = ""

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
            "contrast": self.contrast,
            "noise": self.noise,
            "blur": self.blur,
            "site": self.site,
        }


@dataclass(frozen=True, kw_only=True)
class UntrimmedOptions:
    """Videos of which the action fills a part only."""

    untrimmed: Annotated[
        bool, typer.Option("--untrimmed", help="The action fills only a part; start and end say which.")
    ] = False
    action: Annotated[
        str, typer.Option(help="With --untrimmed: least-most part of the video that the action fills.")
    ] = "0.1-0.3"
    scenes: Annotated[str, typer.Option(help="With --untrimmed: fewest-most scenes.")] = "1"
    action_scenes: Annotated[str, typer.Option(help="With --scenes: fewest-most that show the action.")] = "1"
    other_actions: Annotated[
        float, typer.Option(help="With --scenes: probability that another scene shows another class's action.")
    ] = 0.5

    def settings(self) -> dict[str, Any]:
        """Arguments of `SynthConfig`. Raises InvalidRequest for a text that is not understood."""
        return {
            "untrimmed": _pair(self.action, "-", float, "--action", "0.1-0.3") if self.untrimmed else None,
            "scenes": _pair(self.scenes, "-", int, "--scenes", "3-5"),
            "action_scenes": _pair(self.action_scenes, "-", int, "--action-scenes", "1-2"),
            "other_actions": self.other_actions,
        }


@dataclass(frozen=True, kw_only=True)
class WeakSupervisionOptions:
    """How weak the supervision is: a long tail of classes, wrong and missing tags, wrong labels."""

    long_tail: Annotated[
        float, typer.Option(help="First class's training videos over the last one's; 1: balanced.")
    ] = 1.0
    zipf: Annotated[
        float, typer.Option(help="Long tail by rank: frequencies of classes and nouns as rank ** -zipf.")
    ] = 0.0
    noisy_tags: Annotated[bool, typer.Option("--noisy-tags", help="Write hashtags with wrong and missing ones.")] = (
        False
    )
    tag_wrong: Annotated[
        float, typer.Option(help="With --noisy-tags: probability of one more tag, of another class.")
    ] = 0.3
    tag_missing: Annotated[
        float, typer.Option(help="With --noisy-tags: probability that the class's own tag is missing.")
    ] = 0.2
    wrong: Annotated[float, typer.Option(help="Share of training items that show another class than labelled.")] = 0.0
    off_topic: Annotated[float, typer.Option(help="Share of training items that show none of the classes.")] = 0.0
    source: Annotated[str, typer.Option(help="Name of a website, for the columns source and url.")] = ""

    def settings(self) -> dict[str, Any]:
        """Arguments of `SynthConfig`. Raises ValueError for a share that is none."""
        from tenclip_training.synth import NoisyTags, WebNoise

        tags = NoisyTags(wrong=self.tag_wrong, missing=self.tag_missing) if self.noisy_tags else None
        web = WebNoise(wrong=self.wrong, off_topic=self.off_topic) if self.wrong or self.off_topic else None
        return {"long_tail": self.long_tail, "zipf": self.zipf, "noisy_tags": tags, "web": web, "source": self.source}


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
