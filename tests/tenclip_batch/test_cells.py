"""Videos in Parquet files: each is read once, whatever the order that they are worked on in."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import NotAVideo, VideoNotReadable
from tenclip_batch.containers import CellReader
from tenclip_batch.extractor import VideoExtractor
from tenclip_batch.options import OutputOptions
from tenclip_batch.sources import BatchVideo, VideoOpener
from tenclip_batch.videos import batch_videos
from tenclip_batch.worker import PartBuffer, WorkerPlan, work_through

from .test_dataset import FORM

CELL = 100_000


def write(path: Path, rows: int, *, group: int, size: int = CELL) -> list[bytes]:
    data = [random.Random(i).randbytes(size) for i in range(rows)]
    pq.write_table(pa.table({"data": data}), path, row_group_size=group, compression="none", use_dictionary=False)
    return data


def bytes_read() -> int:
    """By this process, from whatever it has open."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_a_row_out_of_order_costs_its_row_group_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    data = write(path, 60, group=4)
    reader = CellReader(path, "data")
    before = bytes_read()
    for row in reversed(range(60)):
        assert reader.read(row) == data[row]
    assert bytes_read() - before < 5 * path.stat().st_size
    before = bytes_read()
    reader.close()
    assert [reader.read(row) for row in (0, 59)] == [data[0], data[59]]
    assert bytes_read() - before < path.stat().st_size / 3, "what is between them is not read"
    for row in (60, 1000):
        with pytest.raises(VideoNotReadable, match=f"has no row {row} any more"):
            reader.read(row)
    assert reader.read(7) == data[7]
    reader.close()


def test_a_damaged_row_group_takes_no_other_one_with_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    data = write(path, 12, group=4)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * 64)
    reader = CellReader(path, "data")
    assert reader.read(3) == data[3]
    for row in (4, 5):
        with pytest.raises(VideoNotReadable, match="cannot be read as Parquet"):
            reader.read(row)
    assert reader.read(8) == data[8]
    reader.close()


class _Reading:
    """Opens each video as the extractor does, and finds that it is none."""

    in_flight = 8

    def __init__(self) -> None:
        self.opener = VideoOpener()

    async def run(self, video: BatchVideo) -> Any:
        async with self.opener.open(video) as fields:
            size = sum([len(piece) async for piece in fields["upload"].chunks])
            raise NotAVideo(f"{video.name}: {size} bytes", source=video.name)


@pytest.mark.parametrize("by_content", [False, True])
def test_videos_in_flight_are_read_in_their_order(
    tmp_path: Path, by_content: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.parquet"
    write(path, 2000, group=2000, size=100)
    for folder in ("clips", "videos", ".attempts"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    rows: list[int] = []
    read = CellReader.read

    def recorded(self: CellReader, row: int) -> bytes:
        rows.append(row)
        return read(self, row)

    monkeypatch.setattr(CellReader, "read", recorded)
    plan = WorkerPlan(tmp_path / "out", FORM, OutputOptions(part_videos=10_000), by_content)
    extractor = cast(VideoExtractor, _Reading())
    buffer = PartBuffer(plan, lambda: "part-00000")
    asyncio.run(work_through(extractor, batch_videos([str(path)]), plan, buffer, on_result=lambda result: None))
    assert rows == list(range(2000))


def test_a_video_that_was_read_is_not_in_memory_any_more(tmp_path: Path) -> None:
    """It waits on disk then; `open` lasts until it is decoded."""
    path = tmp_path / "rows.parquet"
    (data,) = write(path, 1, group=1, size=20 << 20)
    opener, (video,) = VideoOpener(), batch_videos([str(path)])

    async def read() -> tuple[int, int]:
        async with opener.open(video) as fields:
            size = sum([len(piece) async for piece in fields["upload"].chunks])
            held, _ = tracemalloc.get_traced_memory()
        await opener.close()
        return size, held

    tracemalloc.start()
    try:
        size, held = asyncio.run(read())
    finally:
        tracemalloc.stop()
    assert size == len(data)
    assert held < 2 << 20
