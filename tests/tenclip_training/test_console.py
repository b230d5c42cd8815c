from __future__ import annotations

import pytest

from tenclip_training.console import epoch_line, reporting
from tenclip_training.runs.results import EpochResult


def test_epoch_line_gives_denominators() -> None:
    result = EpochResult(epoch=3, loss=0.5, learning_rate=0.1, train_clip_top1=0.75, train_clips=40, seconds=2.0)
    assert epoch_line(result, 10) == "epoch  3 of 10: loss 0.500, train clip top-1 75.0% of 40, 2.0 s"


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


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import tenclip_training.console as console

    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with reporting() as reporter:
        reporter.update("epoch 1 of 2", 3, 7, "loss [0.5]")
    assert capsys.readouterr().err == "epoch 1 of 2: 3 of 7, loss [0.5]\n"
