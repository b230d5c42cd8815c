"""The settings of `tenclip serve`, from its file, the environment and its flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenclip_serving.config import ServerConfig
from tenclip_settings import fields_of, load_settings
from tests.tenclip_serving.helpers import running_server


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenclip_serving", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_serve_prints_its_settings_and_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('directory = "."\nport = 1\nmetrics_port = 2\nmax_clips = 7\n')
    done = serve("--config", str(file), "--print-config", "--metrics-port", "5", TENCLIP_PORT="4", TENCLIP_THREADS="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "port = 4  # TENCLIP_PORT\n" in done.stdout
    assert "metrics_port = 5  # --metrics-port\n" in done.stdout
    assert f"max_clips = 7  # {file}\n" in done.stdout
    printed = tmp_path / "printed.toml"
    printed.write_text(done.stdout)
    assert load_settings(ServerConfig, file=printed).settings == ServerConfig(
        directory=tmp_path, port=4, metrics_port=5, max_clips=7
    )


def test_serve_prints_every_setting_without_a_directory(tmp_path: Path) -> None:
    done = serve("--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "# directory is not set\n" in done.stdout
    assert {line.removeprefix("# ").split()[0] for line in done.stdout.splitlines()} == set(fields_of(ServerConfig))
    assert f'directory = "{tmp_path}"  # DIR\n' in serve(str(tmp_path), "--print-config").stdout


def test_variables_that_are_empty_are_said_to_say_nothing(tmp_path: Path) -> None:
    done = serve(str(tmp_path), "--check-only", TENCLIP_PORT="", TENCLIP_THREADS="2")
    assert "WARNING TENCLIP_PORT is set to nothing: that counts as not set\n" in done.stderr
    assert done.stderr.count("is set to nothing") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{here}/absent", "--log-format", "json"], "not started: DIR: {here}/absent is not a directory"),
        (["{here}", "--log-format", "json", "--host", "192.0.2.1"], "not started: cannot listen on 192.0.2.1:7411: "),
    ],
)
def test_what_ends_the_start_is_an_error_in_a_json_log(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = serve(*(a.format(here=tmp_path) for a in arguments))
    assert (done.returncode, done.stdout) == (1, "")
    *_, last = (json.loads(line) for line in done.stderr.splitlines())
    assert last["level"] == "ERROR"
    assert last["message"].startswith(says.format(here=tmp_path).replace("DIR: ", ""))
    assert "source" not in last


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--print-config", "--help"])
def test_settings_that_cannot_be_written_are_an_error_in_one_line(option: str) -> None:
    line = f'"$0" -m tenclip_serving {option} > /dev/full'
    command = ["bash", "-c", line, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith("output cannot be written: No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        ([], {}, "Error: directory is not set: use DIR, TENCLIP_DIRECTORY or a file\n"),
        (["{here}"], {"TENCLIP_MAX_CLIP": "3"}, "Error: TENCLIP_MAX_CLIP is set, and no setting is called so; did"),
        (["{here}"], {"TENCLIP_PORT": "tcp://1.2.3.4:5"}, "Error: TENCLIP_PORT must be a whole number, got 'tcp:"),
        (
            ["{here}"],
            {"TENCLIP_PORT_7411_TCP": "tcp://1.2.3.4:5"},
            "Error: TENCLIP_PORT_7411_TCP is set, and no",
        ),
        (["{here}", "--port", "70000"], {}, "Error: --port: port must be from 0 to 65535, got 70000\n"),
        (["{here}", "--config", "none.toml"], {}, "Error: cannot read none.toml: No such file or directory\n"),
    ],
)
def test_serve_refuses_in_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], says: str
) -> None:
    done = serve(*(a.format(here=tmp_path) for a in arguments), **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
    assert ("enableServiceLinks" in done.stderr) == any(v.startswith("tcp:") for v in environment.values())


def test_a_server_takes_its_settings_from_all_three(one_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'allow_roots = ["{tmp_path}"]\nmax_clips = 9\n')
    with running_server(one_model, "--config", str(file), "--log-format", "text") as server:
        line = next(line for line in server.log.splitlines() if "configuration:" in line)
    assert f"allow_roots={tmp_path} [{file}]" in line
    assert f"max_clips=9 [{file}]" in line
    assert "port=0 [--port]" in line
    assert f"directory={one_model} [DIR]" in line
    assert " host=127.0.0.1 " in line
