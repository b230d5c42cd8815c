"""Decoded videos in a folder give the clips that decoding gives."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.frame_store import FrameStore, StoredVideo
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import Video

SPEC = ClipSpec(num_frames=4, resize=Resize(height=20, width=24), crop=16, fully_convolutional_crop=None)
STILL = Augmentation(flip=False)


def dataset(videos: Path, store: Path | None, spec: ClipSpec = SPEC) -> ClipDataset:
    return ClipDataset(read_manifest(videos), spec, STILL, seed=3, store=None if store is None else FrameStore(store))


def frames_of(clips: ClipDataset, visit: int, index: int) -> np.ndarray:
    item = clips[(visit, index)]
    assert isinstance(item, TrainingClip)
    return item.frames


def test_a_second_run_decodes_nothing_and_sees_the_same(
    action_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, first = dataset(action_videos, None), dataset(action_videos, tmp_path)
    assert first.fill_cache(0, threads=2) == []
    assert first.cached_bytes == 0

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    expected = [frames_of(plain, visit, index) for visit in range(2) for index in range(len(plain))]
    monkeypatch.setattr(Video, "read_frames", never)
    second = dataset(action_videos, tmp_path)
    second.fill_cache(0, threads=1)
    found = [frames_of(second, visit, index) for visit in range(2) for index in range(len(plain))]
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_another_size_or_a_changed_file_is_another_video(action_videos: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(action_videos.parent, videos)
    store = FrameStore(tmp_path / "store")
    clips = dataset(videos / action_videos.name, store.folder)
    clips.fill_cache(0, threads=1)
    sample = clips.manifest.samples[0]
    assert store.find(sample, SPEC) is not None
    assert store.find(sample, dataclasses.replace(SPEC, resize=Resize(height=24, width=24))) is None
    assert store.find(sample, dataclasses.replace(SPEC, target_fps=5.0)) is None
    assert store.find(dataclasses.replace(sample, start_seconds=0.1), SPEC) is None
    os.utime(sample.path, (0, 0))
    assert store.find(sample, SPEC) is None


def test_a_video_that_fails_is_not_kept(broken_manifest: Path, tmp_path: Path) -> None:
    manifest = read_manifest(broken_manifest).split("train")
    for _ in range(2):
        clips = ClipDataset(manifest, SPEC, STILL, seed=0, store=FrameStore(tmp_path))
        assert [f.reason for f in clips.fill_cache(1 << 30, threads=1)] == ["EMPTY_VIDEO"]
        assert isinstance(clips[(0, 12)], Failure)


def test_a_damaged_entry_is_named(action_videos: Path, tmp_path: Path) -> None:
    clips = dataset(action_videos, tmp_path)
    clips.fill_cache(0, threads=1)
    stored = clips._cache[0]
    assert isinstance(stored, StoredVideo)
    stored.path.write_bytes(b"no array")
    with pytest.raises(DatasetError, match=stored.path.name):
        clips[(0, 0)]


def test_a_folder_that_cannot_be_written_is_named(action_videos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="decoded videos cannot be kept there"):
        dataset(action_videos, tmp_path / "file" / "store").fill_cache(0, threads=1)
