"""What executes a teacher: OpenVINO, ONNX Runtime, or torch. Frames in, logits out.

OpenVINO runs each frame by itself, several at a time: nothing of a frame depends on the others of its batch.
N frames of side S, K classes.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tenclip_api.errors import BundleError, CheckpointError, MissingDependency
from tenclip_training.distill.choices import TeacherRuntime
from tenclip_training.models import VideoModel
from tenclip_training.preprocess import scale_and_shift
from tenclip_video.openvino_core import shared_core
from tenclip_video.spec import ClipSpec

Frames = NDArray[np.uint8]  # [N,S,S,3] in the spec's colour order
Logits = NDArray[np.float32]  # [N,K]

TORCH_BATCH = 32


class TeacherNetwork(Protocol):
    """Executes one network of frames."""

    @property
    def runtime(self) -> str:
        """openvino, onnxruntime or torch."""

    def __call__(self, frames: Frames) -> Logits:
        """Logits of N >= 1 frames."""


class FrameModule(nn.Module):
    """A network of clips with its normalisation, for single frames: uint8 [N,S,S,3] -> float32 [N,K]."""

    def __init__(self, model: VideoModel, spec: ClipSpec) -> None:
        super().__init__()
        self.model = model
        scale, bias = spec.affine()
        self.register_buffer("scale", torch.from_numpy(scale))
        self.register_buffer("bias", torch.from_numpy(bias))
        self.scale: Tensor
        self.bias: Tensor

    def forward(self, frames: Tensor) -> Tensor:
        logits, _ = self.model(scale_and_shift(frames.unsqueeze(1), self.scale, self.bias))  # a clip of one frame each
        out: Tensor = logits.mean(2)  # [N,K,P] -> [N,K]
        return out


class TorchNetwork:
    """torch, on any device."""

    runtime = "torch"

    def __init__(self, model: VideoModel, spec: ClipSpec, device: torch.device) -> None:
        model.set_execution("conv2d" if device.type == "cpu" else "conv3d")
        self._module = FrameModule(model, spec).eval().to(device)
        self._device = device

    def __call__(self, frames: Frames) -> Logits:
        parts = torch.split(torch.from_numpy(np.ascontiguousarray(frames)), TORCH_BATCH)
        with torch.inference_mode():
            found = [self._module(part.to(self._device)).float().cpu() for part in parts]
        logits: Logits = torch.cat(found).numpy()
        return logits


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """One input or output of a graph. shape: None for a side that is free. dtype: of numpy."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


# One frame, uint8 [S,S,3], as the input of a graph, batch and all.
Feed = Callable[[NDArray[np.uint8]], NDArray[Any]]


class OpenVinoGraph:
    """A graph that OpenVINO reads, from a file or converted from torch. Raises BundleError for one that it cannot."""

    runtime = "openvino"

    def __init__(self, source: Path | Any, *, threads: int) -> None:
        self._core, self._threads = shared_core(), threads
        self._name = str(source) if isinstance(source, Path) else "the converted network"
        try:
            self._model = self._core.read_model(source) if isinstance(source, Path) else source
        except Exception as err:  # OpenVINO raises RuntimeError for everything
            raise BundleError(f"{self._name}: OpenVINO cannot load it: {_last_line(err)}") from err

    @property
    def inputs(self) -> list[GraphInput]:
        return [_openvino_port(port) for port in self._model.inputs]

    @property
    def outputs(self) -> list[GraphInput]:
        return [_openvino_port(port) for port in self._model.outputs]

    def network(self, feed: Feed, shape: tuple[int, ...], output: int) -> TeacherNetwork:
        """What runs the graph on single frames. shape: of what `feed` gives; output: the number of the logits."""
        model = self._model.clone()
        # Two streams of one thread each do more frames than one of two; see `make bench ARGS=teacher`.
        config = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(self._threads),
            "INFERENCE_NUM_THREADS": str(self._threads),
            "ENABLE_CPU_PINNING": "NO",
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
        }
        try:
            model.reshape({model.input(0).get_any_name(): list(shape)})
            compiled = self._core.compile_model(model, "CPU", config)
        except RuntimeError as err:
            raise BundleError(f"{self._name}: OpenVINO cannot compile it for {shape}: {_last_line(err)}") from err
        return _OpenVinoNetwork(compiled, feed, output, jobs=self._threads)


class _OpenVinoNetwork:
    runtime = "openvino"

    def __init__(self, compiled: Any, feed: Feed, output: int, *, jobs: int) -> None:
        import openvino as ov

        self._feed, self._output = feed, output
        self._results: dict[int, NDArray[np.float32]] = {}
        self._queue = ov.AsyncInferQueue(compiled, jobs)
        self._queue.set_callback(self._take)

    def _take(self, request: Any, place: int) -> None:
        # The tensor belongs to the request and is overwritten by its next inference.
        self._results[place] = request.get_output_tensor(self._output).data.astype(np.float32)

    def __call__(self, frames: Frames) -> Logits:
        self._results = {}
        for place, frame in enumerate(frames):
            self._queue.start_async([self._feed(frame)], place)
        self._queue.wait_all()
        return _rows([self._results[place] for place in range(len(frames))])


