"""`--format npy` and `npz`: a file a video, and never two videos in one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tenclip_batch import run as batch_run
from tenclip_batch.files import file_names
from tenclip_batch.options import OutputOptions, ResumeOptions
from tests.tenclip_serving.helpers import make_video

from .helpers import rows, run

CLASHES = [
    ["../a.mp4", "a.mp4"],
    ["/d/a.mp4", "d/a.mp4"],
    ["a:b.mp4", "a_b.mp4"],
    ["http://h/x.mp4", "https://h/x.mp4"],
    ["x/a.mp4", "x/a.avi", "x/a.mp4.mov"],
    ["A.mp4", "a.mp4"],  # on a disk of another system
    ["caf\N{LATIN SMALL LETTER E WITH ACUTE}.mp4", "cafe\N{COMBINING ACUTE ACCENT}.mp4"],
    ["x.mp4", "x.npy/y.mp4"],
    ["..", "/", "_"],
    ["https://h/x.mp4?" + "s" * 300, "https://h/x.mp4?" + "s" * 299 + "t"],
]
EVERYTHING = [name for names in CLASHES for name in dict.fromkeys(names)]
NPY = OutputOptions(format="npy")


@pytest.mark.parametrize("names", [*CLASHES, EVERYTHING])
def test_no_two_videos_in_one_file(names: list[str], tmp_path: Path) -> None:
    names = list(dict.fromkeys(names))
    files = file_names(names, "npy", {})
    places = {file.lower() for file in files.values()}
    assert len(places) == len(names)
    for file in files.values():  # where a draft of it fits, too
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.0123456789abcdef.part").touch()
        path.touch()
    assert len([p for p in tmp_path.rglob("*.npy") if p.is_file() and not p.name.endswith(".part")]) == len(names)


@pytest.mark.parametrize("names", [*CLASHES, EVERYTHING])
def test_the_same_command_gives_the_same_files(names: list[str]) -> None:
    """Whichever of the videos are done already."""
    files = file_names(names, "npy", {})
    for done in [*([name] for name in names), names[::2], names]:
        assert file_names(names, "npy", {name: files[name] for name in done}) == files


def test_files_that_others_have() -> None:
    held = {"clips/a.mp4": "files/clips/a.npy", "b.mp4": "files/of an earlier version.npy"}
    files = file_names(["clips/a.avi", "b.mp4"], "npy", held)
    assert files == {"clips/a.avi": "files/clips/a-b37f3b38.npy", "b.mp4": "files/of an earlier version.npy"}
    assert file_names(["clips/a.avi"], "npy", {**held, **files}) == {"clips/a.avi": files["clips/a.avi"]}
    assert file_names(["clips/a.avi", "clips/a.mp4"], "npy", {**held, **files}) == {
        "clips/a.avi": files["clips/a.avi"], "clips/a.mp4": "files/clips/a.npy",
    }  # fmt: skip


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that runs start in, with videos that were called alike. No two are of the same length."""
    folder = tmp_path / "in"
    (folder / "x").mkdir(parents=True)
    for i, name in enumerate(("a.mp4", "x/a.mp4", "x/a.avi", "x/a.mp4.mov", "a_b.mp4", "a:b.mp4")):
        make_video(folder / "draft.mp4", num_frames=20 + 10 * i)
        shutil.move(folder / "draft.mp4", folder / name)
    shutil.copy(folder / "x" / "a.mp4", tmp_path / "a.mp4")
    monkeypatch.chdir(folder)
    return folder


def check(out: Path, expected: dict[str, list[list[float]]]) -> dict[str, str]:
    """Every video that is done has a file with its own features. Returns the files."""
    files = {row["video"]: row["file"] for row in rows(out, "videos").to_pylist()}
    for name, file in files.items():
        assert np.load(out / file).tolist() == expected[name], name
    return files


def features_of(out: Path) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for row in rows(out).to_pylist():
        found.setdefault(row["video"], []).append(row["features"])
    return found


def test_features_of_videos_that_are_called_alike(
    bundle: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.mp4", "../a.mp4", "x/a.mp4", "x/a.avi", "x/a.mp4.mov", "a_b.mp4", "a:b.mp4"]
    out = tmp_path / "out"
    run(bundle, tmp_path / "table", *names)
    expected = features_of(tmp_path / "table")
    assert len({str(v) for v in expected.values()}) == 6
    run(bundle, out, *names, output=NPY)
    files = check(out, expected)
    assert run(bundle, out, *names, output=NPY).worked == 0
    # One that changed, and one whose file was deleted, are done anew where they were.
    make_video(videos / "a:b.mp4", num_frames=33)
    (out / files["x/a.avi"]).unlink()
    report = run(bundle, out, *names, output=NPY)
    assert report.changed == ("x/a.avi", "a:b.mp4")
    run(bundle, tmp_path / "table", *names)
    assert check(out, features_of(tmp_path / "table")) == files

    # What an earlier version made: no file is of one video alone, so nobody knows whose features are in it.
    old = {name: "files/a.npy" if name in ("a.mp4", "../a.mp4") else file for name, file in files.items()}
    monkeypatch.setattr(batch_run, "file_names", lambda *_: old)
    run(bundle, tmp_path / "old", *names, output=NPY)
    monkeypatch.undo()
    monkeypatch.chdir(videos)
    report = run(bundle, tmp_path / "old", "a.mp4", *names[2:], output=NPY)
    assert (report.changed, report.pruned, report.reused) == (("a.mp4",), ("../a.mp4",), 5)
    run(bundle, tmp_path / "old", *names, output=NPY)
    check(tmp_path / "old", features_of(tmp_path / "table"))


def test_runs_of_videos_that_are_called_alike(bundle: Path, videos: Path, tmp_path: Path) -> None:
    """One after the other, into one dataset."""
    out = tmp_path / "out"
    run(bundle, tmp_path / "table", "x")
    expected = features_of(tmp_path / "table")
    run(bundle, out, "x/a.mp4", output=NPY)
    run(bundle, out, "x/a.avi", output=NPY)
    files = check(out, expected)
    assert files["x/a.mp4"] == "files/x/a.npy"
    assert run(bundle, out, "x/a.mp4", "x/a.avi", output=NPY).reused == 2
    assert check(out, expected) == files
    run(bundle, out, "x/a.avi", output=NPY, resume=ResumeOptions(prune=True))
    assert check(out, expected) == {"x/a.avi": files["x/a.avi"]}
    assert not (out / files["x/a.mp4"]).exists()
