"""What a GPU's memory is asked for and gives back. The driver is a record of calls here: there is no GPU."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from tenclip_serving.runtimes import cuda


class RecordingDriver:
    """Answers every call with success and keeps its name and its first argument's value."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.allocated = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((name, getattr(arguments[0], "value", None)))
            if name == "cuMemAlloc_v2":
                self.allocated += 1
                arguments[0]._obj.value = 1000 + self.allocated
            return 0

        return call


def test_a_device_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = RecordingDriver()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    device = cuda.Device()
    first, second, third = (device.allocate(8) for _ in range(3))
    device.free(second)
    del device
    gc.collect()
    freed = [value for name, value in driver.calls if name == "cuMemFree_v2"]
    assert freed[0] == second
    assert sorted(freed) == [first, second, third]
    names = [name for name, _ in driver.calls]
    assert names.count("cuStreamDestroy_v2") == 1
    # In a context of its own, whatever the thread.
    assert names.count("cuCtxPushCurrent_v2") == names.count("cuCtxPopCurrent_v2") == 2
    assert names[-1] == "cuCtxPopCurrent_v2"
