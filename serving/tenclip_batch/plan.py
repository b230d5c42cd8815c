"""What is to be done: the videos that are asked for, less those that the ledger has as they are now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tenclip_api.errors import VideoNotFound
from tenclip_batch.ledger import LedgerEntry
from tenclip_batch.options import ResumeOptions
from tenclip_batch.sources import BatchVideo, RemoteCell, RemoteMember, Uri, is_current, is_missing, stamp_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """todo: videos to work on; stale: names whose rows go first.

    reused, changed, removed, pruned: names, as in `tenclip features`: current; worked on anew because the file has
    changed; gone or not asked for any more, kept; not asked for any more, dropped: failures always, for they hold
    nothing. failed: failures that are left as they are.
    """

    todo: tuple[BatchVideo, ...]
    stale: tuple[str, ...]
    reused: int
    failed: int
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    pruned: tuple[str, ...]


def make_plan(
    videos: Sequence[BatchVideo],
    ledger: Mapping[str, LedgerEntry],
    resume: ResumeOptions,
    *,
    lost: Collection[str] = frozenset(),
) -> Plan:
    """Sort the videos by what the ledger says of them, and what their files are like now.

    lost: videos that are done, and whose features are not there, or may be those of another one.
    """
    todo: list[BatchVideo] = []
    stale: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    reused = failures = 0
    for video in videos:
        entry = ledger.get(video.name)
        if entry is None:
            todo.append(video)
        elif not entry.done:
            if resume.retry_failed or _is_mended(video, entry):
                todo.append(video)
                stale.append(video.name)
            else:
                failures += 1
        elif video.name in lost:
            todo.append(video)
            stale.append(video.name)
            changed.append(video.name)
        elif not resume.prune and video.error is None and is_missing(video.source):
            removed.append(video.name)
            reused += 1
        elif video.error is None and is_current(video.source, entry.stamp, by_content=resume.by_content):
            reused += 1
        else:
            todo.append(video)
            stale.append(video.name)
            changed.append(video.name)
    asked = {v.name for v in videos}
    others = [name for name in ledger if name not in asked]
    unread = {v.name for v in videos if v.error is not None and not isinstance(v.error, VideoNotFound)}
    pruned = [
        name
        for name in others
        if name in lost or not ledger[name].done or (resume.prune and not _is_within(name, unread))
    ]
    dropped = set(pruned)
    return Plan(
        todo=tuple(todo),
        stale=(*stale, *pruned),
        reused=reused,
        failed=failures,
        changed=tuple(changed),
        removed=(*removed, *(name for name in others if name not in dropped)),
        pruned=tuple(pruned),
    )


def _is_within(name: str, places: Collection[str]) -> bool:
    """Whether a video is in one of these shards or folders, which cannot be read now and may be later.

    >>> _is_within("a/b.tar/c.mp4", {"a/b.tar"}), _is_within("rows.parquet#3", {"rows.parquet"})
    (True, True)
    """
    return any(name[:at] in places for at, sign in enumerate(name) if sign in "/#")


def _is_mended(video: BatchVideo, entry: LedgerEntry) -> bool:
    """Whether what held a video that failed is something else now, so that the failure says nothing of it."""
    if video.error is not None or isinstance(video.source, Uri):
        return False
    if isinstance(video.source, RemoteMember | RemoteCell):
        return not video.source.known
    if entry.stamp is None:
        return stamp_of(video.source) is not None
    return not is_current(video.source, entry.stamp)
