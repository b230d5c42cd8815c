from __future__ import annotations

import pytest
import torch

from tenclip_api.errors import InvalidRequest
from tenclip_serving.runtimes import cuda
from tenclip_training.devices import find_device


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto", gpu=1) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto", gpu=1) == torch.device("cuda", 1)


def test_a_gpu_that_torch_cannot_use_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "gpu_name", lambda: None)
    assert find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(cuda, "gpu_name", lambda: "NVIDIA Trained")
    assert find_device("cpu") == torch.device("cpu")
    assert caplog.messages == []
    assert find_device("auto") == find_device("auto") == torch.device("cpu")
    (said,) = caplog.messages
    assert "computes on the CPU, and not on the NVIDIA Trained of this machine" in said


@pytest.mark.parametrize(
    ("name", "count", "says"),
    [
        ("gpu", 1, "device 'gpu' is not one of cpu, cuda, cuda:1, ... or auto"),
        ("cuda", 0, "device cuda: this machine has no GPUs"),
        ("cuda:1", 1, "device cuda:1: this machine has 1 GPU"),
    ],
)
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, name: str, count: int, says: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InvalidRequest, match=says):
        find_device(name)


def test_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    assert find_device("cpu") == torch.device("cpu")
