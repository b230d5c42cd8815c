"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from tenclip_api.errors import MessageTooLarge, ServerError
from tenclip_client._channel import open_channel
from tenclip_client._errors import is_unimplemented
from tenclip_client._methods import BlockingTransport, ClientMethods
from tenclip_client._requests import Call, Result
from tenclip_client._uploads import Upload, UploadStream


class Client(ClientMethods, BlockingTransport):
    """Calls a tenclip server and waits for the answer. Safe to share between threads.

    ::

        with Client("127.0.0.1:7411") as client:
            prediction = client.predict("archery.avi")
            print(prediction.label, prediction.score)

    Settings are those of `BaseClient`: target, timeout, TLS and token, metadata, wait_for_ready, retries, keepalive.
    Every call raises exceptions of `tenclip_api.errors` only; see there for the tree.
    """

    def close(self) -> None:
        """Close the connections. Calls that are still waiting raise Cancelled."""
        self._closed = True
        for channel in self._take_channels():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _open_channel(self) -> grpc.Channel:
        return open_channel(self._route.address, self._credentials, self._options)

    def _send(self, call: Call[Result]) -> Result:
        self._check_open()
        call, deadline = call.load(), self._deadline(call.timeout)
        try:
            return self._send_once(call, deadline)
        except MessageTooLarge:
            upload = call.as_upload()
            if upload is None:
                raise
            try:
                return self._send_once(upload, deadline)
            except ServerError as err:
                if not is_unimplemented(err.__cause__):
                    raise
            raise  # a server from before there were uploads

    def _send_once(self, call: Call[Result], deadline: float | None) -> Result:
        method, settings = self._method(call), self._settings(deadline)
        try:
            if call.pieces is None:
                response = method(call.request, **settings)
            else:
                response = Upload(method, call, settings).wait()
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        return call.parse(response)

    def _stream(self, call: Call[Result]) -> Iterator[Result]:
        self._check_open()
        return self._stream_answers(call.load(), self._deadline(call.timeout))

    def _stream_answers(self, call: Call[Result], deadline: float | None) -> Iterator[Result]:
        try:
            yield from self._stream_once(call, deadline)
        except MessageTooLarge:  # before the first answer
            upload = call.as_upload()
            if upload is None:
                raise
            yield from self._stream_once(upload, deadline)

    def _stream_once(self, call: Call[Result], deadline: float | None) -> Iterator[Result]:
        method, settings = self._method(call), self._settings(deadline)
        rpc: Any = method(call.request, **settings) if call.pieces is None else UploadStream(method, call, settings)
        try:
            for response in rpc:
                yield call.parse(response)
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        finally:
            rpc.cancel()  # without effect on a call that has ended
