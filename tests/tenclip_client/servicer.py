"""A small server for these tests: real gRPC on a real socket, answers computed from the bytes of the "video".

What it does instead is written in the video itself:

    raise REASON     the TenclipError of that reason, with its status and trailing metadata
    status CODE      a bare status, as a proxy would answer
    sleep SECONDS    answers late
    flaky N          UNAVAILABLE for the first N times this video arrives, as from a server that is coming up
    stopping N       CANCELLED for the first N times, as gRPC says for a server that is told to stop
    busy N           OVERLOADED for the first N times, with a retry hint
    crash N          DECODE_WORKER_DIED, with `grpc-retry-pushback-ms: -1`
    empty            an answer with nothing in it
    stop_after N     answers a stream with N clips, and no more
    bug              an exception that the server did not expect
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any, NoReturn

import grpc

from tenclip_api.errors import TenclipError, error_classes
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1 import tenclip_pb2_grpc

LABELS = ("archery", "bowling", "cliff diving", "drumming", "eating [hot] cake", "fencing")
FEATURE_DIM = 8
CLIPS = 3
PROTOCOLS = ("ten-clip", "center-clip")
Context = grpc.ServicerContext


INDEX = pb.Index(
    name="clips", model=pb.ModelRef(name="actions", version="2"), kind="exact-fp16", dimension=FEATURE_DIM, clips=100
)


class FakeRecognition(tenclip_pb2_grpc.VideoRecognitionServicer):
    """`requests` keeps what arrived, `metadata` what came with it, `most_at_once` how many were in flight together.

    `limit`: videos beyond this many wait for `released`.
    """

    def __init__(self, *, version: str = "2", delay: float = 0.0, limit: int | None = None) -> None:
        self.version = version
        self.delay = delay
        self.limit = limit
        self.released = threading.Event()
        self.requests: list[Any] = []
        self.uploads: list[tuple[int, list[int]]] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.seen: Counter[bytes] = Counter()
        self.in_flight = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        with self._request(request, context):
            data = self._obey(request.video, context)
            if data == b"empty":
                return pb.PredictResponse()
            return prediction(request, data, self.version)

    def ExtractFeatures(self, request: pb.ExtractFeaturesRequest, context: Context) -> pb.ExtractFeaturesResponse:
        with self._request(request, context):
            data = self._obey(request.video, context)
            return pb.ExtractFeaturesResponse(
                features=features(data, request.clips.num_clips or CLIPS),
                video=VIDEO,
                report=REPORT,
                provenance=provenance(request.protocol, self.version),
            )

    def PredictStream(self, request: pb.PredictRequest, context: Context) -> Iterator[pb.PredictUpdate]:
        """As many clips as are asked for. After `stop_after N` clips it waits till the caller has gone: `released`."""
        with self._request(request, context):
            data = self._obey(request.video, context)
            total = request.clips.num_clips or CLIPS
            if data.startswith(b"stop_after "):
                # Before the first clip: gRPC does not come back to this generator when the caller has gone meanwhile.
                context.add_callback(self.released.set)
            for k in range(total):
                if data.startswith(b"stop_after ") and k == int(data.split()[1]):
                    self.released.wait(60)
                    return
                one = pb.ClipPrediction(clip=clip(k), top=scores(data + b"#%d" % k, request.top_k))
                update = pb.ClipUpdate(clip=one, top=scores(data, request.top_k), num_done=k + 1, num_clips=total)
                yield pb.PredictUpdate(clip=update)
            yield pb.PredictUpdate(result=prediction(request, data, self.version))

    def Live(self, request: pb.LiveRequest, context: Context) -> Iterator[pb.LiveUpdate]:
        """One update of each kind, with counters that grow."""
        self.requests.append(request)
        parts: list[dict[str, Any]] = [
            {"connected": pb.LiveConnected(codec="h264", model=pb.ModelRef(name="actions", version="2"))},
            {"window": pb.LiveWindow(index=7, start_seconds=1.5, top=scores(b"live", request.top_k))},
            {"event": pb.LiveEvent(id=3, label="fencing", peak_score=0.5, ended=True)},
            {"reconnecting": pb.LiveReconnecting(attempt=2, delay_seconds=0.5, why="it ended")},
            {"heartbeat": pb.LiveHeartbeat(silent_seconds=2.5)},
            {"ended": pb.LiveEnded(why="end of the stream")},
        ]
        for i, part in enumerate(parts):
            yield pb.LiveUpdate(**part, counters=pb.LiveCounters(frames_read=i))

    def PredictUploadStream(
        self, messages: Iterator[pb.PredictUploadRequest], context: Context
    ) -> Iterator[pb.PredictUpdate]:
        yield from self.PredictStream(self._whole(messages), context)

    def PredictUpload(self, messages: Iterator[pb.PredictUploadRequest], context: Context) -> pb.PredictResponse:
        return self.Predict(self._whole(messages), context)

    def ExtractFeaturesUpload(
        self, messages: Iterator[pb.ExtractFeaturesUploadRequest], context: Context
    ) -> pb.ExtractFeaturesResponse:
        return self.ExtractFeatures(self._whole(messages), context)

    def _whole(self, messages: Iterator[Any]) -> Any:
        """The request of an upload with all of its pieces; `uploads` keeps (bytes announced, lengths of the pieces)."""
        first = next(messages)
        pieces = [message.chunk for message in messages]
        self.uploads.append((first.num_bytes, [len(p) for p in pieces]))
        first.request.video.data = b"".join(pieces)
        return first.request

    def Similar(self, request: pb.SimilarRequest, context: Context) -> pb.SimilarResponse:
        """As many clips of one indexed video as are asked for, each nearest to the first clip."""
        with self._request(request, context):
            data = self._obey(request.video, context)
            neighbours = [
                pb.Neighbour(
                    score=1 - k / 10, video="indexed.mp4", clip_index=k, labels=request.labels, query_clip=clip(0)
                )
                for k in range(request.k)
            ]
            return pb.SimilarResponse(
                neighbours=neighbours,
                index=INDEX,
                video=VIDEO,
                report=REPORT,
                provenance=provenance(request.protocol, self.version),
                features=features(data, CLIPS) if request.include_features else None,
            )

    def SimilarUpload(self, messages: Iterator[pb.SimilarUploadRequest], context: Context) -> pb.SimilarResponse:
        return self.Similar(self._whole(messages), context)

    def ListIndexes(self, request: pb.ListIndexesRequest, context: Context) -> pb.ListIndexesResponse:
        self.requests.append(request)
        return pb.ListIndexesResponse(indexes=[INDEX])

    def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        self.requests.append(request)
        failed = [pb.FailedModel(name="broken", version="1", error="no bundle.json")]
        return pb.ListModelsResponse(models=[model(self.version, full=False)], failed=failed)

    def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        self.requests.append(request)
        ref = request.model
        if ref.name not in ("", "actions"):
            _abort(context, error_classes()["MODEL_NOT_FOUND"], f"no model {ref.name!r}; there is actions")
        if ref.version not in ("", self.version):
            _abort(context, error_classes()["VERSION_NOT_FOUND"], f"actions has no version {ref.version!r}")
        return pb.GetModelResponse(model=model(self.version, full=True))

    @contextlib.contextmanager
    def _request(self, request: Any, context: Context) -> Iterator[None]:
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            self.in_flight += 1
            self.most_at_once = max(self.most_at_once, self.in_flight)
            beyond = self.limit is not None and self.seen.total() >= self.limit
            self.seen[request.video.data or request.video.path.encode()] += 1
        try:
            if beyond:
                self.released.wait(60)
            time.sleep(self.delay)
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def _obey(self, video: pb.Video, context: Context) -> bytes:
        """The video's bytes, unless they say what else to do."""
        data = video.path.encode() if video.WhichOneof("source") == "path" else video.data
        times = self.seen[data]
        order, _, argument = data[:80].rstrip(b"\0").partition(b" ")
        text = argument.decode("utf-8", "replace").strip()
        if order == b"raise":
            _abort(context, error_classes()[text], f"{video.name}: {text.lower()} ünïcode")
        if order == b"status":
            context.abort(grpc.StatusCode[text], f"a proxy says {text}")
        if order == b"sleep":
            time.sleep(float(text))
        if order == b"stopping" and times <= int(text):
            context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        if order == b"flaky" and times <= int(text):
            context.abort(grpc.StatusCode.UNAVAILABLE, "coming up")
        if order == b"busy" and times <= int(text):
            _abort(context, error_classes()["OVERLOADED"], "busy", ("tenclip-retry-after-seconds", "0.05"))
        if order == b"crash":
            _abort(context, error_classes()["DECODE_WORKER_DIED"], "it died", ("grpc-retry-pushback-ms", "-1"))
        if order == b"bug":
            raise ZeroDivisionError("a bug")
        return data


