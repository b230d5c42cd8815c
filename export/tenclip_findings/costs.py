"""What findings cost: training clips, videos, and minutes on this machine, by rates that are measured when asked for.

Training is counted by network, videos by their length, scores by the clips that a network looks at. Everything is
seconds of one thread; jobs run one a core, so minutes are those of all jobs divided by the cores.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Manifest
from tenclip_findings.finding import Finding
from tenclip_findings.footage.data import TRAIN, Footage
from tenclip_findings.lab import tasks
from tenclip_findings.lab.arms import BATCH, R3D_10, SPEC
from tenclip_findings.lab.jobs import Job, in_order
from tenclip_findings.lab.tasks import synth_config
from tenclip_findings.lab.tasks_footage import decodable
from tenclip_findings.run import Options
from tenclip_training.curation.budgets import ranked
from tenclip_training.models import create_model
from tenclip_training.runs.optimization import autocast

# (architecture, its options, frames of a clip, precision that it is trained in)
Network = tuple[str, tuple[tuple[str, Any], ...], int, str]
# Of a training step alone: reading and changing clips, and saving, take the rest.
OVERHEAD = 1.2
SCORING = 1 / 3  # a clip that is only looked at, as a part of one that is learned from
DISTILLING = 1.2  # a clip of a student, whose teacher looks at a frame of it
_STEPS = 3
_PROBE_VIDEOS, _PROBE_SECONDS = 4, 2.0


@dataclass(kw_only=True)
class Work:
    """clips: training clips by network. scored: clips that a network looks at. video_seconds: of videos to make and to
    decode, a still being a frame of one; footage_seconds: of own videos to decode; seconds: of one thread, beside all
    that.
    """

    clips: Counter[Network] = field(default_factory=Counter)
    scored: Counter[Network] = field(default_factory=Counter)
    videos: int = 0
    video_seconds: float = 0.0
    footage_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def training_clips(self) -> int:
        return self.clips.total()

    def minutes(self, rates: Rates, processes: int) -> float:
        """On so many cores."""
        seconds = self.seconds + self.video_seconds * rates.video + self.footage_seconds * rates.footage
        seconds += sum(rates.clip[n] * (self.clips[n] + SCORING * self.scored[n]) for n in self.networks)
        return seconds / processes / 60

    @property
    def networks(self) -> set[Network]:
        return {*self.clips, *self.scored}


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of one thread: of a training clip, by network, of a second of video to make and decode, and of one of own
    video to decode. precision: of the network whose speed is told.
    """

    clip: Mapping[Network, float]
    video: float
    footage: float = 0.0
    precision: str = "fp32"

    @property
    def clips_per_second(self) -> float:
        """Of R3D with ten layers, on one thread."""
        return 1 / self.clip[_network(*R3D_10, int(SPEC["num_frames"]), self.precision)]


def work_of(findings: Mapping[str, Finding], seeds: Mapping[str, Iterable[int]], options: Options) -> Work:
    """Of the jobs of these seeds of findings, by name, each counted once."""
    arms = [
        job
        for name, finding in findings.items()
        for seed in seeds[name]
        for job in finding.arms(options.lab(finding, seed)).values()
    ]
    return work_of_jobs(in_order(arms))


def work_of_jobs(jobs: Sequence[Job]) -> Work:
    """Of these jobs alone, without what they need."""
    work = Work()
    for job in jobs:
        work.seconds += job.seconds
        work.videos += job.videos
        work.footage_seconds += job.video_seconds
        name = job.kind.rpartition(".")[2]
        if name == "synth":
            config = synth_config(job.settings["config"])
            total = config.total or 0
            work.videos += total
            work.video_seconds += total * (_FRAME if config.kind == "images" else sum(config.seconds) / 2)
        elif job.clips:
            factor = DISTILLING if name == "distill" else 1.0
            work.clips[network_of(job)] += round(job.clips * factor)
        elif name in ("score", "probe"):
            (run,) = [need for need in job.needs if need.clips]
            looked = [need for need in job.needs if need.kind.endswith(".clips")]
            work.scored[network_of(run)] += sum(map(_count, looked))
    return work


_FRAME = 1 / 15  # seconds


def _count(clips: Job) -> int:
    """Videos of decoded clips."""
    made = sum(int(need.settings["config"]["total"]) for need in clips.needs if need.kind.endswith(".synth"))
    return made + sum(need.videos for need in clips.needs)


def network_of(job: Job) -> Network:
    """Which network a training job trains, and in which precision."""
    values = job.settings["values"]
    return _network(values["architecture"], values["model"], values["num_frames"], values["precision"])


def _network(architecture: str, options: Mapping[str, Any], num_frames: int, precision: str) -> Network:
    return architecture, tuple(sorted(options.items())), num_frames, precision


def measure_rates(networks: Collection[Network], precision: str, footage: Footage | None = None) -> Rates:
    """On this machine, now, with one thread; R3D with ten layers is measured in any case. Takes some seconds.

    precision: that this one is trained in, "fp32" or "bf16". footage: own videos, of which a few are decoded.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wanted = sorted({_network(*R3D_10, int(SPEC["num_frames"]), precision), *networks})
        video = _video_seconds()
        return Rates(
            clip={network: _clip_seconds(network) for network in wanted},
            video=video,
            footage=0.0 if footage is None else _footage_seconds(footage) or video,
            precision=precision,
        )
    finally:
        torch.set_num_threads(threads)


def _clip_seconds(network: Network) -> float:
    architecture, options, num_frames, precision = network
    crop = int(SPEC["crop"])
    with torch.random.fork_rng():
        size = {"num_frames": num_frames, "crop": crop}
        model = create_model(architecture, num_classes=16, **{**size, **dict(options)})
        clips = torch.rand(BATCH, 3, num_frames, crop, crop).to(memory_format=torch.channels_last_3d)
    model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    best = float("inf")
    for step in range(1 + _STEPS):
        started = time.process_time()
        optimizer.zero_grad()
        with autocast(torch.device("cpu"), precision):
            logits, _ = model(clips)
        logits.float().square().mean().backward()
        optimizer.step()
        if step:  # the first one warms up
            best = min(best, time.process_time() - started)
    return OVERHEAD * best / BATCH


def _video_seconds() -> float:
    """To make and decode a second of video."""
    config: dict[str, Any] = {"total": _PROBE_VIDEOS, "num_classes": 2, "seconds": (_PROBE_SECONDS,) * 2, "seed": 1}
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        tasks.synth(Path(folder), {**config, "splits": (("train", 1.0),)})
        tasks.clips(Path(folder), str(Path(folder) / tasks.MANIFEST), SPEC)
        return (time.process_time() - started) / (_PROBE_VIDEOS * _PROBE_SECONDS)


def _footage_seconds(footage: Footage) -> float:
    """To decode a second of own video; 0 where none of a few can be."""
    wanted, known = set(footage.classes), footage.durations.seconds
    samples = [s for s in footage.samples if s.split == TRAIN and wanted.issuperset(s.labels) and s.key in known]
    some = set(ranked([s.key for s in samples], 0)[:_PROBE_VIDEOS])
    few = Manifest(
        source=footage.path, samples=tuple(s for s in samples if s.key in some), labels=tuple(footage.classes)
    )
    started = time.process_time()
    try:
        found, _ = decodable(few)
    except DatasetError:
        return 0.0
    total = sum(known[s.key] for s in found)
    return (time.process_time() - started) / total if total else 0.0


__all__ = ["Rates", "Work", "measure_rates", "network_of", "work_of", "work_of_jobs"]
