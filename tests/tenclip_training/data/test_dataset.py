from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import Batch, ClipDataset, Collate, DrawSampler, Failure, Ledger, target
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec
from tests.tenclip_training.conftest import SPEC

STILL = Augmentation(flip=False)


def dataset(path: Path, spec: ClipSpec = SPEC, augmentation: Augmentation = STILL, seed: int = 3) -> ClipDataset:
    return ClipDataset(read_manifest(path).split("train"), spec, augmentation, seed=seed)


def clip_of(item: object) -> np.ndarray:
    assert isinstance(item, tuple)
    clip: np.ndarray = item[0]
    return clip


def test_a_clip_is_what_the_serving_path_reads(action_videos: Path) -> None:
    spec = dataclasses.replace(SPEC, resize=dataclasses.replace(SPEC.resize, height=16, width=16))
    clips = dataset(action_videos, dataclasses.replace(spec, crop=16, fully_convolutional_crop=None))
    sample = clips.manifest.samples[2]
    served = read_clips(sample.path, clips.spec, Protocol(selection=ClipSelection(mode="windows", window_step=1))).clips
    for epoch in range(5):
        item = clips[(epoch, 2)]
        # With nothing to crop, a training clip is one of the windows that serving would read, to the bit.
        assert any(np.array_equal(clip_of(item), window) for window in served)


def test_clips_depend_on_seed_epoch_and_index_alone(action_videos: Path) -> None:
    strong = Augmentation(scale=(0.5, 1.0), flip=True, brightness=0.3)
    first, second = dataset(action_videos, augmentation=strong), dataset(action_videos, augmentation=strong)
    draws = [(epoch, index) for epoch in range(2) for index in range(4)]
    forwards = {d: clip_of(first[d]) for d in draws}
    backwards = {d: clip_of(second[d]) for d in reversed(draws)}
    for draw in draws:
        np.testing.assert_array_equal(forwards[draw], backwards[draw])
    assert not np.array_equal(forwards[(0, 1)], forwards[(1, 1)])
    assert not np.array_equal(forwards[(0, 1)], clip_of(dataset(action_videos, augmentation=strong, seed=4)[(0, 1)]))


@pytest.mark.parametrize(
    "changes", [{}, {"target_fps": 12.0}, {"frame_stride": 2}, {"num_frames": 40}, {"color_order": "bgr"}]
)
def test_cached_clips_equal_decoded_ones(action_videos: Path, changes: dict[str, object]) -> None:
    spec = dataclasses.replace(SPEC, **changes)  # type: ignore[arg-type]
    decoded, cached = dataset(action_videos, spec), dataset(action_videos, spec)
    seen: list[tuple[int, int]] = []
    assert cached.fill_cache(1 << 30, threads=2, progress=lambda d, t: seen.append((d, t))) == []
    assert seen == [(i, 12) for i in range(1, 13)]
    for draw in itertools.product(range(2), range(12)):
        np.testing.assert_array_equal(clip_of(cached[draw]), clip_of(decoded[draw]))


def test_bgr_reverses_the_channels(action_videos: Path) -> None:
    rgb, bgr = dataset(action_videos), dataset(action_videos, dataclasses.replace(SPEC, color_order="bgr"))
    np.testing.assert_array_equal(clip_of(rgb[(0, 0)])[..., ::-1], clip_of(bgr[(0, 0)]))


def test_a_cache_that_is_full_leaves_the_rest_to_be_decoded(action_videos: Path) -> None:
    clips, all_cached = dataset(action_videos), dataset(action_videos)
    all_cached.fill_cache(1 << 30, threads=1)
    sizes = [v.frames.nbytes for v in all_cached._cache.values() if not isinstance(v, Failure)]
    clips.fill_cache(sum(sizes[:5]), threads=2)
    assert sorted(clips._cache) == list(range(5))
    np.testing.assert_array_equal(clip_of(clips[(0, 11)]), clip_of(all_cached[(0, 11)]))


def test_only_the_named_part_of_a_video_is_used(action_videos: Path) -> None:
    manifest = read_manifest(action_videos)
    part = dataclasses.replace(manifest.samples[0], start_seconds=0.2, end_seconds=0.36)
    part_only = Manifest(source=manifest.source, samples=(part,), labels=manifest.labels)
    clips = ClipDataset(part_only, SPEC, STILL, seed=0)
    clips.fill_cache(1 << 30, threads=1)
    video = clips._cache[0]
    assert not isinstance(video, Failure)
    shown = video.times[video.indices]
    assert 0.2 <= shown.min() <= shown.max() < 0.36


@pytest.mark.parametrize("cached", [False, True])
def test_unusable_videos_become_failures(broken_manifest: Path, action_videos: Path, cached: bool) -> None:
    manifest = read_manifest(broken_manifest).split("train")
    late = dataclasses.replace(manifest.samples[0], start_seconds=99.0, end_seconds=None)
    manifest = dataclasses.replace(manifest, samples=(*manifest.samples, late))
    clips = ClipDataset(manifest, SPEC, STILL, seed=0)
    if cached:
        assert [f.reason for f in clips.fill_cache(1 << 30, threads=2)] == ["EMPTY_VIDEO", "NO_FRAMES"]
    empty, beyond = clips[(0, 12)], clips[(0, 13)]
    assert isinstance(empty, Failure)
    assert isinstance(beyond, Failure)
    assert empty.reason == "EMPTY_VIDEO"
    assert empty.video.endswith("empty.mp4")
    assert beyond.reason == "NO_FRAMES"
    assert "no frame between 99 s and the end" in beyond.message


