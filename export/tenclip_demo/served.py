"""Requests to the running server, all of them through the client, as a user would make them."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import DatasetError, DecodeWorkerDied, InvalidRequest, MessageTooLarge, VideoError
from tenclip_client import Client, ClipFeatures, Prediction, ServerPath, VideoFeatures, VideoInfo
from tenclip_data.manifest import Sample
from tenclip_demo.pictures import thumbnails
from tenclip_demo.report import FailedVideo, Segment, VideoCard
from tenclip_demo.videos import Part
from tenclip_features.table import FeatureTable
from tenclip_video.spec import ClipSpec

Progress = Callable[[int, int], None]

# What one video can be to blame for; anything else is about the server and ends the demo.
ABOUT_ONE_VIDEO = (VideoError, InvalidRequest, MessageTooLarge, DecodeWorkerDied)
LARGEST_MESSAGE = 48 << 20
WARM_UP_REQUESTS = 2
WINDOWS = 24  # on one card
SALIENT_CLIPS = 4  # few enough that a short video has others
PROBE_CLIPS = 4
CONCURRENCY = 2


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One prediction: the best class, how long it took, seconds of each stage on the server. key: of the sample."""

    key: str
    label: str
    seconds: float
    timings: dict[str, float]


def predict_all(
    client: Client, samples: Sequence[Sample], progress: Progress
) -> tuple[list[Answer], list[FailedVideo]]:
    """Each video, or part of one, with the model's own protocol, one request after another, so that latencies are those
    of a request alone. A few requests go ahead uncounted.
    """
    for sample in samples[:WARM_UP_REQUESTS]:
        with contextlib.suppress(*ABOUT_ONE_VIDEO):  # it is counted when its turn comes
            client.predict(source(sample.path), **seconds_of(Part.of(sample)))
    answers: list[Answer] = []
    failed: list[FailedVideo] = []
    for done, sample in enumerate(samples, start=1):
        start = time.perf_counter()
        try:
            prediction = client.predict(source(sample.path), **seconds_of(Part.of(sample)))
        except ABOUT_ONE_VIDEO as err:
            failed.append(FailedVideo(name=Path(sample.key).name, reason=err.reason, message=err.message))
        else:
            seconds = time.perf_counter() - start
            timings = dict(prediction.provenance.timings)
            answers.append(Answer(key=sample.key, label=prediction.label, seconds=seconds, timings=timings))
        progress(done, len(samples))
    return answers, failed


def seconds_of(part: Part) -> Mapping[str, Any]:
    """Arguments of a request about a part; none for a whole video."""
    return {} if part.whole else {"start": part.start, "end": part.end}


def source(path: Path) -> Path | ServerPath:
    """A file too large for a message is opened by the server, which runs on this machine and may read it."""
    large = path.is_file() and path.stat().st_size > LARGEST_MESSAGE
    return ServerPath(str(path.resolve())) if large else path


def median_timings(answers: Sequence[Answer]) -> tuple[tuple[str, float], ...]:
    """Median seconds of each stage on the server, in the order in which it names them."""
    stages = dict.fromkeys(stage for a in answers for stage in a.timings)
    return tuple((stage, statistics.median(a.timings.get(stage, 0.0) for a in answers)) for stage in stages)


def quantile(values: Iterable[float], part: float) -> float:
    return float(np.quantile(np.fromiter(values, np.float64), part))


def video_card(
    client: Client,
    part: Part,
    *,
    labels: tuple[str, ...],
    spec: ClipSpec,
    group: str,
    name: str,
    truth: str | None = None,
    interval: tuple[float, float] | None = None,
    salient: bool = False,
) -> VideoCard:
    """Everything that the page shows of one video: the classes of the part, and those of windows over the whole video,
    in which the part is the interval. spec: the model's. salient: ask for the class of its most salient clips, too.

    Raises TenclipError for a video that the server refuses.
    """
    path = part.path
    whole = client.predict(source(path), top_k=len(labels), **seconds_of(part))
    windows = client.predict(
        source(path),
        clips="windows",
        window_step=window_step(whole.video, spec),
        top_k=len(labels),
        clip_scores=True,
        timeline=True,
    )
    best = client.predict(source(path), clips="salient", num_clips=SALIENT_CLIPS, top_k=1) if salient else None
    info, timeline = whole.video, windows.timeline
    if not part.whole:
        interval = (part.start or 0.0, info.duration_seconds if part.end is None else part.end)
    return VideoCard(
        name=name,
        group=group,
        truth=truth,
        top=tuple((score.label, score.score) for score in whole.top[:5]),
        labels=labels,
        duration=info.duration_seconds,
        facts=f"{info.width}x{info.height}, {info.frames_per_second:.4g} frames/s, {info.num_frames} frames in "
        f"{info.duration_seconds:.1f} s, {info.codec} in {info.container}",
        segments=_segments(windows, len(labels)),
        salience=tuple((p.start_seconds, p.end_seconds, p.score) for p in timeline.points) if timeline else (),
        thumbnails=thumbnails(path),
        interval=interval,
        part=not part.whole,
        salient=(best.label, best.score) if best else None,
        warnings=whole.report.warnings,
    )


def window_step(info: VideoInfo, spec: ClipSpec) -> int:
    """Frames, of those that clips are sampled from, from one window to the next for about `WINDOWS` of them; they
    overlap in short videos.
    """
    frames = info.num_frames if spec.target_fps is None else info.duration_seconds * spec.target_fps
    return max(1, round((frames - spec.span) / (WINDOWS - 1)))


def _segments(prediction: Prediction, num_classes: int) -> tuple[Segment, ...]:
    segments = []
    for clip in prediction.clips:
        scores = [0.0] * num_classes
        for score in clip.top:
            scores[score.index] = score.score
        segments.append(Segment(start=clip.clip.start_seconds, end=clip.clip.end_seconds, scores=tuple(scores)))
    return tuple(segments)


def extract_features(client: Client, videos: Sequence[Part], progress: Progress) -> FeatureTable:
    """Features of a few clips of each video or part, as `tenclip features` would write them; those that fail are left
    out.

    Raises DatasetError when all fail.
    """

    def extract(part: Part) -> VideoFeatures | None:
        try:
            return client.extract_features(
                source(part.path), clips="uniform", num_clips=PROBE_CLIPS, **seconds_of(part)
            )
        except ABOUT_ONE_VIDEO:
            return None

    rows: list[tuple[Path, ClipFeatures]] = []
    model = version = ""
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for done, (part, answer) in enumerate(zip(videos, pool.map(extract, videos), strict=True), start=1):
            if answer is not None:
                rows += [(part.path, clip) for clip in answer.features.clips]
                model, version = answer.provenance.model, answer.provenance.version
            progress(done, len(videos))
    if not rows:
        raise DatasetError(f"the server gave features of none of {len(videos)} videos")
    return FeatureTable(
        source="features from the server",
        videos=tuple(str(path) for path, _ in rows),
        clip_indices=np.array([clip.clip.index for _, clip in rows]),
        seconds=np.array([(clip.clip.start_seconds, clip.clip.end_seconds) for _, clip in rows]),
        features=np.stack([np.asarray(clip.values, np.float32) for _, clip in rows]),
        model=model,
        version=version,
    )
