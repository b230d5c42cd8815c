"""Reading a checkpoint file without running anything in it.

A file is recognised by its first bytes, never by its name: `torch.save`'s zip and older pickles (`torch_files.py`),
safetensors (`safetensors.py`), and pickles of arrays (Caffe2, `caffe2.py`) or of tensors. What lies beside the weights
(optimizer, history, random states) is left alone, whatever classes it needs.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError
from tenclip_data.wording import some_of
from tenclip_training.loaders.caffe2 import read_blobs
from tenclip_training.loaders.configuration import Configuration, read_configuration
from tenclip_training.loaders.pickles import ForbiddenGlobalError, Placeholder, StoredTensor, Unpickled
from tenclip_training.loaders.safetensors import is_safetensors, read_safetensors
from tenclip_training.loaders.torch_files import StorageCache, is_torch, open_torch, read_plain_pickle, to_tensor

# Where training code puts the weights beside its optimizer and counters, the most telling first.
WEIGHT_KEYS = (
    "state_dict",
    "model_state",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "state",
    # Averaged weights, where a file has no others.
    "ema_state_dict",
    "state_dict_ema",
    "params_ema",
    "model_ema",
    "ema",
)
COMPILED = "_orig_mod."  # torch.compile puts it before the names of what it wraps
COMMON_MODULES = sys.stdlib_module_names | {"__builtin__", "copy_reg", "numpy"}
MAX_WRAPPERS = 4  # weights lie in at most so many such entries, one in the other
SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightsFile:
    """Tensors by their authors' names, and what else the file told.

    `format`: "torch", "safetensors", "caffe2" or "pickle". `prefix` was in front of all names and is taken off.
    `beside`: the entries next to the weights ("optimizer", "epoch", ...). `configuration`: what they say about how the
    weights were trained. `notes` are for people.
    """

    tensors: dict[str, Tensor]
    format: str
    sha256: str
    prefix: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    configuration: Configuration = field(default_factory=Configuration)
    notes: tuple[str, ...] = ()


def read_weights(path: Path) -> WeightsFile:
    """Raises CheckpointError that names the file: absent, empty, truncated, damaged, asking for code to be run, a
    program instead of weights, or without weights; and the tensor, where one has no values (sparse, quantised, meta).
    """
    head = _head(path)
    try:
        if is_torch(head):
            return _from_torch(path)
        if is_safetensors(head):
            return _from_safetensors(path)
        if head[:1] in (b"\x80", b"(", b"}", b"c"):
            return _from_pickle(path)
    except ForbiddenGlobalError as err:
        raise CheckpointError(
            f"{path}: holds objects that no checkpoint needs, and loading those could run code; it was not loaded. "
            "Where you trust the file, save its weights alone: "
            f"torch.save(torch.load(PATH, weights_only=False)['state_dict'], NEW). (It asks for {err})"
        ) from err
    except (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, MemoryError, RecursionError) as err:
        raise CheckpointError(f"{path}: damaged or cut off: {_first_line(err)}") from err
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as err:
        raise CheckpointError(f"{path}: damaged or cut off: {type(err).__name__}: {_first_line(err)}") from err
    raise CheckpointError(f"{path}: {_other_format(head)}; readable are files of torch.save, safetensors and pickles")


def _head(path: Path) -> bytes:
    """The first bytes of a file, in which each format shows."""
    if path.is_dir():
        raise CheckpointError(f"{path}: a directory, not a checkpoint file")
    try:
        with path.open("rb") as f:
            head = f.read(512)
    except FileNotFoundError as err:
        raise CheckpointError(f"{path}: no such file") from err
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read: {err.strerror or err}") from err
    if not head:
        raise CheckpointError(f"{path}: the file is empty")
    return head


def _other_format(head: bytes) -> str:
    known = {
        b"\x89HDF": "an HDF5 file (Keras)",
        b"\x1f\x8b": "compressed with gzip; unpack it first",
        b"7z\xbc\xaf": "compressed with 7z; unpack it first",
        b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with git lfs pull",
        b"<!DOCTYPE": "a web page, not a checkpoint: the download went wrong",
        b"<html": "a web page, not a checkpoint: the download went wrong",
    }
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it, or load and save it again with torch 1.0 or newer if torch 0.1 wrote it"
    return next((what for magic, what in known.items() if head.startswith(magic)), "not a checkpoint")


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _from_torch(path: Path) -> WeightsFile:
    with open_torch(path) as file:
        return _from_unpickled(path, file, format="torch", notes=file.notes)


def _from_pickle(path: Path) -> WeightsFile:
    """Arrays, as Caffe2 keeps them, or tensors."""
    content = path.read_bytes()
    # A pickled tensor names the function that rebuilds it; arrays are pickled without a word of torch.
    if b"_rebuild_" in content and b"torch" in content:
        return _from_unpickled(path, read_plain_pickle(path, content), format="pickle")
    blobs = read_blobs(path, content)
    tensors = {name: torch.from_numpy(np.require(blob, requirements=["C", "W"])) for name, blob in blobs.items()}
    return _weights_file(tensors, format="caffe2", sha256=_sha256(path))


def _from_safetensors(path: Path) -> WeightsFile:
    tensors = read_safetensors(path)
    if not tensors:
        raise CheckpointError(f"{path}: holds no weights")
    return _weights_file(tensors, format="safetensors", sha256=_sha256(path))


def _from_unpickled(path: Path, file: Unpickled, *, format: str, notes: tuple[str, ...] = ()) -> WeightsFile:
    if not isinstance(file.value, dict | Placeholder):
        kind = "tensor" if isinstance(file.value, StoredTensor) else type(file.value).__name__
        raise CheckpointError(f"{path}: holds a {kind}, not weights by name")
    stored, beside, whole = _weights_in(file.value)
    if not stored:
        keys = ", ".join(sorted(map(str, file.value))[:8]) if isinstance(file.value, dict) else file.value.origin
        raise CheckpointError(f"{path}: holds no weights; its entries are {keys or 'none'}")
    if whole:
        notes += ("the file is a whole pickled network: its tensors were read by name, its code was not run",)
    elif file.left_out:
        # The classes of other packages say most about what was left.
        names = sorted(file.left_out, key=lambda name: (name.partition(".")[0] in COMMON_MODULES, name))
        notes += (f"left unread beside the weights: objects of {some_of(names, SHOWN)}",)
    return _weights_file(
        _tensors(path, stored),
        format=format,
        sha256=_sha256(path),
        beside=beside,
        configuration=read_configuration(beside),
        notes=notes,
    )


def _weights_in(value: dict[Any, Any] | Placeholder) -> tuple[dict[str, StoredTensor], dict[str, Any], bool]:
    """(tensors by name, the entries beside them, whether they were the attributes of a pickled module)."""
    beside: dict[str, Any] = {}
    for _ in range(MAX_WRAPPERS):
        if isinstance(value, Placeholder):
            return _of_module(value), beside, True
        inner = next((key for key in WEIGHT_KEYS if _may_hold_weights(value.get(key))), None)
        if inner is None:
            break
        beside |= {str(k): v for k, v in value.items() if k != inner}
        value = value[inner]
    if isinstance(value, Placeholder):
        return _of_module(value), beside, True
    beside |= {str(k): v for k, v in value.items() if not isinstance(v, StoredTensor)}
    return {str(name): v for name, v in value.items() if isinstance(v, StoredTensor)}, beside, False


def _may_hold_weights(value: Any) -> bool:
    """A dict with tensors in it or in a wrapper in it, or a pickled module."""
    if isinstance(value, Placeholder):
        return bool(_of_module(value))
    if not isinstance(value, dict):
        return False
    return any(isinstance(v, StoredTensor) for v in value.values()) or any(
        _may_hold_weights(value.get(key)) for key in WEIGHT_KEYS if value.get(key) is not value
    )


def _of_module(module: Placeholder, prefix: str = "") -> dict[str, StoredTensor]:
    """The parameters and buffers of a pickled torch module, by the names that its state_dict would have."""
    state = module.state if isinstance(module.state, dict) else {}
    passing = state.get("_non_persistent_buffers_set")
    passing = passing if isinstance(passing, set) else set()
    found: dict[str, StoredTensor] = {}
    for kind in ("_parameters", "_buffers"):
        own = state.get(kind)
        if isinstance(own, dict):
            kept = {n: v for n, v in own.items() if n not in passing or kind == "_parameters"}
            found |= {f"{prefix}{name}": v for name, v in kept.items() if isinstance(v, StoredTensor)}
    children = state.get("_modules")
    for name, child in children.items() if isinstance(children, dict) else ():
        if isinstance(child, Placeholder) and prefix.count(".") < 30:
            found |= _of_module(child, f"{prefix}{name}.")
    return found


def _tensors(path: Path, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The values. Raises CheckpointError that names the tensors without values of their own."""
    cache: StorageCache = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        quantised = tensor.dtype is not None and str(tensor.dtype).startswith(("torch.qint", "torch.quint"))
        kind = "quantised" if quantised else tensor.kind
        if kind != "dense":
            raise CheckpointError(f"{path}: {name} is a {_kind(kind, tensor.dtype)}; {_REMEDIES[kind]}")
        try:
            tensors[name] = to_tensor(tensor, cache)
        except ValueError as err:
            raise CheckpointError(f"{path}: damaged or cut off: {name}: {err}") from err
    return tensors


