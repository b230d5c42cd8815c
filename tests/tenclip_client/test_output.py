"""Output that cannot be written: another encoding, a full disk, a reader that has gone; commands of all packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenclip_client.cli.messages import one_line

full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
LABEL = "zażółć → 跳舞 💃"


@pytest.fixture
def environ(target: str, tmp_path: Path) -> dict[str, str]:
    """Variables for a command in `tmp_path`, where `a.mp4` is a video whose name cp1252 cannot spell."""
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / f"{LABEL}.mp4").write_bytes(b"video")
    (tmp_path / os.fsdecode(b"\xff.mp4")).write_bytes(b"video")
    return {**os.environ, "TENCLIP_SERVER": target}


def run(argv: list[str], cwd: Path, redirect: str = "", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """One command, its output redirected as a shell would."""
    line = f'"$0" -m tenclip_client "$@" {redirect}'
    command = ["bash", "-c", f"set -o pipefail; {line}", sys.executable, *argv]
    return subprocess.run(command, capture_output=True, cwd=cwd, env=environ, timeout=120)


# Tables of rich, JSON by print, lines by typer.echo, help pages: of client, video, training and serving.
COMMANDS = [
    ["predict", "a.mp4"],
    ["predict", "a.mp4", "--json"],
    ["predict", "a.mp4", "--stream", "--jsonl"],
    ["models"],
    ["models", "--json"],
    ["recipes"],
    ["bench", "a.mp4", "--requests", "1", "--warmup", "0"],
    ["features", "a.mp4", "--out", "f.parquet", "--overwrite"],
    ["inspect", "VIDEO"],
    ["inspect", "VIDEO", "--json"],
    ["evaluate", "--protocol", "list", "a.pt", "a.csv"],
    ["serve", ".", "--print-config"],
    ["--version"],
    ["--help"],
    ["predict", "--help"],
]
# It makes every network there is, which takes 20 seconds of a core; `recipes` is a table of the same package.
LONG_COMMANDS = [pytest.param(["models", "--catalog"], marks=pytest.mark.long)]
commands = pytest.mark.parametrize("argv", [*COMMANDS, *LONG_COMMANDS], ids=lambda argv: " ".join(argv[:3]))


@pytest.fixture
def argv_of(data_dir: Path) -> dict[str, str]:
    return {"VIDEO": str(next(iter(sorted((data_dir / "clips").rglob("*.mp4")))))}


@commands
@full_disk
def test_a_full_disk_is_an_error_in_one_line(
    argv: list[str], environ: dict[str, str], tmp_path: Path, argv_of: dict[str, str]
) -> None:
    done = run([argv_of.get(a, a) for a in argv], tmp_path, "> /dev/full", **environ)
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert last in (
        "Error: the output cannot be written: No space left on device",
        "Error: standard output cannot be written: No space left on device",
    )


@pytest.mark.parametrize(
    "argv", [["predict", "."], ["predict", ".", "--json"], ["inspect", "."], ["predict", "--help"]], ids=" ".join
)
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_terminal_can_show_any_name(
    argv: list[str], encoding: str, environ: dict[str, str], tmp_path: Path
) -> None:
    done = run(argv, tmp_path, **{**environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert done.returncode == (1 if argv[0] == "inspect" else 0), done.stderr
    assert b"Traceback" not in done.stderr
    if argv == ["predict", "."]:
        shown = done.stdout.decode(encoding)
        assert f"{LABEL}.mp4".encode(encoding, "replace").decode(encoding) in shown
        assert r"\xff.mp4" in shown


def test_a_reader_that_has_gone_is_no_error_to_speak_of(environ: dict[str, str], tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / f"{i}.mp4").write_bytes(b"video")
    done = run(["predict", ".", "--jsonl", "--features"], tmp_path, "| head -c 5", **environ)
    assert done.stdout == b'{"inp'
    assert done.stderr == b""
    assert done.returncode == 1


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "> /dev/null 2> /dev/full"])
def test_streams_that_are_closed(redirect: str, environ: dict[str, str], tmp_path: Path) -> None:
    done = run(["predict", "a.mp4"], tmp_path, redirect, **environ)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_an_error_message_that_cannot_be_written_keeps_its_exit_code(environ: dict[str, str], tmp_path: Path) -> None:
    for redirect in ("2> /dev/full", "2>&-"):
        assert run(["models", "other"], tmp_path, redirect, **environ).returncode == 1


def test_errors_of_writing_as_one_line() -> None:
    assert one_line(OSError(28, "No space left on device")) == "the output cannot be written: No space left on device"
    assert one_line(OSError(28, "No space left on device", "a.pt")) == "a.pt: No space left on device"
