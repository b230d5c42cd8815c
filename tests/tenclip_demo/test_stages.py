from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tenclip_api.errors import InvalidRequest
from tenclip_demo.console import StageConsole
from tenclip_demo.stages import STATE, Result, Stages
from tenclip_export.console import Steps


def console(*, terminal: bool = False) -> tuple[StageConsole, io.StringIO]:
    stream = io.StringIO()
    return StageConsole(Console(file=stream, force_terminal=terminal, width=200)), stream


class Work:
    """A stage's work that counts how often it was done."""

    def __init__(self, **result: Any) -> None:
        self.result, self.resumed = result, list[bool]()

    def __call__(self, resumed: bool) -> Result:
        self.resumed.append(resumed)
        return self.result


def run(out: Path, *works: tuple[str, dict[str, Any], Any], intact: bool = True) -> Stages:
    stages = Stages(out, console()[0])
    for name, settings, work in works:
        stages.run(name, name, settings, work, intact=lambda _: intact)
    return stages


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    first, second = Work(n=1), Work(n=2)
    run(tmp_path / "demo", ("a", {"x": 1}, first))
    stages = Stages(tmp_path / "demo", console()[0])
    assert stages.run("a", "a", {"x": 1}, second, intact=lambda r: r == {"n": 1}) == {"n": 1}
    assert (first.resumed, second.resumed) == ([False], [])
    assert stages.times[0].reused


def test_other_settings_begin_anew_and_so_does_all_that_follows(tmp_path: Path) -> None:
    a, b = Work(), Work()
    run(tmp_path, ("a", {"x": 1}, a), ("b", {}, b))
    run(tmp_path, ("a", {"x": 1}, a), ("b", {}, b))
    assert (len(a.resumed), len(b.resumed)) == (1, 1)
    run(tmp_path, ("a", {"x": 2}, a), ("b", {}, b))
    assert (a.resumed, b.resumed) == ([False, False], [False, False])


def test_what_is_gone_is_made_again(tmp_path: Path) -> None:
    work = Work()
    run(tmp_path, ("a", {}, work))
    run(tmp_path, ("a", {}, work), intact=False)
    assert work.resumed == [False, True]


def test_a_stopped_stage_goes_on(tmp_path: Path) -> None:
    def stop(resumed: bool) -> Result:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, ("a", {}, Work(done=True)), ("b", {}, stop))
    state = json.loads((tmp_path / STATE).read_text())
    assert "result" in state["a"]
    assert "result" not in state["b"]
    assert state["b"]["seconds"] >= 0
    a, b = Work(), Work()
    stages = run(tmp_path, ("a", {}, a), ("b", {}, b))
    assert (a.resumed, b.resumed) == ([], [True])
    assert [t.reused for t in stages.times] == [True, False]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidRequest, match="not a demo"):
        run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InvalidRequest, match="not a demo"):
        run(tmp_path / "thesis.tex")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_state_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE).write_text(content)
    with pytest.raises(InvalidRequest, match=r"remove .* or give another --out"):
        run(tmp_path)


def test_lines_where_there_is_no_terminal() -> None:
    stages, stream = console()
    with stages:
        stages.start("training")
        stages.update(1, 10, "epoch 1")  # too soon after the first line
        stages._said -= 60
        stages.update(5, 10, "epoch 5 [bold]")
        stages.finish("training", 12.34)
        stages.reused("exporting", 3)
    assert stream.getvalue().splitlines() == [
        "training ...", "training: 5 of 10  epoch 5 [bold]", "training: 12.3 s", "exporting: done before, in 3.0 s",
    ]  # fmt: skip


def test_a_bar_on_a_terminal() -> None:
    stages, stream = console(terminal=True)
    with stages:
        stages.start("training [1]")
        stages.update(5, 10, "loss [nan]")
        assert stages._bar is not None
        stages._bar.refresh()
        stages.finish("training [1]", 2)
    assert "training [1]" in stream.getvalue()
    assert "5/10" in stream.getvalue()
    assert "training [1]: 2.0 s" in stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_steps(terminal: bool) -> None:
    stream = io.StringIO()
    with Steps(Console(file=stream, force_terminal=terminal)) as steps:
        steps.step("checking [openvino]")
        steps.close()
    assert terminal or stream.getvalue() == "checking [openvino]\n"
