from __future__ import annotations

import errno
import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from tenclip_serving.decoding import shared_memory

pytestmark = pytest.mark.skipif(not shared_memory.AVAILABLE, reason="memory without a name is Linux's")


def made(size: int) -> int:
    descriptor = shared_memory.create(size)
    assert descriptor is not None
    return descriptor


def num_mappings() -> int:
    """Of such memory in this process."""
    return Path("/proc/self/maps").read_text().count("/memfd:tenclip")


def test_what_one_writes_the_other_reads() -> None:
    segments = shared_memory.Segments()
    segment = segments.take(60)
    assert segment is not None
    written = shared_memory.map_writable(segment.descriptor, (3, 4, 5))
    read = segments.lend(segment, (3, 4, 5))
    written[1, 2] = 7
    np.testing.assert_array_equal(read, written)
    assert read.sum() == 35
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 1


def test_memory_is_used_again_when_the_last_view_has_died() -> None:
    segments = shared_memory.Segments()
    first = segments.take(1000)
    assert first is not None
    view = segments.lend(first, (10, 100))
    part, raw = view[3, ::7], memoryview(view[5])
    del view
    gc.collect()
    second = segments.take(1000)
    assert second is not None
    assert second is not first
    del part
    gc.collect()
    assert segments.take(10) is not first  # the raw bytes are in use still
    del raw
    gc.collect()
    again = segments.take(2000)
    assert again is first  # in whole MiB
    shared_memory.map_writable(first.descriptor, (4,))[:] = 9
    assert segments.lend(first, (4,)).tolist() == [9] * 4


def test_memory_that_is_too_small_makes_room_for_larger() -> None:
    segments, before = shared_memory.Segments(), num_mappings()
    small = segments.take(100)
    assert small is not None
    segments.lend(small, (100,))  # dies at once
    assert num_mappings() == before + 1
    del small
    large = segments.take(5 << 20)
    assert large is not None
    assert large.size == 5 << 20
    gc.collect()
    assert num_mappings() == before


def test_few_are_kept() -> None:
    segments, before = shared_memory.Segments(), num_mappings()
    views = []
    for _ in range(9):
        segment = segments.take(10)
        assert segment is not None
        views.append(segments.lend(segment, (10,)))
    del segment
    views.clear()
    gc.collect()
    assert num_mappings() == before + shared_memory.KEPT_SEGMENTS


def test_little_is_kept_and_nothing_after_the_worker() -> None:
    segments, before = shared_memory.Segments(), num_mappings()
    views = []
    for _ in range(6):
        segment = segments.take(9 << 20)
        assert segment is not None
        views.append(segments.lend(segment, (9 << 20,)))
    del segment
    assert num_mappings() == before + 6
    views.clear()
    gc.collect()
    assert num_mappings() == before + 3  # 27 MiB
    last = segments.take(1)
    assert last is not None
    view = segments.lend(last, (1,))
    descriptor = last.descriptor
    del segments, last
    gc.collect()
    assert num_mappings() == before + 3
    assert view.tolist() == [0]
    del view
    gc.collect()
    assert num_mappings() == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_no_one_can_change_its_size() -> None:
    with shared_memory.closing(made(5000)) as descriptor:
        assert descriptor is not None
        for size in (0, 4096, 10_000):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        assert os.fstat(descriptor).st_size == 5000


def test_what_was_filled_cannot_be_written() -> None:
    descriptor = shared_memory.create_from(b"the whole file")
    assert descriptor is not None
    with shared_memory.closing(descriptor), open(descriptor, "rb", closefd=False) as file:
        assert file.read() == b"the whole file"
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, 14)


def test_more_than_there_is_cannot_be_mapped() -> None:
    with shared_memory.closing(made(100)) as descriptor:
        assert descriptor is not None
        with pytest.raises(ValueError, match="greater than file size"):
            shared_memory.map_writable(descriptor, (10, 11))


def test_a_system_that_refuses_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(shared_memory, "_create", refuse)
    assert shared_memory.create(10) is None
    assert shared_memory.create_from(b"x") is None
    assert shared_memory.Segments().take(10) is None
    with shared_memory.closing(None) as descriptor:
        assert descriptor is None


def test_a_file_in_memory_is_gone_when_it_is_closed_or_forgotten() -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = shared_memory.MemoryFile.of("v.mp4", b"the whole file")
    assert file is not None
    assert os.pread(file.descriptor, 100, 0) == b"the whole file"
    file.close()
    file.close()
    with pytest.raises(ValueError, match=r"v\.mp4: its memory has been given back"):
        file.descriptor  # noqa: B018
    forgotten = shared_memory.MemoryFile.of("v.mp4", b"x")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del forgotten
    assert len(os.listdir("/proc/self/fd")) == before
