from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tenclip_data.manifest import Manifest, read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.damage import Damage
from tenclip_training.data.dataset import Batch, ClipDataset, Collate, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.frame_store import CachedVideo
from tenclip_training.data.samplers import Draw, DrawSampler
from tenclip_training.data.tags import TargetKind, soft_target
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
    sizes = [v.frames.nbytes for v in all_cached._cache.values() if isinstance(v, CachedVideo)]
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
    assert isinstance(video, CachedVideo)
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


@pytest.mark.parametrize(
    ("kind", "label", "expected"),
    [
        ("soft", None, [{(0.5, 0.5)}]),
        ("soft", 1, [{(0.5, 0.5)}]),
        ("multi-hot", 1, [{(1.0, 1.0)}]),
        ("draw", 1, [{(0.0, 1.0)}]),
        ("draw", None, [{(1.0, 0.0), (0.0, 1.0)}]),
        ("fixed", None, [{(1.0, 0.0)}, {(0.0, 1.0)}]),
    ],
)
def test_what_several_labels_become(
    action_videos: Path, kind: TargetKind, label: int | None, expected: list[set[tuple[float, float]]]
) -> None:
    manifest = read_manifest(action_videos)
    both = dataclasses.replace(manifest.samples[0], labels=manifest.labels)
    clips = ClipDataset(dataclasses.replace(manifest, samples=(both,)), SPEC, STILL, seed=0, targets=kind)
    clips.fill_cache(1 << 30, threads=1)
    seen = set()
    for visit in range(30):
        item = clips[Draw(visit, 0, label)]
        assert isinstance(item, tuple)
        assert item[1].dtype == np.float32
        seen.add(tuple(item[1].tolist()))
    assert seen in expected


def test_the_choice_of_a_tag_leaves_the_clip_as_it_is(action_videos: Path) -> None:
    manifest = read_manifest(action_videos)
    both = dataclasses.replace(manifest.samples[0], labels=manifest.labels)
    twice = dataclasses.replace(manifest, samples=(both,))
    strong = Augmentation(scale=(0.5, 1.0), flip=True, brightness=0.3)
    kinds: tuple[TargetKind, ...] = ("soft", "draw", "fixed", "multi-hot")
    clips = [clip_of(ClipDataset(twice, SPEC, strong, seed=1, targets=kind)[Draw(3, 0)]) for kind in kinds]
    for clip in clips[1:]:
        np.testing.assert_array_equal(clip, clips[0])


def test_collate_leaves_failures_out_of_the_batch() -> None:
    clip = np.full((4, 16, 16, 3), 7, np.uint8)
    failure = Failure(video="v", reason="EMPTY_VIDEO", message="m")
    damage = Damage(video="a", split="train", frames_corrupt=2, frames_substituted=0)
    items: list[TrainingClip | Failure] = [
        TrainingClip(clip, soft_target([1], 2), "a", damage),
        failure,
        TrainingClip(clip, soft_target([0], 2), "b"),
    ]
    batch = Collate(SPEC, 2)(items)
    assert batch.clips.shape == (2, 4, 16, 16, 3)
    assert batch.clips.dtype == torch.uint8
    assert batch.targets.tolist() == [[0, 1], [1, 0]]
    assert batch.failures == (failure,)
    assert batch.videos == ("a", "b")
    assert batch.damaged == (damage,)
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
