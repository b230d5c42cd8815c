"""Several classifiers on one network: its one layer of V+N outputs serves a verb and a noun (EPIC-KITCHENS).

The labels of such a network are `HEAD:LABEL`: "verb:cut", "noun:tomato", those of one head side by side. A table that
is read by several columns gives them, see `read_manifest(heads=...)`. A softmax is taken over each head alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tenclip_api.errors import CheckpointError
from tenclip_data.heads import SEPARATOR


@dataclass(frozen=True, kw_only=True)
class Head:
    """One classifier: outputs `start` to `stop` (exclusive). labels: its classes, without the head's name."""

    name: str
    labels: tuple[str, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.labels)

    @property
    def outputs(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Heads:
    """The heads of a network, in the order of its outputs; two or more."""

    heads: tuple[Head, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(head.name for head in self.heads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every output as it is called in the label space."""
        return tuple(f"{head.name}{SEPARATOR}{label}" for head in self.heads for label in head.labels)

    @classmethod
    def of(cls, labels: Sequence[str]) -> Heads | None:
        """The heads that labels with prefixes make; None where a label has no prefix, or all have the same.

        A label may hold further colons: EPIC's dust pan is "noun:pan:dust". Raises ValueError where the labels of one
        head are not side by side.

        >>> heads = Heads.of(["verb:cut", "verb:wash", "noun:pan:dust"])
        >>> heads.names, heads["noun"].labels, heads["noun"].outputs
        (('verb', 'noun'), ('pan:dust',), slice(2, 3, None))
        """
        parts = [label.partition(SEPARATOR) for label in labels]
        if not all(name and separator and rest for name, separator, rest in parts):
            return None
        starts = [0, *(i for i, (a, b) in enumerate(pairwise(parts), start=1) if a[0] != b[0]), len(parts)]
        if len(starts) < 3:
            return None
        heads = tuple(
            Head(name=parts[start][0], labels=tuple(p[2] for p in parts[start:stop]), start=start)
            for start, stop in pairwise(starts)
        )
        names = [head.name for head in heads]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the labels of head {twice!r} do not stand side by side")
        return cls(heads)

    def __getitem__(self, name: str) -> Head:
        """The head of that name. Raises KeyError that lists them."""
        for head in self.heads:
            if head.name == name:
                return head
        raise KeyError(f"no head {name!r}; there are {', '.join(self.names)}")

    def split(self, values: Any, axis: int = -1) -> tuple[Any, ...]:
        """The part of each head of an array or tensor, along its axis of classes.

        >>> import numpy as np
        >>> verbs, nouns = Heads.of(["v:a", "v:b", "n:a"]).split(np.zeros((4, 3, 2)), axis=1)
        >>> verbs.shape, nouns.shape
        ((4, 2, 2), (4, 1, 2))
        """
        before = (slice(None),) * (axis % values.ndim)
        return tuple(values[(*before, head.outputs)] for head in self.heads)


def heads_of(labels: Sequence[str] | None, provenance: Mapping[str, Any], *, source: str) -> Heads | None:
    """The heads of a checkpoint; None where it has one classifier.

    The run's config says whether there are several: labels with a colon may be plain classes. Raises CheckpointError
    where it names heads that the labels do not have.
    """
    config = provenance.get("config")
    names = tuple((config.get("heads") or ()) if isinstance(config, Mapping) else ())
    if not names:
        return None
    try:
        heads = None if labels is None else Heads.of(labels)
    except ValueError as err:
        raise CheckpointError(f"{source}: {err}") from err
    if heads is None or heads.names != names:
        raise CheckpointError(f"{source}: was trained with heads {', '.join(names)}, which its labels do not have")
    return heads
