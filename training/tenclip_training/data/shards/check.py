"""Whether shards hold what their index says: every byte of every video is read and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenclip_api.errors import VideoError
from tenclip_training.data.shards.index import Shard, ShardIndex, ShardRow
from tenclip_training.data.shards.storage import ShardStorage
from tenclip_training.data.shards.tars import Member, NotATar, TarWalk, split_key


@dataclass(frozen=True, kw_only=True)
class ShardFinding:
    """What is wrong with a shard. lost: the samples in it that cannot be used; `total`: how many it has."""

    shard: str
    message: str
    lost: tuple[ShardRow, ...]
    total: int


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """shards, samples: how many were looked at. findings: a row for each shard with which something is wrong."""

    shards: int
    samples: int
    findings: tuple[ShardFinding, ...]

    @property
    def lost(self) -> int:
        """Samples that cannot be used."""
        return sum(len(f.lost) for f in self.findings)


def check_shards(
    index: ShardIndex, storage: ShardStorage, *, progress: Callable[[int, int], None] | None = None
) -> CheckResult:
    """Compare all shards with the index. `progress` gets (shards done, shards in all)."""
    of_shard: list[list[ShardRow]] = [[] for _ in index.shards]
    for row in index.rows:
        of_shard[row.shard].append(row)
    findings = []
    for done, (shard, rows) in enumerate(zip(index.shards, of_shard, strict=True), start=1):
        finding = _check(shard, rows, storage)
        if finding is not None:
            findings.append(finding)
        if progress is not None:
            progress(done, len(index.shards))
    return CheckResult(shards=len(index.shards), samples=len(index.rows), findings=tuple(findings))


def _check(shard: Shard, rows: Sequence[ShardRow], storage: ShardStorage) -> ShardFinding | None:
    place = storage.place_of(shard)

    def all_lost(message: str) -> ShardFinding:
        return ShardFinding(shard=shard.name, message=message, lost=tuple(rows), total=len(rows))

    try:
        path = storage.file_of(shard)
        size = path.stat().st_size
        with path.open("rb") as file:
            walk = TarWalk(file)
            members = {member.offset: member for member in walk.members()}
    except VideoError as err:
        return all_lost(err.message)
    except FileNotFoundError:
        return all_lost(f"{place}: there is no such shard")
    except NotATar as err:
        return all_lost(f"{place}: {err}")
    except OSError as err:
        return all_lost(f"{place}: cannot be read: {err.strerror or err}")
    lost = tuple(row for row in rows if not _is_there(row, members.get(row.offset)))
    if size < shard.num_bytes:
        what = f"is cut off: it has {size:,} of {shard.num_bytes:,} bytes"
    elif lost:
        what = "has changed since its index was made"
    elif size != shard.num_bytes:
        what = f"has changed since its index was made: {size:,} bytes instead of {shard.num_bytes:,}"
    elif walk.cut_off:
        what = walk.cut_off
    else:
        return None
    return ShardFinding(shard=shard.name, message=f"{place}: {what}", lost=lost, total=len(rows))


def _is_there(row: ShardRow, member: Member | None) -> bool:
    return (
        member is not None
        and member.num_bytes == member.available == row.num_bytes
        and member.sha256 == row.sha256
        and split_key(member.name)[0] == row.key
    )
