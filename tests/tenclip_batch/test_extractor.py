"""Videos that are decoded elsewhere: the same numbers and errors, and no more clips at once than there is room for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np

from tenclip_api.errors import NotAVideo, VideoNotFound
from tenclip_batch.bundle import open_bundle
from tenclip_batch.extractor import VideoDecoder, VideoExtractor, open_model
from tenclip_batch.options import ClipChoices, RuntimeOptions
from tenclip_batch.sources import BatchVideo
from tenclip_batch.videos import batch_videos
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.requests import Recognition
from tenclip_video.clips import VideoClips

from .helpers import SMALL


class Next:
    """Decodes in this process, and counts. most: videos that were asked for at once."""

    def __init__(self, bundle: Path) -> None:
        self._decoder = VideoDecoder(bundle, SMALL)
        self._now = self.most = 0
        self.closed = False

    async def start(self) -> None:
        await self._decoder.__aenter__()

    async def decode(self, video: BatchVideo, asked: DecodeRequest) -> VideoClips:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return await self._decoder.decode(video, asked)
        finally:
            self._now -= 1

    async def close(self) -> None:
        await self._decoder.__aexit__(None, None, None)
        self.closed = True


def recognized(
    bundle: Path, videos: list[BatchVideo], runtime: RuntimeOptions, elsewhere: Next | None
) -> list[Recognition | BaseException]:
    choices = ClipChoices()
    model = open_model(open_bundle(bundle, choices), runtime)

    async def run() -> list[Recognition | BaseException]:
        async with VideoExtractor(model, choices, runtime, elsewhere=elsewhere) as extractor:
            return await asyncio.gather(*(extractor.run(v) for v in videos), return_exceptions=True)

    return asyncio.run(run())


def test_videos_that_are_decoded_elsewhere(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    videos = batch_videos([str(shared_videos / f"v{i}.mp4") for i in range(4)]) * 2
    bad = [BatchVideo("text", shared_videos / "text.mp4"), BatchVideo("gone", tmp_path / "gone.mp4")]
    runtime = replace(SMALL, in_flight=3)
    elsewhere = Next(bundle)
    split = recognized(bundle, [*videos, *bad], runtime, elsewhere)
    whole = recognized(bundle, [*videos, *bad], runtime, None)
    for mine, expected in zip(split[:8], whole[:8], strict=True):
        assert isinstance(mine, Recognition), mine
        assert isinstance(expected, Recognition), expected
        assert np.array_equal(mine.clip_features, expected.clip_features)
        assert (mine.clips, mine.info, mine.report) == (expected.clips, expected.info, expected.report)
    assert [type(e) for e in split[8:]] == [type(e) for e in whole[8:]] == [NotAVideo, VideoNotFound]
    assert [str(e) for e in split[8:]] == [str(e) for e in whole[8:]]
    assert elsewhere.most == 3
    assert elsewhere.closed


def test_room_for_clips_bounds_what_is_decoded_elsewhere(bundle: Path, shared_videos: Path) -> None:
    """Of so many videos that may be in flight, as many as have room for their clips."""
    videos = batch_videos([str(shared_videos / f"v{i}.mp4") for i in range(4)]) * 2
    elsewhere = Next(bundle)
    # Each may have a GiB of clips, and with one decode process there is room for two such videos.
    choices = ClipChoices(mode="windows")
    runtime = replace(SMALL, in_flight=8, max_clip_mb=1024, max_clips=10**6)
    model = open_model(open_bundle(bundle, choices), runtime)

    async def run() -> int:
        async with VideoExtractor(model, choices, runtime, elsewhere=elsewhere) as extractor:
            found = await asyncio.gather(*(extractor.run(v) for v in videos))
            return sum(len(f.clips) for f in found)

    assert asyncio.run(run()) > 8
    assert elsewhere.most == 2
