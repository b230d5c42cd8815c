"""A frame of each segment (TSN), and 1 positive and some negative frames (OmniSource, section 3.5)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_data.samples import Manifest, Sample
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, Collate, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.frame_store import FrameStore
from tenclip_training.data.segments import Snippets, segment_frames, snippets_of
from tenclip_video.spec import ClipSpec
from tests.tenclip_training.omni.colors import painted, teacher_spec, write_video


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 30), st.integers(0, 5))
def test_each_frame_is_of_its_own_part(num_frames: int, segments: int, seed: int) -> None:
    frames = segment_frames(num_frames, segments, np.random.default_rng(seed))
    assert len(frames) == segments
    for k, frame in enumerate(frames.tolist()):
        start, end = k * num_frames // segments, (k + 1) * num_frames // segments
        assert start <= frame < max(end, start + 1)
    assert frames.min() >= 0
    assert frames.max() < num_frames


def test_every_frame_of_a_part_is_as_likely() -> None:
    counts = Counter(int(segment_frames(10, 3, np.random.default_rng(i))[2]) for i in range(4000))
    assert set(counts) == {6, 7, 8, 9}
    assert max(abs(count - 1000) for count in counts.values()) < 150


def test_one_positive_frame_and_two_negative_ones_in_their_order() -> None:
    snippets = Snippets(np.array([0.0, 3.0]), np.array([1.0, 2.0, 4.0]))
    drawn = [snippets.draw(3, np.random.default_rng(i)).tolist() for i in range(300)]
    assert all(sorted(d) == d for d in drawn)
    assert all(sum(t in (0.0, 3.0) for t in d) == 1 for d in drawn)
    assert len({tuple(d) for d in drawn}) == 6, "2 positive ones times 3 pairs of negative ones"


def test_where_negative_frames_are_few_positive_ones_fill_up() -> None:
    snippets = Snippets(np.array([0.0, 3.0]), np.array([1.0]))
    assert snippets.draw(3, np.random.default_rng(0)).tolist() == [0.0, 1.0, 3.0]
    alone = Snippets(np.array([5.0]), np.zeros(0))
    assert alone.draw(3, np.random.default_rng(0)).tolist() == [5.0] * 3


@pytest.mark.parametrize(
    ("cell", "times"),
    [("0.5;3; 7.25", [0.5, 3, 7.25]), ([0.5, 3], [0.5, 3]), (2, [2.0]), ("2", [2.0])],
)
def test_times_in_a_cell(cell: object, times: list[float]) -> None:
    found = snippets_of({"positive_seconds": cell})
    assert found is not None
    assert found.positive.tolist() == times
    assert found.negative.tolist() == []


def test_what_is_no_time() -> None:
    assert snippets_of({}) is None
    assert snippets_of({"positive_seconds": ""}) is None
    for bad in ("a;b", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match="no times in seconds"):
            snippets_of({"positive_seconds": bad})


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second each of red, green and blue."""
    return write_video(tmp_path_factory.mktemp("v") / "v.mp4", ["red", "green", "blue"])


def dataset(
    video: Path,
    segments: int | None,
    spec: ClipSpec | None = None,
    store: FrameStore | None = None,
    **row: object,
) -> ClipDataset:
    sample = Sample(path=video, name="v.mp4", labels=("a",), **row)  # type: ignore[arg-type]
    manifest = Manifest(source=video, samples=(sample,), labels=("a", "b"))
    return ClipDataset(manifest, spec or teacher_spec(), Augmentation(), seed=0, segments=segments, store=store)


def colors_of(clip: TrainingClip | Failure) -> list[str]:
    assert isinstance(clip, TrainingClip)
    return [("red", "green", "blue")[i] for i in clip.frames.mean((1, 2)).argmax(1)]


