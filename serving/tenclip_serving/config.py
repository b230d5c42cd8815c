"""Everything that can be set about a server, in one place."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tenclip_api.host_names import HostNames
from tenclip_serving.security.addresses import plain_host
from tenclip_settings import Setting, check_all, describe
from tenclip_video.cpus import usable_cpus

if TYPE_CHECKING:
    from tenclip_serving.decoding.sandbox import SandboxLimits
    from tenclip_serving.intake.uri_policy import UriPolicy
    from tenclip_video.source import Limits

RuntimeChoice = Literal[
    "auto", "gpu", "onnxruntime", "openvino", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "torch"
]
VariantChoice = Literal["auto", "fp32", "fp16", "bf16", "int8"]
URI_SCHEMES = ("http", "https", "s3")
LIVE_SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp")
LogFormat = Literal["text", "json"]
# MiB of address space.
LEAST_WORKER_MB = 384
ReflectionAccess = Literal["open", "tokens", "off"]

# Variables with our prefix that set other parts of tenclip, or tests of it.
OTHER_VARIABLES = (
    "TENCLIP_CONFIG", "TENCLIP_SERVER", "TENCLIP_DEBUG", "TENCLIP_TOKEN", "TENCLIP_TOKEN_FILE",
    "TENCLIP_INSECURE_TOKEN", "TENCLIP_TLS", "TENCLIP_CA", "TENCLIP_CERTIFICATE", "TENCLIP_KEY", "TENCLIP_SERVER_NAME",
    "TENCLIP_NO_PROXY",
    "TENCLIP_TEST_", "TENCLIP_BENCH_", "TENCLIP_SOAK_",
)  # fmt: skip
_LIMITS, _TLS, _NET = "Limits", "TLS and tokens", "Connections"
_DAY = 86400


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Raises ValueError for a value that cannot work, naming the field.

    A field is a key of the file of `tenclip serve --config`, a variable TENCLIP_... and a flag; see `tenclip_settings`.

    name: of the one model in `directory`, which then is a bundle itself or holds its versions; KServe's storage
    initializer leaves both so.
    port, metrics_port, http_port, ui_port: 0 takes a free one; -1 serves no metrics, no HTTP, no page.
    ui_samples: videos that visitors of the page may pick. ui_videos: where neighbours of an index may be played from.
    The page has the TLS of the gRPC port, and asks for tokens where that does.
    browser_names: by which browsers may call the HTTP port, the metrics and the page; see `HostNames`.
    allow_roots: directories below which clients may name paths; none, and only inline bytes are accepted.
    allow_schemes, allow_hosts, allow_networks, max_fetch_seconds: what may be fetched for a URI; see `UriPolicy`.
    live_schemes: by what live streams are read, from the same hosts and networks; their host patterns name ports.
    fetch_proxy: how it is fetched; see `fetch_http.proxy_for_url`. The same policy holds behind a proxy.
    threads: of one instance of a model; 0: with one instance the runtime chooses, else they share the cores.
    gpu_memory_mb: MiB of a GPU's memory: of each instance with ONNX Runtime, of all with torch; an engine of TensorRT
    that needs more is refused. 0: no ceiling.
    decode_workers: processes, 0 takes one for each two cores, at least two.
    max_clips: of one request. max_clip_mb: MiB of decoded clips of one request, whatever their number.
    max_video_mb, max_pixels (of a picture), max_frames, max_video_seconds, max_streams: of one video, checked before
    its clips are decoded.
    max_arrival_seconds: for the message of a request to come in, or the first of an upload. Messages that come in are
    not in max_in_flight_mb, for nobody knows their size; at most max_in_flight_mb // max_message_mb come in at once,
    and as many streams of ModelStreamInfer may be open.
    max_decode_seconds: then the process that decodes is killed. max_request_seconds: for all of a request; a client's
    own shorter deadline goes first.
    max_in_flight_mb: MiB that all requests hold together, encoded and as clips; of these at most max_queue_mb encoded.
    cache_mb: answers kept by the hash of the video, the model and the protocol; 0 keeps none.
    max_upload_mb: MiB of one video that comes in pieces or from a URI. It waits on disk, in spool_dir, where all of
    them take at most max_spool_mb. upload_idle_seconds: the longest that one may send nothing (less than
    64 KiB), or that a caller may leave answers of a stream unread.
    max_active: requests that decode or run at once, 0 derives it from decode_workers. max_queue: others that may wait;
    who comes after them is refused.
    decode_worker_requests: after so many a decode process is replaced, for decoders that leak.
    default_versions: NAME:VERSION, what an empty version in a request means; else the highest that is served.
    indexes: DIR or NAME=DIR, what `Similar` searches; the name is the folder's own where none is given.
    watch_seconds: how often the directory is looked at for bundles that came, changed or went; 0: never. Off unless
    asked for: a reload holds two copies in memory, and replicas that look at different moments answer differently.
    allow_manage: clients may load, unload and reload models.
    decode_worker_memory_mb: MiB of address space of one, libraries included (about 250); 0 lifts the limit.
    decode_worker_nice: added to its niceness, so that it leaves the CPU to answering and to the runtime.
    """

    directory: Annotated[
        Path, Setting("Directory of bundles, NAME/VERSION/bundle.json, or one bundle (see --name).", option="DIR")
    ]
    name: Annotated[
        str, Setting("Serve DIR, which is one bundle or holds the versions of one model, under this name.")
    ] = ""
    host: Annotated[str, Setting("Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1"
    port: Annotated[int, Setting("gRPC port; 0 takes a free one.", lowest=0, highest=65535)] = 7411
    metrics_port: Annotated[
        int, Setting("Prometheus metrics; 0 takes a free port, -1 serves none.", lowest=-1, highest=65535)
    ] = 9411
    http_port: Annotated[
        int,
        Setting(
            "HTTP beside gRPC, with JSON; 0 takes a free port, -1 serves none. Needs tenclip[http].",
            lowest=-1,
            highest=65535,
        ),
    ] = -1
    ui_port: Annotated[
        int,
        Setting(
            "Port of a page for browsers; 0 takes a free one, -1 shows none.", option="--ui", lowest=-1, highest=65535
        ),
    ] = -1
    ui_samples: Annotated[Path | None, Setting("Folder of videos to pick from on the page.")] = None
    ui_videos: Annotated[
        tuple[Path, ...], Setting("Folder that the page plays neighbours from. Repeatable.", option="--ui-videos")
    ] = ()
    browser_names: Annotated[
        tuple[str, ...],
        Setting(
            "Host name that browsers may call this server by (a proxy's, say). Repeatable.", option="--browser-name"
        ),
    ] = ()
    allow_roots: Annotated[
        tuple[Path, ...],
        Setting("Directory whose files clients may name by path. Repeatable.", option="--allow-root"),
    ] = ()
    allow_schemes: Annotated[
        tuple[str, ...],
        Setting("Scheme of URIs that clients may name: http, https, s3. Repeatable.", option="--allow-scheme"),
    ] = ()
    allow_hosts: Annotated[
        tuple[str, ...],
        Setting(
            "HOST[:PORT] of such URIs, *.DOMAIN, or * for all; for s3, the bucket. Repeatable.", option="--allow-host"
        ),
    ] = ()
    allow_networks: Annotated[
        tuple[str, ...],
        Setting(
            "Network (as 10.1.0.0/16) that they may lead to though it is not public. Repeatable.",
            option="--allow-network",
        ),
    ] = ()
    fetch_proxy: Annotated[
        str,
        Setting(
            "Proxy for such URIs: http://HOST:PORT, or `environment` for https_proxy and http_proxy. Hosts in no_proxy "
            "are reached directly.",
            secret=True,
        ),
    ] = ""
    live_schemes: Annotated[
        tuple[str, ...],
        Setting(
            "Scheme of live streams that clients may name: rtsp, rtsps, http, https, tcp, udp; for the hosts and "
            "networks allowed. Repeatable.",
            option="--live-scheme",
        ),
    ] = ()
    max_live_streams: Annotated[
        int, Setting("Live streams that are read at once; beyond, refused.", lowest=1, highest=10**4, group=_LIMITS)
    ] = 16
    runtime: Annotated[
        RuntimeChoice,
        Setting(
            "What executes the models; auto: the fastest one that answers as it should; gpu: the same on a GPU, or "
            "none."
        ),
    ] = "auto"
    variant: Annotated[
        VariantChoice,
        Setting("Precision; auto: fp32, or a lower one that passed its bound and was measured to be faster."),
    ] = "auto"
    default_versions: Annotated[
        tuple[str, ...],
        Setting("NAME:VERSION that is the default, not the highest. Repeatable.", option="--default-version"),
    ] = ()
    indexes: Annotated[
        tuple[str, ...],
        Setting("Index of neighbours that clients may search: DIR or NAME=DIR. Repeatable.", option="--index"),
    ] = ()
    watch_seconds: Annotated[
        float,
        Setting("Look so often for bundles that came, changed or went; 0: only when asked.", lowest=0, highest=_DAY),
    ] = 0.0
    allow_manage: Annotated[bool, Setting("Let clients load, unload and reload models.")] = False
    threads: Annotated[int, Setting("Threads of the runtime; 0: it chooses.", lowest=0, highest=1024)] = 0
    instances: Annotated[
        tuple[str, ...], Setting("Copies of each model that run side by side: COUNT, or NAME:COUNT. Repeatable.")
    ] = ()
    gpu_memory_mb: Annotated[
        int, Setting("Most MiB of a GPU's memory for one model instance; 0: no ceiling.", lowest=0, highest=2**24)
    ] = 0
    decode_workers: Annotated[
        int, Setting("Processes that decode; 0: one for each two cores, at least two.", lowest=0, highest=1024)
    ] = 0
    decode_worker_requests: Annotated[
        int, Setting("A decode process is replaced after so many.", lowest=1, highest=10**9)
    ] = 1000
    decode_worker_memory_mb: Annotated[
        int, Setting("Address space of one decode process in MiB; 0: no limit.", lowest=0, highest=2**24)
    ] = 4096
    decode_worker_nice: Annotated[int, Setting("Added to the niceness of decode processes.", lowest=0, highest=19)] = 5
    max_message_mb: Annotated[
        # gRPC counts message bytes in a signed 32-bit integer.
        int, Setting("Largest request in MiB, inline video included.", lowest=1, highest=2047, group=_LIMITS)
    ] = 64
    max_clips: Annotated[int, Setting("Most clips of one request.", lowest=1, highest=10**6, group=_LIMITS)] = 512
    max_clip_mb: Annotated[
        int, Setting("Most MiB of decoded clips of one request.", lowest=1, highest=2**20, group=_LIMITS)
    ] = 1024
    max_in_flight_mb: Annotated[
        int,
        Setting("MiB that all requests hold together; beyond, refused.", lowest=2, highest=2**24, group=_LIMITS),
    ] = 2048
    max_queue_mb: Annotated[
        int, Setting("Of these, most MiB of encoded videos.", lowest=1, highest=2**24, group=_LIMITS)
    ] = 512
    spool_dir: Annotated[
        Path | None,
        Setting("Where uploads wait, on disk and without names; default: where temporary files are."),
    ] = None
    max_upload_mb: Annotated[int, Setting("Largest upload in MiB.", lowest=1, highest=2**24, group=_LIMITS)] = 4096
    max_spool_mb: Annotated[
        int, Setting("MiB on disk that all uploads take together.", lowest=1, highest=2**24, group=_LIMITS)
    ] = 8192
    upload_idle_seconds: Annotated[
        float,
        Setting(
            "Longest that an upload may send nothing, or answers stay unread.", above=0, highest=_DAY, group=_LIMITS
        ),
    ] = 30.0
    max_fetch_seconds: Annotated[
        float, Setting("Longest that fetching a URI may take.", above=0, highest=_DAY, group=_LIMITS)
    ] = 300.0
    max_queue: Annotated[
        int, Setting("Requests that may wait; beyond, refused.", lowest=0, highest=10**6, group=_LIMITS)
    ] = 128
    max_active: Annotated[
        int,
        Setting(
            "Requests that decode or run at once; 0: four for each decode worker, at least 8.",
            lowest=0,
            highest=10**6,
            group=_LIMITS,
        ),
    ] = 0
    max_video_mb: Annotated[int, Setting("Largest video in MiB.", lowest=1, highest=2**24, group=_LIMITS)] = 16384
    max_pixels: Annotated[
        int, Setting("Most pixels of one picture of a video.", lowest=1, highest=2**31 - 1, group=_LIMITS)
    ] = 40_000_000
    max_frames: Annotated[int, Setting("Most frames of one video.", lowest=1, highest=2**31 - 1, group=_LIMITS)] = (
        2_100_000
    )
    max_video_seconds: Annotated[float, Setting("Longest video.", above=0, highest=10**9, group=_LIMITS)] = 90_000.0
    max_streams: Annotated[int, Setting("Most streams of one video.", lowest=1, highest=10**5, group=_LIMITS)] = 100
    cache_mb: Annotated[
        int,
        Setting("MiB of answers kept for videos that are asked about again; 0: none.", lowest=0, highest=2**20),
    ] = 0
    max_decode_seconds: Annotated[
        float, Setting("Longest that one video may decode.", above=0, highest=_DAY, group=_LIMITS)
    ] = 120.0
    max_arrival_seconds: Annotated[
        float,
        Setting("Longest that the message of a request may be on its way.", above=0, highest=_DAY, group=_LIMITS),
    ] = 60.0
    max_request_seconds: Annotated[
        float, Setting("Longest that one request may take in all.", above=0, highest=_DAY, group=_LIMITS)
    ] = 600.0
    shutdown_delay_seconds: Annotated[
        float,
        Setting(
            "On SIGTERM, how long requests are still taken while health says NOT_SERVING.",
            lowest=0,
            highest=_DAY,
            group=_LIMITS,
        ),
    ] = 1.0
    shutdown_grace_seconds: Annotated[
        float, Setting("After that, time for the requests that run.", lowest=0, highest=_DAY, group=_LIMITS)
    ] = 30.0
    log_format: Annotated[LogFormat, Setting("Log lines on stderr.")] = "text"
    tracing: Annotated[
        bool, Setting("OpenTelemetry traces, to where the OTEL_... variables say; needs tenclip[otel].")
    ] = False
    tls_certificate: Annotated[
        Path | None,
        Setting("TLS: the server's certificate and its chain, PEM; read again when it changes.", group=_TLS),
    ] = None
    tls_key: Annotated[Path | None, Setting("The certificate's key, PEM, not encrypted.", group=_TLS)] = None
    tls_client_ca: Annotated[
        Path | None,
        Setting("Authorities of clients, PEM; clients must show a certificate, scrapers by HTTPS, too.", group=_TLS),
    ] = None
    tokens_file: Annotated[
        Path | None,
        Setting("Callers need a token of this TOML file: [NAME], token or sha256, permissions.", group=_TLS),
    ] = None
    insecure_tokens: Annotated[
        bool, Setting("Take tokens without TLS from other machines: something in front encrypts.", group=_TLS)
    ] = False
    reflection: Annotated[
        ReflectionAccess, Setting("gRPC reflection: for everyone, for those with a token, or off.", group=_TLS)
    ] = "open"
    metrics_tokens: Annotated[
        bool, Setting("The metrics need a token with the permission metrics, too.", group=_TLS)
    ] = False
    metrics_tls: Annotated[bool, Setting("The metrics are served over HTTPS, with the same files.", group=_TLS)] = False

    compression: Annotated[
        Literal["none", "gzip"],
        Setting("Of answers, for clients that take it; requests may come so in any case.", group=_NET),
    ] = "none"
    keepalive_seconds: Annotated[
        float, Setting("Connections on which nothing moves are pinged this often.", lowest=1, highest=_DAY, group=_NET)
    ] = 120.0
    keepalive_timeout_seconds: Annotated[
        float, Setting("A connection whose ping is not answered so long is dead.", above=0, highest=_DAY, group=_NET)
    ] = 20.0
    # Clients of gRPC in Go and Java ping every ten seconds at most: that must be within it, however uneven the network.
    client_ping_seconds: Annotated[
        float,
        Setting(
            "Clients that ping more often, while nothing is sent to them, are disconnected; 0: never.",
            lowest=0,
            highest=_DAY,
            group=_NET,
        ),
    ] = 5.0
    max_connection_idle_seconds: Annotated[
        float,
        Setting("Connections without calls are closed after this; 0: never.", lowest=0, highest=_DAY, group=_NET),
    ] = 0.0
    max_connection_age_seconds: Annotated[
        float,
        Setting(
            "Clients are told to connect anew after so long, so that a load balancer can spread them; 0: never.",
            lowest=0,
            highest=_DAY,
            group=_NET,
        ),
    ] = 0.0
    max_connection_age_grace_seconds: Annotated[
        float, Setting("Calls that run by then may end within this.", above=0, highest=_DAY, group=_NET)
    ] = 600.0

    def __post_init__(self) -> None:
        check_all(self)
        self._check_budget()
        self._check_instances()
        if 0 < self.decode_worker_memory_mb < LEAST_WORKER_MB:
            raise ValueError(
                f"decode_worker_memory_mb must be 0 (no limit) or at least {LEAST_WORKER_MB}, for its libraries alone "
                f"take most of that; got {self.decode_worker_memory_mb}"
            )
        # Everything else sees it without brackets.
        object.__setattr__(self, "host", plain_host(self.host))
        if not self.directory.is_dir():
            raise ValueError(f"{self.directory} is not a directory; it must hold bundles as NAME/VERSION/bundle.json")
        for default in self.default_versions:
            if not re.fullmatch(r"[^:]+:[^:]+", default):
                raise ValueError(f"default_versions {default!r}: write NAME:VERSION")
        for name, folder in self._named_indexes():
            if not folder.is_dir():
                raise ValueError(f"index {name}: {folder} is not a directory; `tenclip index build` makes one")
        if len(self.index_folders) < len(self.indexes):
            raise ValueError(f"two indexes have one name, of {', '.join(self.index_folders)}: write NAME=DIR")
        if self.spool_dir is not None and not (self.spool_dir.is_dir() and os.access(self.spool_dir, os.W_OK)):
            raise ValueError(f"spool_dir {self.spool_dir} is not a directory that this server can write to")
        self._check_uris()
        for root in self.allow_roots:
            if not root.is_dir():
                raise ValueError(f"allowed root {root} is not a directory")
        self._check_page()
        self._check_security()

    def _check_security(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            there, lacking = ("certificate", "key") if self.tls_key is None else ("key", "certificate")
            raise ValueError(f"TLS needs both: tls_{there} is set, and tls_{lacking} is not")
        for name in ("tls_client_ca", "metrics_tls"):
            if getattr(self, name) and self.tls_certificate is None:
                raise ValueError(f"{name} is set, and tls_certificate and tls_key are not")
        if self.tokens_file is None:
            for name, needs in (("metrics_tokens", self.metrics_tokens), ("reflection", self.reflection == "tokens")):
                if needs:
                    raise ValueError(f"{name} asks for tokens, and tokens_file is not set")
        elif not (HostNames(self.host).is_local or self.insecure_tokens):
            plain = "the gRPC port" if self.tls_certificate is None else ""  # the HTTP port has its certificate
            if self.metrics_tokens and self.metrics_port >= 0 and not self.metrics_tls:
                plain = plain or "the metrics port"
            if plain:
                raise ValueError(
                    f"tokens would cross the network in plain text on {plain} at {self.host}: set tls_certificate and "
                    f"tls_key (and metrics_tls for metrics_tokens), or --insecure-tokens where something in front of "
                    f"this server encrypts"
                )

    def _check_page(self) -> None:
        samples = () if self.ui_samples is None else (self.ui_samples,)
        for name, folders in (("ui_samples", samples), ("ui_videos", self.ui_videos)):
            if folders and self.ui_port < 0:
                raise ValueError(f"{name} is of no use without --ui")
            for folder in folders:
                if not folder.is_dir():
                    raise ValueError(f"{name} {folder} is not a directory")
        for name in self.browser_names:
            try:
                plain_host(name)
            except ValueError as err:
                raise ValueError(f"browser_names: {err}") from err

    def _check_uris(self) -> None:
        for scheme in self.allow_schemes:
            if scheme not in URI_SCHEMES:
                raise ValueError(f"allow_schemes {scheme!r} is not one of {', '.join(URI_SCHEMES)}")
        for scheme in self.live_schemes:
            if scheme not in LIVE_SCHEMES:
                raise ValueError(f"live_schemes {scheme!r} is not one of {', '.join(LIVE_SCHEMES)}")
        for name in ("allow_schemes", "live_schemes"):
            if getattr(self, name) and not self.allow_hosts:
                raise ValueError(f"{name} without allow_hosts would allow nothing: name hosts, or * for all of them")
        for network in self.allow_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as err:
                raise ValueError(f"allow_networks: {err}; write e.g. 10.1.0.0/16") from None
        if self.fetch_proxy not in ("", "environment"):
            from tenclip_serving.intake.fetch_http import named_proxy

            named_proxy(self.fetch_proxy, source="fetch_proxy")
        for name in ("allow_hosts", "allow_networks", "fetch_proxy"):
            if getattr(self, name) and not (self.allow_schemes or self.live_schemes):
                raise ValueError(
                    f"{name} without allow_schemes would allow nothing: name schemes, of {', '.join(URI_SCHEMES)}"
                )

    def _check_budget(self) -> None:
        """Checks that one request's needs fit, or the server would wait for bytes that can never become free."""
        if self.max_upload_mb > self.max_spool_mb:
            raise ValueError(
                f"max_spool_mb {self.max_spool_mb} is less than max_upload_mb {self.max_upload_mb}: the largest upload "
                "would never fit"
            )
        if self.max_message_mb > self.max_queue_mb:
            raise ValueError(
                f"max_queue_mb {self.max_queue_mb} is less than max_message_mb {self.max_message_mb}: the largest "
                "request would never be let in"
            )
        if self.max_clip_mb + self.max_queue_mb > self.max_in_flight_mb:
            raise ValueError(
                f"max_in_flight_mb {self.max_in_flight_mb} is less than max_clip_mb {self.max_clip_mb} and "
                f"max_queue_mb {self.max_queue_mb} together: the clips of the largest request would never fit"
            )

    def _check_instances(self) -> None:
        for item in self.instances:
            count = item.rpartition(":")[2]
            if not count.isdecimal() or not 1 <= int(count) <= 64:
                raise ValueError(f"instances {item!r} must be COUNT or NAME:COUNT, with COUNT from 1 to 64")
        most = max(self.instance_counts.values(), default=1)
        if most > 1 and most * self.threads > usable_cpus():
            raise ValueError(
                f"{most} instances of {self.threads} threads are more than the {usable_cpus()} cores; "
                "leave threads at 0 to share them"
            )

    @property
    def instance_counts(self) -> dict[str, int]:
        """`instances` as {NAME: COUNT}; "" is every other model."""
        pairs = (item.rpartition(":") for item in self.instances)
        return {name: int(count) for name, _, count in pairs}

    @property
    def index_folders(self) -> dict[str, Path]:
        """`indexes` as {NAME: DIR}."""
        return dict(self._named_indexes())

    def _named_indexes(self) -> list[tuple[str, Path]]:
        found = []
        for text in self.indexes:
            name, equals, folder = text.partition("=")
            if not equals or Path(text).is_dir():  # a folder may have such a name
                name, folder = Path(text).resolve().name, text
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(f"indexes {text!r}: write NAME=DIR, with a NAME of letters, digits, '.', '_' and '-'")
            found.append((name, Path(folder)))
        return found

    @property
    def num_decode_workers(self) -> int:
        # With one alone, everyone would wait while it decodes a long video.
        return self.decode_workers or max(2, usable_cpus() // 2)

    @property
    def num_active(self) -> int:
        # Enough to keep the decoders busy and a batch of the runtime full, little enough to wait encoded.
        return self.max_active or max(8, 4 * self.num_decode_workers)

    @property
    def pins(self) -> dict[str, str]:
        """`default_versions` as {NAME: VERSION}; the last one of a name counts."""
        return dict(default.split(":", 1) for default in self.default_versions)

    @property
    def uri_policy(self) -> UriPolicy:
        """The rules for URIs that the server fetches."""
        from tenclip_serving.intake.uri_policy import UriPolicy

        return UriPolicy(
            schemes=self.allow_schemes,
            hosts=self.allow_hosts,
            networks=tuple(ipaddress.ip_network(n) for n in self.allow_networks),
            max_seconds=self.max_fetch_seconds,
            idle_seconds=self.upload_idle_seconds,
            proxy=self.fetch_proxy,
        )

    @property
    def live_policy(self) -> UriPolicy:
        """The rules for live streams: those of `uri_policy`, for the schemes of streams."""
        return replace(self.uri_policy, schemes=self.live_schemes)

    @property
    def video_limits(self) -> Limits:
        """Limits that decode workers check before they decode."""
        from tenclip_video.source import Limits  # it imports FFmpeg, which a list of flags does not need

        return Limits(
            max_bytes=self.max_video_mb << 20,
            max_pixels=self.max_pixels,
            max_frames=self.max_frames,
            max_seconds=self.max_video_seconds,
            max_streams=self.max_streams,
        )

    @property
    def sandbox_limits(self) -> SandboxLimits:
        """Resources that a decode worker may use."""
        from tenclip_serving.decoding.sandbox import SandboxLimits

        return SandboxLimits(memory_bytes=self.decode_worker_memory_mb << 20, nice=self.decode_worker_nice)

    def describe(self, origins: Mapping[str, str] | None = None) -> str:
        """`field=value` of every field, for the log at start; `origins` says where values came from."""
        return describe(self, origins or {})
