"""The short forms of the proofs in tests/soak about damage and death, and what damage is made with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.soak import fuzz_requests, fuzz_videos, worker_kills
from tests.soak._mutations import MUTATIONS, Mutation, boxes
from tests.videos import make_video

# Of the real videos those that decode in a few milliseconds.
SMALL_BYTES = 30_000


def test_damaged_videos_are_decoded_or_refused_by_name(data_dir: Path) -> None:
    videos = {name: data for name, data in fuzz_videos.real_videos().items() if len(data) < SMALL_BYTES}
    videos |= fuzz_videos.made_videos()
    assert len(videos) >= 15
    report = asyncio.run(fuzz_videos.fuzz(videos, range(300), seed=7))
    assert report.failures == []
    assert report.outcomes.total() == 300
    assert report.outcomes["decoded"] > 30
    assert len(report.outcomes) >= 4


def test_damaged_messages_are_answered_or_refused_with_an_id() -> None:
    report = fuzz_requests.fuzz(range(400), seed=7)
    assert report.failures == []
    assert report.outcomes.total() == 400
    assert {"OK", "INVALID_ARGUMENT"} <= set(report.outcomes)
    assert len(report.methods) >= 4


def test_workers_killed_under_load_cost_their_own_requests_only() -> None:
    report = worker_kills.run(5)
    assert report.failures == []
    assert report.kills == 5
    assert report.answers["OK"] >= 5


def test_cases_are_the_same_every_time() -> None:
    videos = {"one": make_video(), "other": bytes(range(256)) * 9}
    cases = [fuzz_videos.make_case(videos, seed=3, index=index) for index in range(40)]
    assert cases == [fuzz_videos.make_case(videos, seed=3, index=index) for index in range(40)]
    assert len({case.data for case in cases}) > 30


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("data", [make_video(), b"\x1aE\xdf\xa3" * 50, b"xyz"], ids=["mp4", "other", "three bytes"])
def test_every_kind_of_damage_changes_something(mutation: Mutation, data: bytes) -> None:
    changed = {mutation(data, b"other file" * 20, np.random.default_rng(seed)) for seed in range(30)}
    assert changed - {data}


def test_boxes_of_an_mp4() -> None:
    data = make_video()
    found = [b.kind for b in boxes(data)]
    assert found[0] == b"ftyp"
    assert {b"moov", b"trak", b"stbl", b"stsz", b"mdat"} <= set(found)
    assert list(boxes(b"\0\0\0\x07ftyp")) == []
