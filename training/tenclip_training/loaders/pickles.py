"""A pickle reader that runs nothing: tensors become records of where their values are, everything else stays inert.

No module is imported and no object is called because a file names it. The few names that a tensor needs are looked up
in a fixed table of functions of this module; every other name becomes a `Placeholder` class that keeps what it is given
and does nothing. Names that only an attack needs (`os.system`, `builtins.eval`, ...) are refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import torch

from tenclip_api.errors import CheckpointError

# dense: values in a storage. The others carry no values that a network could take as they are.
TensorKind = Literal["dense", "sparse", "quantised", "meta", "nested", "subclass"]


@dataclass(frozen=True, eq=False)
class Storage:
    """A block of values of one type; `numel` counts values. `key` names it within its container."""

    dtype: torch.dtype
    key: str
    numel: int
    read: Callable[[Storage], bytearray]


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that has not been read. `strides` and `offset` count values of `storage`."""

    kind: TensorKind
    dtype: torch.dtype | None
    shape: tuple[int, ...] = ()
    storage: Storage | None = None
    offset: int = 0
    strides: tuple[int, ...] = ()

    def __setstate__(self, state: object) -> None:
        """Ignores what a pickle would set on a tensor (hooks, attributes of sub-classes)."""


class Placeholder:
    """An object of a class that is not loaded. `arguments`, `state`, `items` and `elements` are what the pickle gave
    it: constructor arguments, attributes, and the entries of something like a dict or a list."""

    origin = ""  # module and name in the file

    arguments: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *arguments: Any, **keywords: Any) -> Placeholder:
        made = super().__new__(cls)
        made.arguments, made.state, made.items, made.elements = arguments, keywords, {}, []
        return made

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, element: Any) -> None:
        self.elements.append(element)

    def extend(self, elements: Iterable[Any]) -> None:
        self.elements.extend(elements)

    add = append

    def __call__(self, *arguments: Any, **keywords: Any) -> Placeholder:
        """An inert function returns another placeholder."""
        return Placeholder(*arguments, **keywords)


class PlainDict(dict[Any, Any]):
    """Stands for an OrderedDict, a defaultdict or a Counter. Attributes (`_metadata` of a state_dict) are ignored."""

    def __init__(self, *arguments: Any) -> None:
        # A defaultdict is given its factory first.
        super().__init__(*(a for a in arguments if isinstance(a, dict | list | tuple)))

    def __setstate__(self, state: object) -> None:
        pass


class ForbiddenGlobalError(pickle.UnpicklingError):
    """A pickle asks for something that could only be there to run code."""


@dataclass(kw_only=True)
class Unpickled:
    """`value` is what the pickle holds. `left_out` names the classes that became placeholders; `storages` are all
    storages that it mentions, by key."""

    value: Any
    left_out: list[str] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)


def unpickle(
    file: IO[bytes], *, read_storage: Callable[[Storage], bytearray], load_bytes: Callable[[bytes], Any], encoding: str
) -> Unpickled:
    """Read one pickle, of any protocol, from where `file` stands.

    `read_storage` gives the bytes of a storage of this container, `load_bytes` reads a torch file inside a pickle.
    Raises ForbiddenGlobalError, and for a damaged pickle UnpicklingError.
    """
    reader = _Reader(file, read_storage, load_bytes, encoding)
    try:
        value = reader.load()
    except (pickle.UnpicklingError, CheckpointError):
        raise
    except Exception as err:  # a damaged pickle can fail in any way at all
        raise pickle.UnpicklingError(f"{type(err).__name__}: {err}") from err
    return Unpickled(value=value, left_out=sorted(reader.left_out), storages=reader.storages)


class _Reader(pickle.Unpickler):
    def __init__(
        self,
        file: IO[bytes],
        read_storage: Callable[[Storage], bytearray],
        load_bytes: Callable[[bytes], Any],
        encoding: str,
    ) -> None:
        super().__init__(file, encoding=encoding)
        self.read_storage, self.load_bytes = read_storage, load_bytes
        self.placeholders: dict[str, type[Placeholder]] = {}
        self.left_out: set[str] = set()
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in _RUNS_CODE or (module in _BUILTINS and name in _BUILTINS_THAT_RUN_CODE):
            raise ForbiddenGlobalError(f"{module}.{name}")
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return self.load_bytes
        if module.partition(".")[0] == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        origin = f"{module}.{name}"
        self.left_out.add(origin)
        if origin not in self.placeholders:
            self.placeholders[origin] = type("Placeholder", (Placeholder,), {"origin": origin})
        return self.placeholders[origin]

    def persistent_load(self, pid: Any) -> Any:
        kind = pid[0].decode() if isinstance(pid[0], bytes) else pid[0]
        if kind == "module":  # torch before 1.6 names the class of a pickled module so, with its source
            return pid[1]
        if kind != "storage":
            raise pickle.UnpicklingError(f"a reference to a {kind!r}")
        dtype, key, _location, numel = pid[1:5]
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("a storage of no known type")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("a view of a storage, as torch before 0.4 wrote it")
        name = key.decode() if isinstance(key, bytes) else str(key)
        return self.storages.setdefault(name, Storage(dtype, name, int(numel), self.read_storage))


