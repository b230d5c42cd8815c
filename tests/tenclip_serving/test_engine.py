"""The core without gRPC: real decode processes, a runtime that needs no weights."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import (
    DeadlineExceeded,
    DecodeWorkerDied,
    EmptyVideo,
    InvalidRequest,
    NotAVideo,
    Overloaded,
    PathNotAllowed,
    VideoNotFound,
    VideoTooLarge,
)
from tenclip_serving.config import ServerConfig
from tenclip_serving.decoding import shared_memory
from tenclip_serving.decoding.worker import DecodeWorker
from tenclip_serving.engine import Engine
from tenclip_serving.intake.path_access import OpenFile, open_path
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.requests import ClipRequest, ClipResult, Recognition, RecognitionRequest
from tenclip_serving.runtimes import Clips
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.telemetry.metrics import STAGES, Metrics
from tenclip_video.bundle import read_bundle
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.filmstrip import MAX_PICTURES
from tenclip_video.protocols import PROTOCOLS, Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec
from tests.tenclip_serving.helpers import LABELS, SPEC, make_bundle


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime(crop=SPEC.crop, batch_size=4)


OpenEngine = Callable[..., contextlib.AbstractAsyncContextManager[Engine]]


@pytest.fixture
def open_engine(bundle_path: Path, videos: Path, runtime: FakeRuntime) -> OpenEngine:
    @contextlib.asynccontextmanager
    async def opened(*, spec: ClipSpec = SPEC, **changes: Any) -> AsyncIterator[Engine]:
        bundle = read_bundle(bundle_path)
        bundle = replace(bundle, info=replace(bundle.info, clip_spec=spec))
        model = ServedModel(bundle=bundle, runtime=runtime, runtime_reason="tests")
        settings = {"decode_workers": 1, "allow_roots": (videos,), **changes}
        engine = Engine(ServerConfig(directory=bundle_path.parent, **settings), Repository({"tiny": {"1": model}}))
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()

    return opened


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 240))


def path(name: str = "colors.mp4", **changes: Any) -> RecognitionRequest:
    return RecognitionRequest(path=name, **changes)


def test_one_decode_and_one_pass_give_everything(open_engine: OpenEngine, runtime: FakeRuntime, videos: Path) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            result = await engine.recognize(path(timeline=True))
            assert runtime.batches == [4, 4, 2]
            expected = read_clips(videos / "colors.mp4", SPEC)
            outputs = FakeRuntime(crop=SPEC.crop).run(expected.clips)
            np.testing.assert_allclose(result.clip_features, outputs.features, rtol=1e-5)
            np.testing.assert_allclose(result.features, outputs.features.mean(0), rtol=1e-5)
            assert result.clip_probabilities.shape == (10, len(LABELS))
            np.testing.assert_allclose(result.probabilities, result.clip_probabilities.mean(0), rtol=1e-5)
            assert [(c.start_seconds, c.end_seconds) for c in result.clips] == list(expected.seconds)
            assert [c.frames for c in result.clips] == [c.frames for c in expected.plan]
            assert result.timeline is not None
            assert (result.model, result.version, result.runtime, result.protocol) == ("tiny", "1", "fake", "ten-clip")
            assert set(result.timings) == set(STAGES) - {"fetch", "neighbours"}  # that others have
            assert all(seconds > 0 for seconds in result.timings.values())
            metrics = engine.metrics
            assert value(metrics, "tenclip_clips_total", model="tiny") == 10
            assert value(metrics, "tenclip_frames_decoded_total") == result.report.frames_decoded > 0
            for stage in set(STAGES) - {"fetch", "neighbours"}:
                assert value(metrics, "tenclip_stage_seconds_count", stage=stage) == 1

    run(test)


def test_clips_of_all_who_wait_are_pending(
    open_engine: OpenEngine, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        reached, opened = threading.Event(), threading.Event()

        def wait(_: object) -> None:
            reached.set()
            assert opened.wait(60)

        async with open_engine(max_active=2) as engine:
            monkeypatch.setattr(runtime, "_before_run", wait)
            pending = "tenclip_clips_pending"
            assert engine.metrics.registry.get_sample_value(pending, {"model": "tiny"}) == 0, "there before any request"
            assert value(engine.metrics, "tenclip_queue_wait_seconds") == 0
            waiting = [asyncio.create_task(engine.recognize(path())) for _ in range(4)]
            assert await asyncio.to_thread(reached.wait, 60)
            # Of 40, a batch of 4 runs; ten each of two wait for their turn to be decoded.
            while value(engine.metrics, pending, model="tiny") != 36:
                await asyncio.sleep(0.01)
            waiting.pop().cancel()
            await until(lambda: value(engine.metrics, pending, model="tiny") == 26)
            opened.set()
            await asyncio.gather(*waiting)
            assert value(engine.metrics, pending, model="tiny") == 0

            opened.clear()
            reached.clear()
            waiting = [asyncio.create_task(engine.recognize(path())) for _ in range(4)]
            await asyncio.to_thread(reached.wait, 60)
            assert value(engine.metrics, "tenclip_queue_wait_seconds") > 0, "by how long the three took"
            opened.set()
            await asyncio.gather(*waiting)

    run(test)


def test_pictures_are_capped_and_change_nothing_else(open_engine: OpenEngine, videos: Path) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            plain = await engine.recognize(path("bar.mp4"))
            pictured = await engine.recognize(path("bar.mp4", thumbnails=2**32 - 1))
            assert plain.thumbnails == ()
            assert len(pictured.thumbnails) == MAX_PICTURES
            assert pictured.report == plain.report
            np.testing.assert_array_equal(pictured.probabilities, plain.probabilities)

    run(test)


def test_inline_bytes_give_the_same_as_the_path(open_engine: OpenEngine, videos: Path) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            by_path = await engine.recognize(path())
            inline = await engine.recognize(RecognitionRequest(data=(videos / "colors.mp4").read_bytes()))
            np.testing.assert_array_equal(by_path.probabilities, inline.probabilities)
            assert by_path.timeline is inline.timeline is None

    run(test)


@pytest.mark.parametrize(
    ("clips", "num"),
    [
        (ClipRequest(), 10),
        (ClipRequest(num_clips=3), 3),
        (ClipRequest(mode="center"), 1),
        (ClipRequest(mode="windows"), 10),  # 40 frames in windows of 4
        (ClipRequest(mode="windows", window_step=2), 19),
        (ClipRequest(mode="salient", num_clips=2), 2),
        (ClipRequest(start_seconds=1.0), 10),
    ],
)
def test_selections(open_engine: OpenEngine, clips: ClipRequest, num: int) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            result = await engine.recognize(path(clips=clips))
            assert len(result.clips) == num
            assert all(c.start_seconds >= clips.start_seconds for c in result.clips)
            assert (result.timeline is not None) == (clips.mode == "salient")

    run(test)


def test_salient_clips_are_where_something_moves(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            result = await engine.recognize(path("bar.mp4", clips=ClipRequest(mode="salient", num_clips=2)))
            # The bar runs from second 2 to 2.5.
            assert all(c.start_seconds >= 1.9 and c.end_seconds <= 2.7 for c in result.clips)
            timeline = result.timeline
            assert timeline is not None
            assert timeline.selected.sum() == 2
            assert timeline.scores[timeline.selected].min() >= timeline.scores[~timeline.selected].max()

    run(test)


def test_fully_convolutional_averages_positions(open_engine: OpenEngine, runtime: FakeRuntime, videos: Path) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            result = await engine.recognize(path(spatial_mode="fully_convolutional"))
            assert result.protocol == (
                "custom: 10 uniform clips, centre crop, fully-convolutional, probabilities averaged"
            )
            clips = read_clips(videos / "colors.mp4", SPEC, Protocol(fully_convolutional=True)).clips
            assert clips.shape[2:4] == (40, 40)
            assert FakeRuntime(crop=SPEC.crop).run(clips).logits.shape[2] == 4
            pooled = await engine.recognize(path())
            assert not np.allclose(result.probabilities, pooled.probabilities)

    run(test)


def test_a_short_video_says_that_it_looped(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            result = await engine.recognize(path("short.mp4", clips=ClipRequest(num_clips=2)))
            assert [(c.frames, c.looped) for c in result.clips] == [((0, 1, 0, 1), True)] * 2

    run(test)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (RecognitionRequest(), InvalidRequest),
        (RecognitionRequest(data=b"", name="upload.mp4"), EmptyVideo),
        (RecognitionRequest(data=b"no video at all, but bytes" * 10), NotAVideo),
        (path("absent.mp4"), VideoNotFound),
        (path("/etc/passwd"), PathNotAllowed),
        (path(model="tiny", protocol="nonsense"), InvalidRequest),
        (path(clips=ClipRequest(start_seconds=50.0)), InvalidRequest),
        (path(clips=ClipRequest(num_clips=10_000)), InvalidRequest),
        (path("long.mp4", clips=ClipRequest(mode="windows", window_step=1)), InvalidRequest),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else None,
)
def test_bad_requests_are_typed_and_the_next_one_works(
    open_engine: OpenEngine, runtime: FakeRuntime, request_: RecognitionRequest, error: type[Exception]
) -> None:
    async def test() -> None:
        async with open_engine(max_clips=64) as engine:
            with pytest.raises(error):
                await engine.recognize(request_)
            assert runtime.batches == []
            assert len((await engine.recognize(path())).clips) == 10

    run(test)


def test_windows_beyond_the_limit_say_how_many_there_are(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine(max_clips=64) as engine:
            with pytest.raises(InvalidRequest, match="100 windows of 4 frames, more than the 64 allowed"):
                await engine.recognize(path("long.mp4", clips=ClipRequest(mode="windows")))

    run(test)


@pytest.mark.parametrize(("limit", "seconds_left", "says"), [(0.2, None, "server's"), (60.0, 0.2, "caller's")])
def test_deadline(open_engine: OpenEngine, limit: float, seconds_left: float | None, says: str) -> None:
    async def test() -> None:
        async with open_engine(max_request_seconds=limit) as engine:
            (pid,) = engine.pool.pids
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(DeadlineExceeded, match=f"not done in 0.2 seconds, the {says}"):
                await engine.recognize(path(), seconds_left=seconds_left)
            os.kill(pid, signal.SIGCONT)

    run(test)


def test_decoding_that_hangs_is_the_workers_death(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine(max_decode_seconds=0.2) as engine:
            os.kill(engine.pool.pids[0], signal.SIGSTOP)
            with pytest.raises(DecodeWorkerDied):
                await engine.recognize(path())
            assert value(engine.metrics, "tenclip_decode_worker_restarts_total", reason="timeout") == 1

    run(test)


def test_a_video_whose_worker_dies_is_recognized_by_another(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine(cache_mb=1) as engine:
            (pid,) = engine.pool.pids
            os.kill(pid, signal.SIGSTOP)
            task = asyncio.create_task(engine.recognize(path()))
            await until(engine.pool._idle.empty)
            os.kill(pid, signal.SIGKILL)
            assert len((await task).clips) == 10
            assert value(engine.metrics, "tenclip_decode_retries_total") == 1
            assert value(engine.metrics, "tenclip_decode_worker_restarts_total", reason="died") == 1
            assert engine.statistics.of("tiny", "1").success.count == 1
            assert engine.admission.held("encoded") == engine.admission.held("decoded") == 0

    run(test)


def test_a_second_worker_is_not_waited_for_beyond_the_deadline(
    open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            start, may_start = engine.pool._spawn, asyncio.Event()

            async def start_later() -> DecodeWorker:
                await may_start.wait()
                return await start()

            monkeypatch.setattr(engine.pool, "_spawn", start_later)
            (pid,) = engine.pool.pids
            os.kill(pid, signal.SIGSTOP)
            task = asyncio.create_task(engine.recognize(path(), seconds_left=1.0))
            await until(engine.pool._idle.empty)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(DeadlineExceeded, match="the caller's deadline"):
                await task
            assert value(engine.metrics, "tenclip_decode_retries_total") == 0
            may_start.set()
            assert len((await engine.recognize(path())).clips) == 10

    run(test)


def test_clips_of_a_cancelled_request_never_reach_the_runtime(open_engine: OpenEngine, runtime: FakeRuntime) -> None:
    running, go_on = threading.Event(), threading.Event()

    def hold(clips: np.ndarray[Any, Any]) -> None:
        running.set()
        assert go_on.wait(60)

    runtime._before_run = hold

    async def test() -> None:
        async with open_engine() as engine:
            task = asyncio.create_task(engine.recognize(path()))
            await asyncio.to_thread(running.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            assert len((await engine.recognize(path(clips=ClipRequest(mode="center")))).clips) == 1
            assert runtime.batches == [4, 1]
            # The batch that was under way did run, and the six clips behind it did not.
            assert value(engine.metrics, "tenclip_clips_total", model="tiny") == 5
            assert value(engine.metrics, "tenclip_clips_saved_total", model="tiny") == 6

    run(test)


def test_concurrent_requests_get_their_own_answers(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine(decode_workers=2) as engine:
            names = ["colors.mp4", "bar.mp4", "short.mp4", "long.mp4"] * 4
            results = await asyncio.gather(*(engine.recognize(path(n)) for n in names))
            frames = {"colors.mp4": 40, "bar.mp4": 80, "short.mp4": 2, "long.mp4": 400}
            assert [r.info.num_frames for r in results] == [frames[n] for n in names]
            for name, result in zip(names, results, strict=True):
                np.testing.assert_array_equal(result.probabilities, results[names.index(name)].probabilities)

    run(test)


def test_clips_of_three_views(open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol with three crops: one result for each clip, not for each view."""
    monkeypatch.setitem(
        PROTOCOLS, "three", Protocol(name="three", description="", selection=ClipSelection(num_clips=2), crop="three")
    )

    async def test() -> None:
        async with open_engine() as engine:
            result = await engine.recognize(path(protocol="three"))
            assert result.protocol == "three"
            assert result.clip_probabilities.shape == (2, 4)
            assert len(result.clips) == 2
            assert value(engine.metrics, "tenclip_clips_total", model="tiny") == 6

    run(test)


