from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import DatasetError, DecodeWorkerDied
from tenclip_features.stamps import stamp_file
from tenclip_training.curation import video_store
from tenclip_training.curation.code_store import CodeStore, CodeTable
from tenclip_training.curation.frame_codes import compute_codes
from tenclip_training.curation.video_sets import SetVideo, read_set

from .helpers import codes_of, smooth_video


@pytest.fixture
def videos(tmp_path: Path) -> list[SetVideo]:
    for seed, name in enumerate("abc"):
        smooth_video(tmp_path / "videos" / f"{name}.mp4", seed, 1.0)
    (tmp_path / "videos" / "text.mp4").write_text("not a video")
    return read_set(tmp_path / "videos")[0]


def test_codes_are_computed_once(tmp_path: Path, videos: list[SetVideo]) -> None:
    store = CodeStore(tmp_path / "codes")
    seen: list[tuple[int, int]] = []
    both = [*videos, *videos]  # one set that is compared with itself
    assert store.update(both, workers=1, progress=lambda done, total: seen.append((done, total))) == 4
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert store.update(videos, workers=1) == 0
    table, failures = store.read(videos)
    assert table.names == ("a.mp4", "b.mp4", "c.mp4")
    for i, video in enumerate(videos[:3]):
        assert np.array_equal(table.video(i).codes, compute_codes(video.path).codes)
    assert [(f.video, f.reason) for f in failures] == [("text.mp4", "NOT_A_VIDEO")]
    # In any order, and some of them.
    assert store.read([videos[2], videos[0]])[0].names == ("c.mp4", "a.mp4")


def test_a_changed_file_is_computed_again(tmp_path: Path, videos: list[SetVideo]) -> None:
    store = CodeStore(tmp_path / "codes")
    store.update(videos, workers=1)
    smooth_video(videos[1].path, 99, 2.0)
    os.utime(videos[1].path, ns=(1, 1))
    smooth_video(videos[3].path, 98, 1.0)  # was no video
    assert store.update(videos, workers=1) == 2
    table, failures = store.read(videos)
    assert failures == []
    assert len(table.video(1).codes) == 32
    assert len(list((tmp_path / "codes").glob("*.parquet"))) == 1


def test_an_interrupted_run_goes_on(tmp_path: Path, videos: list[SetVideo], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_store, "_BATCH", 1)
    store = CodeStore(tmp_path / "codes")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.update(videos, workers=1, progress=stop)
    (tmp_path / "codes" / ".codes-000009.parquet.12ab.part").write_bytes(b"half")  # of a kill
    assert store.update(videos, workers=1) == 2
    assert len(store.read(videos)[0]) == 3


def test_a_stopped_decoder_is_tried_again(tmp_path: Path, videos: list[SetVideo]) -> None:
    store = CodeStore(tmp_path / "codes")
    stopped = video_store._row(videos[0], stamp_file(videos[0].path), DecodeWorkerDied("a.mp4: took too long"))
    with store._locked():
        store._write([stopped])
    assert [f.reason for f in store.read(videos[:1])[1]] == ["DECODE_WORKER_DIED"]
    assert store.update(videos[:1], workers=1) == 1
    assert store.read(videos[:1])[1] == []


def test_a_missing_file_is_a_failure_until_it_is_there(tmp_path: Path) -> None:
    video = SetVideo(name="late.mp4", path=tmp_path / "late.mp4")
    store = CodeStore(tmp_path / "codes")
    store.update([video], workers=1)
    assert store.read([video])[1][0].reason == "VIDEO_NOT_FOUND"
    assert store.update([video], workers=1) == 0
    smooth_video(video.path, 1, 1.0)
    assert store.update([video], workers=1) == 1


def test_files_that_are_not_to_be_used(tmp_path: Path, videos: list[SetVideo]) -> None:
    store = CodeStore(tmp_path)
    with pytest.raises(DatasetError, match=r"has no codes of a\.mp4"):
        store.read(videos)
    path = tmp_path / "codes-000001.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(DatasetError, match=r"codes-000001\.parquet: cannot be read"):
        store.update(videos, workers=1)
    pq.write_table(store.schema.empty_table().replace_schema_metadata({"tenclip.codes": "older"}), path)
    with pytest.raises(DatasetError, match=r"another recipe .older, now census"):
        store.update(videos, workers=1)


def test_one_process_at_a_time(tmp_path: Path, videos: list[SetVideo]) -> None:
    store = CodeStore(tmp_path / "codes")
    with store._locked(), pytest.raises(DatasetError, match="another process is computing"):
        store.update(videos, workers=1)


def test_a_table_of_codes() -> None:
    table = CodeTable.of({"a": codes_of(1, 2, flat=(1,)), "b": codes_of(), "c": codes_of(3, start_seconds=4.0)})
    assert len(table) == 3
    assert table.starts.tolist() == [0, 2, 2, 3]
    assert table.video(0).flat.tolist() == [False, True]
    assert table.video(2).start_seconds == 4.0
    assert table.video(2).codes.tolist() == [3]
