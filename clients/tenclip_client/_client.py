"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from tenclip_api.errors import MessageTooLarge, ServerError
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_client import _calls
from tenclip_client._base import BaseClient, Timeout
from tenclip_client._calls import Call, Result
from tenclip_client._channel import open_channel
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


class Client(BaseClient):
    """Calls a tenclip server and waits for the answer. Safe to share between threads.

    ::

        with Client("127.0.0.1:7411") as client:
            prediction = client.predict("archery.avi")
            print(prediction.label, prediction.score)

    Settings are those of `BaseClient`: target, timeout, TLS and token, metadata, wait_for_ready, retries, keepalive.
    Every call raises exceptions of `tenclip_api.errors` only; see there for the tree.
    """

    def _connect(self) -> None:
        self._channel = open_channel(self.target, self._credentials, self._options)
        self._stubs = {
            "VideoRecognition": tenclip_pb2_grpc.VideoRecognitionStub(self._channel),
            "ModelManagement": tenclip_pb2_grpc.ModelManagementStub(self._channel),
        }

    def predict(
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
        """Class scores of one video; features and the salience timeline too, from the same pass.

        video: a path, the file's bytes, a file opened in binary mode, `ServerPath("...")` for a path on the server, or
            `ServerUri("https://...")` for what the server is to fetch. Files of any size: large ones are sent in
            pieces as they are read (and, unlike others, not sent again when the server has gone meanwhile).
        model: `"name"`, `"name:version"`, or `""` where the server holds one model only.
        clips: which clips are classified. "uniform": `num_clips` evenly spaced. "center": one from the middle.
            "windows": every window, `window_step` frames apart. "salient": the `num_clips` most worth it.
            None: as the model's own protocol says, for most ten uniform clips.
        start, end: only this part of the video, in seconds.
        fully_convolutional: True for the larger crop over which the classifier slides, False for the centre crop.
        protocol: a named test protocol instead of all these; `get_model(...).protocols` lists them.
        top_k: how many classes. clip_scores, features, timeline: what else to answer.
        name: what to call bytes and file objects in messages and in the server's log.
        timeout: deadline in seconds of this call, None for none.
        """
        call = _calls.predict_call(
            load_video(video, name),
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
        return self._send(call, timeout)

    def predict_stream(
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
    ) -> Iterator[ClipUpdate | Prediction]:
        """As `predict`: a ClipUpdate for each clip as soon as it is done, in whatever order, and then the Prediction.

        To leave the loop early, or to close the iterator, tells the server to drop what is left::

            for update in client.predict_stream("match.mp4", clips="windows"):
                if isinstance(update, ClipUpdate) and update.top[0].score > 0.9:
                    break
        """
        call = _calls.predict_stream_call(
            load_video(video, name),
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
        return self._stream(call, timeout)

    def extract_features(
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
        """Feature vectors of each clip and their mean over the video. Arguments as in `predict`."""
        call = _calls.extract_features_call(
            load_video(video, name),
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            protocol=protocol,
        )
        return self._send(call, timeout)

    def list_models(self, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelList:
        """Every model and version that the server holds, and the ones that it could not load."""
        return self._send(_calls.list_models_call(), timeout)

    def get_model(self, model: str = "", *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelInfo:
        """One model with its labels and its bundle.json. Raises ModelNotFound, VersionNotFound."""
        return self._send(_calls.get_model_call(model), timeout)

    def load_model(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelChanges:
        """Load what is on the server's disk under this name, or load it again; all versions where none is named.

        Raises ModelNotFound, VersionNotFound; ModelError when nothing could be loaded (what was served still is); as
        all calls that change models PermissionDenied, where the server was started without --allow-manage.
        """
        return self._send(_calls.load_model_call(model), timeout)

    def unload_model(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelChanges:
        """Serve it no longer, till `load_model` names it. Requests that run end well.

        Raises ModelNotFound, VersionNotFound.
        """
        return self._send(_calls.unload_model_call(model), timeout)

    def reload_models(self, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> ModelChanges:
        """Make what is served what is on the server's disk: load what is new or changed, drop what has vanished."""
        return self._send(_calls.reload_models_call(), timeout)

    def set_default_version(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> None:
        """`name:version`: what requests without a version mean from now on. `name`: its highest version again."""
        self._send(_calls.set_default_version_call(model), timeout)

    def close(self) -> None:
        """Hang up. Calls still waiting raise Cancelled."""
        self._closed = True
        self._channel.close()
        self._close_uploads()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _send(self, call: Call[Result], timeout: Timeout) -> Result:
        self._check_open()
        deadline = self._deadline(timeout)
        try:
            return self._send_once(call, deadline)
        except MessageTooLarge:
            upload = call.in_pieces()
            if upload is None:
                raise
            try:
                return self._send_once(upload, deadline)
            except ServerError as err:
                if not is_unimplemented(err.__cause__):
                    raise
            raise  # a server from before there were uploads

    def _method(self, call: Call[Any]) -> Any:
        return (
            getattr(self._stubs[call.service], call.method) if call.pieces is None else self._upload_method(call.method)
        )

    def _send_once(self, call: Call[Result], deadline: float | None) -> Result:
        method = self._method(call)
        settings = {"timeout": deadline, "metadata": self._metadata, "wait_for_ready": self._wait_for_ready}
        try:
            response = (
                method(call.request, **settings) if call.pieces is None else Upload(method, call, settings).wait()
            )
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        return call.parse(response)

    def _stream(self, call: Call[Result], timeout: Timeout) -> Iterator[Result]:
        self._check_open()
        deadline = self._deadline(timeout)
        try:
            yield from self._stream_once(call, deadline)
        except MessageTooLarge:  # before the first answer
            upload = call.in_pieces()
            if upload is None:
                raise
            yield from self._stream_once(upload, deadline)

    def _stream_once(self, call: Call[Result], deadline: float | None) -> Iterator[Result]:
        method = self._method(call)
        settings = {"timeout": deadline, "metadata": self._metadata, "wait_for_ready": self._wait_for_ready}
        rpc = method(call.request, **settings) if call.pieces is None else UploadStream(method, call, settings)
        try:
            for response in rpc:
                yield call.parse(response)
        except grpc.RpcError as err:
            raise self._error(err, call.source, deadline) from err
        finally:
            rpc.cancel()  # of no effect on one that is done