def _abort(context: Context, error: type[TenclipError], message: str, *more: tuple[str, str]) -> NoReturn:
    metadata = (("tenclip-reason", error.reason), ("tenclip-request-id", "r-17"), *more)
    context.set_trailing_metadata(metadata)
    context.abort(grpc.StatusCode[error.grpc_status], message)


VIDEO = pb.VideoInfo(
    container="avi",
    codec="mpeg4",
    width=320,
    height=240,
    rotation=90,
    frames_per_second=25.0,
    num_frames=250,
    declared_frames=251,
    duration_seconds=10.0,
    has_audio=True,
    variable_frame_rate=True,
)
REPORT = pb.DecodeReport(frames_requested=48, frames_decoded=46, frames_substituted=2, warnings=["2 frames were lost"])


def provenance(protocol: str, version: str) -> pb.Provenance:
    timings = [pb.StageSeconds(stage="decode", seconds=0.25), pb.StageSeconds(stage="run", seconds=0.5)]
    return pb.Provenance(
        model=pb.ModelRef(name="actions", version=version),
        protocol=protocol or "ten-clip",
        runtime="fake",
        server_version="0.1.0",
        request_id="r-1",
        timings=timings,
    )


def scores(data: bytes, top_k: int) -> list[pb.ClassScore]:
    """Probabilities that add up to 1 and differ with the data."""
    weights = [1 + zlib.crc32(data + bytes([i])) % 1000 for i in range(len(LABELS))]
    ranked = sorted(range(len(LABELS)), key=lambda i: -weights[i])[: top_k or 5]
    return [pb.ClassScore(index=i, label=LABELS[i], score=weights[i] / sum(weights)) for i in ranked]


