"""Limits that errors name are options of a batch."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_batch import extractor
from tenclip_batch.command_options import ProcessOptions
from tenclip_batch.extractor import engine_config
from tenclip_batch.options import RuntimeOptions
from tests.tenclip_serving.helpers import make_video

from .helpers import SMALL, run


def with_box(path: Path, num_bytes: int) -> Path:
    """The MP4 file, longer by a box that says it is to be skipped."""
    with path.open("ab") as file:
        file.write(num_bytes.to_bytes(4, "big") + b"free" + bytes(num_bytes - 8))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A video of 1.5 MiB."""
    return with_box(make_video(tmp_path / "large.mp4"), 3 << 19)


def test_the_options_of_the_command_are_the_defaults() -> None:
    assert ProcessOptions().runtime_options() == RuntimeOptions()


def test_what_the_core_gets(bundle: Path, tmp_path: Path) -> None:
    config = engine_config(RuntimeOptions(), bundle, with_uris=True)
    assert config.max_fetch_seconds >= 3600, "a slow download is no failure: one that stands still is"
    assert config.upload_idle_seconds < config.max_fetch_seconds
    assert (config.max_upload_mb, config.max_spool_mb) == (4096, 8192)
    names = (
        *("max_fetch_seconds", "upload_idle_seconds", "max_upload_mb", "max_spool_mb", "spool_dir", "max_video_mb"),
        *("max_pixels", "max_frames", "max_video_seconds", "max_streams", "max_decode_seconds", "max_clips"),
        "max_clip_mb",
    )
    values = {name: tmp_path if name == "spool_dir" else 1000 + i for i, name in enumerate(names)}
    found = engine_config(ProcessOptions(**values).runtime_options(), bundle, with_uris=True)  # type: ignore[arg-type]
    assert {name: getattr(found, name) for name in names} == values
    with pytest.raises(InvalidRequest, match="max_spool_mb 1 is less than max_upload_mb 2"):
        engine_config(RuntimeOptions(max_upload_mb=2, max_spool_mb=1), bundle, with_uris=False)
    with pytest.raises(InvalidRequest, match=r"none is not a directory"):
        engine_config(RuntimeOptions(spool_dir=tmp_path / "none"), bundle, with_uris=False)


def test_members_of_tar_files_that_are_too_large(bundle: Path, large: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(large, "large.mp4")
    small = dataclasses.replace(SMALL, max_upload_mb=1)
    report = run(bundle, tmp_path / "out", tmp_path / "a.tar", runtime=small)
    assert "(max_upload_mb)" in report.named[0].message
    assert run(bundle, tmp_path / "other", tmp_path / "a.tar", runtime=SMALL).done == 1
    small = dataclasses.replace(SMALL, max_video_mb=1)
    assert "max_video_mb" in run(bundle, tmp_path / "file", large, runtime=small).named[0].message


class _Slow(http.server.SimpleHTTPRequestHandler):
    """The end of every file comes late."""

    late_seconds = 7.0

    def copyfile(self, source: object, outputfile: object) -> None:
        data = source.read()  # type: ignore[attr-defined]
        outputfile.write(data[:-1])  # type: ignore[attr-defined]
        time.sleep(self.late_seconds)
        outputfile.write(data[-1:])  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(large: Path) -> Iterator[str]:
    """An HTTP server on loopback that is slow."""
    handler = functools.partial(_Slow, directory=str(large.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def near(web: str, **options: object) -> RuntimeOptions:
    values = {**vars(SMALL), "allow_hosts": (web.removeprefix("http://"),), "allow_networks": ("127.0.0.0/8",)}
    return RuntimeOptions(**{**values, **options})


def test_slow_downloads(bundle: Path, web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one waits for the room on disk as long as it takes: the first will end."""
    monkeypatch.setattr(extractor, "_PATIENCE_SECONDS", 5.5)  # an attempt now, and one in five seconds
    (tmp_path / "large-2.mp4").write_bytes((tmp_path / "large.mp4").read_bytes())
    uris = [f"{web}/large.mp4", f"{web}/large-2.mp4"]
    report = run(bundle, tmp_path / "out", *uris, runtime=near(web, max_upload_mb=2, max_spool_mb=2))
    assert (report.done, report.failures) == (2, {})
    impatient = near(web, max_fetch_seconds=0.5)
    report = run(bundle, tmp_path / "other", uris[0], runtime=impatient)
    assert (report.failures, report.named[0].message[-20:]) == ({"DEADLINE_EXCEEDED": 1}, " (max_fetch_seconds)")
