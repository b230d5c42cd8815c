"""Which videos are corrupt: every frame of every video is decoded, in parallel, with a ledger of what was found.

The ledger is a file of JSON lines, one a video. It is written as videos are finished, so a scan that was stopped goes
on where it was; a file that has changed since is looked at again, and so is one whose decoder was stopped.

- `ok`: every frame decodes.
- `damaged`: it can be used, but frames are missing, concealed or stood in for; `warnings` say which.
- `unreadable`: it cannot be used; `reason` is the error's stable name.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, DecodeWorkerDied
from tenclip_data.scan import printable_name
from tenclip_features.stamps import stamp_file
from tenclip_training.curation.killable import DEFAULT_TIMEOUT_SECONDS, for_each
from tenclip_training.curation.video_sets import SetVideo
from tenclip_video.images import read_pixels
from tenclip_video.spec import Resize
from tenclip_video.video import open_video

Verdict = Literal["ok", "damaged", "unreadable"]
_SMALL = Resize(mode="squash", height=16, width=16)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is known of one video. num_bytes and mtime_ns tell later whether the file has changed."""

    video: str
    verdict: Verdict
    frames: int = 0
    seconds: float = 0.0
    frames_substituted: int = 0
    frames_corrupt: int = 0
    warnings: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""
    key: str = ""
    num_bytes: int | None = None
    mtime_ns: int | None = None
    whole: bool = True


@dataclass(frozen=True)
class ScanResult:
    """Findings in the order of the videos; how many of them were made now."""

    findings: tuple[Finding, ...]
    scanned: int

    @property
    def counts(self) -> dict[str, int]:
        """Videos by verdict."""
        found = Counter(f.verdict for f in self.findings)
        return {verdict: found[verdict] for verdict in ("ok", "damaged", "unreadable")}

    @property
    def coverage(self) -> float:
        """The part of the videos that can be used at all."""
        return 1 - self.counts["unreadable"] / len(self.findings) if self.findings else 0.0

    @property
    def reasons(self) -> dict[str, int]:
        """Unreadable videos by reason, the most frequent first."""
        return dict(Counter(f.reason for f in self.findings if f.verdict == "unreadable").most_common())


def scan_videos(
    videos: Sequence[SetVideo],
    ledger: Path,
    *,
    workers: int,
    whole: bool = True,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> ScanResult:
    """Scan the videos that the ledger does not know, or whose files have changed.

    whole: decode every frame; else only open each video and decode its first frame. A ledger of quick scans does not
    do for a whole one. Raises DatasetError for a file that is no ledger, and OSError.
    """
    whole_files = (replace(v, name=printable_name(v.path), start_seconds=None, end_seconds=None) for v in videos)
    files = list({v.key: v for v in whole_files}.values())  # parts of one video are one file
    known = read_ledger(ledger)
    stamps = {v.key: stamp_file(v.path) for v in files}
    fresh: dict[str, Finding] = {}
    todo = []
    for video in files:
        stamp, finding = stamps[video.key], known.get(video.key)
        same = finding is not None and (finding.num_bytes, finding.mtime_ns) == (
            (None, None) if stamp is None else (stamp.num_bytes, stamp.mtime_ns)
        )
        is_final = finding is not None and finding.reason != DecodeWorkerDied.reason and (finding.whole or not whole)
        if finding is not None and same and is_final:
            fresh[video.key] = finding
        else:
            todo.append(video)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with ledger.open("ab") as file:
        if file.tell() and not _ends_whole(ledger):
            file.write(b"\n")  # a run that was killed left half a line
        outcomes = for_each(
            inspect_whole if whole else inspect_start, todo, workers=workers, timeout_seconds=timeout_seconds
        )
        for outcome in outcomes:
            video, stamp = outcome.item, stamps[outcome.item.key]
            finding = outcome.value
            if finding is None:
                assert outcome.error is not None
                finding = Finding(
                    video=video.name, verdict="unreadable", reason=outcome.error.reason, message=outcome.error.message
                )
            values = asdict(finding) | {"key": video.key, "whole": whole}
            if stamp is not None:
                values |= {"num_bytes": stamp.num_bytes, "mtime_ns": stamp.mtime_ns}
            fresh[video.key] = Finding(**values)
            file.write(json.dumps(values).encode() + b"\n")
            file.flush()
            if progress:
                progress(len(fresh), len(files))
        os.fsync(file.fileno())
    return ScanResult(tuple(fresh[v.key] for v in files), len(todo))


def read_ledger(path: Path) -> dict[str, Finding]:
    """The last finding of each video, by key; empty where there is no file. Half a last line is passed over.

    Raises DatasetError for a file that is no ledger.
    """
    if not path.exists():
        return {}
    found: dict[str, Finding] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            finding = _finding(json.loads(line))
        except (ValueError, TypeError) as err:
            if line.startswith(b'{"video": ') or (number == len(lines) and line.startswith(b"{")):
                continue  # cut off by a kill
            raise DatasetError(f"{path}, line {number}: is no line of a ledger ({err}); name another file") from err
        found[finding.key] = finding
    return found


def inspect_whole(video: SetVideo) -> Finding:
    """Decode every frame of a video, or an image. Raises VideoError for one that cannot be used."""
    if video.is_image:
        return inspect_image(video)
    with open_video(video.path, name=video.name) as opened:
        frames = opened.info.num_frames
        opened.read_into(_Nowhere(), np.arange(frames), _SMALL)
        report = opened.report
        seconds = opened.info.duration_seconds
    damaged = bool(report.frames_substituted or report.frames_corrupt or _tells_damage(report.warnings))
    return Finding(
        video=video.name,
        verdict="damaged" if damaged else "ok",
        frames=frames,
        seconds=round(seconds, 3),
        frames_substituted=report.frames_substituted,
        frames_corrupt=report.frames_corrupt,
        warnings=report.warnings,
    )


def inspect_image(image: SetVideo) -> Finding:
    """Decode an image. Raises VideoError for one that cannot be used; half an image cannot."""
    read_pixels(image.path, name=image.name)
    return Finding(video=image.name, verdict="ok", frames=1)


def inspect_start(video: SetVideo) -> Finding:
    """Open a video and decode its first frame; an image is decoded whole. Raises VideoError for one that cannot be
    used.
    """
    if video.is_image:
        return inspect_image(video)
    with open_video(video.path, name=video.name) as opened:
        info, warnings = opened.info, opened.report.warnings
    return Finding(
        video=video.name,
        verdict="damaged" if _tells_damage(warnings) else "ok",
        frames=info.num_frames,
        seconds=round(info.duration_seconds, 3),
        warnings=warnings,
    )


# Words of the decoder's warnings that tell of loss; others tell of an unusual container.
_DAMAGE_WORDS = ("cut off", "damaged", " lost)", "cannot be decoded", "could not be decoded")


def _tells_damage(warnings: Sequence[str]) -> bool:
    return any(word in warning for warning in warnings for word in _DAMAGE_WORDS)


def _finding(values: Mapping[str, Any]) -> Finding:
    return Finding(**{**values, "warnings": tuple(values["warnings"])}) if "warnings" in values else Finding(**values)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class _Nowhere:
    """Takes frames and keeps none."""

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None: ...

    def repeat(self, slot: int, of: int) -> None: ...
