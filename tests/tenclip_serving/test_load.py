"""A real gRPC server in this process, on a runtime that the tests hold back: what happens to those who wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1 import tenclip_pb2_grpc
from tenclip_serving.config import ServerConfig
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.server import Server
from tenclip_video.bundle import read_bundle
from tests.tenclip_serving.helpers import SPEC
from tests.tenclip_serving.test_engine import Hold, until, value


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime(crop=SPEC.crop, batch_size=1)


Opened = Callable[..., contextlib.AbstractAsyncContextManager[tuple[Server, Any]]]


@pytest.fixture
def opened(one_model: Path, videos: Path, runtime: FakeRuntime) -> Opened:
    """A server of one fake model, and a stub that talks to it."""

    @contextlib.asynccontextmanager
    async def open_(**changes: Any) -> AsyncIterator[tuple[Server, Any]]:
        model = ServedModel(bundle=read_bundle(one_model / "tiny" / "1"), runtime=runtime, runtime_reason="tests")
        settings = {"decode_workers": 1, "allow_roots": (videos,), "port": 0, "metrics_port": -1, **changes}
        server = Server(ServerConfig(directory=one_model, **settings), Repository({"tiny": {"1": model}}))
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield server, tenclip_pb2_grpc.VideoRecognitionStub(channel)
        finally:
            await server.stop(grace=0)

    return open_


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 240))


def request(num_clips: int = 10, **fields: Any) -> pb.PredictRequest:
    fields.setdefault("video", pb.Video(path="colors.mp4"))
    return pb.PredictRequest(clips=pb.ClipSelection(num_clips=num_clips), **fields)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_caller_who_goes_frees_the_slot_before_the_next_batch(opened: Opened, runtime: FakeRuntime, how: str) -> None:
    hold = Hold(runtime)

    async def test() -> None:
        async with opened(max_active=1, max_queue=1) as (server, stub):
            metrics = server.engine.metrics
            gone = stub.Predict(request(), timeout=10.0 if how == "deadline" else None)
            await hold.until_reached()
            waiting = stub.Predict(request(3))
            await until(lambda: server.engine.admission.num_waiting == 1)
            assert runtime.batches == [1]
            if how == "cancel":
                gone.cancel()
            # The runtime is still held: the place of the one who went is taken by the one who waited, now.
            await until(lambda: value(metrics, "tenclip_clips_saved_total", model="tiny") == 9)
            await until(lambda: (server.engine.admission.num_active, server.engine.admission.num_waiting) == (1, 0))
            assert runtime.batches == [1]
            hold.release()
            assert len((await waiting).top) == 4
            assert sum(runtime.batches) == 1 + 3
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await gone
            expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
            assert await gone.code() == expected

    run(test)


def test_ten_times_too_much_is_refused_with_advice_and_the_rest_is_answered(
    opened: Opened, runtime: FakeRuntime
) -> None:
    hold = Hold(runtime)

    async def test() -> None:
        async with opened(max_active=2, max_queue=2) as (server, stub):
            calls = [stub.Predict(request(2)) for _ in range(40)]
            await until(lambda: value(server.engine.metrics, "tenclip_refusals_total", reason="queue_full") == 36)
            assert await asyncio.wait_for(refused(calls), 60) == 36  # while not one batch has ended
            hold.release()
            answers = [c for c in calls if await c.code() == grpc.StatusCode.OK]
            assert [len((await call).top) for call in answers] == [4] * 4
            assert sum(runtime.batches) == 8

    run(test)


async def refused(calls: list[Any]) -> int:
    """How many of the calls have ended, all of them refused with advice on when to come back."""
    ended = [call for call in calls if call.done()]
    while len(ended) < len(calls) - 4:
        await asyncio.sleep(0.01)
        ended = [call for call in calls if call.done()]
    for call in ended:
        assert await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        metadata = dict(await call.trailing_metadata())
        assert metadata["tenclip-reason"] == "OVERLOADED"
        assert float(metadata["tenclip-retry-after-seconds"]) > 0
    return len(ended)


def test_a_large_upload_is_refused_by_its_size_alone(opened: Opened) -> None:
    settings = {"max_message_mb": 2, "max_queue_mb": 2, "max_clip_mb": 1, "max_in_flight_mb": 3}

    async def test() -> None:
        async with opened(**settings) as (server, stub):
            async with server.engine.admission.admit(1 << 20):
                call = stub.Predict(request(video=pb.Video(data=b"\0" * ((1 << 20) + 1))))
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call
                assert await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "do not fit into the 1.0 MiB that are free" in await call.details()
            assert len((await stub.Predict(request())).top) == 4

    run(test)
