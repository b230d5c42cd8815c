"""Training videos with damaged frames: they are used, and listed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tenclip_data.samples import Sample, split_name
from tenclip_video.video import DecodeReport


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A video that was used although some of its frames are damaged or missing.

    frames_corrupt: concealed by the decoder; frames_substituted: replaced by their nearest neighbours. Both are of the
    frames that were read when it was noticed: one clip, or what the cache holds.
    """

    video: str
    split: str
    frames_corrupt: int
    frames_substituted: int

    @classmethod
    def of(cls, sample: Sample, report: DecodeReport) -> Damage | None:
        """The damage that decoding the video of `sample` has met, None where there was none."""
        if not (report.frames_corrupt or report.frames_substituted):
            return None
        return cls(
            video=sample.key,
            split=split_name(sample.split),
            frames_corrupt=report.frames_corrupt,
            frames_substituted=report.frames_substituted,
        )


@dataclass
class DamageLog:
    """damaged.jsonl: a line for each training video, when damage is first met in it."""

    path: Path
    found: dict[str, Damage] = field(default_factory=dict)

    def restore(self, found: Iterable[Mapping[str, str | int]]) -> None:
        """Start from what a checkpoint remembers, rather than from what later steps have written.

        Raises TypeError for anything that `asdict` of a Damage does not make.
        """
        known = [Damage(**values) for values in found]  # type: ignore[arg-type]
        self.found = {d.video: d for d in known}
        self._write("w", known)

    def record(self, found: Iterable[Damage]) -> None:
        """Add the videos that are new."""
        new = {d.video: d for d in found if d.video not in self.found}
        if new:
            self.found.update(new)
            self._write("a", new.values())

    def _write(self, mode: str, found: Iterable[Damage]) -> None:
        with self.path.open(mode, encoding="utf-8") as f:
            f.writelines(json.dumps(asdict(damage), ensure_ascii=False) + "\n" for damage in found)
