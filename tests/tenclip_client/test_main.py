"""The root command: listing, loading, exit codes, and one line for every error that is not a bug."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import pytest
import typer

from tenclip_api.errors import EmptyVideo, ServerError
from tenclip_client.cli import main as main_module
from tenclip_client.cli.main import GROUP, SUMMARIES, help_text, main, missing_module, requested_command
from tenclip_client.cli.messages import one_line

Run = Callable[..., tuple[int, str, str]]


def greet(name: Annotated[str, typer.Argument(help="Who [it] is.")], loud: bool = False) -> None:
    """Greet somebody [politely].

    Examples:

    \b
      tenclip greet you
      tenclip greet 'tenclip[all]' --loud
    """
    print(name.upper() if loud else name)


def terminate() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        print("unwound", file=sys.stderr)


async def terminate_task() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", file=sys.stderr)
        raise


def fail(kind: str) -> None:
    """Fail."""
    if kind == "terminate":
        terminate()
    if kind == "terminate-asyncio":
        asyncio.run(terminate_task())
    raise {
        "ours": EmptyVideo("a.mp4: is empty\n  (0 bytes)"),
        "missing": FileNotFoundError(2, "No such file or directory", "a.csv"),
        "denied": PermissionError(13, "Permission denied", "b.csv"),
        "bug": ZeroDivisionError("a bug"),
        "interrupt": KeyboardInterrupt(),
        "module": ModuleNotFoundError("No module named 'torch'", name="torch.nn"),
        "our module": ModuleNotFoundError("No module named 'tenclip_video.gone'", name="tenclip_video.gone"),
        "exit": typer.Exit(7),
        "usage": typer.BadParameter("both cannot be"),
    }[kind]


several = typer.Typer(help="Do [one] of two things.\n\nBoth are quick.\n\n\b\nExamples:\n  tenclip several greet you")
several.command()(greet)
several.command("fail")(fail)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """main() with commands of this file; gives (exit code, stdout, stderr)."""
    here = types.ModuleType("tenclip_fake_commands")
    here.greet, here.fail, here.several = greet, fail, several  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, here.__name__, here)
    commands = [
        EntryPoint("greet", f"{here.__name__}:greet", GROUP),
        EntryPoint("several", f"{here.__name__}:several [labels]", GROUP),
        EntryPoint("predict", f"{here.__name__}:fail [train,serve]", GROUP),
        EntryPoint("gone", "tenclip_gone.commands:gone", GROUP),
        EntryPoint("train", "no_such_library.commands:train [train]", GROUP),
    ]
    monkeypatch.setattr(main_module, "entry_points", lambda group: commands)
    monkeypatch.delenv("TENCLIP_DEBUG", raising=False)

    def invoke(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(argv)
        printed = capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, printed.out, printed.err

    return invoke


def test_runs_a_command(run: Run) -> None:
    assert run("greet", "you") == (0, "you\n", "")
    assert run("greet", "you", "--loud") == (0, "YOU\n", "")
    assert run("--traceback", "greet", "you") == (0, "you\n", "")


def test_runs_a_sub_command(run: Run) -> None:
    assert run("several", "greet", "you", "--loud") == (0, "YOU\n", "")
    assert run("--traceback", "several", "greet", "you") == (0, "you\n", "")
    assert "several" in run("--help")[1]


def test_sigterm_is_what_ctrl_c_is(run: Run) -> None:
    """Also to asyncio, which ends what it runs; the handler from before is back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    assert run("predict", "terminate") == (130, "", "unwound\n")
    assert run("predict", "terminate-asyncio") == (130, "", "cancelled\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_of_a_group(run: Run) -> None:
    code, out, err = run("several")
    assert code == 2
    for help_page in (out + err, run("several", "--help")[1]):
        lines = [line.rstrip() for line in help_page.splitlines()]
        assert " Do [one] of two things." in lines
        assert "   tenclip several greet you" in lines
        assert any(line.startswith("│ greet") and "Greet somebody [politely]." in line for line in lines)
        assert "\b" not in help_page
    code, out, _ = run("several", "greet", "--help")
    assert code == 0
    assert "tenclip greet 'tenclip[all]' --loud" in [line.strip() for line in out.splitlines()]
    assert "Who [it] is." in out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["several", "nonsense"], 2, "No such command 'nonsense'"),
        (["several", "greet"], 2, "Missing argument 'name'"),
        (["several", "fail", "missing"], 1, "Error: a.csv: No such file or directory\n"),
        (["several", "fail", "module"], 1, "needs torch.nn, which is not installed: pip install 'tenclip[labels]'"),
        (["several", "fail", "exit"], 7, ""),
    ],
)
def test_errors_of_a_sub_command(run: Run, argv: list[str], code: int, message: str) -> None:
    found, out, err = run(*argv)
    assert (found, out) == (code, "")
    assert message in err


