"""The training configuration in a checkpoint file: settings of the network and the clips it was trained on.

Read are MMAction2's config (text of Python assignments, or nested dicts), PySlowFast's (text of YAML), and the options
that training scripts keep (`args`, `opt`, Lightning's `hyper_parameters`). Nothing is executed: Python text is parsed
and only literals, `dict(...)` and earlier names are taken from it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenclip_training.loaders.pickles import Placeholder

# Entries beside the weights that hold a configuration.
CONFIG_KEYS = ("meta", "cfg", "config", "hyper_parameters", "hparams", "args", "opt", "opts", "options")
# Names that training scripts give to one setting.
NUM_FRAMES = ("num_frames", "clip_len", "clip_length", "frames_per_clip", "sample_duration", "n_frames")
FRAME_STRIDE = ("frame_stride", "frame_interval", "sampling_rate", "sample_t_stride")
MOST_FRAMES = 1024  # larger numbers under those names are something else
MAX_TEXT = 1_000_000  # characters; a config has some thousands


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A file's own configuration. What it does not say is empty or None.

    `backbone` and `head` are MMAction2's settings of the network, `options` single values by lower-case name. The
    others describe a test clip as `ClipSpec` does; `mean` and `std` are in units of 0-255 where they exceed 2.
    """

    backbone: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    num_frames: int | None = None
    frame_stride: int | None = None
    target_fps: float | None = None
    short_edge: int | None = None
    crop: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    bgr: bool | None = None


def read_configuration(beside: Mapping[str, Any]) -> Configuration:
    """The configuration among the entries beside a file's weights."""
    found = [plain(beside[key]) for key in CONFIG_KEYS if key in beside]
    trees = [tree for value in found for tree in _trees(value)]
    mmaction2 = next((tree for tree in trees if isinstance(_at(tree, "model", "backbone"), dict) or _steps(tree)), None)
    if mmaction2 is not None:
        return _mmaction2(mmaction2)
    options: dict[str, Any] = {}
    for tree in trees:
        for name, value in _leaves(tree):
            options.setdefault(name.lower(), value)
    return Configuration(
        options=options,
        num_frames=_first_int(options, NUM_FRAMES),
        frame_stride=_first_int(options, FRAME_STRIDE),
        crop=_first_int(options, ("test_crop_size",)),
        mean=_triple(options.get("mean")),
        std=_triple(options.get("std")),
    )


def plain(value: Any, depth: int = 0) -> Any:
    """`value` with objects of unknown classes as the dicts or lists that they hold; deeper than 12 levels: None."""
    if depth > 12:
        return None
    if isinstance(value, Placeholder):
        if value.items or not value.elements:
            attributes = value.state if isinstance(value.state, dict) else {}
            value = {**attributes, **value.items}
        else:
            value = value.elements
    if isinstance(value, Mapping):
        return {str(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, depth + 1) for v in value]
    return value if isinstance(value, str | int | float | bool) else None


def parse_python(text: str) -> dict[str, Any]:
    """The assignments of a Python config, without running it; {} for text that is not Python.

    >>> parse_python("a = dict(b=[1, 2])")
    {'a': {'b': [1, 2]}}
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    names: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            names[statement.targets[0].id] = _value(statement.value, names)
    return names


def parse_yaml(text: str) -> dict[str, Any]:
    """Scalars and flat lists of numbers of a YAML config, by their own names whatever they are nested in."""
    found: dict[str, Any] = {}
    for name, value in re.findall(r"^\s*(\w+):[ \t]*(\S[^\n]*)$", text, re.MULTILINE):
        found.setdefault(name, _literal(value.strip()))
    for name, block in re.findall(r"^\s*(\w+):[ \t]*\n((?:[ \t]*- [^\n:]+\n?)+)", text, re.MULTILINE):
        found.setdefault(name, [_literal(item) for item in re.findall(r"- ([^\n]+)", block)])
    return found


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression of literals, dict(...) and known names; None of anything else."""
    if isinstance(node, ast.Call):
        made: dict[str, Any] = {}
        for keyword in node.keywords if isinstance(node.func, ast.Name) and node.func.id == "dict" else ():
            value = _value(keyword.value, names)
            made |= {keyword.arg: value} if keyword.arg else (value if isinstance(value, dict) else {})
        return made or None
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _value(key, names) for key in node.keys]
        return {str(k): _value(v, names) for k, v in zip(keys, node.values, strict=True) if k is not None}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, names) for element in node.elts]
    if isinstance(node, ast.Name):
        return names.get(node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):
        return None


def _trees(value: Any) -> list[dict[str, Any]]:
    """The dicts that an entry holds: itself, and the configs that are kept as text in it."""
    if isinstance(value, str):
        text = value[:MAX_TEXT]
        return [tree for tree in (parse_python(text) or parse_yaml(text),) if tree]
    if not isinstance(value, dict):
        return []
    texts = [inner for inner in value.values() if isinstance(inner, str) and "\n" in inner]
    return [value, *(tree for text in texts for tree in _trees(text)), *_nested(value)]


def _nested(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [inner for key, inner in value.items() if key in CONFIG_KEYS and isinstance(inner, dict)]


def _mmaction2(tree: Mapping[str, Any]) -> Configuration:
    model = tree["model"] if isinstance(tree.get("model"), dict) else {}
    steps = _steps(tree)
    sampling = next((s for s in steps if s.get("type") == "SampleFrames" or "clip_len" in s), {})
    resize = next((s for s in steps if s.get("type") == "Resize"), {})
    crop: dict[str, Any] = next(
        (s for s in reversed(steps) if str(s.get("type")).endswith("Crop") and "crop_size" in s), {}
    )
    normalise = next((s for s in steps if s.get("type") == "Normalize"), {})
    normalise = normalise or _at(tree, "model", "data_preprocessor") or _at(tree, "img_norm_cfg") or {}
    scale = resize.get("scale")
    short = scale[1] if isinstance(scale, list) and len(scale) == 2 and scale[0] == -1 else None
    return Configuration(
        backbone=model.get("backbone") or {},
        head=model.get("cls_head") or {},
        options={"recognizer": model.get("type")},
        num_frames=_int(sampling.get("clip_len")),
        frame_stride=_int(sampling.get("frame_interval")),
        target_fps=float(fps) if isinstance(fps := sampling.get("target_fps"), int | float) else None,
        short_edge=_int(short),
        crop=_int(crop.get("crop_size")),
        mean=_triple(normalise.get("mean")),
        std=_triple(normalise.get("std")),
        bgr=normalise.get("to_bgr") if isinstance(normalise.get("to_bgr"), bool) else None,
    )


def _steps(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The test pipeline, or the nearest to it that the config has."""
    places: tuple[tuple[str, ...], ...] = (
        ("test_pipeline",),
        ("test_dataloader", "dataset", "pipeline"),
        ("data", "test", "pipeline"),
        ("val_pipeline",),
        ("train_pipeline",),
    )
    pipelines = (_at(tree, *place) for place in places)
    return [s for s in next((p for p in pipelines if isinstance(p, list)), []) if isinstance(s, dict)]


def _at(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield name, value


def _first_int(options: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    found = (number for name in names if (number := _int(options.get(name))) is not None)
    return next((number for number in found if number <= MOST_FRAMES), None)


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _triple(value: Any) -> tuple[float, float, float] | None:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
        return None
    return float(value[0]), float(value[1]), float(value[2])
