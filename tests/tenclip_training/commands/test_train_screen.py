from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from tenclip_training import console
from tenclip_training.commands.train_screen import (
    STEPS_BEFORE_REMARK,
    TrainScreen,
    epoch_line,
    facts_line,
    train_screen,
    waiting_hint,
)
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.results import EpochResult, Progress
from tests.tenclip_training.commands.helpers import QUICK, run

CONFIG = TrainConfig(manifest="m.csv", out="run", epochs=10)
STEP = Progress(
    stage="train",
    done=3,
    total=7,
    epoch=2,
    epochs=10,
    loss=1.25,
    learning_rate=0.0123,
    clips_per_second=412.3,
    data_wait_share=0.31,
    epoch_seconds_left=21.4,
    run_seconds_left=3723.0,
    val_video_top1=0.612,
)
FACTS = (
    "loss 1.250, lr 0.0123, 412.3 clips/s, 31% waiting for clips, val video top-1 61.2%, "
    "0:00:21 left in the epoch, 1:02:03 in the run"
)


def result(**changes: float) -> EpochResult:
    values = {"epoch": 3, "loss": 0.5, "learning_rate": 0.1, "train_clip_top1": 0.75, "train_clips": 40, "seconds": 2.0}
    return EpochResult(**values | changes)  # type: ignore[arg-type]


def test_facts_of_a_step() -> None:
    assert facts_line(STEP) == FACTS
    first = Progress(stage="train", done=1, total=7, epoch=1, epochs=10, learning_rate=0.1)
    assert facts_line(first) == "lr 0.1, 0 clips/s, 0% waiting for clips", "what is not known yet is left out"


def test_epoch_line_gives_denominators() -> None:
    assert epoch_line(result(), 10) == "epoch  3 of 10: loss 0.500, train clip top-1 75.0% of 40, 2.0 s"
    validated = result(val_video_top1=0.5, val_videos_decoded=8, val_videos_asked=9)
    assert epoch_line(validated, 10).endswith("val video top-1 50.0% of 8 (asked for 9), 2.0 s")


def test_epoch_line_of_sigmoids() -> None:
    result = EpochResult(
        epoch=1,
        loss=0.5,
        learning_rate=0.1,
        train_clip_top1=0.75,
        train_clips=40,
        seconds=2.0,
        val_video_top1=0.5,
        val_video_map=0.625,
        val_videos_decoded=8,
        val_videos_asked=9,
    )
    assert epoch_line(result, 1).endswith("val video top-1 50.0% and mAP 62.5% of 8 (asked for 9), 2.0 s")


@pytest.mark.parametrize(
    ("share", "workers", "cpus", "expected"),
    [
        (0.29, 0, 8, None),
        (0.3, 0, 8, "30% of the time went on waiting for clips: --workers 7 reads clips beside"),
        (0.5, 0, 1, "50% of the time went on waiting for clips: a larger --cache (now 2 GiB)"),
        (0.5, 4, 8, "--workers 7 uses all 8 cores (now 4)"),
        (0.5, 7, 8, "50% of the time went on waiting for clips: a larger --cache"),
    ],
)
def test_a_loader_that_is_the_limit_is_named_with_what_helps(
    share: float, workers: int, cpus: int, expected: str | None
) -> None:
    hint = waiting_hint(share, CONFIG.changed(workers=workers), cpus=cpus)
    assert (expected in hint) if expected else not hint


def test_the_remark_comes_in_the_midst_of_a_long_epoch_and_once() -> None:
    screen = io.StringIO()
    shown = TrainScreen(CONFIG, console.Reporter(Console(file=screen, width=200), None))
    step = dataclasses.replace(STEP, epoch=1, total=5000, data_wait_share=0.4)
    shown.progress(dataclasses.replace(step, done=STEPS_BEFORE_REMARK - 1))
    assert "waiting for clips:" not in screen.getvalue(), "the first steps say little"
    for done in (STEPS_BEFORE_REMARK, 4000):
        shown.progress(dataclasses.replace(step, done=done))
    shown.epoch(result(epoch=1, data_wait_share=0.4))
    assert screen.getvalue().count("40% of the time went on waiting for clips:") == 1
    shown.progress(dataclasses.replace(step, epoch=2, done=STEPS_BEFORE_REMARK))
    assert screen.getvalue().count("of the time went on waiting for clips:") == 2


def test_a_terminal_has_a_bar_and_the_facts_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=150)
    monkeypatch.setattr(console, "Console", lambda **_: terminal)
    with train_screen(CONFIG) as shown:
        shown.progress(STEP)
        shown.reporter._bar.refresh()  # type: ignore[union-attr]
        shown.epoch(result(data_wait_share=0.4))
        shown.progress(Progress(stage="evaluate", done=1, total=4, epoch=2, epochs=10))
        shown.reporter._bar.refresh()  # type: ignore[union-attr]
    text = screen.getvalue()
    assert "epoch 2 of 10" in text
    assert "3/7" in text
    assert FACTS in text
    assert "epoch  3 of 10: loss 0.500" in text
    assert "40% of the time went on waiting for clips" in text
    assert "validating" in text
    assert FACTS not in text[text.index("validating") :], "they are of training"


def test_elsewhere_a_line_has_the_same_facts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with train_screen(CONFIG) as shown:
        assert isinstance(shown, TrainScreen)
        shown.progress(STEP)
        shown.progress(Progress(stage="cache", done=1, total=4, epoch=1, epochs=10))
    assert capsys.readouterr().err == f"epoch 2 of 10: 3 of 7, {FACTS}\ndecoding: 1 of 4, videos\n"


def test_a_run_says_it_on_screen(validated_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    arguments = ["--out", str(tmp_path / "run"), *QUICK, "--epochs", "2", "--cache", "0", "--val-every", "1"]
    shown = run("train", validated_videos, *arguments)
    assert shown.exit_code == 0, shown.exception
    lines = shown.stderr.splitlines()
    second = next(line for line in lines if line.startswith("epoch 2 of 2: 1 of 2"))
    for fact in ("loss ", "lr ", "clips/s", "waiting for clips", "val video top-1", "left in the epoch", "in the run"):
        assert fact in second, fact
    # A network of four planes computes faster than a processor decodes.
    assert sum("of the time went on waiting for clips" in line for line in lines) == 2, "once an epoch"