def test_a_clip_of_three_segments_shows_all_of_the_video(video: Path) -> None:
    data = dataset(video, 3)
    clips = [data[visit, 0] for visit in range(8)]
    assert all(colors_of(clip) == ["red", "green", "blue"] for clip in clips)
    assert len({clip.frames.tobytes() for clip in clips if isinstance(clip, TrainingClip)}) == 8
    batch = Collate(teacher_spec(), 2)([data[0, 0], data[1, 0]])
    assert batch.clips.shape == (2, 3, 32, 32, 3)
    data.fill_cache(1 << 30, threads=1)
    cached = data[3, 0]
    assert isinstance(cached, TrainingClip)
    assert isinstance(clips[3], TrainingClip)
    assert np.array_equal(cached.frames, clips[3].frames), "cached or not"


def test_segments_of_a_part_are_of_it(video: Path) -> None:
    assert colors_of(dataset(video, 3, start_seconds=1.0, end_seconds=2.0)[0, 0]) == ["green"] * 3


def test_judged_frames_are_drawn_instead(video: Path) -> None:
    data = dataset(video, 3, extra={"positive_seconds": "1.1;1.5", "negative_seconds": [0.2, 2.5, 2.75]})
    shown = [colors_of(data[visit, 0]) for visit in range(12)]
    assert all(colors.count("green") == 1 for colors in shown)
    assert ["red", "green", "blue"] in shown
    assert ["green", "blue", "blue"] in shown


@pytest.mark.parametrize("kept", ["memory", "folder"])
def test_judged_frames_are_the_same_ones_from_a_cache(video: Path, tmp_path: Path, kept: str) -> None:
    """Frames between those of the timeline of 2 a second, the last frame and times behind the end are among them."""
    row: dict[str, Any] = {"extra": {"positive_seconds": "1.2;1.37", "negative_seconds": [0.1, 2.96, 2.99, 9.5]}}
    spec = dataclasses.replace(teacher_spec(), target_fps=2.0)
    plain = dataset(video, 3, spec, **row)
    store = FrameStore(tmp_path) if kept == "folder" else None
    assert not dataset(video, None, spec, store, **row).fill_cache(1 << 30, threads=1), "of no segments: other frames"
    for _ in range(2):  # decoded, and found in the folder
        cached = dataset(video, 3, spec, store, **row)
        assert cached.fill_cache(1 << 30, threads=1) == []
        items = [(plain[visit, 0], cached[visit, 0]) for visit in range(24)]
        for expected, found in items:
            if isinstance(expected, Failure):
                assert found == expected
                continue
            assert isinstance(found, TrainingClip)
            np.testing.assert_array_equal(found.frames, expected.frames)
        assert {type(expected) for expected, _ in items} == {TrainingClip, Failure}
    other = dataset(video, 3, spec, store, extra={"positive_seconds": "0.7"})
    other.fill_cache(1 << 30, threads=1)
    (again, found) = (d[0, 0] for d in (dataset(video, 3, spec, extra={"positive_seconds": "0.7"}), other))
    assert isinstance(again, TrainingClip)
    assert isinstance(found, TrainingClip)
    np.testing.assert_array_equal(found.frames, again.frames)


@pytest.mark.parametrize("times", ["9", "soon"])
def test_judged_frames_that_are_not_there_fail_alike_from_a_cache(video: Path, times: str) -> None:
    row: dict[str, Any] = {"extra": {"positive_seconds": times}}
    plain, cached = dataset(video, 3, **row), dataset(video, 3, **row)
    assert cached.fill_cache(1 << 30, threads=1) == [plain[0, 0]]
    assert cached[0, 0] == plain[0, 0]


def test_frames_behind_the_end_are_a_failure(video: Path) -> None:
    found = dataset(video, 3, extra={"positive_seconds": "9"})[0, 0]
    assert isinstance(found, Failure)
    assert "a frame at 9 s is asked for, and the video lasts 3 s" in found.message
    found = dataset(video, 3, extra={"positive_seconds": "soon"})[0, 0]
    assert isinstance(found, Failure)
    assert "no times in seconds" in found.message


def test_colours_survive_the_encoder() -> None:
    assert painted((200, 50, 40), 0).mean((0, 1)).argmax() == 0
