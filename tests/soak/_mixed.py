"""Traffic as a server meets it: good videos, damaged ones, callers who hang up, messages beyond the limit."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tenclip_api.errors import TenclipError
from tenclip_client import AsyncClient
from tests.tenclip_serving.helpers import make_video

Kind = Literal["good", "corrupt", "cancelled", "oversized"]
# Of a hundred requests.
SHARES: dict[Kind, int] = {"good": 75, "corrupt": 10, "cancelled": 10, "oversized": 5}
EXPECTED: dict[Kind, frozenset[str]] = {
    "good": frozenset({"OK"}),
    "corrupt": frozenset({"NOT_A_VIDEO", "TRUNCATED_VIDEO", "UNDECODABLE_VIDEO", "NO_FRAMES", "NO_VIDEO_STREAM"}),
    # Some have their answer before the caller hangs up.
    "cancelled": frozenset({"CANCELLED", "OK"}),
    # The client sends what is beyond a message in pieces; it is beyond the limit of those, too.
    "oversized": frozenset({"VIDEO_TOO_LARGE"}),
}
MAX_MESSAGE_MB = 4
# What servers of this traffic are started with.
FLAGS = ("--max-message-mb", str(MAX_MESSAGE_MB), "--max-upload-mb", str(MAX_MESSAGE_MB))
_LONGEST_PATIENCE = 0.05  # seconds until a caller hangs up


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """`answers`: how often which kind got which: "OK", a reason, or "CANCELLED"."""

    videos: tuple[bytes, ...]
    corrupt: tuple[bytes, ...]
    oversized: bytes
    answers: Counter[tuple[Kind, str]]

    def unexpected(self) -> list[str]:
        return [
            f"{kind}: {count} {answer}"
            for (kind, answer), count in self.answers.items()
            if answer not in EXPECTED[kind]
        ]

    def counts(self) -> dict[str, int]:
        """`{"good OK": 75, ...}`."""
        return {f"{kind} {answer}": count for (kind, answer), count in sorted(self.answers.items())}


def make_traffic(folder: Path, *, padding: int, seed: int = 0) -> Traffic:
    """Small videos, each followed by so many bytes that no decoder looks at: what a leak would keep."""
    rng = random.Random(seed)
    sizes = (64, 48), (96, 64), (128, 96)
    files = [make_video(folder / f"{n}.mp4", num_frames=30 + 10 * n, size=size) for n, size in enumerate(sizes)]
    videos = tuple(file.read_bytes() + _box(padding) for file in files)
    cut = videos[0].find(b"mdat") + 100  # the index of these files is at their end
    return Traffic(
        videos=videos,
        corrupt=(rng.randbytes(padding or 1), videos[0][:cut], b"no video\n" * (1 + padding // 9)),
        oversized=bytes((MAX_MESSAGE_MB << 20) + 1),
        answers=Counter(),
    )


def _box(size: int) -> bytes:
    """A box of an MP4 that readers pass over."""
    return (8 + size).to_bytes(4, "big") + b"free" + bytes(size) if size else b""


async def send_mixed(
    target: str,
    traffic: Traffic,
    num_requests: int,
    *,
    concurrency: int = 6,
    seed: int = 0,
    every: int = 50,
    settle: bool = False,
    shares: Mapping[Kind, int] = SHARES,
    keep: Callable[[Any], None] = lambda result: None,
) -> AsyncIterator[int]:
    """Gives how many were sent, every so many; `settle`: when all of them are done.

    keep: gets every result; what it does with them is how a client could leak.
    """
    rng = random.Random(seed)
    kinds: list[Kind] = [kind for kind, share in shares.items() for _ in range(share)]
    async with AsyncClient(target, retries=0) as client:
        pending: set[asyncio.Task[None]] = set()
        for number in range(num_requests):
            kind = rng.choice(kinds)
            pending.add(asyncio.create_task(_one(client, traffic, kind, rng.random(), keep)))
            if len(pending) >= concurrency:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            if number % every == every - 1:
                if settle:
                    await asyncio.gather(*pending)
                yield number + 1
        await asyncio.gather(*pending)


async def _one(client: AsyncClient, traffic: Traffic, kind: Kind, chance: float, keep: Callable[[Any], None]) -> None:
    videos = {"corrupt": traffic.corrupt, "oversized": (traffic.oversized,)}.get(kind, traffic.videos)
    video = videos[int(chance * len(videos))]
    try:
        if kind == "cancelled":
            # wait_for cancels the call, as a caller who hangs up does.
            keep(await asyncio.wait_for(client.predict(video, timeout=60), chance * _LONGEST_PATIENCE))
        else:
            keep(await client.predict(video, clip_scores=True, features=True, timeout=60))
        answer = "OK"
    except TimeoutError:
        answer = "CANCELLED"
    except TenclipError as err:
        answer = err.reason
    traffic.answers[kind, answer] += 1
