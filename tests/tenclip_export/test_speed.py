from __future__ import annotations

import re

import numpy as np
import pytest

from tenclip_export import speed
from tenclip_export.speed import Timer, machine, median_seconds, sgemm_rate
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_training.models import VideoModel
from tenclip_training.models.cost import count_macs
from tenclip_video.cpus import usable_cpus
from tenclip_video.spec import ClipSpec


def test_machine_in_words() -> None:
    text = machine()
    assert re.search(rf"{usable_cpus()} cores", text)
    assert not text.startswith(",")


def test_warms_up_once_and_runs_as_often_as_asked() -> None:
    calls = []
    assert median_seconds(lambda: calls.append(1), min_seconds=0, min_runs=5) >= 0
    assert len(calls) == 1 + 5


def test_runs_until_it_has_measured_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("tenclip_export.speed.time.perf_counter", lambda: float(next(now)))
    calls = []
    assert median_seconds(lambda: calls.append(1), min_seconds=7, min_runs=3) == 1
    assert len(calls) == 1 + 7


def test_batches_as_the_runtime_likes_and_counts_clips(
    monkeypatch: pytest.MonkeyPatch, model: VideoModel, spec: ClipSpec
) -> None:
    monkeypatch.setattr(speed, "median_seconds", lambda call, **_: (call(), 0.5)[1])
    runtime = FakeRuntime(batch_size=8)
    timer = Timer(model, spec)
    result = timer.measure(runtime, np.zeros((3, 4, 16, 16, 3), np.uint8), variant="fp32", threads=2)
    assert runtime.batches == [8], "three clips are repeated to fill a batch"
    assert (result.clips_per_second, result.batch_size, result.threads, result.runtime) == (16.0, 8, 2, "fake")
    # A multiply-add is two operations, of the network and of the matrix product alike.
    macs = count_macs(model, num_frames=spec.num_frames, crop=spec.crop)
    assert result.gflops_per_second == pytest.approx(16 * 2 * macs / 1e9)
    assert result.sgemm_share == pytest.approx(16 * macs / (speed.SGEMM_SIZE**3 / 0.5))


def test_sgemm_rate_counts_two_operations_an_element_of_each_product(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("tenclip_export.speed.time.perf_counter", lambda: float(next(now)))
    assert sgemm_rate(128, min_seconds=0) == 2 * 128**3
