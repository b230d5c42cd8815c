"""`tenclip omni duplicates` as users run it, with a small network of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from tenclip_training.models import create_model
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.spec import ClipSpec, Resize
from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of, rows_of
from tests.tenclip_training.omni.helpers import camera_video, coarse, shift


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model("r2d_18", num_classes=2, width=8, num_frames=1, crop=56)
    with torch.no_grad():
        for _ in range(30):
            model(torch.randn(8, 3, 1, 56, 56))
    spec = ClipSpec(num_frames=1, resize=Resize(height=64, width=64), crop=56, fully_convolutional_crop=None)
    path = tmp_path_factory.mktemp("network") / "n.pt"
    save_checkpoint(path, model, clip_spec=spec, labels=None, provenance={})
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """web/: two copies of target pictures among strangers, and one that is no picture. test/: 12 pictures, a video.
    train/: 30 pictures.
    """
    for folder in ("web/a", "test/a"):
        (tmp_path / folder).mkdir(parents=True)
    for i in range(12):
        Image.fromarray(coarse(i)).save(tmp_path / "test" / "a" / f"{i}.png")
    (tmp_path / "train").mkdir()
    for i in range(30):
        Image.fromarray(coarse(200 + i)).save(tmp_path / "train" / f"{i}.png")
    for i in (3, 8):
        Image.fromarray(coarse(i)).resize((144, 108)).save(tmp_path / "web" / "a" / f"copy{i}.jpg", quality=70)
    for i in range(4):
        Image.fromarray(coarse(100 + i)).save(tmp_path / "web" / "a" / f"other{i}.jpg")
    (tmp_path / "web" / "a" / "gone.jpg").write_text("<html>404</html>")
    camera_video(tmp_path / "test" / "a" / "v.mp4", 50, [shift(0.01)] * 30)
    return tmp_path


def test_copies_are_found_and_left_out(run: Run, data: Path, network: Path) -> None:
    out, kept = data / "report", data / "clean.csv"
    arguments = ("omni", "duplicates", data / "web", "--against", data / "test", "--out", out, "--network", network)
    more = ("--fit-on", data / "train", "--crop-files", 4)
    found = json_of(run(*arguments, *more, "--kept", kept, "--threshold", 0.7, "--json"))
    assert {(p["source"], p["target"]) for p in found["pairs"]} == {
        ("a/copy3.jpg", "a/3.png"),
        ("a/copy8.jpg", "a/8.png"),
    }
    threshold = found["threshold"]
    assert (threshold["is_given"], threshold["crop_pairs"], threshold["value"]) == (True, 40, 0.7)
    assert 0 < threshold["crops"] < 1
    assert found["whitening"]["frames"] == 44  # 12 pictures, a video of 1.3 s, 30 to fit on
    assert found["source"]["failures"][0]["reason"] == "NOT_AN_IMAGE"
    assert {os.path.basename(r["path"]) for r in rows_of(kept)} == {
        *(f"other{i}.jpg" for i in range(4)),
        "gone.jpg",  # not compared, so not called a duplicate
    }
    page = Path(found["report"]).read_text()
    assert "pictures/pair-0001-source-0.jpg" in page
    assert (out / "pictures" / "pair-0001-target-0.jpg").stat().st_size > 500
    # Again, with the features of the first run, the threshold of the crops, and a pair that a person has looked at.
    rows = (out / "duplicates.csv").read_text().splitlines()
    (data / "fine.csv").write_text(f"{rows[0]}\n{rows[1]}\n")
    code, printed, _ = run(*arguments, "--reviewed", data / "fine.csv")
    assert code == 0
    assert "mean cosine between crops of the same frame: " in printed
    assert "whitening fitted to 14 frames of 64 features: 13 directions, few: unrelated frames may seem" in printed
    assert "not readable, so not compared: 1 source files, 0 target files" in printed
    assert "reviewed" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--against", "none"], "none: No such file"),
        (["--against", "empty"], "empty: holds no videos"),
        (["--against", "web"], "are the same 7 files"),
        (["--against", "test", "--network", "resnet50"], "neither efficientnet-lite0 nor"),
        (["--against", "test", "--threshold", "2"], "threshold"),
        (["--against", "test", "--reviewed", "none.csv"], "none.csv: No such file"),
        ([], "against"),
        (["--against", "test", "--source", "broken"], "none of the 2 source files can be read; the first: a.jpg"),
    ],
)
def test_what_cannot_be(
    run: Run, data: Path, network: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    (data / "empty").mkdir()
    if "--network" not in arguments:
        arguments = [*arguments, "--network", str(network)]
    (data / "broken").mkdir()
    for name in ("a.jpg", "b.mp4"):
        (data / "broken" / name).write_text("<html>404</html>")
    source = "web"
    if "--source" in arguments:
        source = arguments.pop(arguments.index("--source") + 1)
        arguments.remove("--source")
    assert says in error_of(run("omni", "duplicates", source, *arguments, "--out", "r"))
    assert not (data / "r" / "report.html").exists()
