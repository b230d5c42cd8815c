"""What the torch runtime asks of a GPU. There is none here: torch.cuda is a record of calls whose "graphs" run eagerly,
everything else is torch itself. On a GPU, tests/tenclip_export/test_variants.py runs the real thing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.cuda._utils import _get_device_index as get_device_index

from tenclip_serving.runtimes.torch_cuda import MAX_GRAPHS, CudaProgram


class Cuda:
    """`torch.cuda` on the CPU. room: clips that fit; graphs take room for one clip each while they live."""

    OutOfMemoryError = torch.cuda.OutOfMemoryError

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fraction = 1.0
        self.asked: list[int] = []

    def Stream(self, device: str) -> Any:
        return SimpleNamespace(synchronize=lambda: self.calls.append("synchronize"))

    def CUDAGraph(self) -> Any:
        return SimpleNamespace(replay=lambda: self.calls.append("replay"))

    def graph_pool_handle(self) -> str:
        return "pool"

    def current_device(self) -> int:
        return 2

    def mem_get_info(self, device: str | int) -> tuple[int, int]:
        self.asked.append(self._index(device, optional=True))
        return 1000 << 20, 1000 << 20

    def set_per_process_memory_fraction(self, fraction: float, device: str | int) -> None:
        self.fraction = fraction
        self.asked.append(self._index(device, optional=False))

    def _index(self, device: str | int, *, optional: bool) -> int:
        """As torch's own functions read it: those that set something refuse a device without a number."""
        if optional and device == "cuda":
            return self.current_device()
        return int(get_device_index(device, optional))

    def empty_cache(self) -> None:
        self.calls.append("empty_cache")

    @contextlib.contextmanager
    def _nothing(self, *arguments: Any, **named: Any) -> Iterator[None]:
        yield

    device = stream = _nothing

    @contextlib.contextmanager
    def graph(self, graph: Any, **named: Any) -> Iterator[None]:
        self.calls.append("capture")
        yield


class Torch:
    """torch, whose memory is never pinned and whose GPU is `Cuda`."""

    def __init__(self) -> None:
        self.cuda = Cuda()

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, *size: Any, pin_memory: bool = False, **named: Any) -> Tensor:
        return torch.empty(*size, **named)


class Network:
    """Means of colours; the graph's outputs are one buffer, as on a GPU. It fails in captures or calls when told to."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.calls = 0

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        features = clips.float().mean((1, 2, 3))
        return features[:, :, None], features


def program(memory_mb: int = 0, device: str = "cpu") -> tuple[CudaProgram, Torch, Network]:
    fake, network = Torch(), Network()
    return CudaProgram(fake, network, device, memory_mb=memory_mb), fake, network


def clips_of(num: int, side: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(num).integers(0, 256, (num, 2, side, side, 3), np.uint8)


def test_each_shape_is_captured_once() -> None:
    runner, fake, network = program()
    for num in (1, 2, 1, 2, 2):
        runner.run(clips_of(num))
    assert fake.cuda.calls.count("capture") == 2
    assert fake.cuda.calls.count("replay") == 5
    assert network.calls == 2 * 4, "three runs before each capture"
    assert runner.captured == {(1, 2, 4, 4, 3), (2, 2, 4, 4, 3)}


def test_the_last_shapes_run_without_a_graph() -> None:
    runner, fake, _ = program()
    for side in range(4, 4 + MAX_GRAPHS + 2):
        outputs = runner.run(clips_of(2, side))
        if len(runner.captured) == MAX_GRAPHS and side >= 4 + MAX_GRAPHS:
            np.testing.assert_allclose(outputs.features, clips_of(2, side).mean((1, 2, 3)), rtol=1e-5)
    assert fake.cuda.calls.count("capture") == MAX_GRAPHS


def test_what_cannot_be_captured_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    runner, _, network = program()
    network.failures = [RuntimeError("operation not permitted when stream is capturing")]
    outputs = runner.run(clips_of(2))
    np.testing.assert_allclose(outputs.features, clips_of(2).mean((1, 2, 3)), rtol=1e-5)
    assert runner.captured == set()
    assert "no CUDA graph for clips (2, 2, 4, 4, 3)" in caplog.text


@pytest.mark.parametrize(
    "shortage",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["torch", "cuDNN", "cuBLAS"],
)
def test_graphs_go_before_a_batch_is_given_up(shortage: RuntimeError) -> None:
    runner, fake, network = program()
    runner.run(clips_of(1))
    network.failures = [shortage]
    outputs = runner.run(clips_of(2))
    assert outputs.features.shape == (2, 3)
    assert "empty_cache" in fake.cuda.calls
    assert runner.captured == {(2, 2, 4, 4, 3)}
    network.failures = [shortage] * 2
    with pytest.raises(type(shortage), match=re.escape(str(shortage))):
        runner.run(clips_of(3))
    assert runner.run(clips_of(1)).features.shape == (1, 3), "it lives"


def test_results_survive_later_calls() -> None:
    runner, _, _ = program()
    first = runner.run(clips_of(2))
    kept = first.features.copy()
    runner.run(255 - clips_of(2))
    np.testing.assert_array_equal(first.features, kept)


def test_a_ceiling_is_a_share_of_the_memory() -> None:
    assert program()[1].cuda.fraction == 1.0
    for device, index in (("cuda", 2), ("cuda:0", 0), ("cuda:1", 1)):
        cuda = program(250, device)[1].cuda
        assert (cuda.fraction, cuda.asked) == (0.25, [index, index])
    assert program(4000, "cuda")[1].cuda.fraction == 1.0


def test_torch_itself_wants_the_devices_number() -> None:
    """What the stand-in above does with a device is torch's own."""
    with pytest.raises(ValueError, match=r"Expected a torch\.device with a specified index or an integer"):
        Cuda().set_per_process_memory_fraction(0.5, "cuda")
