"""The NVIDIA GPU of this machine, asked of its driver: no CUDA toolkit and no Python package is needed to find out.

Also the few calls that the TensorRT runtime needs: memory, copies, a stream. (CUDA Driver API, `libcuda`.)
"""

from __future__ import annotations

import ctypes
import functools
import math
import weakref
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import MissingDependency, ServerError

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")


@functools.cache
def driver() -> Any | None:
    """The driver's library, initialised; None where there is none, or no GPU that it drives."""
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int()
        if library.cuInit(0) == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value:
            return library
    return None


@functools.cache
def gpu_name() -> str | None:
    """Name of the first GPU, such as "NVIDIA A10G"; None without a GPU."""
    library = driver()
    if library is None:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(library.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    _check(library.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
    return name.value.decode()


def why_not_torch(torch: Any) -> str | None:
    """Why torch computes on the CPU beside a GPU, and what helps; None where it computes on it, or there is none."""
    gpu = gpu_name()
    if gpu is None or torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        why = "is built without CUDA", "install its build for CUDA"
    else:
        why = f"cannot start CUDA {torch.version.cuda}", "update the driver, or install its build for an older CUDA"
    return f"torch {torch.__version__} {why[0]}: it computes on the CPU, and not on the {gpu} of this machine; {why[1]}"


class Device:
    """The first GPU's primary context, which TensorRT and ONNX Runtime share, with a stream and its buffers.

    Buffers and stream go with the object: a model that is unloaded gives its memory back.
    """

    def __init__(self) -> None:
        library = driver()
        if library is None:
            raise MissingDependency("no NVIDIA GPU here, or no driver for it (libcuda.so.1)")
        self._cuda = library
        device, self._context, self._stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        _check(library.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
        _check(library.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), device), "cuDevicePrimaryCtxRetain")
        with self:
            _check(library.cuStreamCreate(ctypes.byref(self._stream), 0), "cuStreamCreate")
        self._buffers: dict[str, tuple[int, int]] = {}  # name -> (address, bytes)
        self._pinned: dict[str, tuple[int, int]] = {}  # name -> (address on the host, bytes)
        release = weakref.finalize(self, _release, library, self._context, self._stream, self._buffers, self._pinned)
        # The driver may be gone by then, and takes everything with it.
        release.atexit = False

    def __enter__(self) -> Self:
        # A context belongs to a thread, and the one that runs clips is not the one that loaded the engine.
        _check(self._cuda.cuCtxPushCurrent_v2(self._context), "cuCtxPushCurrent")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        old = ctypes.c_void_p()
        self._cuda.cuCtxPopCurrent_v2(ctypes.byref(old))

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.value or 0)

    def buffer(self, name: str, num_bytes: int) -> int:
        """Address of the GPU's buffer of that name, of at least that size; it holds whatever was there.

        It grows and never shrinks. Within the context, and valid until the next call for the same name.
        Raises ServerError where the memory is full; the name has no buffer then.
        """
        address, there = self._buffers.get(name, (0, 0))
        if there < num_bytes:
            if address:
                del self._buffers[name]
                self._cuda.cuMemFree_v2(ctypes.c_uint64(address))
            block = ctypes.c_uint64()
            _check(self._cuda.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(num_bytes)), "cuMemAlloc")
            address = int(block.value)
            self._buffers[name] = (address, num_bytes)
        return address

    def pinned(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """The host's buffer of that name, which copies read and write beside kernels; it holds whatever was there.

        It grows and never shrinks. Within the context, and valid until the next call for the same name.
        """
        kind = np.dtype(dtype)
        size = max(1, math.prod(shape) * kind.itemsize)
        address, there = self._pinned.get(name, (0, 0))
        if there < size:
            if address:
                del self._pinned[name]
                self._cuda.cuMemFreeHost(ctypes.c_void_p(address))
            pointer = ctypes.c_void_p()
            _check(self._cuda.cuMemAllocHost_v2(ctypes.byref(pointer), ctypes.c_size_t(size)), "cuMemAllocHost")
            address = int(pointer.value or 0)
            self._pinned[name] = (address, size)
        raw = (ctypes.c_uint8 * size).from_address(address)
        values: NDArray[Any] = np.frombuffer(raw, np.uint8)[: math.prod(shape) * kind.itemsize].view(kind)
        return values.reshape(shape)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the GPU; it must live until `wait`."""
        source, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        _check(self._cuda.cuMemcpyHtoDAsync_v2(ctypes.c_uint64(address), source, size, self._stream), "cuMemcpyHtoD")

    def download(self, address: int, array: NDArray[np.float32]) -> None:
        """Copy from the GPU into a contiguous array; it is filled after `wait`."""
        target, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        _check(self._cuda.cuMemcpyDtoHAsync_v2(target, ctypes.c_uint64(address), size, self._stream), "cuMemcpyDtoH")

    def wait(self) -> None:
        """Until everything on the stream is done."""
        _check(self._cuda.cuStreamSynchronize(self._stream), "cuStreamSynchronize")


def _release(
    library: Any,
    context: ctypes.c_void_p,
    stream: ctypes.c_void_p,
    buffers: dict[str, tuple[int, int]],
    pinned: dict[str, tuple[int, int]],
) -> None:
    library.cuCtxPushCurrent_v2(context)
    for address, _ in buffers.values():
        library.cuMemFree_v2(ctypes.c_uint64(address))
    for address, _ in pinned.values():
        library.cuMemFreeHost(ctypes.c_void_p(address))
    library.cuStreamDestroy_v2(stream)
    library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


def _check(code: int, call: str) -> None:
    if code == _OUT_OF_MEMORY:
        raise ServerError(f"the CUDA driver answers {call} with out of memory")
    if code != 0:
        raise ServerError(f"the CUDA driver answers {call} with error {code}")
