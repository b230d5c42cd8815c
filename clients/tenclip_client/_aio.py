"""The asyncio client: the same calls, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
from grpc import aio

from tenclip_api.errors import MessageTooLarge, ServerError
from tenclip_client._errors import is_unimplemented
from tenclip_client._methods import AsyncTransport, ClientMethods
from tenclip_client._requests import Call, Result
from tenclip_client._uploads import Upload, UploadStream
from tenclip_client._waits import await_rpc, cancel_rpc


class AsyncClient(ClientMethods, AsyncTransport):
    """`Client` for asyncio: the same settings, arguments, results and exceptions.

    ::

        async with AsyncClient("127.0.0.1:7411") as client:
            predictions = await asyncio.gather(*(client.predict(path) for path in paths))

    Cancelling the task cancels the call on the server. A client belongs to the event loop of its first call.
    """

    async def close(self) -> None:
        """Close the connections. Calls that are still waiting raise Cancelled."""
        self._closed = True
        for channel in self._take_channels():
            if isinstance(channel, aio.Channel):
                await channel.close()
            else:
                channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def _open_channel(self) -> aio.Channel:
        """Binds itself to the running event loop, which is why it is opened by the first call."""
        if self._credentials is None:
            return aio.insecure_channel(self._route.address, self._options)
        return aio.secure_channel(self._route.address, self._credentials, self._options)

    async def _send(self, call: Call[Result]) -> Result:
        self._check_open()
        call, deadline = await _loaded(call), self._deadline(call.timeout)
        try:
            return await self._send_once(call, deadline)
        except MessageTooLarge:
            upload = call.as_upload()
            if upload is None:
                raise
            try:
                return await self._send_once(upload, deadline)
            except ServerError as err:
                if not is_unimplemented(err.__cause__):
                    raise
            raise  # a server from before there were uploads

    async def _send_once(self, call: Call[Result], deadline: float | None) -> Result:
        method, settings = self._method(call), self._settings(deadline)
        try:
            if call.pieces is None:
                rpc = method(call.request, **settings)
                response = await await_rpc(rpc, rpc)
            else:
                response = await Upload(method, call, settings).wait_async()
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        return call.parse(response)

    async def _stream(self, call: Call[Result]) -> AsyncGenerator[Result, None]:
        self._check_open()
        call, deadline = await _loaded(call), self._deadline(call.timeout)
        try:
            async with aclosing(self._stream_once(call, deadline)) as results:
                async for result in results:
                    yield result
        except MessageTooLarge:  # before the first answer
            upload = call.as_upload()
            if upload is None:
                raise
            async with aclosing(self._stream_once(upload, deadline)) as results:
                async for result in results:
                    yield result

    async def _stream_once(self, call: Call[Result], deadline: float | None) -> AsyncGenerator[Result, None]:
        method, settings = self._method(call), self._settings(deadline)
        rpc: Any
        if call.pieces is None:
            rpc = method(call.request, **settings)
            responses, end = _read(rpc), partial(cancel_rpc, rpc)
        else:
            rpc = UploadStream(method, call, settings)
            responses, end = _in_threads(rpc), rpc.cancel
        try:
            async for response in responses:
                yield call.parse(response)
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        finally:
            end()  # without effect on a call that has ended


async def _loaded(call: Call[Result]) -> Call[Result]:
    """The call with its video, read in a thread so that a slow disk does not stop the event loop."""
    return call if call.video is None else await asyncio.to_thread(call.load)


async def _read(rpc: Any) -> AsyncIterator[Any]:
    while (item := await await_rpc(rpc, rpc.read())) is not aio.EOF:
        yield item


async def _in_threads(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Each item waited for in a thread."""
    while (item := await asyncio.to_thread(next, items, None)) is not None:
        yield item
