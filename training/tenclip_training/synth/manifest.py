"""The manifest of generated videos or images, and the folder's description."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any, Final

from tenclip_training.synth.config import SynthConfig
from tenclip_training.synth.encode import Encoder
from tenclip_training.synth.motions import MOTIONS
from tenclip_training.synth.nouns import pair_name
from tenclip_training.synth.plan import VideoSpec, site_of
from tenclip_training.synth.tags import tag_classes

# Goes up when the same configuration makes other videos than before.
GENERATOR_VERSION: Final = 1
COLUMNS: Final = (
    # start and end of the action in seconds, half open; empty: all of the video; of several, those of the first
    *("path", "label", "split", "start", "end"),
    *("duration", "frame_rate", "variable_frame_rate", "frames"),
    *("family", "axis", "speed", "objects", "shape", "texture", "background", "idle"),
    "tags",  # with blanks between; read_manifest(..., label_column="tags") takes them as several labels
    # What it shows, whatever `label` says. Empty where there is none: verb and noun of what is off topic.
    *("verb", "noun", "pair", "true_label", "is_wrong", "off_topic"),
    *("kind", "width", "height", "site", "source", "url"),
    # "0.512-1.204 3.000-3.692": every piece of the action. Of each scene: what acts in it, or "none"; where it begins.
    *("intervals", "scenes", "scene_verbs", "scene_starts"),
)


def manifest_row(spec: VideoSpec) -> dict[str, str | int | float]:
    """The manifest's row of one video or image, by column."""
    motion = MOTIONS.get(spec.verb)
    start, end = spec.intervals[0] if spec.intervals else ("", "")
    return {
        "path": spec.path,
        "label": spec.label,
        "split": spec.split,
        "start": _seconds(start),
        "end": _seconds(end),
        "duration": "" if spec.is_image else _seconds(spec.duration),
        "frame_rate": "" if spec.is_image else f"{float(spec.frame_rate):g}",
        "variable_frame_rate": "" if spec.is_image else int(spec.variable_frame_rate),
        "frames": len(spec.ticks),
        "family": motion.family if motion else "",
        "axis": motion.axis if motion else "",
        "speed": spec.speed,
        "objects": spec.objects,
        "shape": spec.shape,
        "texture": spec.texture,
        "background": spec.background,
        "idle": "none" if spec.trimmed else spec.idle,
        "tags": " ".join(spec.tags),
        "verb": spec.verb,
        "noun": spec.noun,
        "pair": spec.pair,
        "true_label": spec.true_label,
        "is_wrong": int(spec.claim == "wrong"),
        "off_topic": int(spec.claim == "off_topic"),
        "kind": "image" if spec.is_image else "video",
        "width": spec.width,
        "height": spec.height,
        "site": spec.site,
        "source": spec.source,
        "url": spec.url,
        "intervals": " ".join(f"{_seconds(a)}-{_seconds(b)}" for a, b in spec.intervals),
        "scenes": max(1, len(spec.scenes)),
        "scene_verbs": " ".join(_verb_of(scene.verb) for scene in spec.scenes) or _verb_of(spec.verb),
        "scene_starts": " ".join(_seconds(scene.start) for scene in spec.scenes) or _seconds(0.0),
    }


def manifest_csv(specs: Sequence[VideoSpec]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(manifest_row(spec) for spec in specs)
    return text.getvalue()


def description(config: SynthConfig, encoder: Encoder) -> dict[str, Any]:
    """What `synth.json` says: the configuration, spelled out, and the truth that follows from it."""
    return {
        "generator": GENERATOR_VERSION,
        "encoder": encoder if config.kind == "videos" else config.image_format,
        "config": config.to_dict(),
        "mirrored": {name: _mirrored(name) for name in config.class_names},
        "tag_classes": tag_classes(config.class_names) if config.noisy_tags else {},
        "site": dataclasses.asdict(site_of(config)),
        "verb_of_noun": dataclasses.asdict(config.joint_table().association()),
    }


def differences(found: Any, wanted: dict[str, Any]) -> list[str]:
    """What a description on disk asks for that another one does not; settings that it does not know have defaults."""
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        return ["its synth.json has no configuration"]
    pairs = [(name, found.get(name), wanted[name]) for name in ("generator", "encoder")]
    there = {**SynthConfig().to_dict(), **found["config"]}
    names = sorted({*there, *wanted["config"]})
    pairs += [(name, _plain(there.get(name)), wanted["config"].get(name)) for name in names]
    return [f"{name} {before} there, {asked} asked" for name, before, asked in pairs if before != asked]


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _mirrored(label: str) -> str:
    """The class that videos of `label` show when flipped left to right."""
    verb, _, noun = label.rpartition("-")
    if verb:
        return pair_name(MOTIONS[verb].mirrored, noun)
    return MOTIONS[label].mirrored if label in MOTIONS else label


def _seconds(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"


def _verb_of(verb: str) -> str:
    return verb or "none"
