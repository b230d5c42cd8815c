"""Random numbers by purpose and place: they follow from (seed, purpose, key) and from nothing that was drawn before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The purposes. A value that has been released stays, or runs of the same seed would change."""

    CLASS_COUNTS = 1  # (epoch)
    CLASS_ORDER = 2  # (epoch)
    WALK = 3  # (class, block of rounds)
    PHASE = 4
    DRAWN_TAG = 5  # (visit, index)
    FIXED_TAG = 6  # the number at place `index`
    SOURCE_ORDER = 7  # (source)
    TEACHER_FRAMES = 8  # (visit, index)
    SHARD_ORDER = 20  # (epoch)


def stream(purpose: Stream, seed: int, *key: int) -> np.random.Generator:
    """The numbers for one place of one purpose; independent of those of other places and purposes.

    The spawn key keeps them apart from `default_rng((seed, epoch))` and `default_rng((seed, epoch, index))`, which
    order the epochs of plain sampling and cut the clips.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *key)))


def torch_seed(number: int) -> int:
    """The number, or its remainder where it has more than the 64 bits that torch takes.

    >>> torch_seed(7), torch_seed(2**64 + 7)
    (7, 7)
    """
    return number % 2**64
