"""Salient clips and adaptive prediction in the core: real decode processes that score, bundles with real samplers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import DeadlineExceeded, InvalidRequest
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.manager import ModelManager
from tenclip_serving.models.repository import Repository, ServedModel, load_repository
from tenclip_serving.requests import ClipRequest, ClipResult, Recognition, RecognitionRequest
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_serving.telemetry.metrics import Metrics
from tenclip_video.bundle import ScoreCalibration
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tests.tenclip_serving.helpers import RULE, SAMPLER_SPEC, SPEC, Sampler, make_bundle
from tests.tenclip_serving.models.test_samplers import with_a_listener

TEMPERATURE = ScoreCalibration(temperature=3.0, protocol="salient-clips", num_videos=50, ece_before=0.2, ece_after=0.1)
# Of 40 frames, in windows of 4, 2 apart.
NUM_WINDOWS = 19
# Never reached by the fake runtime, always, and in between.
NEVER, ALWAYS = 1.01, 0.0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ruled` looks for blue, `reddish` for red, `plain` has no sampler, `salient` runs salient clips by itself."""
    root = tmp_path_factory.mktemp("salient-models")
    make_bundle(root, "ruled", sampler=Sampler(stopping=RULE), calibration=TEMPERATURE)
    make_bundle(root, "reddish", sampler=Sampler(weights=(1.0, 0.0, -1.0), spec=replace(SAMPLER_SPEC, name="red")))
    make_bundle(root, "plain")
    make_bundle(root, "salient", sampler=Sampler(), default_protocol="salient-clips", calibration=TEMPERATURE)
    with_a_listener(make_bundle(root, "listens", sampler=Sampler()))
    make_bundle(root, "blind", sampler=Sampler(weights=(0.0, 0.0, 0.0), stopping=RULE))
    return root


@pytest.fixture(scope="module")
def repository(bundles: Path) -> Repository:
    repository = load_repository(bundles, runtime="onnxruntime", threads=1)
    assert not repository.failed
    return repository


def with_rule(model: ServedModel, threshold: float, *, min_clips: int = 1, runtime: FakeRuntime) -> Repository:
    """The model alone, under the name `ruled`, with another threshold, on another runtime."""
    assert model.sampler is not None
    rule = replace(RULE, threshold=threshold, min_clips=min_clips)
    sampler = replace(model.sampler, stopping=rule)
    return Repository({"ruled": {"1": replace(model, runtime=runtime, sampler=sampler)}})


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime(crop=SPEC.crop, batch_size=4)


@contextlib.asynccontextmanager
async def opened(repository: Repository, bundles: Path, videos: Path, **changes: Any) -> AsyncIterator[Engine]:
    settings = {"decode_workers": 1, "allow_roots": (videos,), **changes}
    engine = Engine(ServerConfig(directory=bundles, **settings), repository)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def asked(
    model: str = "ruled", video: str = "colors.mp4", *, timeline: bool = False, **clips: Any
) -> RecognitionRequest:
    return RecognitionRequest(path=video, model=model, timeline=timeline, clips=ClipRequest(**clips))


ADAPTIVE: dict[str, Any] = {"mode": "salient", "adaptive": True}