def _ints(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, strides: Any, *rest: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    if any(isinstance(more, dict) and (more.get("neg") or more.get("conj")) for more in rest):
        return StoredTensor("subclass", storage.dtype)  # its values are still to be negated or conjugated
    return StoredTensor("dense", storage.dtype, _ints(size), storage, int(offset), _ints(strides))


def _rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, *_rest: Any
) -> StoredTensor:
    """For types that have no storage class of their own; the storage counts bytes."""
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor without a storage")
    typed = Storage(dtype, storage.key, storage.numel // dtype.itemsize, storage.read)
    return StoredTensor("dense", dtype, _ints(size), typed, int(offset), _ints(strides))


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in another encoding than latin1")
    return text.encode("latin1")


class _Plain(Placeholder):
    """A class that tensors name beside their values."""


def _rebuild_parameter(data: Any, *_rest: Any) -> Any:
    return data


def _rebuild_from_type(rebuild: Any, _type: Any, arguments: Any, _state: Any) -> Any:
    """A tensor with attributes, or of a sub-class whose data is an ordinary tensor."""
    known = isinstance(arguments, tuple) and any(rebuild is f for f in _REBUILDS.values())
    return rebuild(*arguments) if known else StoredTensor("subclass", None)


def _without_values(kind: TensorKind) -> Callable[..., StoredTensor]:
    def rebuild(*arguments: Any) -> StoredTensor:
        dtypes = [a for a in arguments if isinstance(a, torch.dtype)]
        dtypes += [a.dtype for a in arguments if isinstance(a, Storage)]
        return StoredTensor(kind, dtypes[0] if dtypes else None)

    return rebuild


_REBUILDS: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_tensor_v3": _rebuild_tensor_v3,
    "_rebuild_parameter": _rebuild_parameter,
    "_rebuild_parameter_with_state": _rebuild_parameter,
    "_rebuild_device_tensor_from_cpu_tensor": _rebuild_parameter,
    "_rebuild_qtensor": _without_values("quantised"),
    "_rebuild_sparse_tensor": _without_values("sparse"),
    "_rebuild_sparse_csr_tensor": _without_values("sparse"),
    "_rebuild_meta_tensor_no_storage": _without_values("meta"),
    "_rebuild_nested_tensor": _without_values("nested"),
    "_rebuild_wrapper_subclass": _without_values("subclass"),
}
_KNOWN: dict[tuple[str, str], Any] = {
    **{("torch._utils", name): rebuild for name, rebuild in _REBUILDS.items()},
    ("torch.nn.parameter", "Parameter"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("torch", "Tensor"): _Plain,
    ("torch._tensor", "Tensor"): _Plain,
    ("torch", "Size"): tuple,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): PlainDict,
    ("collections", "defaultdict"): PlainDict,
    ("collections", "Counter"): PlainDict,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, list, tuple, dict, complex)
    },
}
_DTYPES = {name: value for name in dir(torch) if isinstance(value := getattr(torch, name), torch.dtype)}
_STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.qint8,
    "QUInt8Storage": torch.quint8,
    "QInt32Storage": torch.qint32,
    "UntypedStorage": torch.uint8,
}
# Nothing that training code stores needs these.
_RUNS_CODE = frozenset(
    {"os", "posix", "nt", "sys", "subprocess", "commands", "importlib", "imp", "runpy", "ctypes", "shutil", "socket"}
    | {"pty", "code", "codeop", "webbrowser", "pip", "pdb", "timeit", "bdb", "marshal", "pickle", "_pickle"}
)
_BUILTINS = ("builtins", "__builtin__")
_BUILTINS_THAT_RUN_CODE = frozenset(
    {"eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint"}
)
