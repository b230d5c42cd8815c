"""Whatever a server process says on stderr is a line of its log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tenclip_serving.telemetry.logs import trace_id_of
from tests.certificates import Authority
from tests.tenclip_serving.helpers import make_video, running_server, stop
from tests.tenclip_serving.test_server import metric

PROGRAM = """
import faulthandler, logging, os, subprocess, sys, threading, warnings
from tenclip_serving.telemetry.log_capture import log_everything
from tenclip_serving.telemetry.logs import configure_logs, log
configure_logs({log_format!r})
log_everything({log_format!r})
log(logging.INFO, "ours", key="value")
warnings.warn("old ways")
logging.getLogger("some_package").error("of a library")
logging.getLogger("some_package").info("chatter")
os.write(2, b"from C\\nE1121 07:10:16.209276   22297 file.cc:14] of gRPC\\nhalf a ")
os.write(2, b"line\\n\\xff\\n")
subprocess.run([sys.executable, "-c", "import os; os.write(2, b'of a child')"], check=True)
print("printed", file=sys.stderr)
def fail(): raise KeyError("in a thread")
thread = threading.Thread(target=fail, name="worker-7")
thread.start()
thread.join()
print("stdout is left alone")
sys.stdout.flush()
{end}
"""


def run(log_format: str, end: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(log_format=log_format, end=end)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=60)


def test_every_line_is_json() -> None:
    done = run("json", "raise RuntimeError('at the end')")
    assert done.returncode == 1
    assert done.stdout == "stdout is left alone\n"
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    said: dict[str, dict[str, Any]] = {line["message"].splitlines()[0]: line for line in lines}
    assert said["ours"]["key"] == "value"
    assert any("UserWarning: old ways" in m for m in said)
    assert said["of a library"]["logger"] == "some_package"
    assert "chatter" not in said
    for raw in ("from C", "half a line", "\\xff", "of a child", "printed"):
        pieces = [line for m, line in said.items() if raw in m]
        assert pieces, f"{raw} is not in {list(said)}"
        assert pieces[0]["source"] == "stderr"
    assert said["E1121 07:10:16.209276   22297 file.cc:14] of gRPC"]["level"] == "ERROR"
    assert "KeyError: 'in a thread'" in said["uncaught exception in thread worker-7"]["traceback"]
    assert "RuntimeError: at the end" in said["uncaught exception"]["traceback"]
    assert {"time", "level", "message"} <= set.intersection(*(set(line) for line in lines))


def test_the_text_format_leaves_stderr_alone() -> None:
    done = run("text", "raise RuntimeError('at the end')")
    assert done.returncode == 1
    assert "\nfrom C\nE1121" in done.stderr
    assert "CRITICAL uncaught exception" in done.stderr
    assert "RuntimeError: at the end" in done.stderr


def test_a_crash_is_not_swallowed() -> None:
    done = run("json", "faulthandler._sigsegv()")
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert '"message": "ours"' in done.stderr


def test_ending_at_once_loses_no_line_of_ours() -> None:
    done = run("json", "log(logging.INFO, 'last words'); os._exit(3)")
    assert done.returncode == 3
    assert json.loads(done.stderr.splitlines()[-1])["message"] == "last words"


def test_a_server_with_all_kinds_of_trouble_logs_json(one_model: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    options = ["--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key), "--log-format", "json"]
    with running_server(one_model, *options, "--decode-workers", "1") as server:
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), 20) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")  # no handshake: gRPC's C code says so on stderr
            while stranger.recv(4096):
                pass
        (worker,) = server.decode_workers()
        worker.kill()
        from tenclip_client import Client, TenclipError

        with Client(
            server.address, ca=authority.ca, metadata=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")]
        ) as c:
            with pytest.raises(TenclipError):
                c.predict(b"no video")
            with pytest.raises(TenclipError):
                c.predict(b"")
        assert stop(server.process) == 0
        log = server.log
    lines = [json.loads(line) for line in log.splitlines()]
    assert any("decode worker replaced" in line["message"] for line in lines)
    answered = [line for line in lines if line["message"] == "rpc"]
    assert {line["trace_id"] for line in answered} == {trace}
    assert all(line["request_id"] for line in answered)
    assert lines[-1]["message"] == "stopped"
    assert not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", ""),
        ("00-4bf92f-00f067aa0ba902b7-01", ""),
        ("x\n{}", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_trace_ids_of_callers(traceparent: str | None, trace_id: str) -> None:
    assert trace_id_of(traceparent) == trace_id


# -- logs that cannot be written --------------------------------------------------------------------------------------

# More than the pipe in the place of stderr holds, should its reader wait for itself.
ENDURE = """
import logging, os, sys
from tenclip_serving.telemetry.log_capture import log_everything
from tenclip_serving.telemetry.logs import LineHandler, configure_logs, log
configure_logs({log_format!r})
log_everything({log_format!r})
for i in range(300):
    log(logging.INFO, "rpc", method="Predict", text="x" * 1000)
    logging.getLogger("some_package").error("%d of a library", i)
    if {log_format!r} == "json":
        os.write(2, b"from C\\n")
        print("printed", file=sys.stderr)
