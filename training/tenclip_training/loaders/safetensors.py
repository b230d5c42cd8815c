"""Files of the safetensors format, checked to the last byte: a length (uint64), a JSON header, then the tensors."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with `head` looks like one: a header of less than 256 TiB that is a JSON object."""
    return len(head) > 8 and head[6:9] == b"\0\0{"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name.

    Raises CheckpointError that names the file and the tensor: a header or tensor beyond the end, tensors that overlap,
    bytes that belong to none, or a type that is not one of `DTYPES`.
    """
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    if 8 + length > len(content):
        raise CheckpointError(f"{path}: damaged or cut off: a header of {length} bytes in {len(content)}")
    header = json.loads(content[8 : 8 + length], object_pairs_hook=_without_duplicates)
    header.pop("__metadata__", None)
    data = memoryview(content)[8 + length :]
    _check_places(path, header, len(data))
    return {name: _tensor(path, name, entry, data) for name, entry in header.items()}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in the header")
    return found


def _check_places(path: Path, header: Mapping[str, Any], size: int) -> None:
    """Every byte belongs to exactly one tensor: the format allows no holes, overlaps or trailing bytes."""
    places: list[tuple[int, int, str]] = [(0, 0, "the header")]
    for name, entry in header.items():
        begin, end = (int(offset) for offset in entry["data_offsets"])
        places.append((begin, end, name))
    for (_, end, before), (begin, _, name) in pairwise(sorted(places)):
        if begin < end:
            raise CheckpointError(
                f"{path}: damaged: {name} begins at byte {begin}, inside {before}, which ends at {end}"
            )
        if begin > end:
            raise CheckpointError(
                f"{path}: damaged: {begin - end} bytes between {before} and {name} belong to no tensor"
            )
    end = max(end for _, end, _ in places)
    if end < size:
        raise CheckpointError(f"{path}: damaged: {size - end} bytes follow the last tensor")


def _tensor(path: Path, name: str, entry: Mapping[str, Any], data: memoryview) -> Tensor:
    dtype = DTYPES.get(entry["dtype"])
    if dtype is None:
        raise CheckpointError(f"{path}: {name} is of type {entry['dtype']}, not one of {', '.join(DTYPES)}")
    begin, end = (int(offset) for offset in entry["data_offsets"])
    shape = [int(side) for side in entry["shape"]]
    size = math.prod(shape) * dtype.itemsize
    if not 0 <= begin <= end <= len(data) or min(shape, default=0) < 0 or end - begin != size:
        raise CheckpointError(
            f"{path}: damaged or cut off: {name} {shape} should be bytes {begin} to {end} of {len(data)}"
        )
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data[begin:end]), dtype=dtype).reshape(shape)
