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
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_client import _calls
from tenclip_client._base import BaseClient, Timeout
from tenclip_client._calls import Call, Result
from tenclip_client._errors import is_unimplemented
from tenclip_client._types import (
    USE_CLIENT_DEFAULT,
    ClipMode,
    ClipUpdate,
    ModelChanges,
    ModelInfo,
    ModelList,
    Prediction,
    VideoFeatures,
)
from tenclip_client._uploads import Upload, UploadStream
from tenclip_client._video import VideoSource, load_video
from tenclip_client._waits import answer_of, hang_up


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same settings, arguments, results and exceptions.

    ::

        async with AsyncClient("127.0.0.1:7411") as client:
            predictions = await asyncio.gather(*(client.predict(path) for path in paths))

    Cancelling the task cancels the call on the server. A client belongs to the event loop of its first call.
    """

    _channel: aio.Channel | None

    def _connect(self) -> None:
        # A channel of grpc.aio binds itself to the running loop, and there may be none yet.
        self._channel = None

    def _open_channel(self) -> aio.Channel:
        if self._credentials is None:
            return aio.insecure_channel(self.target, self._options)
        return aio.secure_channel(self.target, self._credentials, self._options)

    async def predict(
        self,
        video: VideoSource,
        *,
        model: str = "",
        clips: ClipMode | None = None,
        num_clips: int | None = None,
        window_step: int | None = None,
        start: float | None = None,
        end: float | None = None,
        fully_convolutional: bool | None = None,
        protocol: str | None = None,
        top_k: int = 5,
        clip_scores: bool = False,
        features: bool = False,
        timeline: bool = False,
        name: str | None = None,
        timeout: Timeout = USE_CLIENT_DEFAULT,
    ) -> Prediction:
        """As `Client.predict`."""
        call = _calls.predict_call(
            await asyncio.to_thread(load_video, video, name),
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            protocol=protocol,
            top_k=top_k,
            clip_scores=clip_scores,
            features=features,
            timeline=timeline,
        )
        return await self._send(call, timeout)

    async def predict_stream(
        self,
        video: VideoSource,
        *,
        model: str = "",
        clips: ClipMode | None = None,
        num_clips: int | None = None,
        window_step: int | None = None,
        start: float | None = None,
        end: float | None = None,
        fully_convolutional: bool | None = None,
        protocol: str | None = None,
        top_k: int = 5,
        clip_scores: bool = False,
        features: bool = False,
        timeline: bool = False,
        name: str | None = None,
        timeout: Timeout = USE_CLIENT_DEFAULT,
    ) -> AsyncGenerator[ClipUpdate | Prediction, None]:
        """As `Client.predict_stream`, for `async for`. Close it (contextlib.aclosing) to leave it early."""
        call = _calls.predict_stream_call(
            await asyncio.to_thread(load_video, video, name),
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            protocol=protocol,
            top_k=top_k,
            clip_scores=clip_scores,
            features=features,
            timeline=timeline,
        )
        async with aclosing(self._stream(call, timeout)) as updates:
            async for update in updates:
                yield update

    async def extract_features(
        self,
        video: VideoSource,
        *,
        model: str = "",
        clips: ClipMode | None = None,
        num_clips: int | None = None,
        window_step: int | None = None,
        start: float | None = None,
        end: float | None = None,
        fully_convolutional: bool | None = None,
        protocol: str | None = None,
        name: str | None = None,
        timeout: Timeout = USE_CLIENT_DEFAULT,
    ) -> VideoFeatures:
        """As `Client.extract_features`."""
        call = _calls.extract_features_call(
            await asyncio.to_thread(load_video, video, name),
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            protocol=protocol,
        )
        return await self._send(call, timeout)

    async def list_models(self, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelList:
        """As `Client.list_models`."""
        return await self._send(_calls.list_models_call(), timeout)

    async def get_model(self, model: str = "", *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelInfo:
        """As `Client.get_model`."""
        return await self._send(_calls.get_model_call(model), timeout)

    async def load_model(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelChanges:
        """As `Client.load_model`."""
        return await self._send(_calls.load_model_call(model), timeout)

    async def unload_model(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelChanges:
        """As `Client.unload_model`."""
        return await self._send(_calls.unload_model_call(model), timeout)

    async def reload_models(self, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelChanges:
        """As `Client.reload_models`."""
        return await self._send(_calls.reload_models_call(), timeout)

    async def set_default_version(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> None:
        """As `Client.set_default_version`."""
        await self._send(_calls.set_default_version_call(model), timeout)

    async def close(self) -> None:
        """Hang up. Calls still waiting raise Cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()
        self._close_uploads()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: Call[Result], timeout: Timeout) -> Result:
        self._check_open()
        deadline = self._deadline(timeout)
        try:
            return await self._send_once(call, deadline)
        except MessageTooLarge:
            upload = call.in_pieces()
            if upload is None:
                raise
            try:
                return await self._send_once(upload, deadline)
            except ServerError as err:
                if not is_unimplemented(err.__cause__):
                    raise
            raise  # a server from before there were uploads

    async def _send_once(self, call: Call[Result], deadline: float | None) -> Result:
        settings = {"timeout": deadline, "metadata": self._metadata, "wait_for_ready": self._wait_for_ready}
        stub = getattr(tenclip_pb2_grpc, f"{call.service}Stub")
        try:
            # A stub only names the methods of its channel; making one costs microseconds.
            if call.pieces is None:
                rpc = getattr(stub(self._aio_channel()), call.method)(call.request, **settings)
                response = await answer_of(rpc, rpc)
            else:
                response = await Upload(self._upload_method(call.method), call, settings).wait_async()
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        return call.parse(response)

    async def _stream(self, call: Call[Result], timeout: Timeout) -> AsyncGenerator[Result, None]:
        self._check_open()
        deadline = self._deadline(timeout)
        try:
            async with aclosing(self._stream_once(call, deadline)) as results:
                async for result in results:
                    yield result
        except MessageTooLarge:  # before the first answer
            upload = call.in_pieces()
            if upload is None:
                raise
            async with aclosing(self._stream_once(upload, deadline)) as results:
                async for result in results:
                    yield result

    async def _stream_once(self, call: Call[Result], deadline: float | None) -> AsyncGenerator[Result, None]:
        settings = {"timeout": deadline, "metadata": self._metadata, "wait_for_ready": self._wait_for_ready}
        stub = getattr(tenclip_pb2_grpc, f"{call.service}Stub")
        rpc: Any
        if call.pieces is None:
            rpc = getattr(stub(self._aio_channel()), call.method)(call.request, **settings)
            responses, end = _read(rpc), partial(hang_up, rpc)
        else:
            rpc = UploadStream(self._upload_method(call.method), call, settings)
            responses, end = _in_threads(rpc), rpc.cancel
        try:
            async for response in responses:
                yield call.parse(response)
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        finally:
            end()  # of no effect on one that is done

    def _aio_channel(self) -> aio.Channel:
        if self._channel is None:
            self._channel = self._open_channel()
        return self._channel


async def _read(rpc: Any) -> AsyncIterator[Any]:
    while (item := await answer_of(rpc, rpc.read())) is not aio.EOF:
        yield item


async def _in_threads(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Each item waited for in a thread."""
    while (item := await asyncio.to_thread(next, items, None)) is not None:
        yield item