_REMEDIES = {
    "sparse": "save its dense form (tensor.to_dense())",
    "quantised": "save the network before it was quantised, or tensor.dequantize()",
    "meta": "save the network after its weights were loaded",
    "nested": "save ordinary tensors",
    "subclass": "save ordinary tensors (for FSDP or DTensor, a full state_dict)",
}


def _kind(kind: str, dtype: torch.dtype | None) -> str:
    of = "" if dtype is None else f" of {str(dtype).removeprefix('torch.')}"
    if kind == "meta":
        return f"meta tensor{of}, which has a shape and no values"
    return f"tensor of a class of its own{of}" if kind == "subclass" else f"{kind} tensor{of}"


def _weights_file(tensors: Mapping[str, Tensor], *, notes: tuple[str, ...] = (), **about: Any) -> WeightsFile:
    """Takes `module.` off, as often as it stands before all names: DataParallel and its like put it there. Takes
    `_orig_mod.` out, where parts of the network were compiled."""
    prefix = ""
    if any(f".{COMPILED}" in name for name in tensors) and not common_prefix(tensors):
        inner = {name.replace(f".{COMPILED}", "."): value for name, value in tensors.items()}
        if len(inner) == len(tensors):
            tensors, notes = inner, (*notes, f"{COMPILED!r} of torch.compile was taken out of the names")
    while tensors and (common := common_prefix(tensors)) == "module.":
        tensors, prefix = without_prefix(tensors, common), prefix + common
    return WeightsFile(tensors=dict(tensors), prefix=prefix, notes=notes, **about)


def common_prefix(tensors: Mapping[str, Tensor]) -> str:
    """The first part of all names ("model."), or "". Counters and other single values do not count: wrappers keep
    theirs (`n_averaged`) beside the network."""
    firsts = {name.partition(".")[0] for name, value in tensors.items() if value.is_floating_point() and value.dim()}
    first = next(iter(firsts), "")
    return f"{first}." if len(firsts) == 1 and not any(name == first for name in tensors) else ""


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with `prefix` taken off their names. Raises ValueError where two then have one name."""
    found = {name.removeprefix(prefix): value for name, value in tensors.items()}
    if len(found) != len(tensors):
        raise ValueError(f"two tensors have one name without {prefix!r}")
    return found


def _first_line(err: BaseException) -> str:
    text = str(err).strip()
    return text.splitlines()[0] if text else type(err).__name__
