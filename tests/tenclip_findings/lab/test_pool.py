"""Jobs in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tenclip_api.errors import TenclipError
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.pool import RESULT, Progress, result_of, run_jobs

VIDEOS = {"num_classes": 2, "total": 4, "seconds": [0.3, 0.4], "width": 32, "height": 32}


def made(**changes: object) -> Job:
    return Job("lab.tasks.synth", {"config": {**VIDEOS, **changes}}, title="videos")


def chosen(count: int) -> Job:
    return Job("lab.tasks.rows", {"manifests": [made() / "manifest.csv"], "at_most": count}, title=f"{count} rows")


def test_jobs_are_done_once_and_what_is_done_stays(tmp_path: Path) -> None:
    seen: list[Progress] = []
    run_jobs([chosen(2), chosen(3)], tmp_path, processes=1, on_progress=seen.append)
    assert [p.title for p in seen] == ["videos", "2 rows", "3 rows"]
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert (result_of(chosen(2), tmp_path) or {})["videos"] == 2
    few, more = (_names(chosen(count), tmp_path) for count in (2, 3))
    assert few < more  # nested
    run_jobs([chosen(2), chosen(3), chosen(1)], tmp_path, processes=1, on_progress=seen.append)
    assert [p.title for p in seen[3:]] == ["1 rows"]


def _names(job: Job, root: Path) -> set[str]:
    lines = (job.folder(root) / "manifest.csv").read_text().splitlines()[1:]
    return {line.split(",")[0] for line in lines}


def test_a_job_that_fails_says_which_and_why_and_the_others_stay_done(tmp_path: Path) -> None:
    bad = Job("lab.tasks.synth", {"config": {"num_classes": 99}}, title="too many classes")
    with pytest.raises(TenclipError, match="too many classes: num_classes must lie in 2-16"):
        run_jobs([made(), bad], tmp_path, processes=1)
    assert result_of(made(), tmp_path) is not None
    assert result_of(bad, tmp_path) is None


def test_a_result_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = made().folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / RESULT).write_text("{")
    with pytest.raises(TenclipError, match=RESULT):
        run_jobs([made()], tmp_path)


_RUN = """
import json, sys
from pathlib import Path
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.pool import run_jobs

if __name__ == "__main__":
    videos = Job("lab.tasks.synth", {"config": json.loads(sys.argv[1])}, title="videos")
    run_jobs([videos], Path(sys.argv[2]), processes=1)
"""


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    script, root = tmp_path / "run.py", tmp_path / "jobs"
    script.write_text(_RUN)
    many = made(total=60, seconds=[1.0, 1.2])
    config = json.dumps(many.settings["config"])
    process = subprocess.Popen([sys.executable, str(script), config, str(root)], start_new_session=True)
    folder = many.folder(root) / "videos"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(folder.rglob("*.mp4"))) < 3:
        time.sleep(0.05)
    process.kill()  # it alone: its own processes end with it
    process.wait()
    while _has_processes(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _has_processes(process.pid)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    assert result_of(many, root) is None
    run_jobs([many], root, processes=1)
    assert (result_of(many, root) or {})["files"] == 60
    assert sum(path.stat().st_mtime_ns == stamp for path, stamp in before.items()) >= 3


_COMMAND = """
import signal, sys
from tenclip_client.cli.main import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(sys.argv[1:])
"""


def test_an_interrupt_of_the_command_alone_ends_its_jobs_at_once(tmp_path: Path) -> None:
    script, out = tmp_path / "command.py", tmp_path / "out"
    script.write_text(_COMMAND)
    arguments = ["findings", "durations", "--out", str(out), "--processes", "1", "--seeds", "1"]
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(out.rglob("*.mp4"))) < 3:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    try:
        _, said = process.communicate(timeout=15)  # its first job makes 600 videos
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "stopped; the same command goes on from here" in said
    assert "Traceback" not in said
    while _has_processes(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _has_processes(process.pid)
    assert not list(out.rglob(RESULT)), "what was interrupted is not done"


def _has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
