"""Everything that the demo asks the running server: predictions, cards of single videos, features and probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_client import Client
from tenclip_data.manifest import Manifest, Sample
from tenclip_demo.learn import Learned
from tenclip_demo.probes import run_probe
from tenclip_demo.report import FailedVideo, ProbeFacts, VideoCard
from tenclip_demo.served import ABOUT_ONE_VIDEO, Answer, extract_features, predict_all, video_card
from tenclip_demo.stages import Stages
from tenclip_demo.videos import Part

# Titles of the page's groups of videos.
UNTRIMMED = "Untrimmed videos: the action fills only a part, marked in green"
OF_THE_USER = "Videos of yours: the model knows no other classes than its own"
HELD_OUT = "Held-out videos: the first of each class, and some that it gets wrong"
WRONG_CARDS = 3  # videos that the model gets wrong and that the page shows
MOST_CARDS = 10


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All answers of the server. `failed`: videos that it would not take, each with its typed error."""

    answers: tuple[Answer, ...]
    cards: tuple[VideoCard, ...]
    failed: tuple[FailedVideo, ...]
    probes: tuple[ProbeFacts, ...]
    runtime: str
    runtime_reason: str


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A video that gets a card. truth, interval (seconds of the video): where somebody knows them."""

    part: Part
    group: str
    name: str
    truth: str | None = None
    interval: tuple[float, float] | None = None

    @classmethod
    def of_sample(cls, sample: Sample, group: str) -> _Wanted:
        """A held-out video is the part that its row means; in an untrimmed one, that part is where the action is."""
        if group == HELD_OUT:
            return cls(part=Part.of(sample), group=group, name=Path(sample.key).name, truth=sample.labels[0])
        start, end = sample.start_seconds, sample.end_seconds
        interval = None if start is None or end is None else (start, end)
        return cls(
            part=Part(sample.path), group=group, name=sample.path.name, truth=sample.labels[0], interval=interval
        )


class Asker:
    """Asks one server about the videos of a demo. extra_videos: files of the user's, without a label."""

    def __init__(self, client: Client, learned: Learned, stages: Stages, *, extra_videos: Sequence[Path] = ()) -> None:
        self._client, self._learned, self._stages = client, learned, stages
        self._extra_videos = extra_videos

    def ask(self) -> Findings:
        """All of it, each part a stage. Raises DatasetError where the server predicts no video at all."""
        now = self._stages.now
        answers, failed = now("predict", "predicting held-out videos", self._predict)
        cards, refused = now("look", "predicting over time", lambda: self._cards(answers))
        probes = self._probe()
        model = self._client.get_model()
        return Findings(
            answers=tuple(answers),
            cards=tuple(cards),
            failed=(*failed, *refused),
            probes=probes,
            runtime=model.runtime,
            runtime_reason=model.runtime_reason,
        )

    def _predict(self) -> tuple[list[Answer], list[FailedVideo]]:
        samples = self._learned.videos.test.samples
        answers, failed = predict_all(self._client, samples, self._stages.console.update)
        if not answers:
            raise DatasetError(
                f"the server predicted none of {len(failed)} held-out videos; first: {failed[0].message}"
            )
        return answers, failed

    def _probe(self) -> tuple[ProbeFacts, ...]:
        now, update, sets = self._stages.now, self._stages.console.update, self._learned.videos.probes
        videos = list(dict.fromkeys(v for p in sets for v in p.videos))
        table = now("features", "extracting features", lambda: extract_features(self._client, videos, update))
        probes: tuple[ProbeFacts, ...] = now(
            "probe", "fitting probes", lambda: tuple(run_probe(p, table, update) for p in sets)
        )
        return probes

    def _cards(self, answers: Sequence[Answer]) -> tuple[list[VideoCard], list[FailedVideo]]:
        wanted = [
            *(_Wanted.of_sample(s, UNTRIMMED) for s in self._learned.videos.untrimmed),
            *(_Wanted(part=Part(p), group=OF_THE_USER, name=p.name) for p in self._extra_videos),
            *(_Wanted.of_sample(s, HELD_OUT) for s in choose_cards(self._learned.videos.test, answers)),
        ]
        cards: list[VideoCard] = []
        failed: list[FailedVideo] = []
        for done, one in enumerate(wanted, start=1):
            try:
                cards.append(self._card(one))
            except ABOUT_ONE_VIDEO as err:
                failed.append(FailedVideo(name=one.name, reason=err.reason, message=err.message))
            self._stages.console.update(done, len(wanted))
        return cards, failed

    def _card(self, wanted: _Wanted) -> VideoCard:
        bundle = self._learned.bundle
        return video_card(
            self._client,
            wanted.part,
            labels=bundle.labels,
            spec=bundle.info.clip_spec,
            group=wanted.group,
            name=wanted.name,
            truth=wanted.truth,
            interval=wanted.interval,
            salient=wanted.group != HELD_OUT,
        )


def choose_cards(test: Manifest, answers: Sequence[Answer]) -> list[Sample]:
    """The first video of each class, in the order of the classes, and the first few that the server gets wrong."""
    predicted = {a.key: a.label for a in answers}
    samples = [s for s in test.samples if s.key in predicted]
    first = {s.labels[0]: s for s in reversed(samples)}
    wrong = [s for s in samples if predicted[s.key] != s.labels[0] and s not in first.values()]
    return [*[first[label] for label in test.labels if label in first][:MOST_CARDS], *wrong[:WRONG_CARDS]]
