from __future__ import annotations

from pathlib import Path

import pytest

from tests.tenclip_training.commands.helpers import QUICK, output_of, run


@pytest.fixture(scope="session")
def trained(validated_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    out = tmp_path_factory.mktemp("trained") / "run"
    result = run("train", validated_videos, "--out", out, *QUICK, "--epochs", "2", "--json")
    values = output_of(result)
    assert values["completed"] is True
    assert [h["epoch"] for h in values["history"]] == [1, 2]
    assert values["evaluation"]["videos_asked"] == 4
    assert values["labels"] == ["move_left", "move_right"]
    assert Path(values["best"]).is_file()
    return out
