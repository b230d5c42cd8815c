"""The order of clips, with a clock and speeds that the tests make up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_serving.runtimes.base import Runtime
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.runtimes.out_of_memory import SplittingRuntime
from tenclip_serving.scheduling.batching import SAMPLES
from tenclip_serving.scheduling.clip_queue import LONG_CLIPS, Batch, ClipJob, ClipQueue


def job(runtime: Runtime, num: int, *others: Runtime, side: int = 4, model: str = "m") -> ClipJob:
    return ClipJob(model=model, runtimes=(runtime, *others), clips=np.zeros((num, 2, side, side, 3), np.uint8))


def take(queue: ClipQueue, now: float = 0.0) -> Batch:
    found = queue.next(now)
    assert isinstance(found, Batch)
    return found


def run_all(queue: ClipQueue, seconds: dict[str, float] | None = None) -> list[Batch]:
    """One batch after the other until there are no more; a clip takes the `seconds` of its model."""
    batches = []
    while isinstance(batch := queue.next(0.0), Batch):
        batches.append(batch)
        queue.finished(batch, (seconds or {}).get(batch.model, 1.0) * batch.size)
    return batches


def owners(batches: list[Batch], *jobs: ClipJob) -> list[int]:
    """Whose clips ran, one index for each."""
    return [jobs.index(p.job) for b in batches for p in b.parts for _ in range(p.last - p.first)]


def test_a_short_video_passes_a_long_one() -> None:
    runtime = FakeRuntime(batch_size=1)
    queue, long, short = ClipQueue(), job(runtime, 100), job(runtime, 3)
    queue.add(long)
    for _ in range(40):
        queue.finished(take(queue), 1.0)
    queue.add(short)
    assert owners(run_all(queue), long, short)[:7] == [1, 0, 1, 0, 1, 0, 0]


def test_short_ones_that_keep_coming_do_not_starve_a_long_one() -> None:
    runtime = FakeRuntime(batch_size=1)
    queue, long = ClipQueue(), job(runtime, 100)
    queue.add(long)
    mine = 0
    for turn in range(100):
        if turn % 2:
            queue.add(job(runtime, 1))
        batch = take(queue)
        mine += batch.parts[0].job is long
        queue.finished(batch, 1.0)
    assert mine >= 40


def test_videos_share_a_batch_clip_by_clip() -> None:
    runtime = FakeRuntime(batch_size=8)
    queue, jobs = ClipQueue(), [job(runtime, n) for n in (10, 2, 3)]
    for j in jobs:
        queue.add(j)
    first, second = run_all(queue)
    assert [(p.first, p.last) for p in first.parts] == [(0, 3), (0, 2), (0, 3)]
    assert [(p.job, p.first, p.last) for p in second.parts] == [(jobs[0], 3, 10)]


def test_a_batch_has_one_shape() -> None:
    runtime = FakeRuntime(batch_size=4)
    queue, small, large = ClipQueue(), job(runtime, 4), job(runtime, 2, side=8)
    queue.add(small)
    queue.add(large)
    for batch in run_all(queue):
        assert len({p.job.shape for p in batch.parts}) == 1
    assert small.left == large.left == 0


def test_large_clips_count_for_what_they_are() -> None:
    runtime = FakeRuntime(batch_size=1)
    queue, small, large = ClipQueue(), job(runtime, 40), job(runtime, 10, side=8)
    queue.add(small)
    queue.add(large)
    # A clip of four times the pixels, then four of the others.
    assert owners(run_all(queue), small, large)[:10].count(1) == 2


def test_a_video_that_has_had_much_leaves_more_to_the_others() -> None:
    runtime = FakeRuntime(batch_size=1)
    queue, long = ClipQueue(), job(runtime, 20 * LONG_CLIPS)
    queue.add(long)
    for _ in range(4 * LONG_CLIPS):
        queue.finished(take(queue), 1.0)
    short = job(runtime, 10)
    queue.add(short)
    order = owners(run_all(queue), long, short)
    assert order.index(1) <= 1
    assert order[:14].count(1) == 10  # and yet it goes on
    assert len(order) == 16 * LONG_CLIPS + 10


def test_models_share_the_machine_by_seconds() -> None:
    slow, fast = FakeRuntime(batch_size=1), FakeRuntime(batch_size=1)
    queue = ClipQueue()
    queue.add(job(slow, 20, model="slow"))
    queue.add(job(fast, 200, model="fast"))
    batches = run_all(queue, {"slow": 1.0, "fast": 0.1})
    # While both have clips, ten of the fast one for each of the slow one.
    head = [b.model for b in batches[:110]]
    assert head.count("slow") == pytest.approx(10, abs=1)
    assert all("slow" in head[i : i + 13] for i in range(0, 90, 13))


def test_a_model_that_comes_back_has_saved_up_nothing() -> None:
    a, b = FakeRuntime(batch_size=1), FakeRuntime(batch_size=1)
    queue = ClipQueue()
    queue.add(job(b, 1, model="b"))
    run_all(queue)
    queue.add(job(a, 50, model="a"))
    for _ in range(40):
        queue.finished(take(queue), 1.0)
    queue.add(job(b, 10, model="b"))
    head = [batch.model for batch in run_all(queue)[:10]]
    assert head.count("b") == pytest.approx(5, abs=1)


def test_one_batch_at_a_time_on_one_device_unless_there_are_instances() -> None:
    one, first, second = (FakeRuntime(batch_size=1) for _ in range(3))
    queue = ClipQueue()
    queue.add(job(first, 10, second, model="two"))
    running = [take(queue), take(queue)]
    assert [b.runtime for b in running] == [first, second]
    assert queue.next(0.0) is None
    assert queue.num_slots == 2
    queue.add(job(one, 10, model="one"))
    queue.finished(running[0], 1.0)
    # The other model is next and needs the whole machine: no one takes the half that is free.
    assert queue.next(0.0) is None
    queue.finished(running[1], 1.0)
    assert take(queue).model == "one"
    assert queue.next(0.0) is None


def test_a_gpu_is_another_device() -> None:
    cpu, gpu = FakeRuntime(batch_size=1), SplittingRuntime(FakeRuntime(batch_size=1))
    queue = ClipQueue()
    queue.add(job(cpu, 2, model="cpu"))
    queue.add(job(gpu, 2, model="gpu"))
    assert {take(queue).model, take(queue).model} == {"cpu", "gpu"}
    assert queue.next(0.0) is None
    assert queue.num_slots == 2


def test_what_is_removed_or_late_is_not_run() -> None:
    runtime = FakeRuntime(batch_size=2)
    queue, kept, gone, late = ClipQueue(), job(runtime, 4), job(runtime, 4), job(runtime, 4)
    late.deadline = 0.5
    for j in (kept, gone, late):
        queue.add(j)
    first = take(queue, now=1.0)
    assert {p.job for p in first.parts} == {kept, gone}
    assert queue.remove(gone) == 3
    assert queue.remove(gone) == 0
    queue.finished(first, 1.0)
    second = take(queue, now=5.0)
    assert [p.job for p in second.parts] == [kept]
    queue.finished(second, 1.0)
    assert take(queue, now=5.0).size == 1
    assert late.left == 4
    assert queue.drain() == [late]


def test_a_batch_that_pays_is_waited_for_and_no_longer_than_it_pays() -> None:
    runtime = FakeRuntime(batch_size=4)
    queue = ClipQueue()
    for size in (*[1] * SAMPLES, *[4] * SAMPLES):
        queue.add(job(runtime, size))
        queue.finished(take(queue, now=float(size)), 0.010)
    queue.add(job(runtime, 1))
    wait = queue.next(1.0)
    assert isinstance(wait, float)
    assert 0 < wait <= 0.005
    assert isinstance(queue.next(1.0 + wait), Batch)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([4, 8]), st.integers(0, 1)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_every_clip_runs_once_and_in_order(
    jobs: list[tuple[int, int, int]], batch_size: int, random: np.random.Generator
) -> None:
    runtimes = [FakeRuntime(batch_size=batch_size), FakeRuntime(batch_size=batch_size)]
    queue, waiting = ClipQueue(), [job(runtimes[m], n, side=side, model=str(m)) for n, side, m in jobs]
    everyone = list(waiting)
    done: dict[int, list[int]] = {id(j): [] for j in everyone}
    running: list[Batch] = []
    now = 0.0
    while waiting or running or any(j.left for j in everyone):
        if waiting and random.random() < 0.5:
            queue.add(waiting.pop())
        found = queue.next(now)
        if isinstance(found, float):
            now += found
        elif isinstance(found, Batch):
            assert found.size <= batch_size
            running.append(found)
        elif running:
            batch = running.pop()
            queue.finished(batch, random.random())
            for part in batch.parts:
                done[id(part.job)] += range(part.first, part.last)
        else:
            assert waiting
    assert all(done[id(j)] == list(range(len(j.clips))) for j in everyone)
