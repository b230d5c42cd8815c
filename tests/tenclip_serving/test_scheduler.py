from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from tenclip_serving.runtimes import Clips
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.scheduler import ClipScheduler


def clips_of(value: int, num: int) -> Clips:
    """Clips that say whose they are."""
    return np.full((num, 4, 8, 8, 3), value, np.uint8)


class Gate:
    """Holds the runtime before each batch until it is opened, and notes whose batch it was."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, clips: Clips) -> None:
        self.order.append(int(clips[0, 0, 0, 0, 0]))
        self.reached.set()
        assert self.opened.wait(20)


def test_batches_in_the_order_of_the_clips() -> None:
    async def run() -> None:
        runtime = FakeRuntime(batch_size=3)
        counted: list[tuple[int, str]] = []
        scheduler = ClipScheduler(on_clips=lambda count, model: counted.append((count, model)))
        clips = np.random.default_rng(0).integers(0, 256, (8, 4, 8, 8, 3), np.uint8)
        result = await scheduler.run(runtime, clips, model="m")
        scheduler.close()
        assert runtime.batches == [3, 3, 2]
        assert counted == [(3, "m"), (3, "m"), (2, "m")]
        logits = np.concatenate([o.logits for o in result.outputs])
        np.testing.assert_allclose(logits, FakeRuntime().run(clips).logits, rtol=1e-6)
        assert result.infer_seconds > 0
        assert result.queue_seconds > 0

    asyncio.run(run())


def test_a_short_video_does_not_wait_for_the_end_of_a_long_one() -> None:
    async def run() -> None:
        gate = Gate()
        runtime = FakeRuntime(batch_size=1, before_run=gate)
        scheduler = ClipScheduler()
        long = asyncio.create_task(scheduler.run(runtime, clips_of(1, 10)))
        await asyncio.to_thread(gate.reached.wait, 20)
        short = asyncio.create_task(scheduler.run(runtime, clips_of(2, 2)))
        await asyncio.sleep(0)  # the short one is in the queue
        gate.opened.set()
        await asyncio.gather(long, short)
        scheduler.close()
        # After the first clip of the long one they take turns.
        assert gate.order == [1, 2, 1, 2, *[1] * 8]

    asyncio.run(run())


def test_a_cancelled_videos_clips_never_reach_the_runtime() -> None:
    async def run() -> None:
        gate = Gate()
        runtime = FakeRuntime(batch_size=1, before_run=gate)
        scheduler = ClipScheduler()
        running = asyncio.create_task(scheduler.run(runtime, clips_of(1, 3)))
        await asyncio.to_thread(gate.reached.wait, 20)
        waiting = asyncio.create_task(scheduler.run(runtime, clips_of(2, 3)))
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        results = await asyncio.gather(running, waiting, return_exceptions=True)
        gate.opened.set()
        after = await scheduler.run(runtime, clips_of(3, 1))
        scheduler.close()
        assert [type(r) for r in results] == [asyncio.CancelledError] * 2
        assert gate.order == [1, 3]  # the clip that was running, then the next video's
        assert len(after.outputs) == 1

    asyncio.run(run())


def test_an_error_of_the_runtime_is_the_videos_own() -> None:
    def fail_on_two(clips: Clips) -> None:
        if clips[0, 0, 0, 0, 0] == 2:
            raise RuntimeError("no memory")

    async def run() -> None:
        runtime = FakeRuntime(before_run=fail_on_two)
        scheduler = ClipScheduler()
        bad, good = await asyncio.gather(
            scheduler.run(runtime, clips_of(2, 2)), scheduler.run(runtime, clips_of(1, 2)), return_exceptions=True
        )
        scheduler.close()
        assert isinstance(bad, RuntimeError)
        assert not isinstance(good, BaseException)

    asyncio.run(run())


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batch_size_does_not_change_outputs(batch_size: int) -> None:
    async def run() -> None:
        scheduler = ClipScheduler()
        clips = np.random.default_rng(1).integers(0, 256, (7, 4, 8, 8, 3), np.uint8)
        result = await scheduler.run(FakeRuntime(batch_size=batch_size), clips)
        scheduler.close()
        features = np.concatenate([o.features for o in result.outputs])
        np.testing.assert_allclose(features, FakeRuntime().run(clips).features, rtol=1e-6)

    asyncio.run(run())
