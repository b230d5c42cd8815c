from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import DeadlineExceeded, ServerUnavailable
from tenclip_serving.runtimes import Clips, Outputs, create_runtime
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.scheduling.scheduler import ClipScheduler
from tests.tenclip_serving.helpers import SPEC, make_bundle


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
        counted: list[tuple[str, int]] = []
        scheduler = ClipScheduler(on_batch=lambda model, count: counted.append((model, count)))
        clips = np.random.default_rng(0).integers(0, 256, (8, 4, 8, 8, 3), np.uint8)
        result = await scheduler.run(runtime, clips, model="m")
        scheduler.close()
        assert runtime.batches == [3, 3, 2]
        assert counted == [("m", 3), ("m", 3), ("m", 2)]
        logits = np.concatenate([o.logits for o in result.outputs])
        np.testing.assert_allclose(logits, FakeRuntime().run(clips).logits, rtol=1e-6)
        assert result.infer_seconds > 0
        assert result.queue_seconds > 0

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_job_without_time_is_refused_and_does_not_wait(seconds: float) -> None:
    async def run() -> None:
        saved: list[tuple[str, int]] = []
        scheduler = ClipScheduler(on_saved=lambda model, count: saved.append((model, count)))
        with pytest.raises(DeadlineExceeded, match="before the clips could run"):
            await asyncio.wait_for(scheduler.run(FakeRuntime(), clips_of(1, 3), model="m", seconds_left=seconds), 20)
        assert saved == [("m", 3)]
        assert scheduler.waiting() == {}
        scheduler.close()

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


def test_clips_that_wait_are_counted_by_model() -> None:
    async def run() -> None:
        gate = Gate()
        runtime, other = FakeRuntime(batch_size=2, before_run=gate), FakeRuntime(batch_size=2, before_run=gate)
        scheduler = ClipScheduler()
        assert scheduler.waiting() == {}
        tasks = [asyncio.create_task(scheduler.run(runtime, clips_of(1, 5), model="a"))]
        await asyncio.to_thread(gate.reached.wait, 20)
        tasks.append(asyncio.create_task(scheduler.run(other, clips_of(2, 3), model="b")))
        await asyncio.sleep(0)
        assert scheduler.waiting() == {"a": 3, "b": 3}, "two of the five have begun"
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert scheduler.waiting() == {"a": 3}
        gate.opened.set()
        await tasks[0]
        assert scheduler.waiting() == {}
        scheduler.close()

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


async def together(scheduler: ClipScheduler, runtime: FakeRuntime, gate: Gate, *counts: int) -> list[list[Outputs]]:
    """Videos of so many clips, clip 1 of value 1 and so on, that all wait behind one clip of value 0."""
    first = asyncio.create_task(scheduler.run(runtime, clips_of(0, 1)))
    await asyncio.to_thread(gate.reached.wait, 20)
    tasks = [asyncio.create_task(scheduler.run(runtime, clips_of(i + 1, n))) for i, n in enumerate(counts)]
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    return [list((await task).outputs) for task in tasks]


def test_clips_of_many_videos_share_batches_and_go_back_to_their_own() -> None:
    async def run() -> None:
        gate = Gate()
        runtime = FakeRuntime(batch_size=8, before_run=gate)
        scheduler = ClipScheduler()
        answers = await together(scheduler, runtime, gate, 3, 1, 4)
        scheduler.close()
        assert runtime.batches == [1, 8]
        for value, (outputs, num) in enumerate(zip(answers, (3, 1, 4), strict=True), start=1):
            expected = FakeRuntime().run(clips_of(value, num))
            np.testing.assert_allclose(np.concatenate([o.logits for o in outputs]), expected.logits, rtol=1e-6)
            np.testing.assert_allclose(np.concatenate([o.features for o in outputs]), expected.features, rtol=1e-6)

    asyncio.run(run())


def test_in_a_shared_batch_only_the_video_at_fault_fails() -> None:
    gate = Gate()

    def fail_on_two(clips: Clips) -> None:
        gate(clips)
        if 2 in clips[:, 0, 0, 0, 0]:
            raise MemoryError("too much")

    async def run() -> None:
        runtime = FakeRuntime(batch_size=8, before_run=fail_on_two)
        scheduler = ClipScheduler()
        first = asyncio.create_task(scheduler.run(runtime, clips_of(0, 1)))
        await asyncio.to_thread(gate.reached.wait, 20)
        tasks = [asyncio.create_task(scheduler.run(runtime, clips_of(value, 2))) for value in (1, 2, 3)]
        await asyncio.sleep(0)
        gate.opened.set()
        _, good, bad, fine = await asyncio.gather(first, *tasks, return_exceptions=True)
        scheduler.close()
        assert isinstance(bad, MemoryError)
        assert not isinstance(good, BaseException)
        assert not isinstance(fine, BaseException)
        assert sorted(runtime.batches) == [1, 2, 2, 2, 6]

    asyncio.run(run())


