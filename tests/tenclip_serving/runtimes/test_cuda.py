"""What a GPU's memory is asked for and gives back. The driver is a record of calls here: there is no GPU."""

from __future__ import annotations

import ctypes
import gc
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import ServerError
from tenclip_serving.runtimes import cuda
from tenclip_serving.runtimes.out_of_memory import is_out_of_memory


class RecordingDriver:
    """Answers every call with success and keeps its name and its first argument's value."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.allocated = 0
        self.host: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((name, getattr(arguments[0], "value", None)))
            if name == "cuMemAlloc_v2":
                self.allocated += 1
                arguments[0]._obj.value = 1000 + self.allocated
            if name == "cuMemAllocHost_v2":
                memory = ctypes.create_string_buffer(arguments[1].value)
                self.host[ctypes.addressof(memory)] = memory
                arguments[0]._obj.value = ctypes.addressof(memory)
            if name == "cuMemFreeHost":
                del self.host[arguments[0].value]
            return 0

        return call


def test_a_device_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = RecordingDriver()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    device = cuda.Device()
    first, second = device.buffer("clips", 8), device.buffer("logits", 8)
    assert device.buffer("clips", 4) == first, "the same memory"
    third = device.buffer("clips", 9)
    del device
    gc.collect()
    freed = [value for name, value in driver.calls if name == "cuMemFree_v2"]
    assert freed[0] == first
    assert sorted(freed) == sorted([first, second, third])
    names = [name for name, _ in driver.calls]
    assert names.count("cuStreamDestroy_v2") == 1
    # In a context of its own, whatever the thread.
    assert names.count("cuCtxPushCurrent_v2") == names.count("cuCtxPopCurrent_v2") == 2
    assert names[-1] == "cuCtxPopCurrent_v2"


def test_pinned_buffers_grow_and_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = RecordingDriver()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    device = cuda.Device()
    first = device.pinned("clips", (2, 3), np.float32)
    first[:] = 7
    again = device.pinned("clips", (6,), np.float32)
    assert again.tolist() == [7] * 6, "the same memory"
    assert device.pinned("clips", (1,), np.uint8).shape == (1,)
    assert device.pinned("logits", (0, 3), np.float32).shape == (0, 3)
    assert len(driver.host) == 2
    large = device.pinned("clips", (1000, 3), np.uint8)
    large[:] = 1
    assert len(driver.host) == 2, "the small one has gone"
    del device
    gc.collect()
    assert driver.host == {}


def test_memory_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = RecordingDriver()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    device = cuda.Device()
    monkeypatch.setattr(driver, "cuMemAlloc_v2", lambda *arguments: 2, raising=False)
    with pytest.raises(ServerError, match="cuMemAlloc with out of memory") as caught:
        device.buffer("clips", 1 << 40)
    assert is_out_of_memory(caught.value)
    monkeypatch.setattr(driver, "cuMemAlloc_v2", lambda *arguments: 700, raising=False)
    with pytest.raises(ServerError, match="with error 700") as caught:
        device.buffer("clips", 8)
    assert not is_out_of_memory(caught.value)


@pytest.mark.parametrize("kind", ["device", "host"])
def test_a_buffer_that_cannot_grow_is_given_back_once_and_used_no_more(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    driver = RecordingDriver()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    device = cuda.Device()

    def address(device: cuda.Device, num_bytes: int) -> int:
        if kind == "device":
            return device.buffer("clips", num_bytes)
        return int(device.pinned("clips", (num_bytes,), np.uint8).ctypes.data)

    allocate, free = ("cuMemAlloc_v2", "cuMemFree_v2") if kind == "device" else ("cuMemAllocHost_v2", "cuMemFreeHost")
    first = address(device, 8)
    with monkeypatch.context() as full:
        full.setattr(driver, allocate, lambda *arguments: 2, raising=False)
        for _ in range(2):
            with pytest.raises(ServerError, match="out of memory"):
                address(device, 1 << 20)
    calls = len(driver.calls)
    second = address(device, 4)  # half of the batch: as large as what was there, which is gone
    assert allocate in [name for name, _ in driver.calls[calls:]]
    del device
    gc.collect()
    freed = [value for name, value in driver.calls if name == free]
    assert freed == [first, second]


@pytest.mark.parametrize(
    ("gpu", "works", "build", "says"),
    [
        (None, False, None, None),
        ("NVIDIA A10G", True, "13.0", None),
        (
            "NVIDIA A10G",
            False,
            None,
            "torch 2.0 is built without CUDA: .* on the NVIDIA A10G of .*; install its build",
        ),
        ("NVIDIA A10G", False, "13.0", "torch 2.0 cannot start CUDA 13.0: .*; update the driver, or install"),
    ],
)
def test_why_torch_does_not_use_a_gpu(
    monkeypatch: pytest.MonkeyPatch, gpu: str | None, works: bool, build: str | None, says: str | None
) -> None:
    monkeypatch.setattr(cuda, "gpu_name", lambda: gpu)
    torch = SimpleNamespace(
        __version__="2.0", version=SimpleNamespace(cuda=build), cuda=SimpleNamespace(is_available=lambda: works)
    )
    why = cuda.why_not_torch(torch)
    assert why is None if says is None else re.match(says, why or "")
