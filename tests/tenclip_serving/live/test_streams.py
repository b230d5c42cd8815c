"""Real streams: an RTSP server, transport streams over TCP and UDP, growing files; read in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tenclip_api.errors import (
    FetchFailed,
    InvalidRequest,
    NoClassifier,
    NotAVideo,
    NoVideoStream,
    Overloaded,
    ServerUnavailable,
    TenclipError,
    VideoNotFound,
)
from tenclip_serving.live.clock import WRAP_TICKS
from tenclip_serving.live.events import EventRules
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
from tenclip_serving.live.source import parse_source
from tenclip_serving.models.repository import Repository, load_model
from tenclip_serving.requests import ClipRequest, RecognitionRequest
from tenclip_serving.runtimes.base import Clips
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.telemetry.metrics import Metrics
from tests.ports import free_port
from tests.tenclip_serving.helpers import SPEC, make_bundle, make_video
from tests.tenclip_serving.live.helpers import (
    events_of,
    open_engine,
    rtsp_server,
    ts_sender,
    watch,
    windows_of,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("live-bundle"))


def asked(source: str | Path, *, follow: bool = False, **values: Any) -> LiveRequest:
    values = {"step": 4, "idle_seconds": 10.0, "max_backoff": 0.5, "heartbeat_seconds": 1.0, **values}
    return LiveRequest(source=parse_source(str(source), follow=follow), **values)


def allowing(*ports: int) -> dict[str, Any]:
    return {"live_schemes": ("rtsp", "http", "tcp", "udp"), "allow_hosts": tuple(f"127.0.0.1:{p}" for p in ports)}


def run_windows(count: int) -> Any:
    return lambda update, counters: counters.windows_run >= count


# -- exactness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clip", "spec", "step"),
    [
        ("archery.avi", SPEC, 5),
        ("cleaning_pool.mp4", replace(SPEC, target_fps=10.0, frame_stride=2), 7),
    ],
)
def test_a_file_played_live_has_the_scores_of_the_same_windows_to_the_bit(
    data_dir: Path, tmp_path: Path, clip: str, spec: Any, step: int
) -> None:
    """Through the same runtime as an offline prediction of all windows."""
    path = data_dir / "clips" / clip
    model = load_model(make_bundle(tmp_path, spec=spec), runtime="onnxruntime", threads=1)

    async def both() -> tuple[Any, list[LiveUpdate], LiveCounters]:
        async with open_engine(tmp_path / "tiny" / "1", allow_roots=(path.parent,)) as engine:
            engine.repository = Repository({"tiny": {"1": model}})
            await engine.start()
            clips = ClipRequest(mode="windows", window_step=step)
            offline = await engine.recognize(RecognitionRequest(path=str(path), clips=clips))
            return offline, *await watch(engine, asked(path, lossless=True, step=step))

    offline, updates, counters = asyncio.run(both())
    windows = windows_of(updates)
    assert len(windows) == len(offline.clips) >= 15
    live = np.stack([w.probabilities for w in windows])
    assert live.tobytes() == offline.clip_probabilities.tobytes()
    seconds = np.array([(w.start_seconds, w.end_seconds) for w in windows])
    assert seconds == pytest.approx(np.array([(c.start_seconds, c.end_seconds) for c in offline.clips]))
    assert counters.frames_dropped == counters.windows_skipped == counters.reconnects == 0
    assert isinstance(updates[-1], Ended)


def test_a_paced_file_is_played_at_its_own_speed(bundle: Path, tmp_path: Path) -> None:
    path = make_video(tmp_path / "four-seconds.mp4", num_frames=80, fps=20)

    async def play() -> tuple[float, list[LiveUpdate], LiveCounters]:
        async with open_engine(bundle) as engine:
            updates: list[LiveUpdate] = []
            stream = engine.watch(asked(path, paced=True, max_latency=60.0))
            updates.append((await anext(stream))[0])
            started = time.monotonic()
            counters = await collect(stream, updates)
            return time.monotonic() - started, updates, counters

    seconds, updates, counters = asyncio.run(play())
    assert seconds > 1.2  # of four, less what it took to hear of the first frame
    assert len(windows_of(updates)) == 20
    assert counters.windows_skipped == 0


# -- kinds of streams -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_transport_streams(bundle: Path, transport: str) -> None:
    async def read() -> tuple[list[LiveUpdate], LiveCounters]:
        port = free_port()
        options = ("--udp", str(port)) if transport == "udp" else ("--port", str(port))
        async with open_engine(bundle, **allowing(port)) as engine:
            with ts_sender(*options, "--frames", "4000"):
                request = asked(f"{transport}://127.0.0.1:{port}", max_latency=60.0)
                return await watch(engine, request, until=run_windows(8))

    updates, _ = asyncio.run(read())
    connected = next(u for u in updates if isinstance(u, Connected))
    assert (connected.codec, connected.width, connected.height) == ("mpeg2video", 64, 48)
    windows = windows_of(updates)
    assert [w.index for w in windows] == list(range(8))
    assert np.diff([w.start_seconds for w in windows]) == pytest.approx(0.2)


def test_a_clock_that_wraps_around_a_clock_that_jumps_and_pictures_that_grow(bundle: Path) -> None:
    """At frames 50, 100 and 150 of 200."""
    ticks = 90_000 // 20

    async def read() -> tuple[list[LiveUpdate], LiveCounters]:
        start = (WRAP_TICKS // ticks - 50) * ticks
        options = ("--start", str(start), "--jump-at", "100", "--resize-at", "150", "--frames", "200", "--speed", "0")
        port = free_port()
        async with open_engine(bundle, **allowing(port)) as engine:
            with ts_sender("--port", str(port), *options):
                request = asked(f"tcp://127.0.0.1:{port}", lossless=True, reconnect=3)
                return await watch(engine, request, until=lambda update, _: isinstance(update, Reconnecting))

    updates, counters = asyncio.run(read())
    assert isinstance(updates[-1], Reconnecting)
    windows = windows_of(updates)
    assert counters.frames_read >= 195
    assert counters.discontinuities == 1
    starts = np.array([w.start_seconds for w in windows])
    assert np.all(np.diff(starts) > 0)
    assert starts[-1] < 15  # and not hours
    assert len(windows) >= 46
    # Pictures of another size are scaled to the same one: red goes to blue as before.
    before, after = (next(w for w in windows if w.start_seconds > at) for at in (6.01, 8.01))
    assert np.abs(before.probabilities - after.probabilities).max() < 0.1


def test_http_streams_come_through_our_own_connection(bundle: Path, tmp_path: Path) -> None:
    """Without an end that is announced, as a camera sends them."""
    pytest.importorskip("aiohttp")
    from aiohttp import web

    path = tmp_path / "long.ts"
    with ts_sender("--frames", "120", "--speed", "0") as (_, port):
        import socket

        with socket.create_connection(("127.0.0.1", port)) as sock, path.open("wb") as file:
            while data := sock.recv(1 << 16):
                file.write(data)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(path.read_bytes())
        await asyncio.sleep(30)
        return response

    async def read() -> tuple[list[LiveUpdate], LiveCounters]:
        app = web.Application()
        app.router.add_get("/stream", stream)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with open_engine(bundle, **allowing(port)) as engine:
                request = asked(f"http://127.0.0.1:{port}/stream", max_latency=30, idle_seconds=5)
                good = await watch(engine, request, until=run_windows(20))
                with pytest.raises(VideoNotFound, match="has no such file"):
                    await watch(engine, asked(f"http://127.0.0.1:{port}/other"))
                return good
        finally:
            await runner.cleanup()

    updates, _ = asyncio.run(read())
    assert len(windows_of(updates)) == 20


def test_a_growing_file_is_read_on_until_it_rests(bundle: Path, tmp_path: Path) -> None:
    import socket

    whole, growing = bytearray(), tmp_path / "growing.ts"
    with ts_sender("--frames", "120", "--speed", "0") as (_, port), socket.create_connection(("127.0.0.1", port)) as s:
        while data := s.recv(1 << 16):
            whole += data
    growing.write_bytes(whole[: len(whole) // 2])

    async def read() -> tuple[list[LiveUpdate], LiveCounters]:
        async with open_engine(bundle) as engine:

            def grow() -> None:
                with growing.open("ab") as file:
                    file.write(whole[len(whole) // 2 :])

            seen = threading.Timer(3.0, grow)
            seen.start()
            try:
                return await watch(engine, asked(growing, follow=True, lossless=True, idle_seconds=4.0))
            finally:
                seen.join()

    updates, counters = asyncio.run(read())
    assert counters.frames_read == 120
    assert len(windows_of(updates)) == 30
    assert isinstance(updates[-1], Ended)
    assert any(isinstance(u, Heartbeat) for u in updates)


# -- interruptions ----------------------------------------------------------------------------------------------------


async def collect(stream: AsyncIterator[tuple[LiveUpdate, LiveCounters]], updates: list[LiveUpdate]) -> LiveCounters:
    """Append all updates; what was counted with the last one."""
    counters = LiveCounters()
    async for update, now in stream:
        updates.append(update)
        counters = now
    return counters


async def after_connecting(
    stream: AsyncGenerator[tuple[LiveUpdate, LiveCounters], None], windows: int
) -> AsyncIterator[tuple[LiveUpdate, LiveCounters]]:
    """Updates up to the given number of windows after the next `Connected`."""
    left = None
    async for update, counters in stream:
        yield update, counters
        if isinstance(update, Connected):
            left = windows
        elif left is not None and isinstance(update, ScoredWindow):
            left -= 1
        if left == 0:
            return


def test_an_rtsp_server_that_is_restarted_twice_gives_two_reconnects_and_no_event_twice(bundle: Path) -> None:
    async def read() -> tuple[list[LiveUpdate], LiveCounters]:
        port = free_port()
        rules = EventRules(smooth_windows=2, on=0.45, off=0.3, max_gap_seconds=60)
        request = asked(f"rtsp://127.0.0.1:{port}/red", events=rules, reconnect=None, max_backoff=1.0, idle_seconds=5)
        updates: list[LiveUpdate] = []
        counters = LiveCounters()
        async with asyncio.timeout(120), open_engine(bundle, **allowing(port)) as engine:
            stream = engine.watch(request)
            for _ in range(3):
                with rtsp_server(port):  # killed at the end
                    counters = await collect(after_connecting(stream, 4), updates)
            await stream.aclose()
        return updates, counters

    updates, counters = asyncio.run(read())
    lost = [u for u in updates if isinstance(u, Reconnecting)]
    after_pictures = [u.why for u in lost if u.attempt == 1][-2:]
    assert after_pictures == ["it ended", "it ended"]
    assert sum(isinstance(u, Connected) for u in updates) == 3
    begun = [e for e in events_of(updates) if not e.ended]
    assert [(e.id, e.label) for e in begun] == [(0, "red")]
    starts = np.array([w.start_seconds for w in windows_of(updates)])
    assert np.all(np.diff(starts) > 0)
    assert counters.reconnects == 2


def test_a_sender_that_stops_and_one_that_is_killed_are_connected_to_again(bundle: Path) -> None:
    """Two interruptions of a transport stream: silence, and an end."""

    async def read() -> tuple[list[LiveUpdate], LiveCounters]:
        port = free_port()
        request = asked(f"tcp://127.0.0.1:{port}", reconnect=None, idle_seconds=4.0, max_backoff=0.5)
        updates: list[LiveUpdate] = []
        counters = LiveCounters()
        async with asyncio.timeout(120), open_engine(bundle, **allowing(port)) as engine:
            stream = engine.watch(request)
            for signal_number in (signal.SIGSTOP, signal.SIGKILL, None):
                with ts_sender("--port", str(port), "--frames", "4000") as (process, _):
                    counters = await collect(after_connecting(stream, 3), updates)
                    if signal_number is not None:
                        process.send_signal(signal_number)
                    if signal_number == signal.SIGSTOP:
                        while not isinstance(updates[-1], Reconnecting):
                            updates.append((await anext(stream))[0])
            await stream.aclose()
        return updates, counters

    updates, counters = asyncio.run(read())
    whys = [u.why for u in updates if isinstance(u, Reconnecting) and u.attempt == 1]
    assert whys == ["it sent nothing for 4 seconds", "it ended"]
    assert sum(isinstance(u, Connected) for u in updates) == 3
    assert counters.reconnects == 2


def every_class(gap: float) -> EventRules:
    """Each score is an event: only the stream can end one."""
    return EventRules(smooth_windows=3, on=0.0, off=0.0, max_gap_seconds=gap, labels=("red",))


def test_windows_further_apart_than_the_gap_are_one_event(bundle: Path, tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.mp4", num_frames=200, fps=20)

    async def read() -> list[LiveUpdate]:
        async with open_engine(bundle) as engine:
            return (await watch(engine, asked(path, lossless=True, step=40, events=every_class(0.5))))[0]

    updates = asyncio.run(read())
    windows = windows_of(updates)
    assert [w.start_seconds for w in windows[:5]] == pytest.approx([0, 2, 4, 6, 8])
    assert [(e.id, e.ended) for e in events_of(updates)] == [(0, False), (0, True)]
    for i in range(2, len(windows)):
        mean = np.mean([w.probabilities for w in windows[i - 2 : i + 1]], axis=0)
        assert windows[i].smoothed == pytest.approx(mean)


def test_an_event_ends_with_the_stream_and_not_while_frames_come_between_windows(bundle: Path) -> None:
    """A window every two seconds, with heartbeats between them, and a gap shorter than both."""

    async def read() -> list[LiveUpdate]:
        port = free_port()
        rules = every_class(0.2)
        request = asked(f"tcp://127.0.0.1:{port}", step=40, events=rules, reconnect=None, heartbeat_seconds=0.1)
        updates: list[LiveUpdate] = []
        async with asyncio.timeout(120), open_engine(bundle, **allowing(port)) as engine:
            stream = engine.watch(request)
            for windows in (3, 2):
                with ts_sender("--port", str(port), "--frames", "4000"):  # killed at the end
                    await collect(after_connecting(stream, windows), updates)
                    if windows == 3:
                        assert [(e.id, e.ended) for e in events_of(updates)] == [(0, False)]
                        assert any(isinstance(u, Heartbeat) for u in updates[2:])
                await asyncio.sleep(1.0)
            await stream.aclose()
        return updates

    events = events_of(asyncio.run(read()))
    assert [(e.id, e.ended) for e in events] == [(0, False), (0, True), (1, False)]


def test_the_reader_process_may_die(bundle: Path) -> None:
    async def read() -> tuple[list[LiveUpdate], LiveCounters]:
        port = free_port()
        async with open_engine(bundle, **allowing(port)) as engine:
            with ts_sender("--port", str(port), "--frames", "4000", "--connections", "2"):
                updates: list[LiveUpdate] = []
                counters = LiveCounters()
                killed = False
                request = asked(f"tcp://127.0.0.1:{port}")
                async with asyncio.timeout(60):
                    async for update, counters in (stream := engine.watch(request)):
                        updates.append(update)
                        if counters.windows_run >= 3 and not killed:
                            os.kill(engine.streams.pids[0], signal.SIGKILL)
                            killed = True
                        if counters.windows_run >= 8 and counters.reconnects:
                            break
                    await stream.aclose()
                return updates, counters

    updates, counters = asyncio.run(read())
    assert [u.why for u in updates if isinstance(u, Reconnecting)] == [
        "the process that read this stream died (signal 9)"
    ]
    assert counters.reconnects == 1


# -- load -------------------------------------------------------------------------------------------------------------


def test_a_slow_model_has_bounded_latency_and_counted_drops(bundle: Path) -> None:
    slow = FakeRuntime(crop=SPEC.crop, batch_size=1, before_run=lambda clips: time.sleep(0.3))

    async def read() -> tuple[list[LiveUpdate], LiveCounters, float, float]:
        port = free_port()
        async with open_engine(bundle, runtime=slow, **allowing(port)) as engine:
            with ts_sender("--port", str(port), "--frames", "4000"):
                request = asked(f"tcp://127.0.0.1:{port}", max_latency=1.0)
                updates, counters = await watch(engine, request, until=run_windows(14))
            value = engine.metrics.registry.get_sample_value
            skipped = value("tenclip_live_windows_total", {"result": "skipped"}) or 0
            return updates, counters, skipped, value("tenclip_live_frames_dropped_total") or 0

    updates, counters, skipped, dropped = asyncio.run(read())
    assert counters.windows_skipped >= 3
    assert counters.frames_dropped >= 12
    assert (skipped, dropped) == (counters.windows_skipped, counters.frames_dropped)
    windows = windows_of(updates)
    assert max(w.latency for w in windows) == counters.max_latency


def test_several_streams_share_batches(bundle: Path, tmp_path: Path) -> None:
    """Their windows wait for the runtime side by side."""
    metrics: list[Metrics] = []

    def until_both_wait(clips: Clips) -> None:
        """Each stream may have two windows here; near the ends of the streams there are fewer."""
        end = time.monotonic() + 60
        while sum(runtime.batches) <= 24 and _pending(metrics[0]) < 4 - len(clips):
            assert time.monotonic() < end
            time.sleep(0.005)

    runtime = FakeRuntime(crop=SPEC.crop, batch_size=4, before_run=until_both_wait)
    paths = [make_video(tmp_path / f"{i}.mp4", num_frames=60) for i in range(2)]

    async def read() -> tuple[int, float, float]:
        async with open_engine(bundle, runtime=runtime) as engine:
            metrics.append(engine.metrics)
            results = await asyncio.gather(*(watch(engine, asked(p, lossless=True)) for p in paths))
            value = engine.metrics.registry.get_sample_value
            batches = value("tenclip_batch_clips_count", {"model": "tiny"}) or 0
            clips = value("tenclip_clips_total", {"model": "tiny"}) or 0
            return sum(len(windows_of(updates)) for updates, _ in results), clips, batches

    windows, clips, batches = asyncio.run(read())
    assert windows == clips == 30
    assert batches <= 0.7 * clips
    assert max(runtime.batches) >= 2


def _pending(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("tenclip_clips_pending", {"model": "tiny"}) or 0


def test_leaving_a_stream_frees_all_of_it(bundle: Path) -> None:
    async def leave() -> tuple[list[psutil.Process], float, int, int]:
        port = free_port()
        async with open_engine(bundle, **allowing(port)) as engine:
            with ts_sender("--port", str(port), "--frames", "4000", "--connections", "3"):
                await watch(engine, asked(f"tcp://127.0.0.1:{port}"), until=run_windows(1))
                before = _descriptors(), threading.active_count()
                for _ in range(2):
                    await watch(engine, asked(f"tcp://127.0.0.1:{port}"), until=run_windows(1))
                children = [c for c in psutil.Process().children() if "live.child" in " ".join(c.cmdline())]
                open_streams = engine.metrics.registry.get_sample_value("tenclip_live_streams")
                return children, open_streams or 0.0, _descriptors() - before[0], threading.active_count() - before[1]

    children, open_streams, descriptors, threads = asyncio.run(leave())
    assert children == []
    assert open_streams == 0
    assert descriptors <= 0
    assert threads <= 0


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- what does not work -----------------------------------------------------------------------------------------------


def test_an_unreachable_host_is_given_up_with_the_number_of_attempts(bundle: Path) -> None:
    port = free_port()

    async def read() -> tuple[list[LiveUpdate], TenclipError]:
        async with open_engine(bundle, **allowing(port)) as engine:
            updates: list[LiveUpdate] = []
            with pytest.raises(FetchFailed) as caught:
                await collect(engine.watch(asked(f"rtsp://127.0.0.1:{port}/x", reconnect=2)), updates)
            return updates, caught.value

    updates, error = asyncio.run(read())
    assert error.message == (
        f"rtsp://127.0.0.1:{port}/x: given up after 3 attempts in a row: cannot connect to 127.0.0.1, port {port}: "
        "Connection refused"
    )
    assert [u.attempt for u in updates if isinstance(u, Reconnecting)] == [1, 2]


def test_sound_alone_is_no_video(bundle: Path) -> None:
    port = free_port()

    async def read() -> None:
        async with open_engine(bundle, **allowing(port)) as engine:
            with ts_sender("--port", str(port), "--audio-only"):
                await watch(engine, asked(f"tcp://127.0.0.1:{port}"))

    with pytest.raises(NoVideoStream, match=r"no video stream; its streams are: audio"):
        asyncio.run(read())


def test_an_rtsp_session_of_sound_and_one_that_is_not_there(bundle: Path) -> None:
    port = free_port()

    async def read() -> None:
        async with open_engine(bundle, **allowing(port)) as engine:
            with rtsp_server(port):
                with pytest.raises(NoVideoStream, match="no video stream"):
                    await watch(engine, asked(f"rtsp://127.0.0.1:{port}/sound"))
                with pytest.raises(VideoNotFound, match="there is no such stream"):
                    await watch(engine, asked(f"rtsp://127.0.0.1:{port}/nothing"))

    asyncio.run(read())


def test_what_answers_may_be_no_video(bundle: Path) -> None:
    async def read() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello " * 20_000)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, open_engine(bundle, **allowing(port)) as engine:
            with pytest.raises(NotAVideo, match=r"not a stream that tenclip reads|no video stream"):
                await watch(engine, asked(f"tcp://127.0.0.1:{port}", reconnect=1))

    asyncio.run(read())


def test_files_that_are_no_streams(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.ts").touch()
    (tmp_path / "text.ts").write_text("this is no video\n" * 1000)

    async def read(path: Path) -> None:
        async with open_engine(bundle) as engine:
            await watch(engine, asked(path))

    for name, message in (("empty.ts", r"empty.ts: is empty \(0 bytes\)"), ("text.ts", "text.ts: not a stream")):
        with pytest.raises(NotAVideo, match=message):
            asyncio.run(read(tmp_path / name))
    with pytest.raises(VideoNotFound, match="no such file; an address begins with one of rtsp://"):
        asked(tmp_path / "nothing.ts")


def test_a_webcam_that_is_not_there(bundle: Path) -> None:
    async def read() -> None:
        async with open_engine(bundle) as engine:
            await watch(engine, asked("/dev/video63"))

    with pytest.raises(VideoNotFound, match="/dev/video63: no such device"):
        asyncio.run(read())


def test_models_that_cannot_watch(bundle: Path, tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4")

    async def read(**info: Any) -> None:
        async with open_engine(bundle) as engine:
            model = engine.repository.get()
            changed = replace(model.bundle, **info)
            engine.repository = Repository({"tiny": {"1": replace(model, bundle=changed)}})
            await watch(engine, asked(path))

    with pytest.raises(NoClassifier, match="features only"):
        asyncio.run(read(labels=()))


def test_as_many_streams_as_may_be_and_the_end_of_the_server(bundle: Path) -> None:
    port = free_port()

    async def read() -> None:
        async with open_engine(bundle, max_live_streams=1, **allowing(port)) as engine:
            with ts_sender("--port", str(port), "--frames", "4000"):
                stream = engine.watch(asked(f"tcp://127.0.0.1:{port}"))
                await anext(stream)
                with pytest.raises(Overloaded, match=r"reads 1 live streams, as many as it may \(max_live_streams\)"):
                    await watch(engine, asked(f"tcp://127.0.0.1:{port}"))
                engine.streams.drain()
                with pytest.raises(ServerUnavailable, match="shutting down, and its live streams have ended"):
                    async for _ in stream:
                        pass
                with pytest.raises(ServerUnavailable):
                    await watch(engine, asked(f"tcp://127.0.0.1:{port}"))

    asyncio.run(read())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heartbeat_seconds": 1e-9}, "heartbeat_seconds must be at least 0.1 seconds, got 1e-09"),
        ({"max_backoff": 1e-9, "reconnect": None}, "max_backoff must be at least 0.5 seconds, got 1e-09"),
    ],
)
def test_what_would_keep_the_server_busy_with_nothing(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        asked("tcp://127.0.0.1:1", **values)
    asked("tcp://127.0.0.1:1", heartbeat_seconds=0.1, max_backoff=0.5)


@pytest.mark.parametrize(
    "values", [{"max_latency": 0.0}, {"idle_seconds": float("inf")}, {"step": -1}, {"heartbeat_seconds": 1e9}]
)
def test_requests_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=str(next(iter(values.values()))).split(".")[0]):
        asked("-", **values)
