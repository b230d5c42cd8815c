"""The same predictions through a real server: are its clips and scores those of the offline arithmetic?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_client import ClassScore, Client, Prediction
from tenclip_demo.server import ServerProcess
from tenclip_findings.salience.arms import Ints, Outcome
from tenclip_findings.salience.scoring import ScoredVideo
from tenclip_findings.salience.videos import TrueVideo
from tenclip_training.sampler.bundles import add_sampler
from tenclip_training.sampler.identity import identity_of
from tenclip_training.sampler.results import SamplerResult
from tenclip_video.bundle import Bundle
from tenclip_video.salience import DEFAULT_ERROR_BOUND, StoppingRule

# Of probabilities: runtimes may add in another order.
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ServedCheck:
    """same_clips: videos whose clips are those of the offline arithmetic, of `videos`. same_stops: those that adaptive
    prediction gives as many clips as there, by each of the rules. largest_difference: of any probability of a clip or a
    video, in videos with the same clips. scorer: the name that the server gives its scorer.
    """

    videos: int
    same_clips: int
    same_stops: int
    largest_difference: float
    scorer: str

    @property
    def agrees(self) -> bool:
        return self.same_clips == self.same_stops == self.videos and self.largest_difference <= TOLERANCE


def bundle_with_sampler(bundle: Bundle, sampler: Path, rules: Mapping[float, StoppingRule], models: Path) -> None:
    """A copy of `bundle` in `models` that has a sampler, an ONNX file, and these rules. Raises TenclipError."""
    shutil.rmtree(models, ignore_errors=True)
    folder = models / ".sampler"  # as a run of tenclip train-sampler leaves it
    folder.mkdir(parents=True)
    shutil.copy(sampler, folder)
    default = rules.get(DEFAULT_ERROR_BOUND)
    result = SamplerResult(
        file=sampler.name,
        teacher=bundle.info.name,
        teacher_identity=identity_of(bundle.info),
        stopping=default,
        other_stopping=tuple(rule for rule in rules.values() if rule is not default),
    )
    result.write(folder)
    add_sampler(bundle.path, folder, out=models / bundle.info.name / bundle.info.version)
    shutil.rmtree(folder)


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What the arithmetic says of a video. order: its windows, the most salient first, as many as are taken.

    adaptive_clips: how many of them adaptive prediction runs, by error bound.
    """

    video: TrueVideo
    scored: ScoredVideo
    order: Ints
    adaptive_clips: dict[float, int]


def expected(
    videos: Sequence[TrueVideo],
    scored: Sequence[ScoredVideo],
    orders: Sequence[Ints],
    adaptive: Mapping[float, Outcome],
    count: int,
) -> list[Expected]:
    """The first `count` videos. adaptive: by error bound."""
    return [
        Expected(video=v, scored=s, order=o, adaptive_clips={b: int(a.clips[i]) for b, a in adaptive.items()})
        for i, (v, s, o) in enumerate(list(zip(videos, scored, orders, strict=True))[:count])
    ]


def check_server(models: Path, log: Path, videos: Sequence[Expected]) -> ServedCheck:
    """Serve `models` and ask for the most salient clips of each video, and adaptively. Raises TenclipError."""
    same = stops = 0
    largest, scorer = 0.0, ""
    with ServerProcess(models, log) as server, Client(server.address, timeout=120) as client:
        for one in videos:
            classes = one.scored.windows.shape[1]
            answer = client.predict(
                one.video.path, clips="salient", num_clips=len(one.order), top_k=classes, clip_scores=True
            )
            scorer = answer.timeline.scorer if answer.timeline else ""
            stops += all(_stops(client, one, bound) for bound in one.adaptive_clips)
            if _same_clips(answer, one):
                same += 1
                largest = max(largest, _largest_difference(answer, one))
    return ServedCheck(videos=len(videos), same_clips=same, same_stops=stops, largest_difference=largest, scorer=scorer)


def _stops(client: Client, one: Expected, error_bound: float) -> bool:
    """Whether adaptive prediction runs as many clips; without a bound, too, where this is the default one."""
    asked: list[float | None] = [error_bound, *([None] if error_bound == DEFAULT_ERROR_BOUND else [])]
    answers = [client.predict(one.video.path, clips="salient", adaptive=True, error_bound=bound) for bound in asked]
    return all(
        a.adaptive is not None
        and a.adaptive.clips_used == one.adaptive_clips[error_bound]
        and a.adaptive.error_bound == error_bound
        for a in answers
    )


def _same_clips(answer: Prediction, one: Expected) -> bool:
    found = np.array([(c.clip.start_seconds, c.clip.end_seconds) for c in answer.clips])
    wanted = one.scored.seconds[np.sort(one.order)]
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, atol=1e-6))


def _largest_difference(answer: Prediction, one: Expected) -> float:
    served = np.stack([_in_order(answer.top), *(_in_order(clip.top) for clip in answer.clips)])
    clips = one.scored.windows[np.sort(one.order)]
    return float(np.abs(served - np.concatenate([clips.mean(axis=0, keepdims=True), clips])).max())


def _in_order(top: Sequence[ClassScore]) -> NDArray[np.float64]:
    """Scores of all classes, by their index."""
    return np.array([s.score for s in sorted(top, key=lambda s: s.index)])
