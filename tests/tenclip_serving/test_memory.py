from __future__ import annotations

import errno
import fcntl
import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from tenclip_serving import memory

pytestmark = pytest.mark.skipif(not memory.AVAILABLE, reason="memory without a name is Linux's")


def made(size: int) -> int:
    descriptor = memory.create(size)
    assert descriptor is not None
    return descriptor


def num_mappings() -> int:
    """Of such memory in this process."""
    return Path("/proc/self/maps").read_text().count("/memfd:tenclip")


def test_what_one_writes_the_other_reads() -> None:
    with memory.closing(made(60)) as descriptor:
        assert descriptor is not None
        written = memory.map_array(descriptor, (3, 4, 5), writable=True)
        read = memory.map_array(descriptor, (3, 4, 5))
    written[1, 2] = 7  # after the descriptor has gone
    np.testing.assert_array_equal(read, written)
    assert read.sum() == 35
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 1


def test_it_is_unmapped_when_the_last_view_dies() -> None:
    before = num_mappings()
    with memory.closing(made(1 << 20)) as descriptor:
        assert descriptor is not None
        view = memory.map_array(descriptor, (2, 1 << 19))
    assert num_mappings() == before + 1
    part = view[1, ::7]
    del view
    gc.collect()
    assert num_mappings() == before + 1
    assert part.sum() == 0
    del part
    gc.collect()
    assert num_mappings() == before


def test_no_one_can_change_its_size() -> None:
    with memory.closing(made(5000)) as descriptor:
        assert descriptor is not None
        for size in (0, 4096, 10_000):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
        assert os.fstat(descriptor).st_size == 5000


def test_what_was_filled_cannot_be_written() -> None:
    descriptor = memory.create_from(b"the whole file")
    assert descriptor is not None
    with memory.closing(descriptor), open(descriptor, "rb", closefd=False) as file:
        assert file.read() == b"the whole file"
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, 14)


def test_a_descriptor_that_is_forbidden_to_write_opens_no_new_way() -> None:
    with memory.closing(made(100)) as descriptor:
        assert descriptor is not None
        memory.forbid_writing(descriptor)
        if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & 0x10:
            pytest.skip("this kernel is older than 5.1")
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            memory.map_array(descriptor, (100,), writable=True)
        assert memory.map_array(descriptor, (100,)).sum() == 0


def test_a_shape_of_another_size_is_refused() -> None:
    with memory.closing(made(100)) as descriptor:
        assert descriptor is not None
        with pytest.raises(ValueError, match="100 bytes of memory for an array of 99"):
            memory.map_array(descriptor, (9, 11))


def test_a_system_that_refuses_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(memory, "_create", refuse)
    assert memory.create(10) is None
    assert memory.create_from(b"x") is None
    with memory.closing(None) as descriptor:
        assert descriptor is None
