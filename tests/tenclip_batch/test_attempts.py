"""Marks of videos in flight, and what becomes of a video that ends its process."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError, WorkerEnded
from tenclip_batch.attempts import Attempts
from tenclip_batch.options import ResumeOptions
from tenclip_batch.run import Watching
from tenclip_client.cli.exits import SOME_FAILED
from tests.tenclip_serving.helpers import make_video

from .helpers import command, rows, run


def test_two_attempts_and_no_more(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("a.mp4")
    assert (attempts.count("a.mp4"), attempts.count("b.mp4")) == (1, 0)
    attempts.begin("a.mp4")
    with pytest.raises(WorkerEnded, match=r"a\.mp4: the process that worked on it ended 2 times.*--retry-failed"):
        attempts.begin("a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_mark_that_is_half_written(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("a.mp4")
    next(tmp_path.iterdir()).write_text("")
    assert attempts.count("a.mp4") == 1


def test_a_video_that_ends_its_process_is_named_and_no_other(bundle: Path, tmp_path: Path) -> None:
    """The process is killed (SIGKILL) whenever it works on one of the videos, until it does so no more."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for i in range(4):
        make_video(videos / f"{i}.mp4")
    poison = make_video(videos / "2-poison.mp4", num_frames=300, size=(1280, 720))
    words = command(
        "batch", "features", videos, "--bundle", bundle, "--out", out, "--decode-workers", 1, "--threads", 1
    )
    codes = []
    for _ in range(4):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if any(text.endswith(f"{process.pid} {str(poison)!r}\n") for text in marks(out)):
                process.send_signal(signal.SIGKILL)
            time.sleep(0.01)
        codes.append(process.returncode)
        if process.returncode != -signal.SIGKILL:
            break
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, SOME_FAILED]
    table = rows(out, "videos").to_pylist()
    assert {row["video"]: row["error_kind"] for row in table if row["error_kind"]} == {str(poison): "WORKER_ENDED"}
    assert len(table) == 5
    again = run(bundle, out, videos)
    assert (again.worked, again.reused, again.failed) == (0, 4, 1), "a failure as any other"
    assert run(bundle, out, videos, resume=ResumeOptions(retry_failed=True)).failed == 0


def marks(out: Path) -> list[str]:
    found = []
    for path in (out / ".attempts").glob("*"):
        try:
            found.append(path.read_text())
        except OSError:
            continue
    return found


def test_marks_name_the_process(tmp_path: Path) -> None:
    Attempts(tmp_path).begin("a\nb.mp4")
    assert next(tmp_path.iterdir()).read_text() == f"{os.getpid()} 'a\\nb.mp4'\n"


def test_a_disk_that_is_full_at_a_mark(bundle: Path, tmp_path: Path) -> None:
    """The system refuses to let a file of this process grow at all, once the folder is there."""
    out, video = tmp_path / "out", make_video(tmp_path / "a.mp4")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = Watching(on_start=lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard)))
    try:
        with pytest.raises(DatasetError, match=r"\.attempts/\w+: cannot be written: File too large; the same command"):
            run(bundle, out, video, watching=full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((out / ".attempts").iterdir()), "it was not begun"
    assert run(bundle, out, video).done == 1


def test_marks_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none/\w+: cannot be written: No such file or directory"):
        Attempts(tmp_path / "none").begin("a.mp4")
