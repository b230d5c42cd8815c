from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.curation.scan import read_ledger, scan_videos
from tenclip_training.curation.video_sets import SetVideo, read_set

from .helpers import smooth_video


@pytest.fixture
def videos(tmp_path: Path) -> list[SetVideo]:
    folder = tmp_path / "v"
    good = smooth_video(folder / "good.mp4", 1, 1.0)
    whole = good.read_bytes()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video")
    smooth_video(folder / "hurt.mp4", 2, 3.0)
    hurt = bytearray((folder / "hurt.mp4").read_bytes())
    at = hurt.index(b"mdat") + len(whole) // 2
    hurt[at : at + 1500] = bytes(1500)
    (folder / "hurt.mp4").write_bytes(hurt)
    return [*read_set(folder)[0], SetVideo(name="gone.mp4", path=folder / "gone.mp4")]


def test_every_video_gets_a_verdict(tmp_path: Path, videos: list[SetVideo]) -> None:
    result = scan_videos(videos, tmp_path / "l.jsonl", workers=2)
    found = {Path(f.video).name: f for f in result.findings}
    assert {n: f.verdict for n, f in found.items()} == {
        "good.mp4": "ok",
        "hurt.mp4": "damaged",
        "empty.mp4": "unreadable",
        "text.mp4": "unreadable",
        "gone.mp4": "unreadable",
    }
    assert found["good.mp4"].frames == 24
    assert found["hurt.mp4"].warnings
    assert result.coverage == pytest.approx(2 / 5)
    assert result.counts == {"ok": 1, "damaged": 1, "unreadable": 3}
    assert result.reasons == dict.fromkeys(("EMPTY_VIDEO", "NOT_A_VIDEO", "VIDEO_NOT_FOUND"), 1)
    lines = (tmp_path / "l.jsonl").read_text().splitlines()
    assert {json.loads(line)["video"] for line in lines} == {str(v.path) for v in videos}


def test_a_scan_goes_on_where_it_was(tmp_path: Path, videos: list[SetVideo]) -> None:
    ledger = tmp_path / "l.jsonl"
    scan_videos(videos[:2], ledger, workers=1)
    with ledger.open("ab") as file:
        file.write(b'{"video": "half a li')  # of a kill
    result = scan_videos(videos, ledger, workers=1)
    assert result.scanned == 3
    assert scan_videos(videos, ledger, workers=1).scanned == 0
    smooth_video(tmp_path / "v" / "text.mp4", 5, 1.0)
    again = scan_videos(videos, ledger, workers=1)
    assert again.scanned == 1
    assert again.counts["ok"] == 2


def test_a_quick_scan_does_not_do_for_a_whole_one(tmp_path: Path, videos: list[SetVideo]) -> None:
    ledger = tmp_path / "l.jsonl"
    quick = scan_videos(videos, ledger, workers=1, whole=False)
    assert quick.counts["unreadable"] == 3
    assert scan_videos(videos, ledger, workers=1, whole=True).scanned == len(videos)
    assert scan_videos(videos, ledger, workers=1, whole=False).scanned == 0


def test_a_decoder_that_is_stopped_is_tried_again(tmp_path: Path, videos: list[SetVideo]) -> None:
    good = [v for v in videos if v.name == "good.mp4"]
    ledger = tmp_path / "l.jsonl"
    scan_videos(good, ledger, workers=1)
    known = json.loads(ledger.read_text()) | {"verdict": "unreadable", "reason": "DECODE_WORKER_DIED"}
    ledger.write_text(json.dumps(known) + "\n")
    assert read_ledger(ledger)[known["key"]].reason == "DECODE_WORKER_DIED"
    assert scan_videos(good, ledger, workers=1).counts["ok"] == 1


def test_parts_of_a_video_are_one_file(tmp_path: Path, videos: list[SetVideo]) -> None:
    path = tmp_path / "v" / "good.mp4"
    parts = [SetVideo(name=f"p{i}", path=path, start_seconds=float(i), end_seconds=i + 1.0) for i in range(3)]
    assert len(scan_videos(parts, tmp_path / "l.jsonl", workers=1).findings) == 1


def test_what_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text("path,label\na.mp4,x\n")
    with pytest.raises(DatasetError, match=r"l\.jsonl, line 1: is no line of a ledger"):
        scan_videos([], tmp_path / "l.jsonl", workers=1)
    assert read_ledger(tmp_path / "none.jsonl") == {}