def assert_same_scores(one: Recognition, other: Recognition) -> None:
    for name in ("probabilities", "clip_probabilities", "clip_features", "features"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert [c.frames for c in one.clips] == [c.frames for c in other.clips]


# -- what scores the windows ------------------------------------------------------------------------------------------


def test_salient_clips_are_those_of_the_models_sampler(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked(mode="salient", num_clips=3))
            timeline = result.timeline
            assert timeline is not None
            assert (timeline.scorer, timeline.flat, timeline.notes) == ("colours", False, ())
            assert len(timeline.scores) == NUM_WINDOWS
            # The video ends in blue.
            assert timeline.ranking == (18, 17, 16)
            assert np.flatnonzero(timeline.selected).tolist() == [16, 17, 18]
            assert [c.frames[0] for c in result.clips] == [32, 34, 36]
            assert result.adaptive is None
            assert "score" in result.timings
            sampler = engine.repository.get("ruled").sampler
            assert sampler is not None
            expected = read_clips(
                videos / "colors.mp4",
                SPEC,
                Protocol(selection=ClipSelection(mode="salient", num_clips=3)),
                scorer=sampler.scorer,
            )
            assert [c.frames for c in result.clips] == [c.frames for c in expected.plan]

    run(test)


def test_every_way_to_name_a_sampler(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            for model, sampler, scorer, first in (
                ("plain", "", "motion-energy", None),
                ("plain", "ruled", "colours", 36),
                ("plain", "reddish/1", "red", 0),
                ("ruled", "reddish", "red", 0),
                ("ruled", "ruled", "colours", 36),
                ("ruled", "motion-energy", "motion-energy", None),
            ):
                result = await engine.recognize(asked(model, mode="salient", num_clips=1, sampler=sampler))
                assert result.timeline is not None
                assert result.timeline.scorer == scorer
                assert first is None or [c.frames[0] for c in result.clips] == [first]
                # Motion energy has no step of its own: windows do not overlap.
                assert len(result.timeline.scores) == (10 if scorer == "motion-energy" else NUM_WINDOWS)

    run(test)


def test_uniform_clips_with_the_timeline_of_a_sampler(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked("plain", timeline=True, sampler="ruled"))
            assert result.protocol == "ten-clip"
            assert result.timeline is not None
            assert (result.timeline.scorer, len(result.timeline.scores)) == ("colours", NUM_WINDOWS)
            assert result.timeline.ranking == ()
            assert "score" not in (await engine.recognize(asked("ruled"))).timings

    run(test)


def test_a_model_whose_own_protocol_is_salient(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked("salient"))
            assert result.protocol == "salient-clips"
            assert result.timeline is not None
            assert result.timeline.scorer == "colours"
            assert [c.frames[0] for c in result.clips] == list(range(18, 38, 2))
            assert (await engine.recognize(asked("ruled"))).timeline is None  # uniform, as its bundle says

    run(test)


def test_a_window_step_that_is_asked_for(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked(mode="salient", num_clips=2, window_step=1))
            assert result.timeline is not None
            assert len(result.timeline.scores) == 37
            assert result.protocol.startswith("custom: 2 salient clips every 1 frames")

    run(test)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asked(sampler="ruled"), "sampler 'ruled' has no meaning for UNIFORM clips without a timeline"),
        (asked(mode="center", sampler="motion-energy"), "no meaning for CENTER clips"),
        (asked(mode="salient", sampler="absent"), "no sampler 'absent'"),
        (asked("plain", **ADAPTIVE), "has no sampler, and so no stopping rule"),
        (asked(mode="uniform", adaptive=True), "which UNIFORM clips do not have; ask for SALIENT"),
        (asked(adaptive=True), "which UNIFORM clips do not have"),
        (asked(mode="center", adaptive=True), "which CENTER clips do not have"),
        (asked(num_clips=5, **ADAPTIVE), "calibrated for 6 clips, and does not hold for num_clips 5"),
        (
            asked(window_step=1, **ADAPTIVE),
            r"calibrated on salient-clips .*, and does not hold for 6 salient clips every 1 frames",
        ),
        (
            replace(asked(**ADAPTIVE), spatial_mode="fully_convolutional"),
            "does not hold for 6 salient clips, centre crop, fully-convolutional",
        ),
        (
            replace(asked(adaptive=True), protocol="ten-clip"),
            "adaptive prediction runs clips in the order of their salience",
        ),
    ],
)
def test_what_is_refused_before_the_video_is_opened(
    repository: Repository, bundles: Path, videos: Path, runtime: FakeRuntime, request_: RecognitionRequest, says: str
) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            with pytest.raises(InvalidRequest, match=says):
                await engine.recognize(replace(request_, path="absent.mp4"))

    run(test)


def test_a_flat_timeline_is_said_and_clips_are_spread(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked("blind", mode="salient", num_clips=3))
            assert result.timeline is not None
            assert result.timeline.flat
            assert result.timeline.notes
            assert [c.frames[0] for c in result.clips] == [0, 18, 36]
            adaptive = await engine.recognize(asked("blind", **ADAPTIVE))
            assert adaptive.adaptive is not None
            assert adaptive.adaptive.clips_planned == 6

    run(test)


