"""`tenclip curate scan` as users run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of, rows_of
from tests.tenclip_training.curation.helpers import smooth_video


def test_a_scan_says_what_can_be_used(run: Run, web: Path) -> None:
    ledger, kept = web / "l.jsonl", web / "readable.csv"
    code, printed, _ = run("scan", web / "source", "--out", ledger, "--kept", kept)
    assert code == 0
    assert "coverage 80.00%: 4 of 5 videos can be used, 0 of them damaged; 5 looked at now" in printed
    assert "NOT_A_VIDEO: 1" in printed
    assert [Path(r["path"]).name for r in rows_of(kept)] == ["a.mp4", "b.mp4", "copy.mp4", "within.mp4"]
    again = json_of(run("scan", web / "source", "--out", ledger, "--json"))
    assert (again["scanned_now"], again["coverage"]) == (0, 0.8)
    (web / "notes.txt").write_text("path,label\n")
    assert "lists no videos" in error_of(run("scan", web / "notes.txt", "--out", web / "x.jsonl"))
    assert "is no line of a ledger" in error_of(run("scan", web / "source", "--out", web / "notes.txt"))


def test_a_scan_that_is_killed_goes_on(web: Path) -> None:
    """kill -9 in the middle: the ledger has whole lines of what was done."""
    for i in range(30):
        smooth_video(web / "source" / "web" / f"more{i}.mp4", 10 + i, 1.0)
    ledger = web / "l.jsonl"
    command = [sys.executable, "-m", "tenclip_client", "curate", "scan", str(web / "source"), "--out", str(ledger)]
    command += ["--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None and (not ledger.exists() or ledger.read_bytes().count(b"\n") < 3):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    known = ledger.read_bytes().count(b"\n")
    done = subprocess.run([*command, "--json"], capture_output=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["videos"] == 35
    assert summary["scanned_now"] == 35 - known < 35
