"""A runtime that needs no weights: for tests of everything around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tenclip_serving.runtimes.base import Clips, Outputs, check_clips


class FakeRuntime:
    """Answers from the clips' mean colour by a fixed random projection, so that equal clips give equal outputs,
    whatever batch they are in.

    `positions`: P for clips wider than `crop`. `before_run` is called with the clips first: tests block or fail there.
    `batches` keeps the number of clips of every call.
    """

    name = "fake"

    def __init__(
        self,
        *,
        num_classes: int = 4,
        feature_dim: int = 6,
        crop: int = 112,
        positions: int = 4,
        batch_size: int = 2,
        before_run: Callable[[Clips], None] | None = None,
    ) -> None:
        rng = np.random.default_rng(0)
        self._classify = rng.normal(size=(feature_dim, num_classes)).astype(np.float32)
        self._embed = rng.normal(size=(3, feature_dim)).astype(np.float32)
        self._crop = crop
        self._positions = positions
        self._before_run = before_run
        self.batch_size = batch_size
        self.batches: list[int] = []

    def run(self, clips: Clips) -> Outputs:
        check_clips(clips)
        self.batches.append(len(clips))
        if self._before_run is not None:
            self._before_run(clips)
        # Clip by clip: how a product of matrices is rounded hangs on their sizes.
        colors = [clip.mean(axis=(0, 1, 2), dtype=np.float32) / 255 for clip in clips]
        features = np.stack([color @ self._embed for color in colors])  # [B,D]
        positions = 1 if clips.shape[3] <= self._crop else self._positions
        shifts = 1 + 0.1 * np.arange(positions, dtype=np.float32)  # no two positions alike
        scores = np.stack([feature @ self._classify for feature in features])  # [B,K]
        logits = scores[:, :, np.newaxis] * shifts  # [B,K,P]
        return Outputs(logits.astype(np.float32), features)