def test_a_sampler_that_listens_to_a_silent_video(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked("listens", mode="salient", num_clips=3))
            timeline = result.timeline
            assert timeline is not None
            assert (timeline.scorer, timeline.ranking) == ("colours + audio", (18, 17, 16))
            assert any("sound" in note for note in timeline.notes)

    run(test)


# -- adaptive prediction ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("min_clips", [1, 2, 4])
def test_clips_that_are_not_needed_never_reach_a_runtime(
    repository: Repository, bundles: Path, videos: Path, runtime: FakeRuntime, min_clips: int
) -> None:
    async def test() -> None:
        ruled = with_rule(repository.get("ruled"), ALWAYS, min_clips=min_clips, runtime=runtime)
        async with opened(ruled, bundles, videos) as engine:
            result = await engine.recognize(asked(**ADAPTIVE))
            assert runtime.batches == [min_clips]
            report = result.adaptive
            assert report is not None
            assert (report.clips_planned, report.clips_used, report.settled) == (6, min_clips, True)
            assert (report.error_bound, report.confidence) == (RULE.error_bound, RULE.confidence)
            assert [c.index for c in result.clips] == list(range(6 - min_clips, 6))
            timeline = result.timeline
            assert timeline is not None
            assert timeline.ranking == tuple(range(18, 18 - min_clips, -1))
            assert np.flatnonzero(timeline.selected).tolist() == sorted(timeline.ranking)
            plain = await engine.recognize(asked(mode="salient", num_clips=min_clips))
            assert_same_scores(result, plain)
            metrics = engine.metrics
            assert value(metrics, "tenclip_clips_saved_total", model="ruled") == 6 - min_clips
            assert value(metrics, "tenclip_adaptive_clips_total", model="ruled", what="planned") == 6
            assert value(metrics, "tenclip_adaptive_clips_total", model="ruled", what="used") == min_clips
            assert engine.admission.held("decoded") == 0
            assert engine.statistics.of("ruled", "1").num_clips == 2 * min_clips

    run(test)


def test_a_video_that_is_never_settled_takes_all_clips(
    repository: Repository, bundles: Path, videos: Path, runtime: FakeRuntime
) -> None:
    async def test() -> None:
        ruled = with_rule(repository.get("ruled"), NEVER, runtime=runtime)
        async with opened(ruled, bundles, videos) as engine:
            result = await engine.recognize(asked(**ADAPTIVE))
            assert runtime.batches == [1] * 6
            assert result.adaptive is not None
            assert (result.adaptive.clips_used, result.adaptive.settled) == (6, False)
            assert_same_scores(result, await engine.recognize(asked(mode="salient", num_clips=6)))
            short = await engine.recognize(asked(video="short.mp4", **ADAPTIVE))
            assert short.adaptive is not None
            assert (short.adaptive.clips_planned, short.adaptive.clips_used) == (1, 1)

    run(test)


def test_adaptive_on_a_real_network(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked(**ADAPTIVE))
            assert result.adaptive is not None
            used = result.adaptive.clips_used
            assert result.labels[int(result.probabilities.argmax())] == "blue"
            assert used < 6
            assert_same_scores(result, await engine.recognize(asked(mode="salient", num_clips=used)))
            # Of a part of the video the rule asks for the same clips of that part.
            part = await engine.recognize(asked(end_seconds=1.0, **ADAPTIVE))
            assert all(c.end_seconds <= 1.0 for c in part.clips)

    run(test)