def test_lists_commands_without_loading_them(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert SUMMARIES["Use a server"]["predict"] in out
    assert "gone" in out
    assert "From tenclip_fake_commands." in out
    assert "inspect" not in out  # not installed here
    assert run("-h")[1] == out


def test_help_of_a_command_keeps_lines_and_brackets(run: Run) -> None:
    code, out, _ = run("greet", "--help")
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    assert "Greet somebody [politely]." in lines
    assert "tenclip greet you" in lines
    assert "tenclip greet 'tenclip[all]' --loud" in lines
    assert "Who [it] is." in out
    assert "\b" not in out


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"tenclip {version('tenclip')}\n", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["greet"], "Missing argument 'name'"),
        (["greet", "you", "--no-such"], "No such option"),
        (["--no-such", "greet", "you"], "No such option"),
        (["predict", "usage"], "both cannot be"),
    ],
)
def test_wrong_usage(run: Run, argv: list[str], message: str) -> None:
    code, out, err = run(*argv)
    assert code == 2
    assert message in err
    assert out == ""


def test_no_arguments_show_the_help(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    assert "Usage: tenclip" in out + err


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("ours", "Error: a.mp4: is empty (0 bytes)\n"),
        ("missing", "Error: a.csv: No such file or directory\n"),
        ("denied", "Error: b.csv: Permission denied\n"),
        (
            "module",
            "Error: `tenclip predict` needs torch.nn, which is not installed: pip install 'tenclip[train,serve]'\n",
        ),
    ],
)
def test_errors_are_one_line(run: Run, kind: str, line: str) -> None:
    assert run("predict", kind) == (1, "", line)


def test_library_that_is_missing_at_import(run: Run) -> None:
    code, out, err = run("train")
    assert (code, out) == (1, "")
    assert err == "Error: `tenclip train` needs no_such_library, which is not installed: pip install 'tenclip[train]'\n"


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["predict", "bug"], ZeroDivisionError),
        (["predict", "our module"], ModuleNotFoundError),
        (["gone"], ModuleNotFoundError),
    ],
)
def test_bugs_keep_their_traceback(run: Run, argv: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        main(argv)


@pytest.mark.parametrize(("kind", "code"), [("interrupt", 130), ("exit", 7)])
def test_other_exits(run: Run, kind: str, code: int) -> None:
    assert run("predict", kind)[0] == code


@pytest.mark.parametrize("how", ["option", "variable"])
def test_traceback_on_demand(run: Run, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "variable":
        monkeypatch.setenv("TENCLIP_DEBUG", "1")
    code, _, err = run(*(["--traceback"] if how == "option" else []), "predict", "ours")
    assert code == 1
    assert err.startswith("Traceback")
    assert err.splitlines()[-1] == "Error: a.mp4: is empty (0 bytes)"
    with pytest.raises(ModuleNotFoundError):
        main([*(["--traceback"] if how == "option" else []), "predict", "module"])


def test_requested_command(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: dict[str, Any] = {"predict": None, "train": None}
    assert requested_command(["--traceback", "predict", "train"], commands) == "predict"
    assert requested_command(["nonsense", "train"], commands) is None
    assert requested_command(["--help"], commands) is None
    monkeypatch.setenv("COMP_WORDS", "tenclip train --ep")
    assert requested_command([], commands) == "train"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tenclip pre", {"predict"}),
        ("tenclip predict --time", {"--timeout", "--timeline"}),
        ("tenclip models --js", {"--json"}),
        ("tenclip labels su", {"subset"}),
        ("tenclip labels subset --num", {"--num-labels", "--num-videos"}),
    ],
)
def test_shell_completion(line: str, expected: set[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TENCLIP_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "tenclip_client"], capture_output=True, text=True, env={**os.environ, **words}
    )
    assert set(done.stdout.split()) == expected
    assert done.stderr == ""


def test_extras_of_a_command() -> None:
    bare = EntryPoint("predict", "tenclip_client.commands:predict", GROUP)
    assert missing_module(bare, "rich").endswith("pip install 'tenclip'")


def test_one_line() -> None:
    error = ServerError("a fault")
    assert one_line(error) == "a fault"
    error.request_id = "r-9"
    assert one_line(error) == "a fault (request r-9 in the server's log)"
    assert one_line(OSError("odd")) == "odd"
    assert one_line(ValueError()) == "ValueError"


REGISTERED = {e.name: e for e in entry_points(group=GROUP) if e.module.startswith("tenclip")}


def test_every_command_has_a_summary() -> None:
    assert {name for group in SUMMARIES.values() for name in group} == set(REGISTERED)


@pytest.mark.parametrize("name", sorted(REGISTERED))
def test_summaries_are_the_docstrings_own(name: str) -> None:
    if importlib.util.find_spec(REGISTERED[name].module) is None:
        pytest.skip(f"there is no {REGISTERED[name].module}")
    summary = next(group[name] for group in SUMMARIES.values() if name in group)
    first = help_text(REGISTERED[name].load()).strip().split("\n\n")[0]
    assert " ".join(first.split()) == summary


def test_the_installed_program() -> None:
    program = [sys.executable, "-m", "tenclip_client"]
    done = subprocess.run([*program, "predict"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
