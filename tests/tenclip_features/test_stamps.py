"""A changed file is noticed, a copied one is not taken for a change where its content is known."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tenclip_features.stamps import VideoStamp, is_gone, is_unchanged, stamp_file


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_767_225_600_123_456_789))
    return path


def test_size_and_time(video: Path) -> None:
    assert stamp_file(video) == VideoStamp(5, 1_767_225_600_123_456_789)
    assert stamp_file(video, with_hash=True) == VideoStamp(
        5, 1_767_225_600_123_456_789, hashlib.sha256(b"12345").hexdigest()
    )


def test_times_beyond_64_bits_of_nanoseconds(video: Path) -> None:
    try:
        os.utime(video, (10**10, 10**10))  # the year 2286
    except OverflowError:
        pytest.skip("this file system has no such times")
    stamp = stamp_file(video)
    assert stamp is not None
    assert stamp.mtime_ns < 2**63
    assert is_unchanged(video, stamp)


@pytest.mark.parametrize("with_hash", [False, True])
def test_what_counts_as_a_change(video: Path, with_hash: bool) -> None:
    stamp = stamp_file(video, with_hash=with_hash)
    assert stamp is not None
    assert is_unchanged(video, stamp)
    assert is_unchanged(video, stamp, by_content=True)
    os.utime(video, ns=(0, stamp.mtime_ns + 1))
    assert is_unchanged(video, stamp) is with_hash, "touched, which only its content shows to be no change"
    video.write_bytes(b"54321")
    assert not is_unchanged(video, stamp)
    os.utime(video, ns=(0, stamp.mtime_ns))
    assert is_unchanged(video, stamp), "size and time are all that is looked at"
    assert is_unchanged(video, stamp, by_content=True) is not with_hash
    video.write_bytes(b"123456")
    os.utime(video, ns=(0, stamp.mtime_ns))
    assert not is_unchanged(video, stamp)
    video.unlink()
    assert not is_unchanged(video, stamp)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.mp4", tmp_path / "gone" / "a.mp4", Path("a\0b")):
        assert stamp_file(path) is None
        assert is_gone(path)
    assert not is_gone(tmp_path)
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    assert stamp_file(tmp_path / "dangling.mp4") is None
    assert not is_gone(tmp_path / "dangling.mp4"), "a link is still there; it is an error to open it"