class Hold:
    """Keeps the runtime from running until it is released."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.reached, self._released = threading.Event(), threading.Event()
        runtime._before_run = self

    def __call__(self, clips: np.ndarray[Any, Any]) -> None:
        self.reached.set()
        assert self._released.wait(60)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 60)

    def release(self) -> None:
        self._released.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def test_more_than_the_queue_is_refused_at_once(open_engine: OpenEngine, runtime: FakeRuntime, videos: Path) -> None:
    hold = Hold(runtime)
    data = (videos / "colors.mp4").read_bytes()

    async def test() -> None:
        async with open_engine(max_active=1, max_queue=2) as engine:
            accepted = [asyncio.create_task(engine.recognize(path()))]
            await hold.until_reached()
            accepted += [asyncio.create_task(engine.recognize(r)) for r in (path(), RecognitionRequest(data=data))]
            await until(lambda: engine.admission.num_waiting == 2)
            clips = 10 * 4 * 32 * 32 * 3
            assert value(engine.metrics, "tenclip_in_flight_bytes", kind="decoded") == clips
            assert value(engine.metrics, "tenclip_in_flight_bytes", kind="encoded") == len(data)
            with pytest.raises(Overloaded, match="1 requests are worked on and 2 wait") as caught:
                await engine.recognize(path())
            assert caught.value.retry_after_seconds is not None
            assert value(engine.metrics, "tenclip_refusals_total", reason="queue_full") == 1
            assert runtime.batches == [4]  # those that wait have not been decoded, and wait encoded
            assert value(engine.metrics, "tenclip_stage_seconds_count", stage="decode") == 0
            hold.release()
            for result in await asyncio.gather(*accepted):
                assert len(result.clips) == 10
            for kind in ("encoded", "decoded"):
                assert value(engine.metrics, "tenclip_in_flight_bytes", kind=kind) == 0
            assert len((await engine.recognize(path())).clips) == 10

    run(test)


@pytest.mark.skipif(not shared_memory.AVAILABLE, reason="there is no nameless memory here: videos stay in Python's")
def test_a_large_inline_video_is_let_go_when_it_is_decoded(
    open_engine: OpenEngine, runtime: FakeRuntime, videos: Path
) -> None:
    hold = Hold(runtime)

    gone = threading.Event()

    class Data(bytes):
        def __del__(self) -> None:
            gone.set()

    async def test() -> None:
        async with open_engine() as engine:
            open_files = len(os.listdir("/proc/self/fd"))
            data = Data((videos / "colors.mp4").read_bytes() + bytes(shared_memory.WORTH_SHARING_BYTES))
            task = asyncio.create_task(engine.recognize(RecognitionRequest(data=data)))
            del data
            await hold.until_reached()
            assert gone.is_set()
            hold.release()
            assert len((await task).clips) == 10
            assert "fetch" not in (await task).timings
            assert len(os.listdir("/proc/self/fd")) <= open_files + shared_memory.KEPT_SEGMENTS

    run(test)


def test_decoding_waits_for_room_for_clips(open_engine: OpenEngine, runtime: FakeRuntime) -> None:
    """100 clips of 12 KiB: 3 MiB have room for two such requests."""
    hold = Hold(runtime)
    settings = {"max_in_flight_mb": 3, "max_queue_mb": 1, "max_message_mb": 1, "max_clip_mb": 2, "decode_workers": 2}
    long = path("long.mp4", clips=ClipRequest(num_clips=100))

    async def test() -> None:
        async with open_engine(**settings) as engine:
            tasks = [asyncio.create_task(engine.recognize(long)) for _ in range(4)]
            await hold.until_reached()
            await until(lambda: engine.admission.num_active == 2 and engine.pool._idle.qsize() == 2)
            # Both decode workers are idle, and still no one else is decoded.
            frames = value(engine.metrics, "tenclip_frames_decoded_total")
            assert frames == 2 * 400
            assert engine.admission.num_waiting == 2
            hold.release()
            await asyncio.gather(*tasks)
            assert value(engine.metrics, "tenclip_frames_decoded_total") == 4 * 400

    run(test)


def test_what_can_never_fit_is_told_so(open_engine: OpenEngine, runtime: FakeRuntime) -> None:
    settings = {"max_in_flight_mb": 2, "max_queue_mb": 1, "max_message_mb": 1, "max_clip_mb": 1}

    async def test() -> None:
        async with open_engine(**settings) as engine:
            with pytest.raises(VideoTooLarge, match="max_queue_mb"):
                await engine.recognize(RecognitionRequest(data=b"x" * ((1 << 20) + 1), name="up.mp4"))
            with pytest.raises(InvalidRequest, match="num_clips 100 is more than the 85"):
                await engine.recognize(path(clips=ClipRequest(num_clips=100)))
            assert value(engine.metrics, "tenclip_refusals_total", reason="too_large") == 1
            assert runtime.batches == []

    run(test)


def test_cancelling_frees_the_place_of_one_that_waits(open_engine: OpenEngine, runtime: FakeRuntime) -> None:
    hold = Hold(runtime)

    async def test() -> None:
        async with open_engine(max_active=1, max_queue=1) as engine:
            running = asyncio.create_task(engine.recognize(path()))
            await hold.until_reached()
            waiting = asyncio.create_task(engine.recognize(path(clips=ClipRequest(num_clips=7))))
            await until(lambda: engine.admission.num_waiting == 1)
            await asyncio.sleep(0.2)  # beyond the look at the file, in `begin`
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert value(engine.metrics, "tenclip_clips_saved_total", model="tiny") == 7
            next_one = asyncio.create_task(engine.recognize(path()))
            await asyncio.sleep(0)
            hold.release()
            await asyncio.gather(running, next_one)

    run(test)


def test_a_deadline_that_has_passed_before_anything(open_engine: OpenEngine, runtime: FakeRuntime) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            with pytest.raises(DeadlineExceeded, match="the caller's deadline has passed already"):
                await engine.recognize(path(), seconds_left=0.0)
            assert value(engine.metrics, "tenclip_frames_decoded_total") == 0

    run(test)


# -- clip by clip -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["ten-clip", "mmaction2-10x3", "vmz-logits", "vmz-joint"])
def test_a_stream_tells_every_clip_and_then_everything(open_engine: OpenEngine, protocol: str) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            *clips, result = [item async for item in engine.recognize_stream(path(protocol=protocol))]
            assert isinstance(result, Recognition)
            assert len(clips) == len(result.clips) == 10
            for clip in clips:
                assert isinstance(clip, ClipResult)
                assert clip.clip == result.clips[clip.index]
                np.testing.assert_allclose(clip.probabilities, result.clip_probabilities[clip.index], rtol=1e-6)
                np.testing.assert_allclose(clip.features, result.clip_features[clip.index], rtol=1e-6)
            assert sorted(c.index for c in clips if isinstance(c, ClipResult)) == list(range(10))

    run(test)


def test_stopping_early_cancels_the_rest(open_engine: OpenEngine, runtime: FakeRuntime) -> None:
    running, go_on = threading.Event(), threading.Event()

    def hold_the_second(clips: np.ndarray[Any, Any]) -> None:
        if len(runtime.batches) == 2:
            running.set()
            assert go_on.wait(60)

    runtime._before_run = hold_the_second

    async def test() -> None:
        async with open_engine(max_active=1, max_queue=0) as engine:
            stream = engine.recognize_stream(path())
            first = await anext(stream)
            assert isinstance(first, ClipResult)
            assert await asyncio.to_thread(running.wait, 20)
            await stream.aclose()
            assert engine.admission.num_active == 0
            go_on.set()
            assert len((await engine.recognize(path(clips=ClipRequest(num_clips=2)))).clips) == 2
            assert runtime.batches == [4, 4, 2]
            assert value(engine.metrics, "tenclip_clips_saved_total", model="tiny") == 2

    run(test)


def test_errors_come_out_of_a_stream(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            with pytest.raises(VideoNotFound):
                await anext(engine.recognize_stream(path("absent.mp4")))
            with pytest.raises(DeadlineExceeded):
                await anext(engine.recognize_stream(path(), seconds_left=0.0))
            assert engine.admission.num_active == engine.admission.num_waiting == 0

    run(test)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("max_video_mb", 1, r": 1100000 bytes; at most 1048576 are allowed \(max_video_mb\)"),
        ("max_pixels", 3000, r": pictures of 64x48 = 3072 pixels; at most 3000 are allowed \(max_pixels\)"),
        ("max_frames", 39, r": more than 39 frames, as many as are allowed \(max_frames\)"),
        ("max_video_seconds", 1.5, r": 2\.00 seconds of video; at most 1\.5 are allowed \(max_video_seconds\)"),
    ],
)
def test_ceilings_on_a_video_hold_however_it_comes(
    open_engine: OpenEngine, runtime: FakeRuntime, tmp_path: Path, videos: Path, setting: str, value: Any, message: str
) -> None:
    data = (videos / "colors.mp4").read_bytes()
    data += bytes(1_100_000 - len(data))
    (tmp_path / "large.mp4").write_bytes(data)

    async def test() -> None:
        async with open_engine(allow_roots=(tmp_path,), **{setting: value}) as engine:
            for asked in (path("large.mp4"), RecognitionRequest(data=data, name="large.mp4")):
                with pytest.raises(VideoTooLarge, match=r"large\.mp4" + message):
                    await engine.recognize(asked)
            assert runtime.batches == []
            refused = engine.metrics.registry.get_sample_value
            assert refused("tenclip_refusals_total", {"reason": "video_too_large"}) == 2
            assert refused("tenclip_refusals_total", {"reason": "too_large"}) == 0

    run(test)


# -- the cache --------------------------------------------------------------------------------------------------------


def test_the_same_video_is_not_run_twice(open_engine: OpenEngine, runtime: FakeRuntime, videos: Path) -> None:
    async def test() -> None:
        async with open_engine(cache_mb=1) as engine:
            first = await engine.recognize(path())
            again = await engine.recognize(RecognitionRequest(data=(videos / "colors.mp4").read_bytes()))
            np.testing.assert_array_equal(first.probabilities, again.probabilities)
            assert again.clips == first.clips
            assert set(again.timings.values()) == {0.0}
            assert sum(runtime.batches) == 10
            *clips, result = [item async for item in engine.recognize_stream(path())]
            assert len(clips) == 10
            assert isinstance(result, Recognition)
            await engine.recognize(path(clips=ClipRequest(num_clips=3)))
            await engine.recognize(path("bar.mp4"))
            assert sum(runtime.batches) == 10 + 3 + 10
            assert value(engine.metrics, "tenclip_cache_answers_total", result="hit") == 2
            assert value(engine.metrics, "tenclip_cache_answers_total", result="miss") == 3
            assert 0 < value(engine.metrics, "tenclip_cache_bytes") < 1 << 20

    run(test)


def test_without_a_cache_every_video_is_run(open_engine: OpenEngine, runtime: FakeRuntime) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            for _ in range(2):
                await engine.recognize(path())
            assert sum(runtime.batches) == 20

    run(test)


def test_frames_that_are_used_are_counted_once(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            result = await engine.recognize(path("long.mp4"))
            used = {frame for clip in result.clips for frame in clip.frames}
            assert value(engine.metrics, "tenclip_frames_used_total") == len(used) == result.report.frames_requested
            assert value(engine.metrics, "tenclip_frames_decoded_total") == result.report.frames_decoded > len(used)

    run(test)


@pytest.mark.parametrize("told", [math.nan, math.inf, -math.inf, -1.0, 1e9, 0.0])
def test_a_worker_cannot_say_that_preprocessing_took_longer_than_all_of_it(
    open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch, told: float
) -> None:
    async def test() -> None:
        async with open_engine() as engine:
            decode = engine.pool.decode

            async def lie(*args: Any, **kwargs: Any) -> VideoClips:
                return replace(await decode(*args, **kwargs), preprocess_seconds=told)

            monkeypatch.setattr(engine.pool, "decode", lie)
            timings = (await engine.recognize(path())).timings
            assert 0 <= timings["preprocess"] < 60
            assert 0 <= timings["decode"] < 60
            assert (timings["decode"] == 0) == (told > 60)
            assert (timings["preprocess"] == 0) == (not told > 60)

    run(test)


# -- threads ----------------------------------------------------------------------------------------------------------


class Hanging:
    """Stands for what does not return: `wait` does not before `released` is set. `begun` counts."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun = 0

    def wait(self) -> None:
        self.begun += 1
        assert self.released.wait(60)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.released.set()


