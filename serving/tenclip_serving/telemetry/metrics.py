"""Prometheus metrics, in base units, in a registry of their own."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from tenclip_serving.intake.admission import KINDS, Refusal
from tenclip_serving.telemetry.logs import LineHandler

# Stages of a request, in their order. "fetch" is an upload or a download; "preprocess" is scaling and cropping, between
# the frames that are decoded and not counted in "decode"; "score" is what the salience of windows takes, the reading of
# what only it needs included, where it is asked for; "queue" is all of its waiting: for a decode worker and for the
# runtime.
STAGES = ("fetch", "decode", "preprocess", "score", "queue", "infer", "aggregate", "neighbours")
_CLIP_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
# A clip of a small model takes a millisecond, a video of a large one minutes.
_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """Every metric of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Memory, CPU seconds and open files of the server's process (of Linux only).
        ProcessCollector(registry=self.registry)
        self.registry.register(_LogCollector())
        self.load = LoadCollector()
        self.registry.register(self.load)
        self.requests = Counter(
            "tenclip_requests",
            "Calls answered over gRPC and HTTP, by method, gRPC status code (that gRPC would give) and transport.",
            ["method", "code", "transport"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "tenclip_request_seconds",
            "From the arrival of an RPC or an HTTP request to its answer.",
            ["method", "transport"],
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "tenclip_stage_seconds",
            "What one request spent in a stage, all of its clips together.",
            ["stage"],
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "tenclip_requests_in_flight", "RPCs and HTTP requests being worked on.", registry=self.registry
        )
        self.in_flight_bytes = Gauge(
            "tenclip_in_flight_bytes",
            "What requests hold of the byte budget: encoded videos, and decoded clips (reserved before decoding).",
            ["kind"],
            registry=self.registry,
        )
        self.refusals = Counter(
            "tenclip_refusals",
            "Requests refused: queue_full, uploads_full (half of the queue is chunked uploads), streams_full (of "
            "ModelStreamInfer), no_bytes (no room in the byte budget), too_large (never any room there), no_time (its "
            "turn would come too late), spool_full (no room on disk for an upload), video_too_large (beyond a ceiling "
            "of one video: max_upload_mb, max_video_mb, max_pixels, max_frames, max_video_seconds, max_streams, or "
            "memory).",
            ["reason"],
            registry=self.registry,
        )
        self.spool_bytes = Gauge(
            "tenclip_spool_bytes",
            "What uploads and videos of URIs take on disk, or have announced that they will.",
            registry=self.registry,
        )
        self.clips_saved = Counter(
            "tenclip_clips_saved",
            "Clips planned and never executed, because their request was cancelled or too late, or because an adaptive "
            "prediction was settled without them.",
            ["model"],
            registry=self.registry,
        )
        self.adaptive_clips = Counter(
            "tenclip_adaptive_clips",
            "Clips of adaptive predictions that were answered: planned, and those of them that were used.",
            ["model", "what"],
            registry=self.registry,
        )
        self.cache_answers = Counter(
            "tenclip_cache_answers",
            "Videos looked up in the cache of answers: hit or miss.",
            ["result"],
            registry=self.registry,
        )
        self.cache_bytes = Gauge("tenclip_cache_bytes", "What the cache of answers holds.", registry=self.registry)
        self.clips = Counter("tenclip_clips", "Clips that a runtime executed.", ["model"], registry=self.registry)
        self.batch_clips = Histogram(
            "tenclip_batch_clips",
            "Clips of one call of a runtime, of one video or of several.",
            ["model"],
            buckets=_CLIP_BUCKETS,
            registry=self.registry,
        )
        self.frames_decoded = Counter(
            "tenclip_frames_decoded",
            "Video frames decoded, those included that lie on the way to others.",
            registry=self.registry,
        )
        self.frames_used = Counter(
            "tenclip_frames_used", "Video frames that are in a clip, each once for a video.", registry=self.registry
        )
        self.worker_restarts = Counter(
            "tenclip_decode_worker_restarts",
            "Decode processes replaced, by reason: died, timeout, cancelled, recycled.",
            ["reason"],
            registry=self.registry,
        )
        self.decode_retries = Counter(
            "tenclip_decode_retries",
            "Videos sent to a second decode process because the first one died with them.",
            registry=self.registry,
        )
        self.model_info = Gauge(
            "tenclip_model_info",
            "1 for each model version that is served.",
            ["name", "version", "architecture", "runtime"],
            registry=self.registry,
        )
        self.models_failed = Gauge("tenclip_models_failed", "Bundles that could not be loaded.", registry=self.registry)
        self.model_load_seconds = Histogram(
            "tenclip_model_load_seconds",
            "Reading a bundle and proving it on its golden clips, those that failed left out.",
            ["model"],
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.model_load_failures = Counter(
            "tenclip_model_load_failures",
            "Times that a bundle could not be loaded; an older copy goes on being served.",
            ["model"],
            registry=self.registry,
        )
        self.server_info = Gauge(
            "tenclip_server_info", "1, with the versions that run.", ["version", "python"], registry=self.registry
        )
        self.live_streams = Gauge("tenclip_live_streams", "Live streams that are open.", registry=self.registry)
        self.live_frames = Counter("tenclip_live_frames", "Frames of live streams read.", registry=self.registry)
        self.live_frames_dropped = Counter(
            "tenclip_live_frames_dropped",
            "Frames of live streams that were in no window that ran: the model or the decoder could not keep up.",
            registry=self.registry,
        )
        self.live_windows = Counter(
            "tenclip_live_windows",
            "Windows of live streams, by what became of them: run, skipped.",
            ["result"],
            registry=self.registry,
        )
        self.live_reconnects = Counter(
            "tenclip_live_reconnects",
            "Live streams that came back after an interruption.",
            registry=self.registry,
        )
        self.live_latency_seconds = Histogram(
            "tenclip_live_latency_seconds",
            "From the arrival of a window's last frame to its scores.",
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        for result in ("run", "skipped"):
            self.live_windows.labels(result)
        self.tls_expiry = Gauge(
            "tenclip_tls_certificate_expiry_timestamp_seconds",
            "When the certificate of the gRPC port expires, in seconds since the epoch; 0 without TLS.",
            registry=self.registry,
        )
        self.tls_loads = Counter(
            "tenclip_tls_loads",
            "Times that the TLS files were read, by result: ok, failed (the old ones stay in use).",
            ["result"],
            registry=self.registry,
        )
        for result in ("ok", "failed"):
            self.tls_loads.labels(result)
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for kind in KINDS:
            self.in_flight_bytes.labels(kind)
        for refusal in Refusal:
            self.refusals.labels(refusal)
        for reason in ("died", "timeout", "cancelled", "recycled"):
            self.worker_restarts.labels(reason)

    def observe_stages(self, timings: Mapping[str, float]) -> None:
        """Seconds that one request spent in each of its stages."""
        for name, seconds in timings.items():
            self.stage_seconds.labels(name).observe(seconds)

    def count_batch(self, model: str, num_clips: int) -> None:
        self.clips.labels(model).inc(num_clips)
        self.batch_clips.labels(model).observe(num_clips)

    def count_adaptive(self, model: str, *, planned: int, used: int) -> None:
        """One adaptive prediction that was answered."""
        self.adaptive_clips.labels(model, "planned").inc(planned)
        self.adaptive_clips.labels(model, "used").inc(used)

    def count_saved(self, model: str, num_clips: int) -> None:
        self.clips_saved.labels(model).inc(num_clips)

    def describe_server(self, version: str) -> None:
        self.server_info.labels(version, platform.python_version()).set(1)


class _LogCollector(Collector):
    """Metrics of the process's log, which is older than any server."""

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(
            "tenclip_log_lines_dropped",
            "Lines of the log that could not be written: a full disk, a pipe that nobody reads any more.",
            value=LineHandler.num_dropped,
        )


class LoadCollector(Collector):
    """How much is to be done, as it is when somebody asks; for autoscaling.

    pending() gives clips by model, those of models without any included, so that their series are there from the start;
    splits() gives batches that were halved for lack of memory, by model.
    """

    def __init__(self) -> None:
        self.pending: Callable[[], Mapping[str, int]] = dict
        self.wait_seconds: Callable[[], float] = float
        self.splits: Callable[[], Mapping[str, int]] = dict

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        clips = GaugeMetricFamily(
            "tenclip_clips_pending",
            "Clips of admitted requests that no runtime has begun, also of videos that are not decoded yet: one for a "
            "video whose clips only its length tells.",
            labels=["model"],
        )
        for model, count in sorted(self.pending().items()):
            clips.add_metric([model], count)
        yield clips
        yield GaugeMetricFamily(
            "tenclip_queue_wait_seconds",
            "Until a request that came now would begin, by how long others took; 0 where one would begin at once.",
            value=self.wait_seconds(),
        )
        splits = CounterMetricFamily(
            "tenclip_batches_split",
            "Batches halved because a GPU's memory was full, since the model was loaded.",
            labels=["model"],
        )
        for model, count in sorted(self.splits().items()):
            splits.add_metric([model], count)
        yield splits