def clip(index: int) -> pb.ClipInfo:
    start = index * 1.1
    return pb.ClipInfo(
        index=index, start_seconds=start, end_seconds=start + 0.64, frame_indices=range(16), looped=index == CLIPS - 1
    )


def features(data: bytes, num_clips: int) -> pb.Features:
    """Multiples of an eighth, which float32 holds exactly."""
    rows = [[zlib.crc32(data + b"#%d.%d" % (k, d)) % 4096 / 8 for d in range(FEATURE_DIM)] for k in range(num_clips)]
    clips = [pb.ClipFeatures(clip=clip(k), values=row) for k, row in enumerate(rows)]
    return pb.Features(clips=clips, mean=[sum(column) / num_clips for column in zip(*rows, strict=True)])


def prediction(request: pb.PredictRequest, data: bytes, version: str) -> pb.PredictResponse:
    response = pb.PredictResponse(
        top=scores(data, request.top_k), video=VIDEO, report=REPORT, provenance=provenance(request.protocol, version)
    )
    if request.include_clip_scores:
        for k in range(request.clips.num_clips or CLIPS):
            response.clips.append(pb.ClipPrediction(clip=clip(k), top=scores(data + b"#%d" % k, request.top_k)))
    if request.include_features:
        response.features.CopyFrom(features(data, request.clips.num_clips or CLIPS))
    if request.include_timeline or request.clips.mode == pb.SALIENT:
        points = [
            pb.TimelinePoint(start_seconds=i * 0.5, end_seconds=i * 0.5 + 0.5, score=i % 7, selected=i in (6, 13))
            for i in range(20)
        ]
        response.timeline.CopyFrom(pb.Timeline(scorer="motion-energy", points=points))
    return response


def model(version: str, *, full: bool) -> pb.Model:
    bundle = {
        "variants": [{"name": "fp32", "files": {"model.onnx": f"hash-of-{version}"}}],
        "parity": [{"runtime": "fake", "max_abs": 1.5e-6}],
        "speed": [{"runtime": "fake", "clips_per_second": 12.5}],
        "provenance": {"run": "moves"},
    }
    return pb.Model(
        name="actions",
        version=version,
        is_default_version=True,
        architecture="r2plus1d_10",
        family="tenclip",
        num_classes=len(LABELS),
        feature_dim=FEATURE_DIM,
        runtime="fake",
        runtime_reason="the only one",
        default_protocol="ten-clip",
        protocols=PROTOCOLS,
        clip_spec_json=json.dumps({"num_frames": 16, "crop": 112}),
        state="READY",
        label_source="file",
        labels=LABELS if full else (),
        bundle_json=json.dumps(bundle) if full else "",
    )


@contextlib.contextmanager
def serving(
    servicer: FakeRecognition,
    *,
    port: int = 0,
    options: Sequence[tuple[str, Any]] = (),
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """`servicer` on a free port of 127.0.0.1 (or on `port`); gives `HOST:PORT`."""
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0), *options])
    tenclip_pb2_grpc.add_VideoRecognitionServicer_to_server(servicer, server)
    address = f"127.0.0.1:{port}"
    bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        server.stop(grace=0).wait()
