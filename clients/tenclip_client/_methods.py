"""The calls of a tenclip server, described once for both clients.

A method of `ClientMethods` turns its arguments into a `Call`. The decorators `unary` and `streaming` make two functions
of it: one that sends the `Call` and returns the result, for `Client`, and one that awaits it, for `AsyncClient`.
Signatures and docstrings are those written here. The overloads of `__get__` tell type checkers and editors which of the
two a client has; at run time, each client class has the function itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from tenclip_api.uris import without_secrets
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import _live, _requests, _results
from tenclip_client._base import BaseClient
from tenclip_client._live import LiveUpdate
from tenclip_client._requests import Call
from tenclip_client._types import (
    USE_CLIENT_DEFAULT,
    ClipMode,
    ClipUpdate,
    IndexInfo,
    ModelChanges,
    ModelInfo,
    ModelList,
    Prediction,
    SimilarVideos,
    Timeout,
    VideoFeatures,
)
from tenclip_client._video import VideoSource

P = ParamSpec("P")
R = TypeVar("R")


class BlockingTransport:
    """Sends calls and waits."""

    def _send(self, call: Call[R]) -> R:
        raise NotImplementedError

    def _stream(self, call: Call[R]) -> Iterator[R]:
        raise NotImplementedError


class AsyncTransport:
    """Sends calls and awaits."""

    async def _send(self, call: Call[R]) -> R:
        raise NotImplementedError

    def _stream(self, call: Call[R]) -> AsyncGenerator[R, None]:
        raise NotImplementedError


class unary(Generic[P, R]):  # noqa: N801 (a decorator)
    """Makes the method of a call with one answer: blocking in `Client`, a coroutine function in `AsyncClient`."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[R]]) -> None:
        def blocking(client: BlockingTransport, *args: P.args, **kwargs: P.kwargs) -> R:
            return client._send(describe(client, *args, **kwargs))

        async def awaited(client: AsyncTransport, *args: P.args, **kwargs: P.kwargs) -> R:
            return await client._send(describe(client, *args, **kwargs))

        self.blocking = _described(blocking, describe, "{}")
        self.awaited = _described(awaited, describe, "{}")

    @overload
    def __get__(self, client: BlockingTransport, owner: Any) -> Callable[P, R]: ...
    @overload
    def __get__(self, client: AsyncTransport, owner: Any) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, client: None, owner: Any) -> Callable[..., Any]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        return self


