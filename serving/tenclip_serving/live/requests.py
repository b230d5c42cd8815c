"""Requests and updates of live streams: plain dataclasses and arrays, no protobuf."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_serving.live.backoff import FIRST_SECONDS
from tenclip_serving.live.events import Event, EventRules
from tenclip_serving.live.source import LiveSource
from tenclip_serving.requests import SpatialMode

_DAY = 86_400.0
# Shorter ones would keep the server busy with nothing but them.
_LEAST_SECONDS = {"heartbeat_seconds": 0.1, "max_backoff": FIRST_SECONDS}


@dataclass(frozen=True, kw_only=True)
class LiveRequest:
    """One stream to watch, and how.

    step: frames from one window to the next; 0: no overlap. max_latency: seconds that a window may wait before it is
    skipped. lossless: skip nothing. paced: read a file at the speed of its own clock.
    reconnect: attempts in a row without a frame in between; None: for ever. max_backoff: between two, in seconds.
    idle_seconds: without a byte, a stream is broken. heartbeat_seconds: between two updates, at most.
    Raises InvalidRequest for values out of range.
    """

    source: LiveSource
    model: str = ""
    version: str = ""
    step: int = 0
    spatial_mode: SpatialMode | None = None
    events: EventRules = field(default_factory=EventRules)
    max_latency: float = 2.0
    lossless: bool = False
    paced: bool = False
    reconnect: int | None = 5
    max_backoff: float = 30.0
    idle_seconds: float = 10.0
    heartbeat_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name in ("max_latency", "max_backoff", "idle_seconds", "heartbeat_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= _DAY):
                raise InvalidRequest(f"{name} must be above 0 and at most a day, in seconds, got {value}")
            if value < (least := _LEAST_SECONDS.get(name, 0.0)):
                raise InvalidRequest(f"{name} must be at least {least:g} seconds, got {value}")
        if not 0 <= self.step <= 10**6:
            raise InvalidRequest(f"the step must lie within 1..1000000 frames, or be 0 for no overlap, got {self.step}")


@dataclass(frozen=True, kw_only=True)
class LiveCounters:
    """Of one stream, from its beginning. Latencies: seconds from the arrival of a window's last frame to its scores."""

    frames_read: int = 0
    frames_dropped: int = 0
    windows_run: int = 0
    windows_skipped: int = 0
    reconnects: int = 0
    discontinuities: int = 0
    latency: float = 0.0
    max_latency: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Connected:
    """The stream gives pictures."""

    container: str
    codec: str
    width: int
    height: int
    frames_per_second: float
    model: str
    version: str
    runtime: str
    window_frames: int
    step_frames: int
    latency_limit: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredWindow:
    """One window that ran. probabilities, smoothed: float32 [K]; arrived_unix: in seconds since 1970."""

    index: int
    start_seconds: float
    end_seconds: float
    arrived_unix: float
    latency: float
    probabilities: NDArray[np.float32]
    smoothed: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Reconnecting:
    """The connection is lost, or could not be made. attempt: since the last frame; delay: before the next, in seconds.

    why: in words.
    """

    attempt: int
    delay: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """Nothing else has happened for a while. silent_seconds: since the last frame."""

    silent_seconds: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The stream has come to its end. No update follows."""

    why: str


LiveUpdate: TypeAlias = "Connected | ScoredWindow | Event | Reconnecting | Heartbeat | Ended"
