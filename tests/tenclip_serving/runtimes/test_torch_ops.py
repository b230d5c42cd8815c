"""What the fused convolution remembers of cuDNN's refusals. There is no cuDNN here: its two functions raise what it
says, everything else is torch itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import torch

from tenclip_serving.runtimes import torch_ops
from tenclip_serving.runtimes.torch_ops import conv2d_relu, fused_or_plain

FUNCTIONS = ("cudnn_convolution_relu", "cudnn_convolution_add_relu")
SHORTAGES = (
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: out of memory"),
)


@pytest.fixture(autouse=True)
def nothing_unfused() -> Iterator[None]:
    torch_ops.unfused.clear()
    yield
    torch_ops.unfused.clear()


@pytest.fixture(params=[False, True], ids=["alone", "with a residual"])
def arguments(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    torch.manual_seed(0)
    residual = torch.randn(2, 8, 5, 5) if request.param else None
    return torch.randn(2, 4, 9, 9), torch.randn(8, 4, 3, 3), torch.randn(8), residual, [2, 2], [1, 1]


def cudnn_says(monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> list[str]:
    """Every fused call raises it; the names of those that were made."""
    calls: list[str] = []

    def refuse(name: str) -> NoReturn:
        calls.append(name)
        raise error

    for name in FUNCTIONS:
        monkeypatch.setattr(torch, name, lambda *_, name=name: refuse(name))
    return calls


@pytest.mark.parametrize("shortage", SHORTAGES, ids=["torch", "cuDNN", "CUDA"])
def test_memory_that_was_short_is_not_remembered(
    shortage: RuntimeError, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = cudnn_says(monkeypatch, shortage)
    for _ in range(2):
        with pytest.raises(type(shortage)) as raised:
            fused_or_plain(*arguments)
        assert raised.value is shortage
    assert torch_ops.unfused == {}
    assert len(calls) == 2, "it is tried again"


def test_a_shape_without_a_fused_kernel_runs_in_parts_from_then_on(
    arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = cudnn_says(monkeypatch, RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED\nand more"))
    expected = conv2d_relu()(*arguments)
    for _ in range(2):
        torch.testing.assert_close(fused_or_plain(*arguments), expected)
    assert len(calls) == 1
    assert list(torch_ops.unfused.values()) == ["cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"]
    assert "running it in parts" in caplog.text
