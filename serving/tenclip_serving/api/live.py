"""The RPC Live: its messages -> the core's dataclasses, and updates -> messages."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api.convert import DEFAULT_TOP_K, spatial_mode
from tenclip_serving.live.events import Event, EventRules
from tenclip_serving.live.requests import (
    Connected,
    Ended,
    Heartbeat,
    LiveCounters,
    LiveRequest,
    LiveUpdate,
    Reconnecting,
    ScoredWindow,
)
from tenclip_serving.live.source import LiveSource, parse_address
from tenclip_video.aggregate import top_classes

_DEFAULTS = LiveRequest(source=LiveSource(kind="stdin", text="-", name=""))


def live_request(request: pb.LiveRequest, *, source: LiveSource | None = None, paced: bool = False) -> LiveRequest:
    """The request of the core. source: a stream of this machine; without one, the address in the request.

    Raises InvalidRequest for values out of range, and as `parse_address`.
    """
    if source is None:
        if not request.uri:
            raise InvalidRequest("no stream: set uri to its address, e.g. rtsp://camera.example/stream")
        source = parse_address(request.uri)
    reconnect = request.reconnect if request.HasField("reconnect") else _DEFAULTS.reconnect
    return LiveRequest(
        source=source,
        model=request.model.name,
        version=request.model.version,
        step=request.window_step_frames,
        spatial_mode=spatial_mode(request.spatial_mode),
        events=_event_rules(request.events),
        max_latency=request.max_latency_seconds or _DEFAULTS.max_latency,
        lossless=request.lossless,
        paced=paced,
        reconnect=None if reconnect is None or reconnect < 0 else reconnect,
        max_backoff=request.max_backoff_seconds or _DEFAULTS.max_backoff,
        idle_seconds=request.idle_seconds or _DEFAULTS.idle_seconds,
        heartbeat_seconds=request.heartbeat_seconds or _DEFAULTS.heartbeat_seconds,
    )


def _event_rules(rules: pb.LiveEventRules) -> EventRules:
    usual = _DEFAULTS.events
    on = rules.on if rules.HasField("on") else usual.on
    return EventRules(
        smooth_windows=rules.smooth_windows or usual.smooth_windows,
        on=on,
        off=rules.off if rules.HasField("off") else min(usual.off, on),
        min_seconds=rules.min_seconds,
        max_gap_seconds=rules.max_gap_seconds if rules.HasField("max_gap_seconds") else usual.max_gap_seconds,
        labels=tuple(rules.labels),
    )


async def live_messages(
    request: pb.LiveRequest,
    heartbeat_seconds: float,
    updates: AsyncIterator[tuple[LiveUpdate, LiveCounters]],
    labels: Sequence[str],
) -> AsyncGenerator[pb.LiveUpdate, None]:
    """The messages of updates that were asked for; a window that was not is a heartbeat when it is time for one."""
    sent = time.monotonic()
    async for update, counters in updates:
        message = live_update(request, update, counters, labels)
        if message is None and time.monotonic() - sent >= heartbeat_seconds:
            message = live_update(request, Heartbeat(silent_seconds=0.0), counters, labels)
        if message is not None:
            sent = time.monotonic()
            yield message


def live_update(
    request: pb.LiveRequest, update: LiveUpdate, counters: LiveCounters, labels: Sequence[str]
) -> pb.LiveUpdate | None:
    """The message of an update; None for a window that was not asked for."""
    message = pb.LiveUpdate(counters=_counters(counters))
    if isinstance(update, ScoredWindow):
        if not request.include_windows:
            return None
        message.window.CopyFrom(_window(request, update, labels))
    elif isinstance(update, Event):
        message.event.CopyFrom(_event(update))
    elif isinstance(update, Connected):
        message.connected.CopyFrom(_connected(update))
    elif isinstance(update, Reconnecting):
        message.reconnecting.CopyFrom(
            pb.LiveReconnecting(attempt=update.attempt, delay_seconds=update.delay, why=update.why)
        )
    elif isinstance(update, Heartbeat):
        message.heartbeat.CopyFrom(pb.LiveHeartbeat(silent_seconds=update.silent_seconds))
    else:
        assert isinstance(update, Ended)
        message.ended.CopyFrom(pb.LiveEnded(why=update.why))
    return message


def _window(request: pb.LiveRequest, window: ScoredWindow, labels: Sequence[str]) -> pb.LiveWindow:
    k = min(request.top_k or DEFAULT_TOP_K, len(labels))

    def best(scores: NDArray[np.float32]) -> list[pb.ClassScore]:
        found = top_classes(scores, labels, k)
        return [pb.ClassScore(index=c.index, label=c.label, score=c.score) for c in found]

    return pb.LiveWindow(
        index=window.index,
        start_seconds=window.start_seconds,
        end_seconds=window.end_seconds,
        arrived_unix_seconds=window.arrived_unix,
        latency_seconds=window.latency,
        top=best(window.probabilities),
        smoothed=best(window.smoothed),
    )


def _event(event: Event) -> pb.LiveEvent:
    return pb.LiveEvent(
        id=event.id,
        label=event.label,
        index=event.index,
        start_seconds=event.start_seconds,
        end_seconds=event.end_seconds,
        peak_score=event.peak_score,
        start_unix_seconds=event.start_unix,
        end_unix_seconds=event.end_unix,
        ended=event.ended,
    )


def _connected(update: Connected) -> pb.LiveConnected:
    return pb.LiveConnected(
        container=update.container,
        codec=update.codec,
        width=update.width,
        height=update.height,
        frames_per_second=update.frames_per_second,
        model=pb.ModelRef(name=update.model, version=update.version),
        runtime=update.runtime,
        window_frames=update.window_frames,
        step_frames=update.step_frames,
        latency_limit_seconds=update.latency_limit or 0.0,
    )


def _counters(counters: LiveCounters) -> pb.LiveCounters:
    return pb.LiveCounters(
        frames_read=counters.frames_read,
        frames_dropped=counters.frames_dropped,
        windows_run=counters.windows_run,
        windows_skipped=counters.windows_skipped,
        reconnects=counters.reconnects,
        discontinuities=counters.discontinuities,
        latency_seconds=counters.latency,
        max_latency_seconds=counters.max_latency,
    )
