"""Which frames of a clip a teacher looks at (DistInit, section 4.3). Index arithmetic only.

T frames of a clip, n of them for the teacher.
"""

from __future__ import annotations

import numpy as np

from tenclip_training.distill.choices import FrameChoice

# The paper: centre 40.3, one random 43.2, two random 44.0 (HMDB-51 split 1, top-1); "uniform" and "all" are ours.


def choose_frames(choice: FrameChoice, count: int, num_frames: int, rng: np.random.Generator) -> list[int]:
    """Ascending places in a clip of `num_frames`; n is `count`, at most T, and is not used by center and all.

    random: n different ones. uniform: the middles of n equal parts. center: that of one part, T // 2. rng: the same
    numbers are drawn from it whatever the choice.

    >>> rng = np.random.default_rng(0)
    >>> choose_frames("uniform", 2, 8, rng), choose_frames("center", 1, 8, rng)
    ([2, 6], [4])
    """
    shuffled = rng.permutation(num_frames)
    count = min(count, num_frames)
    if choice == "random":
        return sorted(int(i) for i in shuffled[:count])
    if choice == "all":
        return list(range(num_frames))
    parts = 1 if choice == "center" else count
    return [(2 * i + 1) * num_frames // (2 * parts) for i in range(parts)]
