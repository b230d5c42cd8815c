"""Videos that could not be used: what is known of each, and the file of a run that lists them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tenclip_api.errors import DatasetError, TenclipError
from tenclip_data.samples import Manifest, Sample, split_name


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A video that could not be used.

    reason: the error's stable name (EMPTY_VIDEO, NOT_A_VIDEO, ...); message: the error in words. split: of the
    manifest; "" where the manifest has no splits.
    """

    video: str
    reason: str
    message: str
    split: str = ""

    @classmethod
    def of(cls, sample: Sample, error: TenclipError) -> Failure:
        """The failure that `error` means for the video of `sample`."""
        return cls(video=sample.key, reason=error.reason, message=error.message, split=split_name(sample.split))


@dataclass
class FailureLog:
    """failures.jsonl: a line for each video of any split that could not be used, with the split and the reason.

    `num_videos` and `max_fraction` bound the failures of `train_split`: a run over the little that is left would look
    like a good one. others: further splits that are bounded so, with their numbers of videos. Failures of the rest are
    listed and never end a run.
    """

    path: Path
    train_split: str
    num_videos: int
    max_fraction: float
    others: Mapping[str, int] = field(default_factory=dict)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)

    def restore(self, failures: Sequence[Mapping[str, str]]) -> None:
        """Start from what a checkpoint remembers, rather than from what later steps have written."""
        # Runs of earlier versions listed training videos only, without their split.
        known = [Failure(**{"split": self.train_split, **f}) for f in failures]
        self.failures = {(f.split, f.video): f for f in known}
        self._write("w", known)

    def record(self, failures: Iterable[Failure]) -> None:
        """Add the failures that are new. Raises DatasetError when too many videos of a bounded split have failed."""
        new = {(f.split, f.video): f for f in failures if (f.split, f.video) not in self.failures}
        if not new:
            return
        self.failures.update(new)
        self._write("a", new.values())
        self.check(self.failures.values())

    def check(self, failures: Iterable[Failure]) -> None:
        """Raises DatasetError when these failures are too many of a bounded split; those of other processes, too."""
        known = {(f.split, f.video): f for f in failures}.values()
        for split, total in {**self.others, self.train_split: self.num_videos}.items():
            failed = [f for f in known if f.split == split]
            if len(failed) > self.max_fraction * total:
                of = "" if split == self.train_split else f" of {split}"
                raise DatasetError(
                    f"{len(failed)} of {total} videos{of} could not be read, more than the "
                    f"{self.max_fraction:.0%} allowed; {self.path} lists them. "
                    f"The first: {failed[0].message} ({failed[0].reason})"
                )

    def _write(self, mode: str, failures: Iterable[Failure]) -> None:
        with self.path.open(mode, encoding="utf-8") as f:
            f.writelines(json.dumps(asdict(failure), ensure_ascii=False) + "\n" for failure in failures)


def unreadable_classes(manifest: Manifest, failed: Collection[str]) -> tuple[str, ...]:
    """The classes that have videos, none of which can be read. failed: keys of the samples that cannot.

    Whatever draws them goes on, and the batches lack the clips: what is drawn of the other classes does not change.
    """
    if not failed:
        return ()
    with_videos = {label for sample in manifest.samples for label in sample.labels}
    readable = {label for sample in manifest.samples if sample.key not in failed for label in sample.labels}
    return tuple(label for label in manifest.labels if label in with_videos - readable)
