"""Live streams: what `Client.live` asks for, and the updates that it yields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tenclip_api.errors import InvalidRequest
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client._requests import model_ref, spatial_mode
from tenclip_client._types import ClassScore, _Result


@dataclass(frozen=True, kw_only=True)
class LiveCounters(_Result):
    """Counts of one stream since it was asked for.

    frames_dropped: in no window that ran, for the model or the decoder could not keep up. latency_seconds,
    max_latency_seconds: from the arrival of a window's last frame to its scores, of the newest one and the most so far.
    """

    frames_read: int
    frames_dropped: int
    windows_run: int
    windows_skipped: int
    reconnects: int
    discontinuities: int
    latency_seconds: float
    max_latency_seconds: float


@dataclass(frozen=True, kw_only=True)
class LiveConnected(_Result):
    """The stream gives pictures. window_frames, step_frames: of the windows that slide over it.

    latency_limit_seconds: a window begins to run within so long of its last frame's arrival, or not at all; 0: none.
    """

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
    latency_limit_seconds: float
    counters: LiveCounters


@dataclass(frozen=True, kw_only=True)
class LiveWindow(_Result):
    """One window that ran. Seconds are on the stream's clock, from its first frame; arrived_unix_seconds since 1970.

    top: its own best classes; smoothed: of the mean over the newest windows, which events are made of.
    """

    index: int
    start_seconds: float
    end_seconds: float
    arrived_unix_seconds: float
    latency_seconds: float
    top: tuple[ClassScore, ...]
    smoothed: tuple[ClassScore, ...]
    counters: LiveCounters


@dataclass(frozen=True, kw_only=True)
class LiveEvent(_Result):
    """Something that happens: told once when it has begun (`ended` is False), and once when it has ended.

    id: the same both times; events of a stream count from 0. peak_score: the highest mean so far.
    """

    id: int
    label: str
    index: int
    start_seconds: float
    end_seconds: float
    peak_score: float
    start_unix_seconds: float
    end_unix_seconds: float
    ended: bool
    counters: LiveCounters


@dataclass(frozen=True, kw_only=True)
class LiveReconnecting(_Result):
    """The connection is lost, or could not be made. attempt: since the last frame; delay_seconds: before the next."""

    attempt: int
    delay_seconds: float
    why: str
    counters: LiveCounters


@dataclass(frozen=True, kw_only=True)
class LiveHeartbeat(_Result):
    """Nothing else happened for a while. silent_seconds: since the last frame."""

    silent_seconds: float
    counters: LiveCounters


@dataclass(frozen=True, kw_only=True)
class LiveEnded(_Result):
    """The stream has come to its end; no update follows."""

    why: str
    counters: LiveCounters


LiveUpdate: TypeAlias = LiveConnected | LiveWindow | LiveEvent | LiveReconnecting | LiveHeartbeat | LiveEnded


def live_request(
    *,
    uri: str = "",
    model: str = "",
    step: int | None = None,
    fully_convolutional: bool | None = None,
    top_k: int = 5,
    windows: bool = False,
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
) -> pb.LiveRequest:
    """Raises InvalidRequest for what no server could accept; what depends on the model, the server judges."""
    for name, count in (("step", 1 if step is None else step), ("top_k", top_k), ("smooth_windows", smooth_windows)):
        if not 1 <= count < 2**32:
            raise InvalidRequest(f"{name} must be at least 1, got {count}")
    positive = {
        "max_latency_seconds": max_latency_seconds,
        "max_backoff_seconds": max_backoff_seconds,
        "idle_seconds": idle_seconds,
        "heartbeat_seconds": heartbeat_seconds,
    }
    for name, seconds in positive.items():
        if not (math.isfinite(seconds) and seconds > 0):
            raise InvalidRequest(f"{name} must be positive, in seconds, got {seconds}")
    for name, seconds in (("min_seconds", min_seconds), ("max_gap_seconds", max_gap_seconds)):
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InvalidRequest(f"{name} must be finite and not negative, got {seconds}")
    if not 0 <= off <= on <= 1:
        raise InvalidRequest(f"the thresholds must be 0 <= off <= on <= 1, got off {off:g} and on {on:g}")
    if reconnect is not None and not 0 <= reconnect < 2**31:
        raise InvalidRequest(f"reconnect must be a number of attempts, or None for ever, got {reconnect}")
    return pb.LiveRequest(
        uri=uri,
        model=model_ref(model),
        window_step_frames=step or 0,
        spatial_mode=spatial_mode(fully_convolutional),
        top_k=top_k,
        include_windows=windows,
        events=pb.LiveEventRules(
            smooth_windows=smooth_windows,
            on=on,
            off=off,
            min_seconds=min_seconds,
            max_gap_seconds=max_gap_seconds,
            labels=labels,
        ),
        max_latency_seconds=max_latency_seconds,
        lossless=lossless,
        reconnect=-1 if reconnect is None else reconnect,
        max_backoff_seconds=max_backoff_seconds,
        idle_seconds=idle_seconds,
        heartbeat_seconds=heartbeat_seconds,
    )


def live_update(message: pb.LiveUpdate) -> LiveUpdate:
    """The update in a message of the server."""
    kind = message.WhichOneof("update") or "heartbeat"
    return _PARSE[kind](getattr(message, kind), _counters(message.counters))


def _counters(message: pb.LiveCounters) -> LiveCounters:
    return LiveCounters(**_fields(message, LiveCounters))


def _connected(message: pb.LiveConnected, counters: LiveCounters) -> LiveConnected:
    fields = _fields(message, LiveConnected)
    return LiveConnected(
        **{**fields, "model": message.model.name, "version": message.model.version, "counters": counters}
    )


def _window(message: pb.LiveWindow, counters: LiveCounters) -> LiveWindow:
    fields = _fields(message, LiveWindow)
    return LiveWindow(
        **{**fields, "top": _scores(message.top), "smoothed": _scores(message.smoothed), "counters": counters}
    )


def _scores(messages: Sequence[pb.ClassScore]) -> tuple[ClassScore, ...]:
    return tuple(ClassScore(index=m.index, label=m.label, score=m.score) for m in messages)


def _plain(cls: type[Any]) -> Callable[[Any, LiveCounters], Any]:
    """For messages whose fields have the names and the types of the result's."""
    return lambda message, counters: cls(**_fields(message, cls), counters=counters)


def _fields(message: Any, cls: type[Any]) -> dict[str, Any]:
    """The fields of the message that the result has, too."""
    names = {f.name for f in message.DESCRIPTOR.fields} & set(cls.__dataclass_fields__)
    return {name: getattr(message, name) for name in names}


_PARSE: dict[str, Callable[[Any, LiveCounters], LiveUpdate]] = {
    "connected": _connected,
    "window": _window,
    "event": _plain(LiveEvent),
    "reconnecting": _plain(LiveReconnecting),
    "heartbeat": _plain(LiveHeartbeat),
    "ended": _plain(LiveEnded),
}