print("alive", LineHandler.num_dropped >= 600)
sys.stdout.flush()
"""


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@pytest.mark.parametrize("stderr", [full_disk, closed_pipe])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_log_that_cannot_be_written_is_dropped_and_counted(log_format: str, stderr: Any) -> None:
    with stderr() as descriptor:
        command = [sys.executable, "-c", ENDURE.format(log_format=log_format)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=descriptor, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("alive True\n", 0)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_process_without_stderr(log_format: str) -> None:
    """What it opens next must not be what it logs to."""
    opened = "f = open('/dev/full', 'w'); log(logging.INFO, 'more'); print(f.fileno() > 2, LineHandler.num_dropped)"
    lines = ENDURE.format(log_format=log_format).partition("for i")[0] + opened
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, lines]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("True 0\n", 0)


@pytest.mark.parametrize("stderr", [full_disk, closed_pipe])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_server_serves_on_without_its_log(one_model: Path, tmp_path: Path, log_format: str, stderr: Any) -> None:
    from tenclip_api.errors import DecodeWorkerDied
    from tenclip_client import Client, TenclipError

    video = make_video(tmp_path / "video.mp4").read_bytes()
    with (
        stderr() as descriptor,
        running_server(one_model, "--log-format", log_format, "--decode-workers", "1", stderr=descriptor) as server,
    ):
        (worker,) = server.decode_workers()
        with Client(server.address) as client:
            worker.kill()  # which is worth a line
            with contextlib.suppress(DecodeWorkerDied):  # where the server cannot know yet that it has ended
                client.predict(video)
            for _ in range(3):
                assert client.predict(video).top
                with pytest.raises(TenclipError):
                    client.predict(b"no video")
        assert metric(server, "tenclip_log_lines_dropped_total") >= 6
        assert stop(server.process) == 0


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_follows_half_a_line_is_a_line_of_its_own(log_format: str, tmp_path: Path) -> None:
    """A disk that has room for half a line, and later for more: the size of a file stands for its size."""
    program = f"""
import logging, resource, signal
from tenclip_serving.telemetry.logs import LineHandler, configure_logs, log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
configure_logs({log_format!r})
log(logging.INFO, "whole")
log(logging.INFO, "torn " * 20)
log(logging.INFO, "lost")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
log(logging.INFO, "whole again")
print(LineHandler.num_dropped)
"""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY)){program}"
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-c", limited]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False, timeout=60)
    assert done.stdout == "2\n"
    first, torn, last = (tmp_path / "log").read_text().splitlines()
    assert "whole" in first
    assert "torn" in torn
    assert "lost" not in torn
    assert "whole again" in last
    assert last.startswith("{" if log_format == "json" else "20")


def test_a_line_that_cannot_be_formatted_is_still_a_line() -> None:
    program = """
import logging
from tenclip_serving.telemetry.log_capture import log_everything
from tenclip_serving.telemetry.logs import configure_logs
configure_logs("json")
log_everything("json")
logging.getLogger("some_package").error("%d of a library", "no number")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert line["logger"] == "some_package"
    assert "cannot be formatted" in line["message"]
    assert "%d of a library" in line["message"]
