from __future__ import annotations

import pytest

from tenclip_training.console import reporting


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import tenclip_training.console as console

    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    with reporting() as reporter:
        reporter.update("epoch 1 of 2", 3, 7, "loss [0.5]")
    assert capsys.readouterr().err == "epoch 1 of 2: 3 of 7, loss [0.5]\n"