def test_targets_share_one_among_the_labels() -> None:
    np.testing.assert_allclose(target([2], 4), [0, 0, 1, 0])
    np.testing.assert_allclose(target([0, 3], 4), [0.5, 0, 0, 0.5])
    assert target([0, 1, 2], 5).sum() == pytest.approx(1)


def test_collate_leaves_failures_out_of_the_batch() -> None:
    clip = np.full((4, 16, 16, 3), 7, np.uint8)
    failure = Failure(video="v", reason="EMPTY_VIDEO", message="m")
    batch = Collate(SPEC, 2)([(clip, target([1], 2)), failure, (clip, target([0], 2))])
    assert batch.clips.shape == (2, 4, 16, 16, 3)
    assert batch.clips.dtype == torch.uint8
    assert batch.targets.tolist() == [[0, 1], [1, 0]]
    assert batch.failures == (failure,)
    assert len(Collate(SPEC, 2)([failure]).clips) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_make_the_same_batches(action_videos: Path, workers: int) -> None:
    clips = dataset(action_videos, augmentation=Augmentation(scale=(0.5, 1.0), flip=True))
    sampler = DrawSampler(num_samples=12, batch_size=5, epochs=2, seed=1)
    batches: list[Batch] = list(
        DataLoader(clips, batch_sampler=sampler, collate_fn=Collate(SPEC, 2), num_workers=workers)
    )
    assert [len(b.clips) for b in batches] == [4, 4, 4, 4, 4, 4]
    for batch, draws in zip(batches, sampler, strict=True):
        np.testing.assert_array_equal(batch.clips.numpy(), np.stack([clip_of(clips[d]) for d in draws]))


# -- the order --


@given(
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    clips_per_video=st.integers(1, 3),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_an_epoch_has_every_sample(
    num_samples: int, batch_size: int, clips_per_video: int, world_size: int, seed: int
) -> None:
    samplers = [
        DrawSampler(
            num_samples=num_samples,
            batch_size=batch_size,
            epochs=2,
            seed=seed,
            clips_per_video=clips_per_video,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    per_rank = [list(s) for s in samplers]
    # All processes take equally many steps of equally many clips, or they would wait for each other for ever.
    assert len({tuple(len(b) for b in batches) for batches in per_rank}) == 1
    assert all(len(batches) == len(s) == 2 * s.steps_per_epoch for batches, s in zip(per_rank, samplers, strict=True))
    sizes = [len(b) for b in per_rank[0]]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    steps = samplers[0].steps_per_epoch
    for epoch in range(2):
        draws = [d for batches in per_rank for b in batches[epoch * steps : (epoch + 1) * steps] for d in b]
        times = Counter(index for _, index in draws)
        assert set(times) == set(range(num_samples))
        assert len(draws) - num_samples * clips_per_video < world_size
        # No two clips of a video are drawn alike, in this epoch or another.
        assert {e for e, _ in draws} <= set(range(epoch * clips_per_video, (epoch + 1) * clips_per_video))


@given(epoch=st.integers(0, 2), step=st.integers(0, 3))
def test_the_order_goes_on_where_it_was(epoch: int, step: int) -> None:
    whole = DrawSampler(num_samples=10, batch_size=3, epochs=3, seed=5)
    rest = dataclasses.replace(whole, first_epoch=epoch, first_step=step)
    assert list(rest) == list(whole)[epoch * 4 + step :]
    assert len(rest) == len(list(rest))


def test_epochs_have_different_orders() -> None:
    batches = list(DrawSampler(num_samples=20, batch_size=20, epochs=2, seed=0))
    assert [i for _, i in batches[0]] != [i for _, i in batches[1]]


# -- the ledger --


def failure(name: str) -> Failure:
    return Failure(video=name, reason="EMPTY_VIDEO", message=f"{name}: the file is empty")


def test_ledger_writes_each_video_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "failures.jsonl", num_videos=10, max_fraction=0.5)
    ledger.restore([])
    ledger.record([failure("a"), failure("b")])
    ledger.record([failure("a")])
    ledger.record([])
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert [(entry["video"], entry["reason"]) for entry in lines] == [("a", "EMPTY_VIDEO"), ("b", "EMPTY_VIDEO")]


def test_ledger_stops_a_run_that_loses_too_much(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "failures.jsonl", num_videos=10, max_fraction=0.2)
    ledger.restore([])
    ledger.record([failure("a"), failure("b")])
    with pytest.raises(DatasetError, match=r"3 of 10 videos could not be read, more than the 20% allowed.*a: the file"):
        ledger.record([failure("c")])
    assert len((tmp_path / "failures.jsonl").read_text().splitlines()) == 3


def test_ledger_goes_back_to_what_a_checkpoint_knows(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    ledger = Ledger(path, num_videos=10, max_fraction=1.0)
    ledger.restore([])
    ledger.record([failure("a"), failure("b")])
    ledger.restore([dataclasses.asdict(failure("a"))])
    assert [json.loads(line)["video"] for line in path.read_text().splitlines()] == ["a"]
