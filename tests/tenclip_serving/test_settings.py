"""Settings from a file, the environment and flags: of a made-up dataclass, and as `tenclip serve` reads its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tenclip_serving.config import ServerConfig
from tenclip_serving.settings import Loaded, Setting, describe, fields_of, load_settings, to_toml, with_options_of
from tests.tenclip_serving.helpers import running_server


@dataclass(frozen=True, kw_only=True)
class Made:
    place: Annotated[Path, Setting("Where.", option="PLACE")]
    count: Annotated[int, Setting("How many.", lowest=0, highest=9)] = 1
    share: Annotated[float, Setting("Part.", above=0)] = 0.5
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    name: str | None = None
    hosts: tuple[str, ...] = ()
    roots: Annotated[tuple[Path, ...], Setting("Roots.", option="--root")] = ()
    password: Annotated[str, Setting("Hush.", secret=True)] = ""


def load(tmp_path: Path, text: str = "", flags: dict[str, Any] | None = None, **environment: str) -> Loaded[Made]:
    file = tmp_path / "made.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(
        Made, file=file, environment=environment, others=("TENCLIP_OTHER", "TENCLIP_TEST_"), flags=flags or {}
    )


FILE = """
place = "here"
count = 2
share = 1
fast = true
kind = "b"
name = "x"
hosts = ["one", "two"]
roots = ["r", "/s"]
"""


def test_a_file_sets_everything_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    loaded = load(tmp_path, FILE)
    assert loaded.settings == Made(
        place=tmp_path / "here", count=2, share=1.0, fast=True, kind="b", name="x", hosts=("one", "two"),
        roots=(tmp_path / "r", Path("/s")),
    )  # fmt: skip
    assert type(loaded.settings.share) is float
    assert set(loaded.origins.values()) == {str(tmp_path / "made.toml")}


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        FILE,
        {"count": 4, "fast": None, "roots": []},
        TENCLIP_COUNT="3",
        TENCLIP_SHARE="0.25",
        TENCLIP_ROOTS=os.pathsep.join(["/x", "/y"]),
        TENCLIP_HOSTS="three, four",
        TENCLIP_FAST="no",
        TENCLIP_KIND="",
        TENCLIP_OTHER="not ours",
        TENCLIP_TEST_DATA="not ours either",
    )
    made = loaded.settings
    assert (made.count, made.share, made.fast, made.kind, made.name) == (4, 0.25, False, "b", "x")
    assert made.roots == (Path("/x"), Path("/y"))
    assert made.hosts == ("three", "four")
    assert loaded.origins["count"] == "--count"
    assert loaded.origins["roots"] == "TENCLIP_ROOTS"
    assert loaded.origins["kind"] == str(tmp_path / "made.toml")
    assert "fast" not in loaded.origins  # the default again


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("counts = 2", "no setting is called counts; did you mean count?"),
        ("count = true", "count must be a whole number, got True"),
        ("count = 2.0", "count must be a whole number, got 2.0"),
        ('count = "2"', "count must be a whole number, got '2'"),
        ("share = true", "share must be a number, got True"),
        ("fast = 1", "fast must be true or false, got 1"),
        ("place = 3", "place must be a path, got 3"),
        ('hosts = "one"', "hosts must be a list, each a string, got 'one'"),
        ("hosts = [1]", r"hosts must be a list, each a string, got \[1\]"),
        ('kind = "c"', "kind 'c' is not one of a, b"),
        ("kind = 1", "kind must be one of a, b, got 1"),
        ("count = 10", "count must be from 0 to 9, got 10"),
        ("share = 0", "share must be above 0, got 0.0"),
        ("share = nan", "share must be above 0, got nan"),
        ("[count]\nx = 1", "count must be a whole number, got"),
        ("count = ", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "made.toml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("TENCLIP_CUONT", "2", "no setting is called so; did you mean TENCLIP_COUNT?"),
        ("TENCLIP_COUNT", "2.0", "TENCLIP_COUNT must be a whole number, got '2.0'"),
        ("TENCLIP_COUNT", "tcp://10.0.0.1:7411", "TENCLIP_COUNT must be a whole number"),
        ("TENCLIP_COUNT", "12", "TENCLIP_COUNT: count must be from 0 to 9, got 12"),
        ("TENCLIP_FAST", "maybe", "TENCLIP_FAST must be true or false, got 'maybe'"),
        ("TENCLIP_SHARE", "much", "TENCLIP_SHARE must be a number"),
        ("TENCLIP_SHARE", "nan", "TENCLIP_SHARE: share must be above 0"),
        ("TENCLIP_KIND", "c", "TENCLIP_KIND: kind 'c' is not one of a, b"),
    ],
)
def test_what_is_wrong_in_the_environment_names_the_variable(
    tmp_path: Path, variable: str, text: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        load(tmp_path, 'place = "x"', {}, **{variable: text})


def test_a_file_that_is_not_there_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.toml: No such file"):
        load_settings(Made, file=tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"binary\.toml is not TOML"):
        load_settings(Made, file=tmp_path / "binary.toml")


def test_what_has_no_default_must_be_set() -> None:
    with pytest.raises(ValueError, match="place is not set: use PLACE, TENCLIP_PLACE or a file"):
        load_settings(Made)


def test_secrets_are_masked_wherever_settings_are_shown(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'place = "x"', TENCLIP_PASSWORD="hunter2-hunter2")
    shown = describe(loaded.settings, loaded.origins) + to_toml(loaded) + describe(loaded.settings)
    assert "hunter2" not in shown
    assert "password=*** [TENCLIP_PASSWORD]" in shown
    with pytest.raises(ValueError, match=r"password must be a string, got \*\*\*"):
        load(tmp_path, 'password = ["hunter2"]')


def test_a_field_of_another_type_is_a_bug_of_ours() -> None:
    @dataclass(frozen=True)
    class Odd:
        table: dict[str, int] = field(default_factory=dict)

    with pytest.raises(TypeError, match="a setting cannot be of the type of table"):
        fields_of(Odd)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@hypothesis_settings(deadline=None)
@given(
    count=st.integers(0, 9),
    share=st.floats(min_value=1e-300, max_value=1e300),
    fast=st.booleans(),
    name=st.none() | TEXT,
    hosts=st.lists(TEXT, max_size=3).map(tuple),
)
def test_what_is_printed_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, count: int, share: float, fast: bool, name: str | None, hosts: Any
) -> None:
    made = Made(place=Path("/p"), count=count, share=share, fast=fast, name=name, hosts=hosts)
    file = tmp_path_factory.getbasetemp() / "printed.toml"
    file.write_text(to_toml(Loaded(settings=made, origins={"count": "--count"})), encoding="utf-8")
    assert load_settings(Made, file=file).settings == made


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {}),
        (["here"], {"place": Path("here")}),
        (["--count", "3", "--share", "0.1"], {"count": 3, "share": 0.1}),
        (["--fast", "--kind", "b"], {"fast": True, "kind": "b"}),
        (["--no-fast"], {"fast": False}),
        (["--root", "/a", "--root", "/b", "--hosts", "h"], {"roots": [Path("/a"), Path("/b")], "hosts": ["h"]}),
    ],
)
def test_flags_are_those_of_the_fields(arguments: list[str], given: dict[str, Any]) -> None:
    seen: dict[str, Any] = {}

    @with_options_of(Made)
    def command(own: bool = False, **settings: Any) -> None:
        seen.update(settings)

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert {k: v for k, v in seen.items() if v is not None} == given
    assert set(seen) == set(fields_of(Made))


# -- tenclip serve ----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        ([], {}, "error: directory is not set: use DIR, TENCLIP_DIRECTORY or a file\n"),
        (["{here}"], {"TENCLIP_MAX_CLIP": "3"}, "error: TENCLIP_MAX_CLIP is set, and no setting is called so; did"),
        (["{here}"], {"TENCLIP_PORT": "tcp://1.2.3.4:5"}, "error: TENCLIP_PORT must be a whole number, got 'tcp:"),
        (
            ["{here}"],
            {"TENCLIP_PORT_7411_TCP": "tcp://1.2.3.4:5"},
            "error: TENCLIP_PORT_7411_TCP is set, and no",
        ),
        (["{here}", "--port", "70000"], {}, "error: --port: port must be from 0 to 65535, got 70000\n"),
        (["{here}", "--config", "none.toml"], {}, "error: cannot read none.toml: No such file or directory\n"),
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
