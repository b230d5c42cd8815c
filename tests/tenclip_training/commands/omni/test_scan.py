"""`tenclip omni scan` as users run it."""

from __future__ import annotations

from pathlib import Path

from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of, rows_of


def test_corrupt_images_and_videos_go(run: Run, web: Path) -> None:
    ledger, kept = web.parent / "l.jsonl", web.parent / "readable.csv"
    code, printed, _ = run("omni", "scan", web, "--out", ledger, "--kept", kept)
    assert code == 0
    assert "coverage 84.62%: 11 of 13 files can be used, 0 of them damaged; 13 looked at now" in printed
    assert "pan/half.jpg: the image is damaged or cut off: image file is truncated" in printed
    assert "NOT_AN_IMAGE: 1" in printed
    assert "UNDECODABLE_IMAGE: 1" in printed
    names = {r["path"].partition("/")[2] for r in rows_of(kept)}
    assert len(names) == 11
    assert names >= {"pan/0.jpg", "zoom/v.mp4"}
    again = json_of(run("omni", "scan", kept, "--out", ledger, "--json"))
    assert (again["videos"], again["scanned_now"], again["coverage"]) == (11, 0, 1.0)


def test_curate_passes_images_over(run: Run, web: Path) -> None:
    found = json_of(run("curate", "scan", web, "--out", web.parent / "l.jsonl", "--json"))
    assert found["videos"] == 1
    (web.parent / "empty").mkdir()
    assert "holds no videos" in error_of(run("omni", "scan", web.parent / "empty", "--out", web.parent / "e.jsonl"))