def test_outputs_are_told_as_they_come() -> None:
    async def run() -> None:
        scheduler = ClipScheduler()
        seen: list[tuple[int, int]] = []
        runtime = FakeRuntime(batch_size=2)
        await scheduler.run(runtime, clips_of(1, 5), on_outputs=lambda first, o: seen.append((first, len(o.logits))))
        scheduler.close()
        assert seen == [(0, 2), (2, 2), (4, 1)]

    asyncio.run(run())


def test_clips_that_are_cancelled_are_counted_and_their_slot_is_free() -> None:
    async def run() -> None:
        gate, saved = Gate(), []
        runtime = FakeRuntime(batch_size=2, before_run=gate)
        scheduler = ClipScheduler(on_saved=lambda model, count: saved.append((model, count)))
        task = asyncio.create_task(scheduler.run(runtime, clips_of(1, 7), model="m"))
        await asyncio.to_thread(gate.reached.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.opened.set()
        await scheduler.run(runtime, clips_of(2, 1))
        scheduler.close()
        assert saved == [("m", 5)]
        assert gate.order == [1, 2]

    asyncio.run(run())


def test_what_is_too_late_is_not_begun() -> None:
    async def run() -> None:
        runtime = FakeRuntime()
        scheduler = ClipScheduler()
        late = asyncio.create_task(scheduler.run(runtime, clips_of(1, 2), seconds_left=0.0))
        await scheduler.run(runtime, clips_of(2, 2))
        assert runtime.batches == [2]
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        scheduler.close()

    asyncio.run(run())


def test_instances_run_side_by_side() -> None:
    async def run() -> None:
        both = threading.Barrier(2)

        def meet(clips: Clips) -> None:
            both.wait(20)

        runtimes = [FakeRuntime(batch_size=1, before_run=meet) for _ in range(2)]
        scheduler = ClipScheduler()
        result = await scheduler.run(runtimes, clips_of(1, 6))
        scheduler.close()
        assert len(result.outputs) == 6
        assert [len(r.batches) for r in runtimes] == [3, 3]

    asyncio.run(run())


def test_closing_ends_what_runs_and_refuses_what_waits() -> None:
    async def run() -> None:
        gate = Gate()
        runtime = FakeRuntime(batch_size=1, before_run=gate)
        scheduler = ClipScheduler()
        last = asyncio.create_task(scheduler.run(runtime, clips_of(1, 1)))
        await asyncio.to_thread(gate.reached.wait, 20)
        dropped = asyncio.create_task(scheduler.run(runtime, clips_of(2, 1)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(scheduler.close))
        with pytest.raises(ServerUnavailable):
            await dropped
        gate.opened.set()
        await closing
        assert len((await last).outputs) == 1
        with pytest.raises(ServerUnavailable):
            await scheduler.run(runtime, clips_of(3, 1))
        assert gate.order == [1]

    asyncio.run(run())


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("side", [SPEC.crop, SPEC.fully_convolutional_crop])
def test_batched_is_unbatched_on_real_runtimes(tmp_path: Path, name: str, side: int) -> None:
    """Batches of up to eight across three videos, beside one clip at a time."""
    runtime = create_runtime(name, make_bundle(tmp_path) / "model.onnx", threads=1)
    videos = [
        np.random.default_rng(seed).integers(0, 256, (n, SPEC.num_frames, side, side, 3), np.uint8)
        for seed, n in enumerate((9, 2, 5))
    ]
    expected = [[runtime.run(clips[i : i + 1]) for i in range(len(clips))] for clips in videos]
    batches: list[int] = []
    setattr(runtime, "batch_size", 8)  # noqa: B010 - what a CPU would not claim by itself

    async def run() -> None:
        scheduler = ClipScheduler(on_batch=lambda model, size: batches.append(size))
        results = await asyncio.gather(*(scheduler.run(runtime, clips) for clips in videos))
        scheduler.close()
        for result, one_by_one in zip(results, expected, strict=True):
            for part in ("logits", "features"):
                together = np.concatenate([getattr(o, part) for o in result.outputs])
                alone = np.concatenate([getattr(o, part) for o in one_by_one])
                np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)

    asyncio.run(run())
    assert sum(batches) == 16
    assert max(batches) == 8


def test_a_runtime_that_hangs_is_not_waited_for_longer_than_asked() -> None:
    async def run() -> None:
        hangs, works = Gate(), FakeRuntime()
        scheduler = ClipScheduler()
        waiting = asyncio.create_task(scheduler.run(FakeRuntime(before_run=hangs), clips_of(0, 2), model="hangs"))
        await scheduler.run(works, clips_of(1, 2), model="works")
        await asyncio.to_thread(hangs.reached.wait, 20)
        assert await asyncio.to_thread(scheduler.close, 0.1) == ["hangs"]
        hangs.opened.set()
        assert await asyncio.to_thread(scheduler.close) == []
        await waiting

    asyncio.run(run())
