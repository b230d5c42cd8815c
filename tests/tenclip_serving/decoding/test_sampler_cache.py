"""Learned samplers in decode workers: sent once, run in the sandbox, and their failures are typed errors."""

from __future__ import annotations

import hashlib
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from tenclip_api.errors import BundleError, DecodeWorkerDied, UndecodableVideo, VideoTooLarge
from tenclip_serving.decoding import worker as decode_worker
from tenclip_serving.decoding.sampler_cache import KEPT_SAMPLERS, KnownSamplers, SamplerCache
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.decoding.worker import DecodeWorker
from tenclip_serving.decoding.worker_messages import Timeline
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.salience import (
    LearnedScorer,
    SalienceTimeline,
    SamplerFiles,
    default_spec,
    load_sampler,
    read_sampler_files,
)
from tenclip_video.sampling import ClipSelection
from tenclip_video.source import Limits
from tests.samplers import make_sampler
from tests.tenclip_serving.decoding.helpers import decode, open_pool, request, run, until
from tests.tenclip_serving.helpers import SPEC
from tests.videos import Recipe, make_video

pytestmark = pytest.mark.filterwarnings("error")

SALIENT = Protocol(selection=ClipSelection(mode="salient", num_clips=3))
PICTURES = default_spec("compressed", SPEC)
SOUND = default_spec("audio", SPEC)