def test_a_stream_tells_every_clip_that_ran(
    repository: Repository, bundles: Path, videos: Path, runtime: FakeRuntime
) -> None:
    async def test() -> None:
        ruled = with_rule(repository.get("ruled"), ALWAYS, min_clips=3, runtime=runtime)
        async with opened(ruled, bundles, videos, cache_mb=1) as engine:
            for again in (False, True):
                *clips, result = [item async for item in engine.recognize_stream(asked(**ADAPTIVE))]
                assert isinstance(result, Recognition)
                assert len(clips) == len(result.clips) == 3
                by_index = {c.index: c for c in result.clips}
                for done, clip in enumerate(clips, start=1):
                    assert isinstance(clip, ClipResult)
                    assert clip.clip == by_index[clip.index]
                    assert (clip.num_done, clip.num_clips) == (done, 6)
                    so_far = clip.video_probabilities
                np.testing.assert_allclose(so_far, result.probabilities, rtol=1e-6)
                assert sum(runtime.batches) == 3, again

    run(test)


def test_the_cache_tells_samplers_and_adaptive_answers_apart(
    repository: Repository, bundles: Path, videos: Path
) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos, cache_mb=1) as engine:
            requests = [
                asked(mode="salient", num_clips=6),
                asked(**ADAPTIVE),
                asked(mode="salient", num_clips=6, sampler="reddish"),
                asked(mode="salient", num_clips=6, sampler="motion-energy"),
            ]
            first = [await engine.recognize(request) for request in requests]
            assert value(engine.metrics, "tenclip_cache_answers_total", result="hit") == 0
            for request, answer in zip(requests, first, strict=True):
                again = await engine.recognize(request)
                assert_same_scores(again, answer)
                assert again.adaptive == answer.adaptive
            assert value(engine.metrics, "tenclip_cache_answers_total", result="hit") == 4
            # The same sampler by its name is the same question.
            await engine.recognize(asked(mode="salient", num_clips=6, sampler="ruled/1"))
            assert value(engine.metrics, "tenclip_cache_answers_total", result="hit") == 5

    run(test)