class OnnxGraph:
    """A graph that ONNX Runtime reads. Raises BundleError for one that it cannot, MissingDependency without it."""

    runtime = "onnxruntime"

    def __init__(self, source: Path, *, threads: int) -> None:
        try:
            import onnxruntime as ort
        except ModuleNotFoundError as err:
            raise MissingDependency("ONNX Runtime is not installed: pip install 'tenclip[export]'") from err
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as err:  # of many types, without a common base
            raise BundleError(f"{source}: ONNX Runtime cannot load it: {str(err).splitlines()[0]}") from err

    @property
    def inputs(self) -> list[GraphInput]:
        return [_onnx_port(port) for port in self._session.get_inputs()]

    @property
    def outputs(self) -> list[GraphInput]:
        return [_onnx_port(port) for port in self._session.get_outputs()]

    def network(self, feed: Feed, shape: tuple[int, ...], output: int) -> TeacherNetwork:
        """What runs the graph on single frames, as that of `OpenVinoGraph`."""
        return _OnnxNetwork(self._session, feed, self.inputs[0].name, self.outputs[output].name)


class _OnnxNetwork:
    runtime = "onnxruntime"

    def __init__(self, session: Any, feed: Feed, given: str, wanted: str) -> None:
        self._session, self._feed, self._given, self._wanted = session, feed, given, wanted

    def __call__(self, frames: Frames) -> Logits:
        return _rows([self._session.run([self._wanted], {self._given: self._feed(frame)})[0] for frame in frames])


Graph = OpenVinoGraph | OnnxGraph


def open_graph(path: Path, runtime: TeacherRuntime, *, threads: int) -> Graph:
    """An ONNX file in the runtime that is asked for; auto: OpenVINO where it is installed.

    Raises BundleError, MissingDependency, and CheckpointError for torch, which reads no ONNX.
    """
    if runtime == "torch":
        raise CheckpointError(f"{path}: torch runs no ONNX files; use teacher_runtime auto, openvino or onnxruntime")
    if runtime == "openvino" or (runtime == "auto" and has_openvino()):
        return OpenVinoGraph(path, threads=threads)
    return OnnxGraph(path, threads=threads)


def run_model(
    model: VideoModel, spec: ClipSpec, runtime: TeacherRuntime, *, device: torch.device, threads: int
) -> TeacherNetwork:
    """A torch network in the runtime that is asked for. auto: OpenVINO on a CPU where it is installed, else torch.

    Raises CheckpointError for onnxruntime, for which the network has to be exported first, and for what OpenVINO does
    not convert; MissingDependency.
    """
    if runtime == "onnxruntime":
        raise CheckpointError(
            "teacher_runtime onnxruntime runs ONNX files and bundles: export the checkpoint with `tenclip export`, or "
            "use auto, openvino or torch"
        )
    if runtime == "torch" or (runtime == "auto" and (device.type != "cpu" or not has_openvino())):
        return TorchNetwork(model, spec, device)
    side = (1, spec.crop, spec.crop, 3)
    return OpenVinoGraph(_converted(model, spec), threads=threads).network(lambda frame: frame[None], side, 0)


def _converted(model: VideoModel, spec: ClipSpec) -> Any:
    try:
        import openvino as ov
    except ModuleNotFoundError as err:
        raise MissingDependency("OpenVINO is not installed: pip install 'tenclip[export]'") from err
    shared_core()  # before any other Core of the conversion
    module = FrameModule(model, spec).eval()
    example = torch.zeros((1, spec.crop, spec.crop, 3), dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations between the two libraries
            return ov.convert_model(torch.export.export(module, (example,)))
    except Exception as err:  # whatever either of them raises
        raise CheckpointError(
            f"OpenVINO cannot convert {model.architecture}: {_last_line(err)}; use teacher_runtime torch"
        ) from err


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def _rows(outputs: list[NDArray[Any]]) -> Logits:
    """Outputs of single frames, [1,K] or [1,K,1...] each, as [N,K]. Raises ValueError for maps of several places."""
    shape = np.shape(outputs[0])
    if len(shape) > 2 and max(shape[2:]) > 1:
        raise ValueError(f"its output is {list(shape)}, and logits of a frame are [1,K]")
    return np.stack([np.asarray(output, np.float32).reshape(-1) for output in outputs])


def _openvino_port(port: Any) -> GraphInput:
    shape = tuple(None if side.is_dynamic else side.get_length() for side in port.get_partial_shape())
    names = port.get_names()
    name = sorted(names)[0] if names else ""
    return GraphInput(name=name, shape=shape, dtype=np.dtype(port.get_element_type().to_dtype()).name)


def _onnx_port(port: Any) -> GraphInput:
    names = {"float": "float32", "double": "float64"}
    kind = port.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(side if isinstance(side, int) else None for side in port.shape)
    return GraphInput(name=port.name, shape=shape, dtype=names.get(kind, kind))


def _last_line(err: Exception) -> str:
    # The first lines of OpenVINO's messages are source locations of its own.
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[-1] if lines else type(err).__name__
