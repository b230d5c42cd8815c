"""Objects beside the weights: they are left alone, nothing of them runs, and the weights are read."""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import enum
import os
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.files import read_weights

from .helpers import trained
from .reference import torchvision_like as tv


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return trained(tv.torchvision_r3d(4, num_classes=3)).state_dict()


class HistoryBuffer:
    """An object of a class that this package does not know, with arrays and a deque in it, like MMEngine's."""

    def __init__(self) -> None:
        self.log, self.names = np.arange(5.0), collections.deque([1, 2])


class Stage(enum.Enum):
    FIT = 1


EXTRAS: dict[str, Any] = {
    "history": HistoryBuffer(),
    "numpy_state": np.random.get_state(),
    "numpy_generator": np.random.default_rng(0),
    "python_state": random.getstate(),
    "torch_state": torch.get_rng_state(),
    "array": np.zeros((3, 3)),
    "scalar": np.float32(2),
    "path": Path("runs/best"),
    "date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
    "options": argparse.Namespace(lr=0.1),
    "enum": Stage.FIT,
    "values": [torch.float16, torch.device("cpu"), torch.Size([1, 2]), {1, 2}, 1j, slice(1, 2), range(3), b"bytes"],
    "counts": [collections.Counter("aab"), collections.defaultdict(list, {1: [2]})],
}


def same(path: Path, state: dict[str, Tensor]) -> bool:
    tensors = read_weights(path).tensors
    return tensors.keys() == state.keys() and all(torch.equal(tensors[n], v) for n, v in state.items())


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_extras_do_not_keep_the_weights(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": state, name: EXTRAS[name]}, tmp_path / "w.pth")
    assert same(tmp_path / "w.pth", state)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_protocols(protocol: int, zipped: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    everything = {"state_dict": state, **EXTRAS}
    torch.save(everything, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert same(path, state)
    assert "HistoryBuffer" in " ".join(read_weights(path).notes)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_state_dict_that_pickle_wrote(protocol: int, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": state, "mean": np.zeros(3)}, protocol=protocol))
    assert same(path, state)
    assert read_weights(path).format == "pickle"


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m, "epoch": 1}, lambda m: {"model": {"net": m}}])
def test_a_whole_pickled_network_is_read_by_name(wrap: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    model = trained(tv.torchvision_r3d(4, num_classes=3))
    torch.save(wrap(model), tmp_path / "w.pth")
    assert same(tmp_path / "w.pth", model.state_dict())
    assert "its code was not run" in read_weights(tmp_path / "w.pth").notes[0]


def test_tensors_that_share_a_storage_and_views(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    state = {
        "a": whole,
        "b": whole[1:3],
        "c": whole.T,
        "d": whole[:, 2],
        "e": torch.empty(0, 3),
        "f": torch.tensor(2.0),
    }
    torch.save({"model": state}, tmp_path / "w.pth")
    assert same(tmp_path / "w.pth", state)


class Malicious:
    """Unpickling it makes a directory, by way of whatever it is given."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("attack", ["mkdir", "exec", "getattr", "nested"])
def test_nothing_is_ever_run(
    attack: str, protocol: int, zipped: bool, state: dict[str, Tensor], tmp_path: Path
) -> None:
    target = tmp_path / "owned"
    code = f"import os; os.mkdir({str(target)!r})"
    hook: Any = {
        "mkdir": Malicious(os.mkdir, str(target)),
        "exec": Malicious(exec, code),
        "getattr": Malicious(getattr, Malicious(__import__, "os"), "mkdir"),
        "nested": [{"a": Malicious(os.system, f"mkdir {target}")}],
    }[attack]
    path = tmp_path / "w.pth"
    torch.save(
        {"state_dict": state, "hook": hook}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(CheckpointError, match=r"loading those could run code.*asks for"):
        read_weights(path)
    assert not target.exists()


def test_unknown_functions_are_not_called_either(state: dict[str, Tensor], tmp_path: Path) -> None:
    """A function of this very module, which unpickling would import and call."""
    torch.save({"state_dict": state, "hook": Malicious(called)}, tmp_path / "w.pth")
    assert same(tmp_path / "w.pth", state)
    assert CALLS == []


CALLS: list[str] = []


def called() -> None:
    CALLS.append("called")


@given(data=st.binary(max_size=200), head=st.sampled_from([b"\x80\x02", b"\x80\x04", b"\x80\x05", b"(", b"c", b""]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_weights_or_a_checkpoint_error(data: bytes, head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(head + data + b"_rebuild_ torch")
    with contextlib.suppress(CheckpointError):
        read_weights(path)


def without_values() -> dict[str, tuple[Tensor, str]]:
    weight = torch.ones(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls quantised tensors deprecated, and those of CSR a beta
        quantised = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
        rows = weight.to_sparse_csr()
    return {
        "sparse": (weight.to_sparse(), "layer1.weight is a sparse tensor.*to_dense"),
        "sparse rows": (rows, "layer1.weight is a sparse tensor"),
        "meta": (weight.to("meta"), "layer1.weight is a meta tensor of float32, which has a shape and no values"),
        "quantised": (quantised, "layer1.weight is a quantised tensor of qint8"),
    }


@pytest.mark.parametrize("kind", ["sparse", "sparse rows", "meta", "quantised"])
def test_tensors_without_values_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    tensor, message = without_values()[kind]
    torch.save({"state_dict": {"layer0.weight": torch.ones(2), "layer1.weight": tensor}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"w\.pth: {message}"):
        read_weights(tmp_path / "w.pth")
