"""Names with braces, as WebDataset writes those of many shards: `train-{0000..0127}.tar`."""

from __future__ import annotations

import itertools
import re

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(text: str) -> list[str]:
    """Every text that braces stand for, as WebDataset writes them.

    >>> expand_braces("{train,val}-{08..10}.tar")[:4]
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar']
    """
    parts = re.split(r"\{([^{}]*)\}", text)
    choices = [_alternatives(part) if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _alternatives(text: str) -> list[str]:
    numbers = _RANGE.fullmatch(text)
    if numbers is None:
        return text.split(",")
    first, last = numbers.groups()
    width = len(first) if len(first) == len(last) or first.startswith("0") else 0
    return [str(n).zfill(width) for n in range(int(first), int(last) + 1)]
