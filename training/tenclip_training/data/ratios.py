"""Ratios of the sources of joint training, as arithmetic."""

from __future__ import annotations

from collections.abc import Sequence


def joint_batch_sizes(target: int, ratio: Sequence[int]) -> tuple[int, ...]:
    """Clips of each source in a step, where `target` are of the first. Raises ValueError where that gives no numbers.

    >>> joint_batch_sizes(16, (2, 1, 1, 1))
    (16, 8, 8, 8)
    """
    if not ratio or min(ratio) < 1:
        raise ValueError(f"a ratio has a number above 0 for each source, as 2:1:1:1; got {show_ratio(ratio)}")
    if any(target * part % ratio[0] for part in ratio):
        raise ValueError(
            f"{target} clips of the target at {show_ratio(ratio)} leave parts of clips; take {ratio[0]}, "
            f"{2 * ratio[0]}, {3 * ratio[0]}, ..."
        )
    return tuple(target * part // ratio[0] for part in ratio)


def show_ratio(values: Sequence[int]) -> str:
    """For people."""
    return ":".join(map(str, values)) or "none"
