"""Admission control: one budget of bytes for all that requests hold, and a queue of bounded length.

A request is charged for its encoded bytes when it arrives, waits encoded (raw clips are 10 to 100 times larger), is
charged for its clips before they are decoded, and gives back each of the two as soon as it is done with it. What does
not fit is refused at once. All of it happens on one event loop, so there are no locks.

    async with admission.arriving():                  # raises Overloaded before anything was read
        data = await read()
    async with admission.admit(len(data)) as ticket:  # raises Overloaded, VideoTooLarge
        ticket.grow(more)                             # an upload that comes in pieces
        await ticket.begin(decoded_bytes)             # waits for its turn
        ...                                           # decode
        ticket.decoded(clips.nbytes)
        ...                                           # run the clips
        ticket.ran()
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from enum import StrEnum
from typing import Literal

from tenclip_api.errors import DeadlineExceeded, Overloaded, VideoTooLarge
from tenclip_serving.units import mib

Kind = Literal["encoded", "decoded"]
KINDS: tuple[Kind, ...] = ("encoded", "decoded")
# A request whose clips do not fit yet may be passed by this number of smaller ones; then they wait behind it.
MAX_PASSED = 16
# When a refused client is told to try again: before anything was measured, at the earliest, at the latest.
_DEFAULT_RETRY_SECONDS = 1.0
_MIN_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.1, 60.0
# A request is admitted to wait when it is expected to be done in this part of its time. Estimates are off, and a queue
# of requests that end just too late is all work for nothing.
_USABLE_TIME = 0.8
# Weight of the newest measurement in the running mean of seconds for one request.
_NEWEST_WEIGHT = 0.2


class Refusal(StrEnum):
    """Why a request is refused: the label `reason` of the metric of refusals."""

    QUEUE_FULL = "queue_full"  # as many requests are in as may be
    UPLOADS_FULL = "uploads_full"  # half of the queue is already chunked uploads or fetches
    STREAMS_FULL = "streams_full"  # as many streams of requests are open as may be
    NO_BYTES = "no_bytes"  # its bytes do not fit into the budget now
    TOO_LARGE = "too_large"  # its bytes would never fit into the budget
    NO_TIME = "no_time"  # its deadline would come before it is done
    SPOOL_FULL = "spool_full"  # the disk for uploads and fetches has no room now
    VIDEO_TOO_LARGE = "video_too_large"  # the video has more bytes, pixels, frames or seconds than any may have


class Admission:
    """The budget and the queue of one server.

    max_bytes: of everything, encoded and decoded. max_queue_bytes: of what is encoded, so that the rest is left for
    clips and someone can always go on. max_active: requests that decode or run; max_queue: others that wait.
    max_arrivals: messages that are read at once, whose bytes nobody knows before they are there; each within
    max_arrival_seconds. Streams of requests, which may stand idle for days, are as many at most.
    Requests whose videos still come in pieces have at most half of the places.
    on_bytes(kind, bytes) is called at every change, on_refusal(reason) for every refusal.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_queue_bytes: int,
        max_queue: int,
        max_active: int,
        max_arrivals: int = 8,
        max_arrival_seconds: float = 600.0,
        on_bytes: Callable[[Kind, int], None] | None = None,
        on_refusal: Callable[[Refusal], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_bytes, self.max_queue_bytes = max_bytes, max_queue_bytes
        self.max_queue, self.max_active = max_queue, max_active
        self.max_arrival_seconds = max_arrival_seconds
        self._max_arrivals = max_arrivals
        self._readers = asyncio.Semaphore(max_arrivals)
        self._num_streams = 0
        self._arriving = 0
        self._on_bytes = on_bytes or (lambda kind, num_bytes: None)
        self._on_refusal = on_refusal or (lambda reason: None)
        self._service = _ServiceTime(clock)
        self._held: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._admitted = 0
        self._num_in_pieces = 0
        self._active = 0
        self._waiting: list[Ticket] = []  # in `begin`, in the order of their calls

    @property
    def num_waiting(self) -> int:
        """Admitted requests that neither decode nor run."""
        return self._admitted - self._active

    @property
    def num_active(self) -> int:
        """Requests that decode or run."""
        return self._active

    @property
    def wait_seconds(self) -> float:
        """Until a request that came now would begin, by how long others took; 0 where one would begin at once."""
        ahead = self._admitted + 1 - self.max_active
        return 0.0 if ahead <= 0 else self._service.expected_for(ahead) or 0.0

    def held(self, kind: Kind) -> int:
        """Bytes that requests hold now."""
        return self._held[kind]

    def check(self, num_bytes: int, *, name: str = "") -> None:
        """Raises Overloaded or VideoTooLarge where a request of `num_bytes` encoded bytes would not be admitted now."""
        if num_bytes > self.max_queue_bytes:
            self._on_refusal(Refusal.TOO_LARGE)
            raise VideoTooLarge(
                f"{name or 'the request'}: {mib(num_bytes)} are more than the {mib(self.max_queue_bytes)} that this "
                "server keeps of all videos that wait (max_queue_mb); send the path of a file instead",
                source=name,
            )
        self._check_places(self._admitted)
        self._check_room(num_bytes)

    def check_arrival(self, seconds_left: float | None = None) -> None:
        """Raises Overloaded where a small request would not be admitted now, before any of a large one is read.

        seconds_left: until the caller's deadline, where that is known.
        """
        coming = self._admitted + self._arriving
        self._check_places(coming)
        self._check_time(coming, seconds_left)

    @asynccontextmanager
    async def arriving(self, seconds_left: float | None = None, *, upload: bool = False) -> AsyncIterator[None]:
        """Holds a place while the first message of a request is read. Raises Overloaded, DeadlineExceeded.

        Only `max_arrivals` are read at once: what gRPC has read is in memory before it has been admitted.
        upload: chunks follow the message, see `Ticket.filling`.
        """
        self.check_arrival(seconds_left)
        self._arriving += 1
        try:
            with self._in_pieces() if upload else nullcontext():
                async with asyncio.timeout(self.max_arrival_seconds), self._readers:
                    yield
        except TimeoutError as err:
            raise DeadlineExceeded(f"the request was not here after {self.max_arrival_seconds:g} seconds") from err
        finally:
            self._arriving -= 1

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Holds a place for a stream of requests as long as it is open. Raises Overloaded when these are full.

        Each may hold one message that has come in part, for as long as it likes: one that stands idle looks the same.
        """
        if self._num_streams >= self._max_arrivals:
            raise self._refuse(
                Refusal.STREAMS_FULL,
                f"{self._num_streams} streams of requests are open, as many as may be (max_in_flight_mb / "
                "max_message_mb)",
            )
        self._num_streams += 1
        try:
            yield
        finally:
            self._num_streams -= 1

    @asynccontextmanager
    async def admit(
        self, num_bytes: int = 0, *, name: str = "", seconds_left: float | None = None
    ) -> AsyncIterator[Ticket]:
        """A ticket for a request of `num_bytes` encoded bytes. Raises Overloaded or VideoTooLarge at once.

        seconds_left: until the caller's deadline, where that is known.
        """
        self.check(num_bytes, name=name)
        self._check_time(self._admitted, seconds_left)
        ticket = Ticket(self, name)
        self._admitted += 1
        try:
            ticket._set("encoded", num_bytes)
            yield ticket
        except asyncio.CancelledError:
            ticket._given_up = True
            raise
        finally:
            ticket._leave()
            self._admitted -= 1
            self._let_in()

    @contextmanager
    def _in_pieces(self) -> Iterator[None]:
        most = max(1, (self.max_active + self.max_queue) // 2)
        if self._num_in_pieces >= most:
            raise self._refuse(Refusal.UPLOADS_FULL, f"{self._num_in_pieces} videos are being uploaded or fetched")
        self._num_in_pieces += 1
        try:
            yield
        finally:
            self._num_in_pieces -= 1

    def _check_places(self, taken: int) -> None:
        if taken >= self.max_active + self.max_queue:
            raise self._refuse(
                Refusal.QUEUE_FULL, f"{self._active} requests are worked on and {taken - self._active} wait"
            )

    def _check_room(self, num_bytes: int) -> None:
        free = min(self.max_queue_bytes - self._held["encoded"], self.max_bytes - sum(self._held.values()))
        if num_bytes > free:
            raise self._refuse(
                Refusal.NO_BYTES, f"{mib(num_bytes)} do not fit into the {mib(max(free, 0))} that are free"
            )

    def _check_time(self, taken: int, seconds_left: float | None) -> None:
        """Refuse a request that would have to wait and, by how long others took, not be done in time.

        Admitted, it would take the place of one that could be. Without this rule, under ten times too much work with
        deadlines, the queue is full of requests that end half done, and half of the work is lost.
        A request that need not wait is always admitted, so that the estimate stays fresh.
        """
        if seconds_left is None or taken < self.max_active:
            return
        seconds = self._service.expected_for(taken + 1)
        if seconds is not None and seconds > _USABLE_TIME * seconds_left:
            raise self._refuse(
                Refusal.NO_TIME, f"it would be done in about {seconds:.1f} s, later than in {seconds_left:.1f} s"
            )

    def _charge(self, kind: Kind, num_bytes: int) -> None:
        self._held[kind] += num_bytes
        self._on_bytes(kind, self._held[kind])

    def _refuse(self, reason: Refusal, why: str) -> Overloaded:
        self._on_refusal(reason)
        seconds = self._service.seconds_for(self.num_waiting + 1)
        error = Overloaded(f"the server has too much to do: {why}; try again in {seconds:.1f} seconds")
        error.retry_after_seconds = seconds
        return error

    def _let_in(self) -> None:
        """Start the requests that fit, first come first served; see `MAX_PASSED` for those that do not fit yet."""
        passed: list[Ticket] = []
        for ticket in tuple(self._waiting):
            if self._active >= self.max_active:
                return
            if sum(self._held.values()) + ticket.wanted <= self.max_bytes:
                self._waiting.remove(ticket)
                ticket._start()
                for other in passed:
                    other.times_passed += 1
            elif ticket.times_passed >= MAX_PASSED:
                return
            else:
                passed.append(ticket)


class Ticket:
    """The place and the bytes of one admitted request. Made by `Admission.admit`, which takes all of it back."""

    def __init__(self, admission: Admission, name: str) -> None:
        self._admission = admission
        self._name = name
        self._held: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._turn: asyncio.Future[None] | None = None
        self._active = False
        self._given_up = False
        self.wanted = 0
        self.times_passed = 0

    def grow(self, num_bytes: int) -> None:
        """Charge `num_bytes` more encoded bytes. Raises Overloaded or VideoTooLarge and then charges nothing."""
        admission, total = self._admission, self._held["encoded"] + num_bytes
        if total > admission.max_queue_bytes:
            admission.check(total, name=self._name)
        admission._check_room(num_bytes)
        self._set("encoded", total)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Holds a place among the uploads while the video comes in chunks. Raises Overloaded when these are full.

        However slow uploads are, requests that bring their videos with them find places.
        """
        with self._admission._in_pieces():
            yield

    async def begin(self, decoded_bytes: int) -> None:
        """Wait until the clips of this request may be decoded, and charge them.

        decoded_bytes: at most; see `decoded`. Raises VideoTooLarge for clips that would never fit.
        """
        admission = self._admission
        # What is encoded never takes more than its part, so the rest is what anyone can hope for.
        possible = admission.max_bytes - admission.max_queue_bytes
        if decoded_bytes > possible:
            admission._on_refusal(Refusal.TOO_LARGE)
            raise VideoTooLarge(
                f"{self._name or 'the video'}: its clips may take {mib(decoded_bytes)}, more than the "
                f"{mib(possible)} that this server has for clips (max_in_flight_mb less max_queue_mb); ask for fewer "
                "clips",
                source=self._name,
            )
        self.wanted = decoded_bytes
        self._turn = asyncio.get_running_loop().create_future()
        admission._waiting.append(self)
        admission._let_in()
        await self._turn

    def decoded(self, num_bytes: int) -> None:
        """The clips are there and take so much; what they were decoded from has gone."""
        self._set("encoded", 0)
        self._set("decoded", min(num_bytes, self.wanted))
        self._admission._let_in()

    def ran(self) -> None:
        """The clips have gone too."""
        self._set("decoded", 0)
        self._admission._let_in()

    def keep_until(self, done: asyncio.Future[None]) -> None:
        """Charge all of it until `done`, beyond this request: a worker that nobody waits for still holds it."""
        admission = self._admission
        kept, self._held = self._held, dict.fromkeys(KINDS, 0)

        def release(_: object) -> None:
            for kind, num_bytes in kept.items():
                admission._charge(kind, -num_bytes)
            admission._let_in()

        done.add_done_callback(release)

    def _start(self) -> None:
        assert self._turn is not None
        self._active = True
        self._admission._active += 1
        self._admission._service.started()
        self._set("decoded", self.wanted)
        if not self._turn.done():  # else it has just been cancelled, and `_leave` follows
            self._turn.set_result(None)

    def _leave(self) -> None:
        if self in self._admission._waiting:
            self._admission._waiting.remove(self)
        for kind in KINDS:
            self._set(kind, 0)
        if self._active:
            self._active = False
            self._admission._active -= 1
            self._admission._service.finished(given_up=self._given_up)

    def _set(self, kind: Kind, num_bytes: int) -> None:
        self._admission._charge(kind, num_bytes - self._held[kind])
        self._held[kind] = num_bytes


class _ServiceTime:
    """Estimates waiting times: the running mean of the seconds from one finished request to the next."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._active = 0
        self._since = 0.0
        self._mean: float | None = None

    def started(self) -> None:
        if self._active == 0:
            self._since = self._clock()
        self._active += 1

    def finished(self, *, given_up: bool) -> None:
        """given_up: it was cancelled, or too late. Its time counts as that of the next one that is finished."""
        self._active -= 1
        if given_up:
            return
        now = self._clock()
        seconds, self._since = now - self._since, now
        self._mean = seconds if self._mean is None else self._mean + _NEWEST_WEIGHT * (seconds - self._mean)

    def expected_for(self, num_requests: int) -> float | None:
        """Seconds until `num_requests` more are finished; None before the first was."""
        return None if self._mean is None else self._mean * num_requests

    def seconds_for(self, num_requests: int) -> float:
        mean = _DEFAULT_RETRY_SECONDS if self._mean is None else self._mean
        return min(max(mean * num_requests, _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)
