"""Everything that can be set about a server, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

RuntimeChoice = Literal[
    "auto", "onnxruntime", "openvino", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "torch"
]
VariantChoice = Literal["auto", "fp32", "fp16", "bf16", "int8"]
LogFormat = Literal["text", "json"]


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Raises ValueError for a value that cannot work, naming the field.

    port, metrics_port: 0 takes a free one; metrics_port -1 serves no metrics.
    allow_roots: directories below which clients may name paths; none, and only inline bytes are accepted.
    threads: of the runtime, 0 lets it choose. decode_workers: processes, 0 takes one for each two cores.
    max_clips: of one request. max_clip_mb: MiB of decoded clips of one request, whatever their number.
    max_decode_seconds: then the process that decodes is killed. max_request_seconds: for all of a request; a client's
    own shorter deadline goes first.
    decode_worker_requests: after so many a decode process is replaced, for decoders that leak.
    """

    directory: Path
    host: str = "127.0.0.1"
    port: int = 7411
    metrics_port: int = 9411
    allow_roots: tuple[Path, ...] = ()
    runtime: RuntimeChoice = "auto"
    variant: VariantChoice = "auto"
    threads: int = 0
    decode_workers: int = 0
    decode_worker_requests: int = 1000
    max_message_mb: int = 64
    max_clips: int = 512
    max_clip_mb: int = 1024
    max_decode_seconds: float = 120.0
    max_request_seconds: float = 600.0
    shutdown_grace_seconds: float = 30.0
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("port", 0, 65535),
            ("metrics_port", -1, 65535),
            ("threads", 0, 1024),
            ("decode_workers", 0, 1024),
            ("decode_worker_requests", 1, 10**9),
            # gRPC counts message bytes in a signed 32-bit integer.
            ("max_message_mb", 1, 2047),
            ("max_clips", 1, 10**6),
            ("max_clip_mb", 1, 2**20),
            ("shutdown_grace_seconds", 0, 86400),
        ):
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"{name} must be from {lowest} to {highest}, got {getattr(self, name)}")
        for name in ("max_decode_seconds", "max_request_seconds"):
            if not 0 < getattr(self, name) <= 86400:
                raise ValueError(f"{name} must be above 0 and at most 86400, got {getattr(self, name)}")
        for name, choices in (
            ("runtime", get_args(RuntimeChoice)),
            ("variant", get_args(VariantChoice)),
            ("log_format", get_args(LogFormat)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(choices)}")
        if not self.host:
            raise ValueError("host must not be empty; 0.0.0.0 listens on every interface")
        if not self.directory.is_dir():
            raise ValueError(f"{self.directory} is not a directory; it must hold bundles as NAME/VERSION/bundle.json")
        for root in self.allow_roots:
            if not root.is_dir():
                raise ValueError(f"allowed root {root} is not a directory")

    @property
    def num_decode_workers(self) -> int:
        return self.decode_workers or max(1, (os.cpu_count() or 1) // 2)

    def describe(self) -> str:
        """`field=value` of every field, for the log at start."""
        return " ".join(f"{f.name}={_plain(getattr(self, f.name))}" for f in fields(self))


def _plain(value: object) -> str:
    return ",".join(str(v) for v in value) or "none" if isinstance(value, tuple) else str(value)