async def end_all(tasks: Sequence[asyncio.Task[Recognition]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_names_that_hang_hold_up_only_those_who_ask_for_them(
    open_engine: OpenEngine, hanging: Hanging, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".attacker.example"):
            hanging.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    data = (videos / "colors.mp4").read_bytes()

    async def test() -> None:
        allowed = {"allow_schemes": ("http",), "allow_hosts": ("*",), "cache_mb": 1, "max_queue": 128}
        async with open_engine(**allowed) as engine:
            uris = [RecognitionRequest(uri=f"http://h{i}.attacker.example/v") for i in range(60)]
            waiting = [asyncio.create_task(engine.recognize(r)) for r in uris]
            while hanging.begun < 16:
                await asyncio.sleep(0)
            assert (await engine.recognize(RecognitionRequest(data=data))).clips
            assert (await engine.recognize(path("bar.mp4"))).clips
            await end_all(waiting)
            assert hanging.begun == 16  # nobody asks for a name that nobody waits for any more
            assert not await engine.close()
            hanging.released.set()

    run(test)


def test_files_that_hang_hold_up_only_those_who_ask_for_them(
    open_engine: OpenEngine, hanging: Hanging, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_(path: str, roots: Sequence[Path]) -> OpenFile:
        if path == "hangs":
            hanging.wait()
        return open_path(path, roots)

    monkeypatch.setattr("tenclip_serving.intake.open_video.open_path", open_)

    async def test() -> None:
        async with open_engine(cache_mb=1, max_queue=128) as engine:
            waiting = [asyncio.create_task(engine.recognize(path("hangs"))) for _ in range(60)]
            while hanging.begun < 8:
                await asyncio.sleep(0)
            inline = RecognitionRequest(data=(videos / "colors.mp4").read_bytes())
            assert (await engine.recognize(inline)).clips
            await end_all(waiting)
            assert not await engine.close()
            hanging.released.set()
            assert await engine.close()

    run(test)


def test_threads_of_an_engine_have_ended_with_it(open_engine: OpenEngine) -> None:
    async def test() -> None:
        async with open_engine(cache_mb=1) as engine:
            await engine.recognize(path())
        assert await engine.close()

    before = set(threading.enumerate())
    run(test)
    added = [t for t in threading.enumerate() if t not in before]
    for thread in added:
        thread.join(60)
    assert [t.name for t in added if t.is_alive()] == []


def test_what_a_given_up_decode_holds_stays_charged_until_its_worker_is_free(
    open_engine: OpenEngine, videos: Path
) -> None:
    data = (videos / "colors.mp4").read_bytes()

    async def test() -> None:
        async with open_engine() as engine:
            (pid,) = engine.pool.pids
            os.kill(pid, signal.SIGSTOP)
            task = asyncio.create_task(engine.recognize(RecognitionRequest(data=data)))
            while not engine.admission.held("decoded"):
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert engine.admission.num_active == 0
            assert engine.admission.held("decoded") > 0
            assert engine.admission.held("encoded") == len(data)
            os.kill(pid, signal.SIGCONT)
            while engine.admission.held("decoded"):
                await asyncio.sleep(0.005)
            assert engine.admission.held("encoded") == 0

    run(test)


@pytest.mark.parametrize("swap", ["file", "folder"])
def test_a_path_is_judged_and_opened_once(
    open_engine: OpenEngine, bundle_path: Path, videos: Path, tmp_path: Path, swap: str
) -> None:
    """Who writes below a root cannot put a link to another file in the place of one that waits to be decoded."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    outside.mkdir()
    shutil.copy(videos / "colors.mp4", root / "folder" / "a.mp4")
    shutil.copy(videos / "long.mp4", outside / "a.mp4")

    async def test() -> None:
        async with open_engine(allow_roots=(root,)) as engine:
            worker = await engine.pool.acquire()
            task = asyncio.create_task(engine.recognize(path("folder/a.mp4")))
            while not engine.admission.num_active:
                await asyncio.sleep(0.005)
            if swap == "file":
                (root / "folder" / "a.mp4").unlink()
                (root / "folder" / "a.mp4").symlink_to(outside / "a.mp4")
            else:
                (root / "folder").rename(root / "moved")
                (root / "folder").symlink_to(outside)
            engine.pool._give_back(worker)
            assert (await task).info.num_frames == 40
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(PathNotAllowed):
                await engine.recognize(path("folder/a.mp4"))
            assert len(os.listdir("/proc/self/fd")) == before

    run(test)


def test_a_runtime_that_hangs_is_not_waited_for_and_named(bundle_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reached, released = threading.Event(), threading.Event()

    def hang(clips: Clips) -> None:
        reached.set()
        assert released.wait(120)

    async def test() -> None:
        runtime = FakeRuntime(before_run=hang)
        engine = Engine(ServerConfig(directory=bundle_path.parent), Repository({}))
        clips = np.zeros((1, 4, 8, 8, 3), np.uint8)
        waiting = asyncio.create_task(engine._scheduler.run(runtime, clips, model="tiny"))
        assert await asyncio.to_thread(reached.wait, 60)
        assert not await engine.close(0.1)
        released.set()
        await waiting
        assert await engine.close()

    run(test)
    (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert said.message == "a batch has not ended in 0.1 seconds: it is not waited for"
    assert vars(said)["fields"] == {"model": "tiny"}
