"""Files of `torch.save`: the zip of torch 1.6 and later, and the pickles of older versions, read without torch.load."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.pickles import Storage, StoredTensor, Unpickled, unpickle

ZIP = b"PK\x03\x04"
# The first pickle in files of torch before 1.6 is a long integer; its value follows the opcodes, whose bytes depend on
# the protocol.
LEGACY_NUMBER = 0x1950A86A20F9469CFC6C
LEGACY_HEAD = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
BIG_ENDIAN = "written on a big-endian machine; save it again on a little-endian one"
MAX_DEPTH = 2  # torch files inside pickles: a storage in a pickled tensor, and no deeper


StorageCache = dict[tuple[Callable[[Storage], bytearray], str, torch.dtype], Tensor]


@dataclass(kw_only=True)
class TorchFile(Unpickled):
    """`notes` are for people."""

    notes: tuple[str, ...] = ()


def is_torch(head: bytes) -> bool:
    """Whether a file that begins with `head` (64 bytes) was written by `torch.save`, of any version and protocol."""
    return head.startswith(ZIP) or LEGACY_HEAD in head[:24]


@contextlib.contextmanager
def open_torch(path: Path) -> Iterator[TorchFile]:
    """Opens a file of `torch.save`. Its tensors are `StoredTensor`s, which can be read within the context.

    Raises CheckpointError that names the file: no such archive, a checksum that does not fit, TorchScript, another
    byte order.
    """
    with path.open("rb") as f:
        if f.read(len(ZIP)) != ZIP:
            f.seek(0)
            yield TorchFile(**vars(_read_legacy(path, f.read(), depth=0)))
            return
        try:
            archive = zipfile.ZipFile(f)
        except zipfile.BadZipFile as err:
            raise CheckpointError(f"{path}: damaged or cut off: {err}") from err
        with archive:
            yield _read_zip(path, archive, depth=0)


def read_plain_pickle(path: Path, content: bytes) -> Unpickled:
    """A state_dict written by `pickle.dump`: each tensor is a small torch file inside the pickle."""
    return unpickle(io.BytesIO(content), read_storage=_no_storage, load_bytes=_inner(path, 0), encoding="latin1")


def to_tensor(stored: StoredTensor, cache: StorageCache) -> Tensor:
    """The values of a dense tensor. `cache` holds the storages read so far, which tensors may share.

    Raises ValueError where size, strides and offset reach beyond the storage.
    """
    storage = stored.storage
    assert stored.kind == "dense"
    assert storage is not None
    reach = stored.offset + sum((n - 1) * s for n, s in zip(stored.shape, stored.strides, strict=True))
    empty = 0 in stored.shape
    if min((stored.offset, *stored.shape, *stored.strides)) < 0 or (reach >= storage.numel and not empty):
        raise ValueError(f"a tensor of {list(stored.shape)} reaches beyond its storage of {storage.numel} values")
    if empty:
        return torch.empty(stored.shape, dtype=storage.dtype)
    key = (storage.read, storage.key, storage.dtype)
    if key not in cache:
        data = storage.read(storage)
        if len(data) < storage.numel * storage.dtype.itemsize:
            raise ValueError(f"storage {storage.key} has {len(data)} bytes, not {storage.numel} {storage.dtype} values")
        cache[key] = torch.frombuffer(data, dtype=storage.dtype, count=storage.numel)
    return cache[key].as_strided(stored.shape, stored.strides, stored.offset)


def _read_zip(path: Path, archive: zipfile.ZipFile, *, depth: int) -> TorchFile:
    names = archive.namelist()
    _say_what_it_is(path, names)
    pickles = [name for name in names if name.count("/") <= 1 and name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1 or len(set(names)) != len(names):
        raise CheckpointError(f"{path}: a zip archive, but not one of torch.save; it holds {', '.join(names[:5])}")
    notes = _check_sums(path, archive)
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise CheckpointError(f"{path}: {BIG_ENDIAN}")

    def read_storage(storage: Storage) -> bytearray:
        return bytearray(archive.read(f"{folder}data/{storage.key}"))

    content = io.BytesIO(archive.read(pickles[0]))
    found = unpickle(content, read_storage=read_storage, load_bytes=_inner(path, depth), encoding="utf-8")
    return TorchFile(**vars(found), notes=notes)


def _say_what_it_is(path: Path, names: list[str]) -> None:
    """Raises CheckpointError for the archives that look like `torch.save`'s and are programs."""
    if any(name.endswith(("/archive_format", "serialized_exported_program.json")) for name in names):
        raise CheckpointError(
            f"{path}: a program of torch.export, not weights. Save its weights: "
            "torch.save(torch.export.load(PATH).state_dict, NEW)"
        )
    if any(name.endswith(("/constants.pkl", "/model.json")) or "/code/" in name for name in names):
        raise CheckpointError(
            f"{path}: a TorchScript program (torch.jit.save), not weights. Where you trust it, save its weights: "
            "torch.save(torch.jit.load(PATH).state_dict(), NEW)"
        )


def _check_sums(path: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Compares the CRC of every member. Notes where the writer left checksums out (all of them are 0 then)."""
    if not any(member.CRC for member in archive.infolist()):
        for member in archive.infolist():
            member.CRC = None  # type: ignore[assignment]  # zipfile compares no CRC that is None
        return ("the file was written without checksums, so damage to its values cannot be seen",)
    damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged: the checksum of {damaged} does not fit its content")
    return ()


def _read_legacy(path: Path, content: bytes, *, depth: int) -> Unpickled:
    """Pickles of a number, a version, the byte order, the object and the keys of its storages, then the storages."""
    file = io.BytesIO(content)
    places: dict[str, tuple[int, int]] = {}  # where a storage begins, and how many values it has

    def read_storage(storage: Storage) -> bytearray:
        begin, numel = places[storage.key]
        if numel != storage.numel:
            raise ValueError(f"storage {storage.key} has {numel} values, not {storage.numel}")
        return bytearray(content[begin : begin + numel * storage.dtype.itemsize])

    def load() -> Unpickled:
        return unpickle(file, read_storage=read_storage, load_bytes=_inner(path, depth), encoding="latin1")

    if load().value != LEGACY_NUMBER:
        raise pickle.UnpicklingError("it does not begin as a file of torch.save")
    load()
    system = load().value
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise CheckpointError(f"{path}: {BIG_ENDIAN}")
    found = load()
    for key in load().value:
        name = key.decode() if isinstance(key, bytes) else str(key)
        if name not in found.storages:
            raise pickle.UnpicklingError(f"a storage {name} that no tensor has")
        (numel,) = struct.unpack("<q", file.read(8))
        places[name] = (file.tell(), numel)
        end = file.tell() + numel * found.storages[name].dtype.itemsize
        if numel < 0 or end > len(content):
            raise EOFError(f"storage {name} ends beyond the file")
        file.seek(end)
    if file.tell() != len(content):
        raise pickle.UnpicklingError(f"{len(content) - file.tell()} bytes follow the last storage")
    return found


def _inner(path: Path, depth: int) -> Callable[[bytes], Any]:
    def load_bytes(content: bytes) -> Any:
        if depth >= MAX_DEPTH or not isinstance(content, bytes):
            raise pickle.UnpicklingError("torch files nested too deep")
        if content.startswith(ZIP):
            return _read_zip(path, zipfile.ZipFile(io.BytesIO(content)), depth=depth + 1).value
        return _read_legacy(path, content, depth=depth + 1).value

    return load_bytes


def _no_storage(storage: Storage) -> bytearray:
    raise ValueError(f"storage {storage.key} is not in the file")
