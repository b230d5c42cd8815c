from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_serving.models.repository import load_model
from tenclip_serving.runtimes import Clips, Outputs, create_runtime
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.scheduling.warmup import shapes_to_warm, warm_up
from tests.tenclip_serving.helpers import SPEC, make_bundle, without_fully_convolutional


def test_every_shape_that_requests_may_ask_for() -> None:
    assert shapes_to_warm(SPEC, 8) == [
        (1, 4, 32, 32, 3), (8, 4, 32, 32, 3), (1, 4, 40, 40, 3), (8, 4, 40, 40, 3),
    ]  # fmt: skip
    assert shapes_to_warm(without_fully_convolutional(), 1) == [(1, 4, 32, 32, 3)]


def test_a_shape_that_fails_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def fail_on_large(clips: Clips) -> None:
        if clips.shape[2] > SPEC.crop:
            raise RuntimeError("no plan for it")

    runtime = FakeRuntime(batch_size=2, before_run=fail_on_large)
    with caplog.at_level(logging.WARNING):
        warm_up(runtime, SPEC, model="moves")
    assert runtime.batches == [1, 2, 1, 2]
    assert len(caplog.records) == 2
    assert "clips of this shape will fail: no plan for it" in caplog.text


@pytest.mark.parametrize(("instances", "count"), [({}, 1), ({"": 2}, 2), ({"": 2, "tiny": 3}, 3), ({"other": 2}, 1)])
def test_a_model_is_loaded_warm_in_its_instances(
    tmp_path: Path, instances: dict[str, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenclip_serving.models.repository.usable_cpus", lambda: 6)
    threads_asked: list[int] = []
    shapes: list[tuple[int, ...]] = []

    def create(name: str, path: Path, *, threads: int) -> Any:
        threads_asked.append(threads)
        runtime = create_runtime(name, path, threads=1)
        run = runtime.run

        def noted(clips: Clips) -> Outputs:
            shapes.append(clips.shape[2:4])
            return run(clips)

        monkeypatch.setattr(runtime, "run", noted)
        return runtime

    model = load_model(make_bundle(tmp_path), runtime="onnxruntime", instances=instances, create=create)
    assert len(model.instances) == count
    assert len(set(map(id, model.instances))) == count
    assert threads_asked == [0 if count == 1 else 6 // count] * count
    assert shapes.count((40, 40)) == count  # fully-convolutional, before anyone asks
    clips = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32, 3), np.uint8)
    for instance in model.instances:
        np.testing.assert_array_equal(instance.run(clips).logits, model.runtime.run(clips).logits)