def files_of(picture: bytes, name: str = "salience.onnx") -> SamplerFiles:
    return SamplerFiles(
        picture=picture,
        names=(name, ""),
        window_step=PICTURES.window_step,
        digest=hashlib.sha256(picture).hexdigest(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samplers")
    (folder / "salience.onnx").write_bytes(make_sampler(PICTURES, "contrast", channels=[0, 1, 2]))
    (folder / "sound.onnx").write_bytes(make_sampler(SOUND, "mean"))
    (folder / "moving.mp4").write_bytes(make_video(Recipe(num_frames=100, audio=True)))
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> SamplerFiles:
    return read_sampler_files(folder / "salience.onnx", folder / "sound.onnx", audio_clips=1, model_spec=SPEC)


def test_a_worker_ranks_clips_as_this_process_does(folder: Path, files: SamplerFiles) -> None:
    here = read_clips(
        folder / "moving.mp4",
        SPEC,
        SALIENT,
        scorer=LearnedScorer(
            picture=load_sampler(folder / "salience.onnx"), sound=load_sampler(folder / "sound.onnx"), audio_clips=1
        ),
    )
    assert here.timeline is not None
    assert here.timeline.ranking

    async def test() -> None:
        async with open_pool() as (pool, _):
            for _ in range(2):
                there = await decode(pool, request(folder / "moving.mp4", protocol=SALIENT, sampler=files))
                assert there.timeline is not None
                assert here.timeline is not None
                assert there.plan == here.plan
                assert there.timeline.ranking == here.timeline.ranking
                assert there.timeline.scorer == "compressed + audio"
                assert (there.timeline.flat, there.timeline.notes) == (False, ())
                np.testing.assert_array_equal(there.timeline.scores, here.timeline.scores)
                np.testing.assert_array_equal(there.clips, here.clips)

    run(test)


def test_notes_and_flatness_come_along(folder: Path) -> None:
    files = files_of(make_sampler(PICTURES, "constant"))

    async def test() -> None:
        async with open_pool() as (pool, _):
            found = await decode(pool, request(folder / "moving.mp4", protocol=SALIENT, sampler=files))
            assert found.timeline is not None
            assert found.timeline.flat
            assert len(found.timeline.notes) == 1
            assert "spread evenly" in found.timeline.notes[0]
            assert found.timeline.ranking == tuple(np.flatnonzero(found.timeline.selected).tolist())

    run(test)


@pytest.mark.parametrize(
    ("data", "says"), [(b"no ONNX", "salience.onnx: is no ONNX file"), (b"", "salience.onnx: is no ONNX file")]
)
def test_a_file_that_is_damaged_fails_its_requests_and_no_other(folder: Path, data: bytes, says: str) -> None:
    broken = files_of(data or make_sampler(PICTURES)[:-200])

    async def test() -> None:
        async with open_pool() as (pool, reasons):
            for _ in range(2):  # the second time it is in the cache
                with pytest.raises(BundleError, match=says):
                    await decode(pool, request(folder / "moving.mp4", protocol=SALIENT, sampler=broken))
            await decode(pool, request(folder / "moving.mp4", protocol=SALIENT))
            assert reasons == []

    run(test)


def test_a_worker_that_is_replaced_is_sent_the_files_again(folder: Path, files: SamplerFiles) -> None:
    asked = request(folder / "moving.mp4", protocol=SALIENT, sampler=files)

    async def test() -> None:
        async with open_pool() as (pool, reasons):
            first = await decode(pool, asked)
            (pid,) = pool.pids
            psutil.Process(pid).send_signal(signal.SIGKILL)
            await until(
                lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE if psutil.pid_exists(pid) else True
            )
            second = await decode(pool, asked)
            assert reasons == ["died"]
            assert second.plan == first.plan

    run(test)


def test_too_little_memory_is_an_error_that_says_so(folder: Path, files: SamplerFiles) -> None:
    """The least that decodes, which is not enough for ONNX Runtime."""
    plain = request(folder / "moving.mp4", protocol=SALIENT)
    for mib in range(240, 500, 20):
        worker = DecodeWorker(SandboxLimits(memory_bytes=mib << 20))
        try:
            worker.wait_ready()
            worker.decode(plain)
            with pytest.raises(VideoTooLarge, match=f"loading the sampler .* memory than the {mib} MiB"):
                worker.decode(replace(plain, sampler=files))
            assert worker.alive
            return
        except (VideoTooLarge, UndecodableVideo, DecodeWorkerDied):  # too little for a video, or for starting
            continue
        finally:
            worker.kill()
            worker.close()
    pytest.fail("no limit is enough")


def test_a_worker_runs_samplers_in_one_thread(folder: Path, files: SamplerFiles) -> None:
    """ONNX Runtime starts one thread when it is loaded, which only waits; networks start none."""
    worker = DecodeWorker()
    try:
        worker.wait_ready()
        process = psutil.Process(worker.pid)
        worker.decode(request(folder / "moving.mp4", protocol=SALIENT))
        before = process.num_threads()
        worker.decode(request(folder / "moving.mp4", protocol=SALIENT, sampler=files))
        assert process.num_threads() <= before + 1
        busy = [t for t in process.threads() if t.user_time > 0.05]
        assert len(busy) == 1
    finally:
        worker.kill()
        worker.close()


def test_the_longest_timeline_of_a_sampler_is_taken() -> None:
    """Its windows lie closer together than clips do."""
    asked = request(Path("long.mp4"), protocol=SALIENT, sampler=files_of(b""), limits=Limits(max_frames=150_000))
    windows = 150_000 // PICTURES.window_step
    timeline = SalienceTimeline(
        "compressed", ((0.1, 0.2),) * windows, np.ones(windows, np.float32), np.arange(windows) < 3, (0, 1, 2)
    )
    size = len(msgspec.msgpack.encode(Timeline.of(timeline)))
    assert size < decode_worker._most_bytes((3, 4, 112, 112, 3), asked)
    assert size > 4 * decode_worker._most_bytes((3, 4, 112, 112, 3), replace(asked, protocol=Protocol()))


def test_files_are_sent_once(files: SamplerFiles) -> None:
    known = KnownSamplers()
    assert known.to_send(files) is files
    assert known.to_send(files) == files.without_bytes
    assert not known.to_send(files).picture


def test_both_ends_forget_the_same_ones() -> None:
    samplers = [files_of(make_sampler(PICTURES) if i == 0 else bytes([i])) for i in range(KEPT_SAMPLERS + 1)]
    known, cache = KnownSamplers(), SamplerCache()
    rng = np.random.default_rng(0)
    sent = 0
    for i in [*range(len(samplers)), *rng.integers(0, len(samplers), 200).tolist()]:
        given = known.to_send(samplers[i])
        sent += bool(given.picture)
        if i == 0:
            assert cache.scorer(given).name == "compressed"
        else:
            with pytest.raises(BundleError):  # and no KeyError of one that it should have
                cache.scorer(given)
    assert len(samplers) < sent < 200
