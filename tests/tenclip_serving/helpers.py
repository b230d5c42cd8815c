"""Small real bundles (an ONNX graph that both runtimes execute), small real videos, and a server process."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import onnx
import psutil
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionStub
from tenclip_serving.runtimes import Outputs
from tenclip_video.bundle import (
    BundleInfo,
    BundleSampler,
    Golden,
    Parity,
    ScoreCalibration,
    Speed,
    Variant,
    read_bundle,
    sha256,
)
from tenclip_video.salience import SamplerSpec, StoppingRule
from tenclip_video.salience.sampler_spec import METADATA_KEY
from tenclip_video.spec import ClipSpec, Resize

SPEC = ClipSpec(num_frames=4, resize=Resize(height=40, width=52), crop=32, fully_convolutional_crop=40)
# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_NET_BIND_SERVICE, see capabilities(7).
_PASS_PERMISSIONS, _CAPABILITY_VERSION_3 = 1 << 1 | 1 << 2 | 1 << 10, 0x20080522
STRIDE = 8  # of the pool: 40 x 40 pixels give 2 x 2 positions
LABELS = ("red", "green", "blue", "moving")
SAMPLER_SPEC = SamplerSpec(
    name="colours", kind="rgb", samples=2, height=8, width=8, channels=3, clip_span=4, window_step=2, loss="ac"
)
RULE = StoppingRule(
    threshold=0.5, max_clips=6, error_bound=0.05, confidence=0.9, num_videos=60, num_different=0, mean_clips=2.5
)
LOOSER = replace(RULE, threshold=0.0, error_bound=0.2, mean_clips=1.0)
STRICTER = replace(RULE, threshold=1.01, error_bound=0.02, mean_clips=6.0)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """The learned sampler of a bundle: the salience of a window is its mean colour, weighted. The blue end by default.

    bias: added to all of it; NaN makes scores that are no numbers.
    """

    weights: tuple[float, float, float] = (-1.0, 0.0, 1.0)
    bias: float = 0.0
    spec: SamplerSpec = field(default=SAMPLER_SPEC)
    stopping: StoppingRule | None = None
    other_stopping: tuple[StoppingRule, ...] = ()


def _weights(num_classes: int) -> NDArray[np.float32]:
    """[K,6]: classes from mean colours and mean change of colours."""
    weights = np.random.default_rng(1).normal(size=(num_classes, 6)).astype(np.float32)
    weights[:3, :3] += 6 * np.eye(3, dtype=np.float32)[: min(3, num_classes)]
    weights[3:, 3:] += 30
    return weights / np.float32(64)


def reference(clips: NDArray[np.uint8], num_classes: int = len(LABELS), crop: int = SPEC.crop) -> Outputs:
    """What the graph computes, in numpy: uint8 [B,T,H,W,3] -> logits [B,K,P], features [B,6]."""
    x = clips.astype(np.float64)
    maps = np.concatenate([x.mean(1), np.abs(np.diff(x, axis=1)).mean(1)], axis=-1)  # [B,H,W,6]
    starts = range(0, maps.shape[1] - crop + 1, STRIDE)
    cells = [maps[:, r : r + crop, c : c + crop].mean((1, 2)) for r in starts for c in starts]
    pooled = np.stack(cells, -1)  # [B,6,P]
    logits = np.einsum("kd,bdp->bkp", _weights(num_classes).astype(np.float64), pooled)
    return Outputs(logits.astype(np.float32), pooled.mean(-1).astype(np.float32))


def write_graph(path: Path, *, num_frames: int, crop: int, num_classes: int) -> None:
    """mean over time and mean absolute difference, average pool of the pooled size, a linear layer at each position."""
    constants: dict[str, NDArray[Any]] = {
        "weights": _weights(num_classes),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "last": np.array([num_frames - 1], np.int64),
        "end": np.array([num_frames], np.int64),
        "time": np.array([1], np.int64),
        "positions": np.array([2], np.int64),
        "flat": np.array([0, 6, -1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["clips"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "time"], ["mean"], keepdims=0),
        helper.make_node("Slice", ["x", "second", "end", "time"], ["later"]),
        helper.make_node("Slice", ["x", "first", "last", "time"], ["earlier"]),
        helper.make_node("Sub", ["later", "earlier"], ["change"]),
        helper.make_node("Abs", ["change"], ["absolute"]),
        helper.make_node("ReduceMean", ["absolute", "time"], ["motion"], keepdims=0),
        helper.make_node("Concat", ["mean", "motion"], ["maps"], axis=3),
        helper.make_node("Transpose", ["maps"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[crop, crop], strides=[STRIDE, STRIDE]),
        helper.make_node("Reshape", ["cells", "flat"], ["pooled"]),
        helper.make_node("MatMul", ["weights", "pooled"], ["logits"]),
        helper.make_node("ReduceMean", ["pooled", "positions"], ["features"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("clips", TensorProto.UINT8, ["B", num_frames, "H", "W", 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", num_classes, "P"]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 6]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_sampler(path: Path, sampler: Sampler) -> None:
    """A sampler as `tenclip train-sampler` writes it: mean over time and pixels, a weighted sum of the colours."""
    constants: dict[str, NDArray[Any]] = {
        "axes": np.array([1, 2, 3], np.int64),
        "weights": np.array(sampler.weights, np.float32),
        "bias": np.array(sampler.bias, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["windows"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["colours"], keepdims=0),
        helper.make_node("MatMul", ["colours", "weights"], ["weighted"]),
        helper.make_node("Add", ["weighted", "bias"], ["salience"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sampler",
        [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["M", *sampler.spec.input_shape])],
        [helper.make_tensor_value_info("salience", TensorProto.FLOAT, ["M"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: sampler.spec.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def make_bundle(
    root: Path,
    name: str = "tiny",
    version: str = "1",
    *,
    spec: ClipSpec = SPEC,
    labels: tuple[str, ...] = LABELS,
    golden_shift: float = 0.0,
    speed: tuple[Speed, ...] = (),
    parity: tuple[Parity, ...] = (),
    default_protocol: str = "ten-clip",
    sampler: Sampler | None = None,
    calibration: ScoreCalibration | None = None,
    provenance: dict[str, Any] | None = None,
) -> Path:
    """A bundle that `read_bundle` accepts. `golden_shift` is added to its golden logits: a drifted one."""
    path = root / name / version
    path.mkdir(parents=True)
    write_graph(path / "model.onnx", num_frames=spec.num_frames, crop=spec.crop, num_classes=len(labels))
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, spec.num_frames, spec.crop, spec.crop, 3), np.uint8)
    logits, features = reference(clips, len(labels), spec.crop)
    golden = Golden(clips, logits + np.float32(golden_shift), features)
    np.savez(path / "golden.npz", clips=golden.clips, logits=golden.logits, features=golden.features)
    (path / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    described = None
    if sampler is not None:
        write_sampler(path / "salience.onnx", sampler)
        described = BundleSampler(
            files={"salience.onnx": sha256(path / "salience.onnx")},
            stopping=sampler.stopping,
            other_stopping=sampler.other_stopping,
        )
    info = BundleInfo(
        name=name,
        version=version,
        architecture="tiny-linear",
        family="tests",
        clip_spec=spec,
        num_classes=len(labels),
        label_source="file" if labels else "none",
        feature_dim=6,
        default_protocol=default_protocol,
        variants=(
            Variant(name="fp32", format="onnx", path="model.onnx", files={"model.onnx": sha256(path / "model.onnx")}),
        ),
        speed=speed,
        parity=parity,
        sampler=described,
        calibration=calibration,
        provenance=provenance or {},
    )
    (path / "bundle.json").write_text(json.dumps(info.to_dict()), encoding="utf-8")
    read_bundle(path)
    return path


@contextlib.contextmanager
def stopped_by_permissions() -> Iterator[None]:
    """Permissions count for this thread and those it starts, even if they are root's, whom they stop nowhere else."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, before = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    # (effective, permitted, inheritable) of capabilities 0-31, then of the others.
    assert libc.capset(header, (ctypes.c_uint32 * 6)(before[0] & ~_PASS_PERMISSIONS, *before[1:])) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@contextlib.contextmanager
