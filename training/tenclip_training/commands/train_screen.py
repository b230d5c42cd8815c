"""What `tenclip train` shows while it trains, on a terminal and elsewhere, and its lines at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from tenclip_training.console import Reporter, reporting
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.results import EpochResult, Progress, TrainResult
from tenclip_video.cpus import usable_cpus

# From this part of the time on, waiting for clips is worth a remark.
MUCH_WAITING = 0.3
# Epochs may take hours: the remark comes after so many steps of one, and at its end where it has fewer.
STEPS_BEFORE_REMARK = 100


@contextmanager
def train_screen(config: TrainConfig) -> Iterator[TrainScreen]:
    """The screen of a run: a bar with the facts below it on a terminal, a line every ten seconds elsewhere."""
    with reporting() as reporter:
        yield TrainScreen(config, reporter)


class TrainScreen:
    """Callbacks for `train`."""

    def __init__(self, config: TrainConfig, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self._remarked = 0  # the epoch of the last remark

    def progress(self, p: Progress) -> None:
        """Show how far the run is; a line that stays where much time goes on waiting for clips."""
        if p.stage == "train":
            self.reporter.update(f"epoch {p.epoch} of {p.epochs}", p.done, p.total, facts=facts_line(p))
            if p.done >= STEPS_BEFORE_REMARK:
                self._remark(p.epoch, p.data_wait_share)
        else:
            title = {"cache": "decoding", "teacher": "asking the teachers", "evaluate": "validating"}[p.stage]
            self.reporter.update(title, p.done, p.total, "videos")

    def note(self, line: str) -> None:
        """A line that stays, on what the run begins with."""
        self.reporter.say(line)

    def epoch(self, result: EpochResult) -> None:
        """A line that stays, and another one where much time went on waiting for clips."""
        self.reporter.say(epoch_line(result, self.config.epochs))
        self._remark(result.epoch, result.data_wait_share)

    def _remark(self, epoch: int, share: float) -> None:
        """What would help, once an epoch."""
        if self._remarked < epoch and (hint := waiting_hint(share, self.config)):
            self._remarked = epoch
            self.reporter.say(hint)


def facts_line(p: Progress) -> str:
    """Loss, rate, speed, the part of the time that is spent on waiting, what is left, and the last validation."""
    facts = [
        "" if math.isnan(p.loss) else f"loss {p.loss:.3f}",
        f"lr {p.learning_rate:.3g}",
        f"{p.clips_per_second:.4g} clips/s",
        f"{p.data_wait_share:.0%} waiting for clips",
        "" if p.val_video_top1 is None else f"val video top-1 {p.val_video_top1:.1%}",
        "" if p.epoch_seconds_left is None else f"{_time(p.epoch_seconds_left)} left in the epoch",
        "" if p.run_seconds_left is None else f"{_time(p.run_seconds_left)} in the run",
    ]
    return ", ".join(filter(None, facts))


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def epoch_line(result: EpochResult, epochs: int) -> str:
    line = (
        f"epoch {result.epoch:>{len(str(epochs))}} of {epochs}: loss {result.loss:.3f}, "
        f"train clip top-1 {result.train_clip_top1:.1%} of {result.train_clips}"
    )
    if result.val_video_top1 is not None:
        mean_precision = "" if result.val_video_map is None else f" and mAP {result.val_video_map:.1%}"
        line += f", val video top-1 {result.val_video_top1:.1%}{mean_precision} of {result.val_videos_decoded}"
        if result.val_videos_decoded < result.val_videos_asked:
            line += f" (asked for {result.val_videos_asked})"
    if result.unreadable_classes:
        line += f", no readable video of {', '.join(result.unreadable_classes)}"
    return f"{line}, {result.seconds:.1f} s"


def waiting_hint(share: float, config: TrainConfig, *, cpus: int | None = None) -> str:
    """What would help where reading clips is the limit; "" where it is not. cpus: None takes those of this process."""
    if share < MUCH_WAITING:
        return ""
    cpus = cpus or usable_cpus()
    helps = []
    if config.workers == 0 and cpus > 1:
        helps.append(f"--workers {cpus - 1} reads clips beside the training")
    elif 0 < config.workers < cpus - 1:
        helps.append(f"--workers {cpus - 1} uses all {cpus} cores (now {config.workers})")
    helps.append(f"a larger --cache (now {config.cache_gib:g} GiB) keeps decoded videos in memory")
    helps.append("smaller videos or `tenclip shards` read faster")
    return f"  {share:.0%} of the time went on waiting for clips: {'; '.join(helps)}"


def damage_lines(result: TrainResult) -> list[str]:
    """A line where training videos had damaged frames."""
    if not result.damaged:
        return []
    return [
        f"{len(result.damaged)} of {result.train_videos} training videos have damaged frames, and were used: "
        f"{result.out / 'damaged.jsonl'}"
    ]


def failure_lines(result: TrainResult) -> list[str]:
    """A line for each split of which videos could not be read, with how many of how many and where they are listed."""
    counts = (
        (result.videos_failed, result.train_videos, "training"),
        (result.val_videos_failed, result.val_videos, "validation"),
    )
    return [
        f"{failed} of {asked} {kind} videos could not be read: {result.out / 'failures.jsonl'}"
        for failed, asked, kind in counts
        if failed
    ]
