"""Reading a checkpoint file without running anything in it.

A file is recognised by its first bytes, never by its name: torch's zip (`torch.save` since 1.6) and its older pickle,
both read with `weights_only`; safetensors; and Caffe2's pickled blobs (`caffe2.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.caffe2 import read_blobs

# The first pickle in files of torch before 1.6 is this number, 0x1950a86a20f9469cfc6c.
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ZIP = b"PK\x03\x04"
# Where training code puts the weights beside its optimizer and counters.
WEIGHT_KEYS = ("state_dict", "model_state", "model_state_dict", "model", "net")

SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightsFile:
    """Tensors by their authors' names, and what else the file told.

    `format`: "torch", "safetensors" or "caffe2". `data_parallel`: names had a `module.` in front, taken off.
    `beside`: names of the entries next to the weights ("optimizer", "epoch", ...). `text`: strings among them that may
    describe how the weights were trained (MMAction2 keeps its config so).
    """

    tensors: dict[str, Tensor]
    format: str
    sha256: str
    data_parallel: bool = False
    beside: frozenset[str] = frozenset()
    text: str = ""


def read_weights(path: Path) -> WeightsFile:
    """Raises CheckpointError that names the file: absent, empty, truncated, holding code, or without weights."""
    head = _head(path)
    try:
        if head.startswith((ZIP, LEGACY_TORCH)):
            return _from_torch(path)
        if len(head) > 8 and head[6:9] == b"\0\0{":
            return _from_safetensors(path)
        if head[:1] in (b"\x80", b"(", b"}", b"c"):
            return _from_caffe2(path)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError) as err:
        raise CheckpointError(f"{path}: damaged or cut off: {_first_line(err)}") from err
    raise CheckpointError(
        f"{path}: not a checkpoint; readable are files of torch.save, safetensors and Caffe2's pickled blobs"
    )


def _head(path: Path) -> bytes:
    """The first bytes of a file, in which each format shows."""
    if path.is_dir():
        raise CheckpointError(f"{path}: a directory, not a checkpoint file")
    try:
        with path.open("rb") as f:
            head = f.read(64)
    except FileNotFoundError as err:
        raise CheckpointError(f"{path}: no such file") from err
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror or err}") from err
    if not head:
        raise CheckpointError(f"{path}: the file is empty")
    return head


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _from_torch(path: Path) -> WeightsFile:
    try:
        with torch.serialization.safe_globals(_plain_data()):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        message = str(err)
        if "Unsupported" not in message and "GLOBAL" not in message:
            raise CheckpointError(f"{path}: damaged or cut off: {_first_line(err)}") from err
        raise CheckpointError(
            f"{path}: holds Python objects beside its tensors, and loading those could run code. Where you trust the "
            f"file, save its weights alone: torch.save(torch.load(PATH, weights_only=False)['state_dict'], NEW). "
            f"({_offender(message)})"
        ) from err
    except (RuntimeError, EOFError, zipfile.BadZipFile) as err:
        raise CheckpointError(f"{path}: damaged or cut off: {_first_line(err)}") from err
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path}: holds a {type(loaded).__name__}, not weights by name")
    weights, beside = _weights_in(loaded)
    if not weights:
        keys = ", ".join(sorted(map(str, loaded))[:8])
        raise CheckpointError(f"{path}: holds no weights; its entries are {keys or 'none'}")
    return _weights_file(
        weights, format="torch", sha256=_sha256(path), beside=frozenset(beside), text="\n".join(_strings(beside))
    )


def _weights_in(loaded: Mapping[Any, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by name, the entries beside them)."""
    for key in WEIGHT_KEYS:
        inner = loaded.get(key)
        if isinstance(inner, Mapping):
            tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
            return tensors, {str(k): v for k, v in loaded.items() if k != key}
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    return tensors, {str(k): v for k, v in loaded.items() if not isinstance(v, Tensor)}


def _weights_file(tensors: Mapping[str, Tensor], **about: Any) -> WeightsFile:
    prefix = "module."
    parallel = bool(tensors) and all(name.startswith(prefix) for name in tensors)
    names = {name.removeprefix(prefix) if parallel else name: value for name, value in tensors.items()}
    return WeightsFile(tensors=names, data_parallel=parallel, **about)


def _strings(value: Any, depth: int = 0) -> list[str]:
    """Strings in nested entries that may be a config: long ones only."""
    if isinstance(value, str):
        return [value] if len(value) > 40 else []
    if isinstance(value, Mapping) and depth < 3:
        return [text for inner in value.values() for text in _strings(inner, depth + 1)]
    return []


def _plain_data() -> list[Any]:
    """Globals that training code leaves in checkpoints and that hold data only."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")]
    return [argparse.Namespace, scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dtypes]


def _from_safetensors(path: Path) -> WeightsFile:
    """A length (uint64), a JSON header of that length, then the tensors; offsets count from the end of the header."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    if 8 + length > len(content):
        raise CheckpointError(f"{path}: damaged or cut off: a header of {length} bytes in {len(content)}")
    header = json.loads(content[8 : 8 + length])
    data = memoryview(content)[8 + length :]
    header.pop("__metadata__", None)
    tensors = {name: _safetensor(path, name, entry, data) for name, entry in header.items()}
    if not tensors:
        raise CheckpointError(f"{path}: holds no weights")
    return _weights_file(tensors, format="safetensors", sha256=_sha256(path))


def _safetensor(path: Path, name: str, entry: Mapping[str, Any], data: memoryview) -> Tensor:
    dtype = SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise CheckpointError(f"{path}: {name} is of type {entry['dtype']}, not one of {', '.join(SAFETENSORS_DTYPES)}")
    begin, end = (int(offset) for offset in entry["data_offsets"])
    shape = [int(side) for side in entry["shape"]]
    size = math.prod(shape) * torch.empty((), dtype=dtype).element_size()
    if not 0 <= begin <= end <= len(data) or min(shape, default=0) < 0 or end - begin != size:
        raise CheckpointError(
            f"{path}: damaged or cut off: {name} {shape} should be bytes {begin} to {end} of {len(data)}"
        )
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data[begin:end]), dtype=dtype).reshape(shape)


def _from_caffe2(path: Path) -> WeightsFile:
    blobs = read_blobs(path, path.read_bytes())
    tensors = {name: torch.from_numpy(np.ascontiguousarray(blob)) for name, blob in blobs.items()}
    return _weights_file(tensors, format="caffe2", sha256=_sha256(path))


def _first_line(err: BaseException) -> str:
    text = str(err).strip()
    return text.splitlines()[0] if text else type(err).__name__


def _offender(message: str) -> str:
    """The line of torch's long message that names the global."""
    lines = [line.strip() for line in message.splitlines() if "GLOBAL" in line or "global" in line]
    return lines[-1][:200] if lines else message.splitlines()[0][:200]