class HoldSecond:
    """Keeps the runtime from its second batch until it is released."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.reached, self._released, self._runtime = threading.Event(), threading.Event(), runtime
        runtime._before_run = self

    def __call__(self, clips: np.ndarray[Any, Any]) -> None:
        if len(self._runtime.batches) == 2:
            self.reached.set()
            assert self._released.wait(20)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 20)

    def release(self) -> None:
        self._released.set()


@pytest.mark.parametrize("how", ["cancelled", "expired", "stream closed"])
def test_a_request_that_ends_early_gives_its_clips_back(
    repository: Repository, bundles: Path, videos: Path, runtime: FakeRuntime, how: str
) -> None:
    hold = HoldSecond(runtime)

    async def test() -> None:
        ruled = with_rule(repository.get("ruled"), NEVER, runtime=runtime)
        async with opened(ruled, bundles, videos) as engine:
            if how == "stream closed":
                stream = engine.recognize_stream(asked(**ADAPTIVE))
                assert isinstance(await anext(stream), ClipResult)
                await hold.until_reached()
                await stream.aclose()
            else:
                seconds_left = 3.0 if how == "expired" else None
                task = asyncio.create_task(engine.recognize(asked(**ADAPTIVE), seconds_left=seconds_left))
                await hold.until_reached()
                if how == "cancelled":
                    task.cancel()
                with pytest.raises(asyncio.CancelledError if how == "cancelled" else DeadlineExceeded):
                    await task
            assert engine.admission.held("decoded") == engine.admission.num_active == 0
            hold.release()
            assert len((await engine.recognize(asked(mode="center"))).clips) == 1
            assert runtime.batches == [1, 1, 1]
            assert value(engine.metrics, "tenclip_clips_saved_total", model="ruled") == 4
            assert value(engine.metrics, "tenclip_adaptive_clips_total", model="ruled", what="planned") == 0

    run(test)


def test_many_at_once_are_answered_as_each_alone(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        requests = [
            asked(model, video, **clips)
            for video in ("colors.mp4", "bar.mp4", "long.mp4", "short.mp4")
            for model, clips in (
                ("ruled", ADAPTIVE),
                ("ruled", {"mode": "salient", "num_clips": 4}),
                ("ruled", {}),
                ("plain", {"mode": "salient", "num_clips": 4, "sampler": "reddish"}),
                ("blind", ADAPTIVE),
            )
        ]
        async with opened(repository, bundles, videos, decode_workers=2) as engine:
            alone = [await engine.recognize(request) for request in requests]
            together = await asyncio.gather(*(engine.recognize(request) for request in 2 * requests))
            for one, other in zip(together, 2 * alone, strict=True):
                assert_same_scores(one, other)
                assert (one.model, one.adaptive) == (other.model, other.adaptive)
                assert one.clips == other.clips
            for kind in ("encoded", "decoded"):
                assert engine.admission.held(kind) == 0

    run(test)


def test_a_worker_that_dies_while_it_scores(repository: Repository, bundles: Path, videos: Path) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            expected = await engine.recognize(asked(**ADAPTIVE))
            (pid,) = engine.pool.pids
            os.kill(pid, signal.SIGSTOP)
            task = asyncio.create_task(engine.recognize(asked(**ADAPTIVE)))
            async with asyncio.timeout(20):
                while not engine.pool._idle.empty():
                    await asyncio.sleep(0.005)
            os.kill(pid, signal.SIGKILL)
            # The next worker is sent the sampler, too.
            assert_same_scores(await task, expected)
            assert value(engine.metrics, "tenclip_decode_retries_total") == 1

    run(test)


@pytest.mark.parametrize("told", [math.nan, math.inf, -1.0, 1e9])
def test_a_worker_cannot_say_that_scoring_took_longer_than_all_of_it(
    repository: Repository, bundles: Path, videos: Path, monkeypatch: pytest.MonkeyPatch, told: float
) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            decode = engine.pool.decode

            async def lie(*args: Any, **kwargs: Any) -> VideoClips:
                return replace(await decode(*args, **kwargs), score_seconds=told)

            monkeypatch.setattr(engine.pool, "decode", lie)
            timings = (await engine.recognize(asked(mode="salient"))).timings
            assert all(0 <= seconds < 60 for seconds in timings.values())
            assert (timings["score"] == 0) == (not told > 60)

    run(test)


# -- calibrated scores ------------------------------------------------------------------------------------------------


def test_calibrated_scores_are_those_of_what_the_calibration_was_fitted_on(
    repository: Repository, bundles: Path, videos: Path
) -> None:
    async def test() -> None:
        async with opened(repository, bundles, videos) as engine:
            result = await engine.recognize(asked("salient"))
            assert result.calibrated is not None
            np.testing.assert_array_equal(result.calibrated, TEMPERATURE.apply(result.probabilities))
            assert result.calibrated.argmax() == result.probabilities.argmax()
            assert result.calibrated.max() < result.probabilities.max()
            for other in (
                asked("salient", mode="uniform"),
                asked("salient", num_clips=3),
                asked("salient", sampler="reddish"),
                asked("salient", sampler="motion-energy"),
                asked("ruled", **ADAPTIVE),
                asked("plain", mode="salient"),
            ):
                assert (await engine.recognize(other)).calibrated is None

    run(test)


# -- reloading --------------------------------------------------------------------------------------------------------


def test_a_bundle_with_another_sampler_is_loaded_again(tmp_path: Path, videos: Path) -> None:
    root = tmp_path / "models"
    path = make_bundle(root, "ruled", sampler=Sampler())

    async def first_frame(engine: Engine) -> int:
        return (await engine.recognize(asked(mode="salient", num_clips=1))).clips[0].frames[0]

    async def test() -> None:
        repository = load_repository(root, runtime="onnxruntime", threads=1)
        async with opened(repository, root, videos, cache_mb=1, runtime="onnxruntime") as engine:
            manager = ModelManager(engine)
            assert await first_frame(engine) == 36
            shutil.rmtree(path)
            make_bundle(root, "ruled", sampler=Sampler(weights=(1.0, 0.0, -1.0)))
            assert (await manager.reload()).loaded == (("ruled", "1"),)
            assert await first_frame(engine) == 0
            # One that does not load leaves the other serving.
            (path / "salience.onnx").write_bytes(b"no network")
            (failed,) = (await manager.reload()).failed
            assert "salience.onnx" in failed.error
            assert await first_frame(engine) == 0
            await manager.close()

    run(test)
