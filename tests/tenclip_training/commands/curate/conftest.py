"""Running `tenclip curate`, and videos to run it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tenclip_client.cli.main import main
from tests.tenclip_training.commands.curate.helpers import Run
from tests.tenclip_training.curation.helpers import smooth_frames, smooth_video, write_frames


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`tenclip curate ARGUMENTS`; gives (exit code, stdout, stderr)."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["curate", *map(str, arguments)])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return invoke


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """100 files that are there, 80 of one class; 20 are for testing."""
    (tmp_path / "v").mkdir()
    lines = ["path,label,split,duration"]
    for i in range(100):
        (tmp_path / "v" / f"{i}.mp4").write_bytes(str(i).encode())
        label = "head" if i < 80 else "middle" if i < 95 else "tail"
        lines.append(f"v/{i}.mp4,{label},{'test' if i % 5 == 0 else 'train'},{3 if i % 2 else 57}")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "all.csv"


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """source/: a copy of a target, one that holds 2 s of it within 12, two strangers, one that is no video."""
    target = smooth_frames(1, 4.0)
    write_frames(tmp_path / "target" / "test.mp4", target)
    smooth_video(tmp_path / "target" / "other.mp4", 2, 2.0)
    source = tmp_path / "source"
    write_frames(source / "web" / "copy.mp4", smooth_frames(1, 4.0, height=144, width=112), crf=35)
    around = smooth_frames(3, 10.0)
    write_frames(source / "web" / "within.mp4", np.concatenate([around[:120], target[24:72], around[120:]]))
    smooth_video(source / "web" / "a.mp4", 4, 2.0)
    smooth_video(source / "web" / "b.mp4", 5, 2.0)
    (source / "web" / "text.mp4").write_text("no video")
    return tmp_path