def denied(*paths: Path) -> Iterator[None]:
    """No permissions on `paths` meanwhile."""
    modes = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(0)
    try:
        yield
    finally:
        for path, mode in reversed(list(zip(paths, modes, strict=True))):
            path.chmod(mode)


def make_video(
    path: Path, *, num_frames: int = 40, size: tuple[int, int] = (64, 48), fps: int = 20, seconds_of_motion: float = 0.0
) -> Path:
    """An MPEG-4 video that goes from red to blue; for `seconds_of_motion` from its middle a bar runs over it."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for i in range(num_frames):
            share = i / max(num_frames - 1, 1)
            picture = np.empty((height, width, 3), np.uint8)
            picture[:] = (int(200 * (1 - share)), 30, int(200 * share))
            since = i / fps - num_frames / fps / 2
            if 0 <= since < seconds_of_motion:
                left = (i * 9) % width
                picture[:, left : left + 12] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@dataclass(frozen=True)
class ServerProcess:
    """A server of its own process. `stdout` is all that it printed when it was ready."""

    process: subprocess.Popen[str]
    address: str
    metrics_address: str | None
    stdout: str
    log_path: Path
    http_address: str | None = None

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def stub(self, **options: Any) -> Iterator[VideoRecognitionStub]:
        with grpc.insecure_channel(self.address, options=list(options.items())) as channel:
            yield VideoRecognitionStub(channel)

    def decode_workers(self) -> list[psutil.Process]:
        """Those that live: one that has just been killed may still be in the process table."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [c for c in children if "tenclip_serving.decoding.child" in _command_line(c)]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # or a zombie
        return ""


@contextlib.contextmanager
def running_server(
    directory: Path, *arguments: str, module: str = "tenclip_serving", stderr: int | None = None
) -> Iterator[ServerProcess]:
    """`python -m tenclip_serving directory --port 0 --metrics-port 0 ...`, stopped at once whatever happens.

    stderr: the descriptor that it logs to, where that is not `log`.
    """
    command = [
        sys.executable,
        "-m",
        module,
        str(directory),
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--shutdown-delay-seconds",
        "0",
        *arguments,
    ]
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log if stderr is None else stderr,
                text=True,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            ready = r"tenclip serving \d+ models on (\S+), metrics (?:on ([^\s,]+)|off)(?:, HTTP on (\S+))?\n"
            match = re.fullmatch(ready, line)
            assert match, f"server said {line!r}\n{log_path.read_text()}"
            yield ServerProcess(process, match[1], match[2], line, log_path, match[3])
        finally:
            stop(process)


def stop(process: subprocess.Popen[str], *, seconds: float = 60) -> int:
    """SIGTERM, and SIGKILL for one that does not go."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if process.stdout is not None and not process.stdout.closed:
        process.stdout.close()
    return code


def without_fully_convolutional(spec: ClipSpec = SPEC) -> ClipSpec:
    return replace(spec, fully_convolutional_crop=None)
