"""Teachers in ONNX files of other projects: what their graph says of the input, and a file beside it says the rest.

`places.onnx` may have a `places.json`, with any of: the fields of `ClipSpec` that belong to a frame (`crop`, `resize`,
`mean`, `std`, `value_range`, `color_order`), `layout` ("NCHW" or "NHWC"), `output` (the name of the logits) and
`labels` (the classes in order). Without, the input is ImageNet's usual one, at the size that the graph says.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import CheckpointError
from tenclip_training.distill.choices import TeacherRuntime
from tenclip_training.distill.networks import Feed, Graph, GraphInput, open_graph
from tenclip_training.distill.teacher import FrameTeacher
from tenclip_training.loaders.presets import TORCHVISION_2D
from tenclip_video.bundle import sha256
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.spec_changes import change_spec

Layout = Literal["NCHW", "NHWC"]
LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC")
SPEC_FIELDS = ("crop", "resize", "mean", "std", "value_range", "color_order")
OTHER_FIELDS = ("layout", "output", "labels")


def onnx_teacher(name: str, path: Path, runtime: TeacherRuntime, *, threads: int) -> FrameTeacher:
    """A teacher from an ONNX file. Raises CheckpointError for a graph or a JSON file that does not fit frames."""
    about, about_file = _read_about(path)
    graph = open_graph(path, runtime, threads=threads)
    given = _only_input(path, graph)
    layout = _layout(path, given, about.get("layout"), about_file)
    side = _side(path, given, layout, about.get("crop"), about_file)
    spec, notes = _spec(path, name, side, about, about_file)
    output = _output(path, graph, about.get("output"))
    feed = _feed(spec, layout, given.dtype)
    shape = (1, 3, side, side) if layout == "NCHW" else (1, side, side, 3)
    network = graph.network(feed, shape, output)
    labels = about.get("labels")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise CheckpointError(f"{about_file}: labels must be a list of names, got {labels!r}")
    if labels is None:
        try:
            probe = network(np.zeros((1, side, side, 3), np.uint8))
        except ValueError as err:
            raise CheckpointError(f"{path}: {err}") from err
        labels = [str(i) for i in range(probe.shape[1])]
    return FrameTeacher(
        name=name,
        source=str(path),
        spec=spec,
        labels=tuple(labels),
        sha256=sha256(path),
        network=network,
        notes=notes,
    )


def _read_about(path: Path) -> tuple[dict[str, Any], Path]:
    file = path.with_suffix(".json")
    if not file.exists():
        return {}, file
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise CheckpointError(f"{file}: cannot be read as JSON: {err}") from err
    known = (*SPEC_FIELDS, *OTHER_FIELDS)
    if not isinstance(about, dict) or (unknown := sorted(set(about) - set(known))):
        what = f"has no field {', '.join(unknown)}" if isinstance(about, dict) else "is no JSON object"
        raise CheckpointError(f"{file}: the description of a teacher {what}; its fields are {', '.join(known)}")
    return about, file


def _only_input(path: Path, graph: Graph) -> GraphInput:
    if len(graph.inputs) != 1:
        names = ", ".join(port.name for port in graph.inputs)
        raise CheckpointError(f"{path}: takes {len(graph.inputs)} inputs ({names}); a teacher takes frames alone")
    given = graph.inputs[0]
    if len(given.shape) == 5:
        raise CheckpointError(
            f"{path}: takes clips of shape {_shown(given.shape)}; a teacher takes frames. For a bundle of ours "
            "name its folder"
        )
    if len(given.shape) != 4:
        raise CheckpointError(f"{path}: takes {_shown(given.shape)}; frames are [N,3,H,W] or [N,H,W,3]")
    if given.dtype not in ("float32", "float16", "uint8"):
        raise CheckpointError(f"{path}: takes {given.dtype}; frames are float32, float16 or uint8")
    return given


def _layout(path: Path, given: GraphInput, said: Any, file: Path) -> Layout:
    """Where the channels are: by the side of 3 where there is one, else as the JSON file says."""
    possible = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if given.shape[axis] in (3, None)]
    certain = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if given.shape[axis] == 3]
    if said is not None and said not in LAYOUTS:
        raise CheckpointError(f"{file}: layout {said!r} is not one of {', '.join(LAYOUTS)}")
    if said is not None and said not in possible:
        raise CheckpointError(f"{file}: layout {said}, but {path.name} takes {_shown(given.shape)}")
    if not possible:
        raise CheckpointError(f"{path}: takes {_shown(given.shape)}, in which nothing is 3 channels")
    found = said or (certain[0] if len(certain) == 1 else None)
    if found is None:
        raise CheckpointError(
            f"{path}: takes {_shown(given.shape)}, which does not tell where the channels are; "
            f'say {{"layout": "NCHW"}} or "NHWC" in {file}'
        )
    return "NCHW" if found == "NCHW" else "NHWC"


def _side(path: Path, given: GraphInput, layout: Layout, said: Any, file: Path) -> int:
    height, width = given.shape[2:] if layout == "NCHW" else given.shape[1:3]
    fixed = {side for side in (height, width) if side is not None}
    if len(fixed) > 1:
        raise CheckpointError(f"{path}: takes frames of {height}x{width}; a teacher takes squares")
    side = next(iter(fixed), None)
    if said is not None and (not isinstance(said, int) or isinstance(said, bool) or said < 1):
        raise CheckpointError(f"{file}: crop must be a whole number of pixels, got {said!r}")
    if said is not None and side is not None and said != side:
        raise CheckpointError(f"{file}: crop {said}, but {path.name} takes frames of {side}x{side} alone")
    return side or said or TORCHVISION_2D.clip_spec.crop


def _spec(path: Path, name: str, side: int, about: dict[str, Any], file: Path) -> tuple[ClipSpec, tuple[str, ...]]:
    usual = TORCHVISION_2D.clip_spec
    edge = round(side * usual.resize.short_edge / usual.crop)
    resize: Resize = dataclasses.replace(usual.resize, short_edge=edge)
    spec = dataclasses.replace(usual, crop=side, resize=resize)
    changes = {**{field: about[field] for field in SPEC_FIELDS if field in about}, "crop": side}
    try:
        spec = change_spec(spec, changes)
    except (ValueError, TypeError) as err:
        raise CheckpointError(f"{file}: {err}") from err
    silent = [field for field in ("mean", "std") if field not in about]
    if not silent:
        return spec, ()
    return spec, (
        f"teacher {name}: {path.name} does not say how its frames are normalised, so ImageNet's mean and std are used; "
        f"{file.name} beside it can say otherwise",
    )


def _output(path: Path, graph: Graph, said: Any) -> int:
    names = [port.name for port in graph.outputs]
    if said is not None and said not in names:
        raise CheckpointError(f"{path}: has no output {said!r}; its outputs are {', '.join(names)}")
    wanted = said or ("logits" if "logits" in names else None)
    if wanted is None and len(names) > 1:
        raise CheckpointError(
            f'{path}: has {len(names)} outputs ({", ".join(names)}); say which are the logits: {{"output": '
            f'"{names[0]}"}} in {path.with_suffix(".json")}'
        )
    return 0 if wanted is None else names.index(wanted)


def _feed(spec: ClipSpec, layout: Layout, dtype: str) -> Feed:
    """uint8 graphs normalise by themselves."""
    scale, bias = spec.affine()

    def feed(frame: NDArray[np.uint8]) -> NDArray[Any]:
        values: NDArray[Any] = frame if dtype == "uint8" else (frame * scale + bias).astype(dtype)
        return np.ascontiguousarray(values.transpose(2, 0, 1) if layout == "NCHW" else values)[None]

    return feed


def _shown(shape: tuple[int | None, ...]) -> str:
    return "[" + ",".join("?" if side is None else str(side) for side in shape) + "]"
