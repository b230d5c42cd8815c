"""Batches that do not fit are halved and run again. There is no GPU here: the device that is full is a stand-in, which
raises what the real ones say; network, scheduler and engine are real."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tenclip_api.errors import DeviceMemoryFull, MissingDependency, Overloaded, error_classes
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.repository import Repository, load_model
from tenclip_serving.runtimes import Clips, Outputs, Runtime, create_runtime
from tenclip_serving.runtimes.onnx import OnnxRuntime, providers
from tenclip_serving.runtimes.out_of_memory import (
    RETRY_EVERY,
    SplittingRuntime,
    is_out_of_memory,
    num_splits,
    uses_gpu,
)
from tenclip_serving.runtimes.tensorrt import check_memory
from tenclip_serving.scheduling.scheduler import ClipScheduler
from tests.tenclip_serving.helpers import SPEC, make_bundle

ORT = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'conv1' "
    "Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, Stream*, bool, "
    "WaitNotificationFn) Failed to allocate memory for requested buffer of size 939524096"
)
ORT_AT_ITS_LIMIT = "Available memory of 1024 is smaller than requested bytes of 8388608"
TORCH = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.80 GiB"
TENSORRT = (
    "TensorRT could not run the engine: [executionContext.cpp::ExecutionContext::470] Error Code 2: OutOfMemory (no "
    "further information)"
)


class SmallDevice:
    """A real runtime on a device with room for so many clips. `room` may change, as it does beside other processes."""

    def __init__(self, inner: Runtime, room: int, message: str = ORT) -> None:
        self.inner, self.room, self.message = inner, room, message
        self.name, self.batch_size = "onnxruntime-cuda", 8
        self.calls: list[int] = []

    def run(self, clips: Clips) -> Outputs:
        self.calls.append(len(clips))
        if len(clips) > self.room:
            raise RuntimeError(self.message)
        return self.inner.run(clips)


@pytest.fixture
def real(tmp_path: Path) -> Runtime:
    return create_runtime("onnxruntime", make_bundle(tmp_path) / "model.onnx", threads=1)


def clips_of(num: int, side: int = SPEC.crop) -> Clips:
    return np.random.default_rng(num).integers(0, 256, (num, SPEC.num_frames, side, side, 3), np.uint8)


@pytest.mark.parametrize("message", [ORT, ORT_AT_ITS_LIMIT, TORCH, TENSORRT, "CUDNN_STATUS_ALLOC_FAILED"])
def test_what_the_runtimes_say(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert is_out_of_memory(type("OutOfMemoryError", (RuntimeError,), {})("no words"))


def test_other_errors_are_others() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(ValueError("clips must be uint8 [B,T,H,W,3] with B >= 1"))


@pytest.mark.parametrize("room", [1, 2, 3, 5, 7])
def test_a_batch_runs_in_parts(real: Runtime, room: int, caplog: pytest.LogCaptureFixture) -> None:
    device = SmallDevice(real, room)
    runtime = SplittingRuntime(device)
    clips = clips_of(8)
    with caplog.at_level(logging.WARNING, "tenclip_serving"):
        actual, expected = runtime.run(clips), real.run(clips)
    assert_allclose(actual.logits, expected.logits, rtol=1e-5, atol=1e-6)
    assert_allclose(actual.features, expected.features, rtol=1e-5)
    fits = 1 << (room.bit_length() - 1)
    assert [size for size in device.calls if size <= room] == [fits] * (8 // fits)
    assert f"in parts of {fits} from now on" in caplog.text
    assert runtime.num_splits == num_splits(runtime) == len(caplog.records) == {1: 3, 2: 2, 3: 2, 5: 1, 7: 1}[room]


def test_the_size_that_fits_is_kept_for_its_shape(real: Runtime) -> None:
    device = SmallDevice(real, 2)
    runtime = SplittingRuntime(device)
    runtime.run(clips_of(8))
    device.calls.clear()
    runtime.run(clips_of(7))
    runtime.run(clips_of(2))
    assert device.calls == [2, 2, 2, 1, 2], "nothing is tried in vain"
    device.room, before = 8, len(device.calls)
    runtime.run(clips_of(4, SPEC.fully_convolutional_crop or 40))
    assert device.calls[before:] == [4], "another shape is another matter"


def test_the_whole_batch_is_tried_again(real: Runtime) -> None:
    device = SmallDevice(real, 2)
    runtime = SplittingRuntime(device)
    runtime.run(clips_of(4))
    device.room = 8
    clips = clips_of(4)
    for _ in range(RETRY_EVERY + 1):
        runtime.run(clips)
    assert device.calls[-2:] == [4, 4]
    assert runtime.num_splits == 1


def test_one_clip_that_does_not_fit(real: Runtime) -> None:
    runtime = SplittingRuntime(SmallDevice(real, 0, TORCH))
    with pytest.raises(DeviceMemoryFull, match="a clip of 4x32x32 does not fit into the GPU's memory now: CUDA"):
        runtime.run(clips_of(3))
    assert issubclass(DeviceMemoryFull, Overloaded)
    assert error_classes()["DEVICE_MEMORY_FULL"].grpc_status == "RESOURCE_EXHAUSTED"


def test_other_errors_pass(real: Runtime) -> None:
    runtime = SplittingRuntime(SmallDevice(real, 2, "CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        runtime.run(clips_of(3))
    with pytest.raises(ValueError, match="clips must be uint8"):
        SplittingRuntime(real).run(clips_of(3)[:0])
    assert runtime.num_splits == 0


def test_the_scheduler_goes_on(real: Runtime) -> None:
    """Videos that share batches on a device with room for two clips: all are answered, and batches get smaller."""
    runtime = SplittingRuntime(SmallDevice(real, 2))
    videos = [clips_of(n) for n in (9, 2, 5, 1)]

    async def run() -> None:
        scheduler = ClipScheduler()
        for _ in range(4):
            results = await asyncio.gather(*(scheduler.run(runtime, clips) for clips in videos))
            for clips, result in zip(videos, results, strict=True):
                logits = np.concatenate([o.logits for o in result.outputs])
                assert_allclose(logits, real.run(clips).logits, rtol=1e-5, atol=1e-6)
        scheduler.close()

    asyncio.run(run())
    assert runtime.num_splits == 2


def test_a_model_is_proven_and_served_on_a_full_device(tmp_path: Path) -> None:
    """From loading, whose warm-up runs a full batch, to the metric."""
    path = make_bundle(tmp_path)

    def create(name: str, graph: Path, *, threads: int) -> Runtime:
        return SplittingRuntime(SmallDevice(OnnxRuntime(graph, threads=threads), 3, TENSORRT))

    model = load_model(path, runtime="onnxruntime", threads=1, create=create)
    assert uses_gpu(model.runtime)
    engine = Engine(ServerConfig(directory=tmp_path), Repository({model.name: {model.version: model}}))
    splits = num_splits(model.runtime)
    assert splits >= 1
    value = engine.metrics.registry.get_sample_value("tenclip_batches_split_total", {"model": model.name})
    assert value == splits
    asyncio.run(engine.close())


class TestCeiling:
    """A ceiling to the memory: what each library is told."""

    def test_onnx_runtime(self) -> None:
        assert providers("onnxruntime") == [("CPUExecutionProvider", {})]
        assert "gpu_mem_limit" not in providers("onnxruntime-cuda")[0][1]
        tensorrt, cuda, cpu = providers("onnxruntime-tensorrt", 1000)
        assert tensorrt[1]["trt_max_workspace_size"] == cuda[1]["gpu_mem_limit"] == str(1000 << 20)
        assert cpu[1] == {}

    def test_tensorrt(self) -> None:
        class Engine:
            device_memory_size = 3 << 20

        class Newer:
            device_memory_size_v2 = 3 << 20

        for engine in (Engine(), Newer()):
            check_memory(engine, Path("fp16.plan"), 0)
            check_memory(engine, Path("fp16.plan"), 3)
            with pytest.raises(Exception, match=r"fp16.plan: its activations take 3 MiB of the GPU and 2 are allowed"):
                check_memory(engine, Path("fp16.plan"), 2)

    def test_it_reaches_the_runtime(self, tmp_path: Path) -> None:
        assert ServerConfig(directory=tmp_path, gpu_memory_mb=512).gpu_memory_mb == 512
        with pytest.raises(ValueError, match="gpu_memory_mb"):
            ServerConfig(directory=tmp_path, gpu_memory_mb=-1)
        with pytest.raises(MissingDependency, match="onnxruntime-cuda needs"):
            create_runtime("onnxruntime-cuda", tmp_path / "x.onnx", gpu_memory_mb=512)
