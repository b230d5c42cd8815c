"""Running `tenclip omni`, and web data to run it on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tenclip_client.cli.main import main
from tests.tenclip_training.commands.curate.helpers import Run
from tests.tenclip_training.omni import conftest as omni_fixtures
from tests.tenclip_training.omni.helpers import camera_video, shift, textured, zoom


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`tenclip ARGUMENTS`; gives (exit code, stdout, stderr)."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return invoke


@pytest.fixture
def pans(tmp_path: Path) -> Path:
    """Videos of two classes, in which a camera pans or zooms; one file is text."""
    for i in range(2):
        camera_video(tmp_path / "videos" / "pan" / f"{i}.mp4", i, [shift(0.02 + 0.01 * i)] * 12)
        camera_video(tmp_path / "videos" / "zoom" / f"{i}.mp4", 9 + i, [zoom(1.01 + 0.01 * i)] * 12)
    (tmp_path / "videos" / "zoom" / "text.mp4").write_text("no video")
    return tmp_path / "videos"


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """Images and a video of two classes; one is half an image, one a page that says 404."""
    folder = tmp_path / "web"
    for label, seed in (("pan", 0), ("zoom", 50)):
        (folder / label).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(textured(seed + i)).save(folder / label / f"{i}.jpg")
    half = (folder / "pan" / "0.jpg").read_bytes()
    (folder / "pan" / "half.jpg").write_bytes(half[: len(half) // 2])
    (folder / "zoom" / "gone.jpg").write_text("<html>404</html>")
    camera_video(folder / "zoom" / "v.mp4", 3, [shift(0.01)] * 6)
    return folder


color_teacher, color_clip_teacher = omni_fixtures.color_teacher, omni_fixtures.color_clip_teacher
teachers_are_opened_once = omni_fixtures.teachers_are_opened_once
