"""The same predictions through a real server: are its clips and scores those of the offline arithmetic?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tenclip_client import Client
from tenclip_demo.server import ServerProcess
from tenclip_findings.salience.arms import Ints
from tenclip_findings.salience.scoring import ScoredVideo
from tenclip_findings.salience.videos import TrueVideo

# Of probabilities: as runtimes may differ in the order in which they add.
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ServedCheck:
    """same_clips: videos whose clips are those of the offline arithmetic. largest_difference: of any probability of a
    clip or a video. scorer: the name that the server gives its scorer.
    """

    videos: int
    same_clips: int
    largest_difference: float
    scorer: str

    @property
    def agrees(self) -> bool:
        return self.same_clips == self.videos and self.largest_difference <= TOLERANCE


def check_server(
    models: Path,
    log: Path,
    videos: Sequence[TrueVideo],
    scored: Sequence[ScoredVideo],
    orders: Sequence[Ints],
    *,
    num_clips: int,
    window_step: int,
) -> ServedCheck:
    """Serve `models` and ask for the `num_clips` most salient clips of each video. Raises TenclipError."""
    same, largest, scorer = 0, 0.0, ""
    with ServerProcess(models, log) as server, Client(server.address, timeout=120) as client:
        for video, offline, order in zip(videos, scored, orders, strict=True):
            answer = client.predict(
                video.path,
                clips="salient",
                num_clips=num_clips,
                window_step=window_step,
                top_k=offline.windows.shape[1],
                clip_scores=True,
            )
            taken = np.sort(order[:num_clips])
            found = np.array([(c.clip.start_seconds, c.clip.end_seconds) for c in answer.clips])
            scorer = answer.timeline.scorer if answer.timeline else ""
            expected = offline.seconds[taken]
            if found.shape != expected.shape or not np.allclose(found, expected, atol=1e-6):
                continue
            same += 1
            tops = [answer.top, *(clip.top for clip in answer.clips)]
            served = np.array([[s.score for s in sorted(top, key=lambda s: s.index)] for top in tops])
            clips = offline.windows[taken]
            ours = np.concatenate([clips.mean(axis=0, keepdims=True), clips])
            largest = max(largest, float(np.abs(served - ours).max()))
    return ServedCheck(videos=len(videos), same_clips=same, largest_difference=largest, scorer=scorer)
