"""Videos that are sent in pieces, each read when the one before it is on its way.

Both clients send them over a blocking channel, whose thread waits for the disk and for the network. grpc.aio would do
on its event loop what should not be done there, and, when a server refuses an upload before its end, it answers
INTERNAL as often as what the server has said.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Self

import grpc

from tenclip_api.errors import Cancelled
from tenclip_client._requests import Call


class Upload:
    """A running upload with one answer. `settings`: timeout, metadata, wait_for_ready."""

    def __init__(self, method: Any, call: Call[Any], settings: Mapping[str, Any]) -> None:
        self._source = call.source
        self._messages = _Messages(call.messages())
        self._rpc = method.future(self._messages, **settings)
        self._messages.cancel_on_error(self._rpc)

    def wait(self) -> Any:
        """The answer. Raises grpc.RpcError, Cancelled, and what reading the video does."""
        try:
            return self._rpc.result()
        except grpc.FutureCancelledError as err:
            raise self._messages.error or Cancelled(f"{self._source}: the upload has been cancelled") from err
        except BaseException:  # Ctrl-C among them
            self._rpc.cancel()
            raise

    async def wait_async(self) -> Any:
        """Await what `wait` returns or raises. Cancelling this cancels the upload."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        self._rpc.add_done_callback(lambda rpc: _set_from_thread(loop, done))
        try:
            await done.wait()
        except asyncio.CancelledError:
            self._rpc.cancel()
            raise
        return self.wait()


def _set_from_thread(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(done.set)


class UploadStream:
    """A running upload with a stream of answers. Iterating blocks."""

    def __init__(self, method: Any, call: Call[Any], settings: Mapping[str, Any]) -> None:
        self._messages = _Messages(call.messages())
        self._rpc = method(self._messages, **settings)
        self._messages.cancel_on_error(self._rpc)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Raises grpc.RpcError, and what reading the video does."""
        try:
            return next(self._rpc)
        except grpc.RpcError:
            if self._messages.error is not None:
                raise self._messages.error from None
            raise

    def cancel(self) -> None:
        self._rpc.cancel()


class _Messages:
    """The messages of an upload, read while they are sent. An error of reading cancels the call; `error` keeps it.

    gRPC itself would print such an error and not pass it on.
    """

    def __init__(self, messages: Iterator[Any]) -> None:
        self._messages = messages
        self._rpc: Any = None
        self._begun = threading.Event()
        self.error: Exception | None = None

    def cancel_on_error(self, rpc: Any) -> None:
        self._rpc = rpc
        self._begun.set()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as err:
            self.error = err
            self._begun.wait()
            self._rpc.cancel()  # else the server would take what it has for all of it
            raise StopIteration from err
