"""VMZ's Caffe2 checkpoints: a pickled dict of arrays, written by Python 2 (arrays and names only).

They are read by an unpickler that knows the three globals such a file needs and nothing else, so a pickle that would
run code is refused before it does.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import CheckpointError

NUMERIC_KINDS = "fiu"


def read_blobs(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    """Arrays by blob name.

    Raises CheckpointError that names the file: a damaged pickle, one that asks for anything but arrays, or no blobs.
    """
    try:
        loaded = _BlobUnpickler(io.BytesIO(content), encoding="latin1").load()
    except _ForbiddenGlobalError as err:
        raise CheckpointError(
            f"{path}: a pickle that asks for {err}; a checkpoint of Caffe2 needs arrays and nothing else, so it was "
            "not loaded. If it is not one, save its weights with torch.save or safetensors"
        ) from err
    except Exception as err:  # a damaged pickle can fail in any way at all
        raise CheckpointError(f"{path}: a damaged or cut off pickle: {type(err).__name__}: {err}") from err
    blobs = loaded.get("blobs", loaded) if isinstance(loaded, dict) else None
    if not isinstance(blobs, dict) or not blobs:
        raise CheckpointError(f"{path}: a pickle that holds no dict of blobs")
    for name, blob in blobs.items():
        if not isinstance(name, str) or not isinstance(blob, np.ndarray) or blob.dtype.kind not in NUMERIC_KINDS:
            kind = blob.dtype if isinstance(blob, np.ndarray) else type(blob).__name__
            raise CheckpointError(f"{path}: blob {name!r} is a {kind}, not an array of numbers")
    return blobs


class _ForbiddenGlobalError(pickle.UnpicklingError):
    pass


class _BlobUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # numpy moved these from numpy.core to numpy._core in 2.0; files name the module of the numpy that wrote them.
        found = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise _ForbiddenGlobalError(f"{module}.{name}")
        return found


def _empty_array(_subtype: object, _shape: object, _dtype: object) -> NDArray[np.int8]:
    """An empty array in place of numpy's `_reconstruct`: the state that follows has shape, type and values."""
    return np.empty((0,), np.int8)


def _dtype(kind: str, _align: object = False, _copy: object = True) -> np.dtype[Any]:
    # A copy, because unpickling then sets its state (the byte order).
    return np.dtype(kind, align=False, copy=True)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}


# Blob names. `i` counts blocks over the whole network, `j` convolutions within a block.
_PARTS = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_STEM_NORM = re.compile(r"conv1(_middle)?_spatbn_relu_(s|b|rm|riv)")
_CONV = re.compile(r"comp_(\d+)_conv_(\d+)(_middle)?_w")
_NORM = re.compile(r"comp_(\d+)_spatbn_(\d+)(_middle)?_(s|b|rm|riv)")
_SHORTCUT = re.compile(r"shortcut_projection_(\d+)_(?:w|spatbn_(s|b|rm|riv))")
_LAST = re.compile(r"last_out_L(\d+)_(w|b)")


def is_caffe2(names: Mapping[str, object]) -> bool:
    return "conv1_w" in names and any(_LAST.fullmatch(name) for name in names)


def stages_from_blobs(names: Mapping[str, object]) -> list[int]:
    """Blocks in each of the four layers: a layer begins where a block has a projection, the first at block 0."""
    blocks = {int(m[1]) for name in names if (m := _CONV.fullmatch(name))}
    starts = {int(m[1]) for name in names if (m := _SHORTCUT.fullmatch(name))} | {0}
    edges = [*sorted(starts), max(blocks, default=-1) + 1]
    return [end - begin for begin, end in pairwise(edges)]


def torch_names(names: Mapping[str, object]) -> dict[str, str]:
    """Blob names -> the names of the same tensors in VMZ's PyTorch code. Those that fit no pattern are left out.

    Where a convolution is a pair (R(2+1)D, ip-CSN) its first half is "middle". In an ir-CSN block the middle
    convolution has j = 3, because the authors' builder counts twice there, and the last has j = 4.
    """
    stages = stages_from_blobs(names)
    js = {int(m[2]) for name in names if (m := _CONV.fullmatch(name))}
    rank = {j: i for i, j in enumerate(sorted(js), 1)}
    found = {name: _torch_name(name, names, stages, rank) for name in names}
    return {name: torch_name for name, torch_name in found.items() if torch_name is not None}


def _torch_name(name: str, names: Mapping[str, object], stages: list[int], rank: Mapping[int, int]) -> str | None:
    pair = "conv1_middle_w" in names  # of the stem; then blocks are pairs of four modules, else of three (ip-CSN)
    if name in ("conv1_w", "conv1_middle_w"):
        return "stem.3.weight" if pair and name == "conv1_w" else "stem.0.weight"
    if m := _STEM_NORM.fullmatch(name):
        return f"stem.{4 if pair and not m[1] else 1}.{_PARTS[m[2]]}"
    if m := _LAST.fullmatch(name):
        return "fc.weight" if m[2] == "w" else "fc.bias"
    if m := _SHORTCUT.fullmatch(name):
        part = "0.weight" if m[2] is None else f"1.{_PARTS[m[2]]}"
        return f"{_block(int(m[1]), stages)}.downsample.{part}"
    if m := _NORM.fullmatch(name):
        between = "0." if m[3] else ""
        return f"{_block(int(m[1]), stages)}.conv{rank.get(int(m[2]), 0)}.{between}1.{_PARTS[m[4]]}"
    if m := _CONV.fullmatch(name):
        conv = f"{_block(int(m[1]), stages)}.conv{rank[int(m[2])]}"
        if m[3]:
            return f"{conv}.0.0.weight"
        has_middle = f"comp_{m[1]}_conv_{m[2]}_middle_w" in names
        return f"{conv}.0.{3 if pair else 2}.weight" if has_middle else f"{conv}.0.weight"
    return None


def _block(index: int, stages: list[int]) -> str:
    for layer, blocks in enumerate(stages, 1):
        if index < blocks:
            return f"layer{layer}.{index}"
        index -= blocks
    return f"layer{len(stages) + 1}.{index}"