class streaming(Generic[P, R]):  # noqa: N801 (a decorator)
    """Makes the method of a call with many answers: an iterator in `Client`, an async generator in `AsyncClient`."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[R]]) -> None:
        def blocking(client: BlockingTransport, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
            return client._stream(describe(client, *args, **kwargs))

        def awaited(client: AsyncTransport, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
            return client._stream(describe(client, *args, **kwargs))

        self.blocking = _described(blocking, describe, "Iterator[{}]")
        self.awaited = _described(awaited, describe, "AsyncGenerator[{}, None]")

    @overload
    def __get__(self, client: BlockingTransport, owner: Any) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, client: AsyncTransport, owner: Any) -> Callable[P, AsyncGenerator[R, None]]: ...
    @overload
    def __get__(self, client: None, owner: Any) -> Callable[..., Any]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        return self


def _described(function: Callable[..., Any], describe: Callable[..., Any], returns: str) -> Callable[..., Any]:
    """`function` with the name, docstring and signature of `describe`, and its own kind of result: for `help()`."""
    functools.update_wrapper(function, describe)
    result = returns.format(describe.__annotations__["return"].removeprefix("Call[").removesuffix("]"))
    function.__annotations__ = {**describe.__annotations__, "return": result}
    signature = inspect.signature(describe).replace(return_annotation=result)
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


class ClientMethods(BaseClient):
    """Every call of a server, for both clients.

    A method that is written as `-> Call[Prediction]` returns a Prediction in `Client`. In `AsyncClient` it is a
    coroutine that gives one.
    """

    def __init_subclass__(cls) -> None:
        """Give a client class the functions of its kind."""
        super().__init_subclass__()
        if ClientMethods not in cls.__bases__:
            return  # a user's subclass of a client
        for name, method in vars(ClientMethods).items():
            if isinstance(method, unary | streaming):
                setattr(cls, name, method.awaited if issubclass(cls, AsyncTransport) else method.blocking)

    @unary
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
        adaptive: bool = False,
        error_bound: float | None = None,
        sampler: str | None = None,
        protocol: str | None = None,
        top_k: int = 5,
        clip_scores: bool = False,
        features: bool = False,
        timeline: bool = False,
        thumbnails: int = 0,
        name: str | None = None,
        timeout: Timeout = USE_CLIENT_DEFAULT,
    ) -> Call[Prediction]:
        """Class scores of one video; its features and salience timeline too, from the same decode and network pass.

        video: a path, the file's bytes, a file opened in binary mode, `ServerPath("...")` for a path on the server, or
            `ServerUri("https://...")` for what the server is to fetch. Files may have any size: large ones are sent in
            pieces as they are read. Such an upload is not sent again by itself when the connection breaks.
        model: `"name"`, `"name:version"`, or `""` where the server holds one model only.
        clips: how clips are chosen. "uniform": `num_clips` evenly spaced. "center": one from the middle.
            "windows": every window, `window_step` frames apart. "salient": the `num_clips` of highest salience.
            None: as the model's own protocol says, in most cases ten uniform clips.
        start, end: use only this part of the video, in seconds from its first frame; `end` is exclusive.
        adaptive: run the salient clips one after the other, the most salient first, and stop when the classes of the
            video are settled by the model's own stopping rule; `adaptive` of the result says how many were used.
        error_bound: which stopping rule, by the share of videos whose class may differ: one of `get_model(...)
            .sampler.rules`; None for the model's default.
        sampler: what scores the windows: None for the model's own sampler (motion energy where it has none),
            "motion-energy", or "name" or "name/version" of another model whose sampler is borrowed.
        fully_convolutional: True slides the classifier over the larger crop, False uses the centre crop.
        protocol: a named test protocol in place of all these; `get_model(...).protocols` lists them.
        top_k: how many classes to answer, best first.
        clip_scores, features, timeline: what else to answer: the classes of every clip, its feature vectors
            (float32 [K,D]: K clips, D features), the salience of every window.
        thumbnails: how many pictures to answer, at evenly spaced times; 64 at most.
        name: what to call bytes and file objects in messages and in the server's log.
        timeout: deadline of this call in seconds, None for none.

        Raises a VideoError for a video that cannot be used (EmptyVideo, NotAVideo, TruncatedVideo, ...), InvalidRequest
        for arguments that contradict each other, ModelNotFound, VersionNotFound, Overloaded, DeadlineExceeded,
        ServerUnavailable; the whole tree is in `tenclip_api.errors`.

        ::

            prediction = client.predict("archery.avi", clips="salient", num_clips=5, features=True)
            print(prediction.label, prediction.score)  # archery 0.93
            matrix = prediction.features.numpy()  # float32 [5,512]
        """
        request = _requests.predict_request(
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            adaptive=adaptive,
            error_bound=error_bound,
            sampler=sampler,
            protocol=protocol,
            top_k=top_k,
            clip_scores=clip_scores,
            features=features,
            timeline=timeline,
            thumbnails=thumbnails,
        )
        return Call(
            method="Predict", request=request, parse=_results.prediction, video=video, name=name, timeout=timeout
        )

    @streaming
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
        adaptive: bool = False,
        error_bound: float | None = None,
        sampler: str | None = None,
        protocol: str | None = None,
        top_k: int = 5,
        clip_scores: bool = False,
        features: bool = False,
        timeline: bool = False,
        thumbnails: int = 0,
        name: str | None = None,
        timeout: Timeout = USE_CLIENT_DEFAULT,
    ) -> Call[ClipUpdate | Prediction]:
        """`predict` in parts: a ClipUpdate for each clip as soon as it is done, in any order, then the Prediction.

        Arguments and errors are those of `predict`; errors are raised while iterating. Leaving the loop early, or
        closing the iterator, makes the server drop what is left. `AsyncClient` gives an async generator: close it with
        `contextlib.aclosing` when leaving early.

        ::

            for update in client.predict_stream("match.mp4", clips="windows"):
                if isinstance(update, ClipUpdate) and update.top[0].score > 0.9:
                    break
        """
        request = _requests.predict_request(
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            adaptive=adaptive,
            error_bound=error_bound,
            sampler=sampler,
            protocol=protocol,
            top_k=top_k,
            clip_scores=clip_scores,
            features=features,
            timeline=timeline,
            thumbnails=thumbnails,
        )
        return Call(
            method="PredictStream", request=request, parse=_results.update, video=video, name=name, timeout=timeout
        )

    @streaming
    def live(
        self,
        uri: str,
        *,
        model: str = "",
        step: int | None = None,
        fully_convolutional: bool | None = None,
        top_k: int = 5,
        windows: bool = True,
        smooth_windows: int = 3,
        on: float = 0.6,
        off: float = 0.4,
        min_seconds: float = 0.0,
        max_gap_seconds: float = 5.0,
        labels: Sequence[str] = (),
        max_latency_seconds: float = 2.0,
        lossless: bool = False,
        reconnect: int | None = 5,
        max_backoff_seconds: float = 30.0,
        idle_seconds: float = 10.0,
        heartbeat_seconds: float = 5.0,
        timeout: float | None = None,
    ) -> Call[LiveUpdate]:
        """Scores and events of a stream as it happens: a LiveConnected, then LiveWindow and LiveEvent, and so on.

        It goes on until the loop is left or the iterator closed, which ends it on the server, too. `AsyncClient` gives
        an async generator: close it with `contextlib.aclosing`.

        uri: `rtsp://`, `rtsps://`, `http://`, `https://`, `tcp://` or `udp://`, which the server opens, if it may.
        step: frames from one window to the next; None: no overlap. windows: also a LiveWindow for each that ran.
        smooth_windows: events are made of the mean over so many. on, off: an event begins when the mean of its class
            reaches `on` and ends when it falls below `off`. min_seconds: a shorter one is none. max_gap_seconds: an
            event ends when the stream is gone for longer, with 0 at every interruption. labels: classes that have
            events; none: all.
        max_latency_seconds: a window that has waited so long is skipped, and counted. lossless: skip nothing.
        reconnect: attempts in a row before FetchFailed; None: for ever. max_backoff_seconds: between two, at most.
        idle_seconds: a stream that sends nothing for so long is broken. heartbeat_seconds: a LiveHeartbeat is sent when
            nothing else was for so long.
        timeout: deadline of the whole call in seconds; None, unlike in other calls by default: none.

        Raises UriNotAllowed, InvalidRequest, FetchFailed (which says after how many attempts), NotAVideo,
        NoVideoStream, ModelNotFound, Overloaded; ServerUnavailable also when the server stops.

        ::

            for update in client.live("rtsp://camera.example/stream", labels=["fall"]):
                if isinstance(update, LiveEvent) and not update.ended:
                    print(update.label, update.start_unix_seconds)
        """
        request = _live.live_request(
            uri=uri,
            model=model,
            step=step,
            fully_convolutional=fully_convolutional,
            top_k=top_k,
            windows=windows,
            smooth_windows=smooth_windows,
            on=on,
            off=off,
            min_seconds=min_seconds,
            max_gap_seconds=max_gap_seconds,
            labels=labels,
            max_latency_seconds=max_latency_seconds,
            lossless=lossless,
            reconnect=reconnect,
            max_backoff_seconds=max_backoff_seconds,
            idle_seconds=idle_seconds,
            heartbeat_seconds=heartbeat_seconds,
        )
        source = without_secrets(uri)
        return Call(method="Live", request=request, parse=_live.live_update, source=source, timeout=timeout)

    @unary
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
        adaptive: bool = False,
        error_bound: float | None = None,
        sampler: str | None = None,
        protocol: str | None = None,
        timeline: bool = False,
        thumbnails: int = 0,
        name: str | None = None,
        timeout: Timeout = USE_CLIENT_DEFAULT,
    ) -> Call[VideoFeatures]:
        """Feature vectors of each clip and their mean over the video: what the last layer of the classifier sees.

        Arguments and errors are those of `predict`. A model without a classifier answers this call as any other.

        ::

            result = client.extract_features("archery.avi", clips="windows", window_step=8)
            result.features.numpy()  # float32 [K,D]: K clips, D features
            result.features.mean  # float32 [D], an array.array
        """
        request = _requests.features_request(
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            adaptive=adaptive,
            error_bound=error_bound,
            sampler=sampler,
            protocol=protocol,
            timeline=timeline,
            thumbnails=thumbnails,
        )
        parse = _results.video_features
        return Call(method="ExtractFeatures", request=request, parse=parse, video=video, name=name, timeout=timeout)

    @unary
    def similar(
        self,
        video: VideoSource,
        *,
        index: str = "",
        k: int = 10,
        by_video: bool = False,
        labels: Sequence[str] = (),
        sources: Sequence[str] = (),
        without_videos: Sequence[str] = (),
        model: str = "",
        clips: ClipMode | None = None,
        num_clips: int | None = None,
        window_step: int | None = None,
        start: float | None = None,
        end: float | None = None,
        fully_convolutional: bool | None = None,
        sampler: str | None = None,
        protocol: str | None = None,
        features: bool = False,
        thumbnails: int = 0,
        name: str | None = None,
        timeout: Timeout = USE_CLIENT_DEFAULT,
    ) -> Call[SimilarVideos]:
        """The clips of an index on the server that are nearest to those of a video, by the cosine of their features.

        index: the name of an index of the server; `""` where it has one, or one of `model`.
        k: how many neighbours, at most 1000: clips, or with `by_video` videos, each with its nearest clip.
        labels, sources: only clips with one of these labels, of one of these sources. without_videos: none of these.
        model: `""` is the model that the index is of.
        features: also answer the features of the video's clips, as `extract_features` does.
        Other arguments and errors are those of `predict`. Choose clips as those of the index were chosen. Raises
        IndexNotFound where the server has no such index, IndexMismatch for one of another model.

        ::

            for neighbour in client.similar("archery.avi", k=5, by_video=True).neighbours:
                print(neighbour.score, neighbour.video, neighbour.start_seconds)
        """
        request = _requests.similar_request(
            index=index,
            k=k,
            by_video=by_video,
            labels=labels,
            sources=sources,
            without_videos=without_videos,
            model=model,
            clips=clips,
            num_clips=num_clips,
            window_step=window_step,
            start=start,
            end=end,
            fully_convolutional=fully_convolutional,
            sampler=sampler,
            protocol=protocol,
            features=features,
            thumbnails=thumbnails,
        )
        parse = _results.similar_videos
        return Call(method="Similar", request=request, parse=parse, video=video, name=name, timeout=timeout)

    @unary
    def list_indexes(self, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> Call[tuple[IndexInfo, ...]]:
        """Every index that the server can search for neighbours; none where it was started without --index.

        ::

            for index in client.list_indexes():
                print(index.name, index.clips, index.recall_at_10)
        """
        return Call(method="ListIndexes", request=pb.ListIndexesRequest(), parse=_results.index_list, timeout=timeout)

    @unary
    def list_models(self, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> Call[ModelList]:
        """Every model and version that the server holds, and those that it could not load.

        ::

            for model in client.list_models():
                print(model.ref, model.state)  # actions:2 READY
        """
        return Call(method="ListModels", request=pb.ListModelsRequest(), parse=_results.model_list, timeout=timeout)

    @unary
    def get_model(self, model: str = "", *, timeout: Timeout = USE_CLIENT_DEFAULT) -> Call[ModelInfo]:
        """One model with its labels and its bundle.json.

        model: `"name"`, `"name:version"`, or `""` where the server holds one model only.
        Raises ModelNotFound, VersionNotFound, InvalidRequest.
        """
        request = pb.GetModelRequest(model=_requests.model_ref(model))
        return Call(method="GetModel", request=request, parse=_results.one_model, timeout=timeout)

    @unary
    def load_model(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> Call[ModelChanges]:
        """Load a model from the server's disk, or load it again: `"name:version"`, or `"name"` for all its versions.

        Raises ModelNotFound, VersionNotFound; ModelError when nothing could be loaded (what was served before still
        is); PermissionDenied, as every call that changes models, by a server without --allow-manage.
        """
        request = pb.LoadModelRequest(model=_requests.required_model_ref(model))
        return _management_call("LoadModel", request, timeout)

    @unary
    def unload_model(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> Call[ModelChanges]:
        """Stop serving a model until `load_model` names it again. Requests that are running finish.

        Raises ModelNotFound, VersionNotFound, PermissionDenied.
        """
        request = pb.UnloadModelRequest(model=_requests.required_model_ref(model))
        return _management_call("UnloadModel", request, timeout)

    @unary
    def reload_models(self, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> Call[ModelChanges]:
        """Serve what is on the server's disk now: load what is new or changed, drop what has gone.

        Raises PermissionDenied. What could not be loaded is in the result's `failed`.
        """
        return _management_call("ReloadModels", pb.ReloadModelsRequest(), timeout)

    @unary
    def set_default_version(self, model: str, *, timeout: Timeout = USE_CLIENT_DEFAULT) -> Call[None]:
        """Choose what requests without a version get: `"name:version"`, or `"name"` for its highest version again.

        Raises ModelNotFound, VersionNotFound, PermissionDenied.
        """
        request = pb.SetDefaultVersionRequest(model=_requests.required_model_ref(model))
        return Call(
            service="ModelManagement",
            method="SetDefaultVersion",
            request=request,
            parse=lambda response: None,
            timeout=timeout,
        )


def _management_call(method: str, request: Any, timeout: Timeout) -> Call[ModelChanges]:
    return Call(
        service="ModelManagement", method=method, request=request, parse=_results.model_changes, timeout=timeout
    )
