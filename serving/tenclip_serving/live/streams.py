"""The live streams of one server: how many there may be, and their end when the server stops."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tenclip_api.errors import Overloaded, ServerUnavailable
from tenclip_serving.live.requests import LiveCounters, LiveRequest, LiveUpdate
from tenclip_serving.live.session import LiveHost, LiveSession
from tenclip_serving.models.repository import ServedModel


class LiveStreams:
    """Each stream has a process of its own, so their number is bounded. Used on one event loop."""

    def __init__(self, host: LiveHost, *, max_streams: int) -> None:
        self._host, self._max_streams = host, max_streams
        self._sessions: set[LiveSession] = set()
        self._draining = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the readers that run."""
        return tuple(s.pid for s in self._sessions if s.pid is not None)

    async def watch(
        self, request: LiveRequest, model: ServedModel
    ) -> AsyncGenerator[tuple[LiveUpdate, LiveCounters], None]:
        """Updates of a stream, with what is counted by then.

        Raises Overloaded, ServerUnavailable, and as `LiveSession`.
        """
        if self._draining:
            raise _going_away()
        if len(self._sessions) >= self._max_streams:
            raise Overloaded(
                f"{request.source.name}: this server reads {len(self._sessions)} live streams, as many as it may "
                "(max_live_streams)"
            )
        session = LiveSession(request, model, self._host)
        self._sessions.add(session)
        self._host.metrics.live_streams.set(len(self._sessions))
        try:
            async with aclosing(session.updates()) as updates:
                async for update in updates:
                    yield update, session.counters
        finally:
            self._sessions.discard(session)
            self._host.metrics.live_streams.set(len(self._sessions))

    def drain(self) -> None:
        """End all streams with ServerUnavailable, and let no new one in."""
        self._draining = True
        for session in tuple(self._sessions):
            session.end(_going_away())


def _going_away() -> ServerUnavailable:
    return ServerUnavailable("the server is shutting down, and its live streams have ended; ask again")
