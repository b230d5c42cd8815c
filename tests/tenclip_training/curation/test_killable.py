from __future__ import annotations

import os
import signal
import time

import pytest

from tenclip_api.errors import DecodeWorkerDied, NotAVideo, VideoError
from tenclip_training.curation.killable import for_each


def work(item: str) -> str:
    """What a worker does with each item; it lives here so that a spawned process can import it."""
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "hang":
        time.sleep(600)
    if item == "refuse":
        raise NotAVideo("refuse: no video", source="refuse")
    if item == "denied":
        raise PermissionError(13, "Permission denied")
    if item == "memory":
        raise MemoryError
    if item == "bug":
        raise ZeroDivisionError("a bug")
    return item.upper()


def test_each_item_has_its_own_outcome() -> None:
    items = ["a", "crash", "b", "refuse", "denied", "memory", "hang", "c"]
    found = {o.item: o for o in for_each(work, items, workers=2, timeout_seconds=5)}
    assert {i: found[i].value for i in "abc"} == {"a": "A", "b": "B", "c": "C"}
    assert isinstance(found["refuse"].error, NotAVideo)
    assert isinstance(found["denied"].error, VideoError)
    for item, says in (("crash", "died"), ("hang", "longer than 5 s"), ("memory", "memory")):
        assert isinstance(found[item].error, DecodeWorkerDied)
        assert says in str(found[item].error)


def test_nothing_to_do_starts_no_process() -> None:
    assert list(for_each(work, [], workers=2)) == []


def test_a_bug_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(for_each(work, ["bug"], workers=1))


def test_all_of_many_items() -> None:
    items = [f"v{i}" for i in range(40)]
    assert sorted(str(o.value) for o in for_each(work, iter(items), workers=2)) == sorted(i.upper() for i in items)
