"""The folder of a dataset, opened without a model: how it begins, what is left of a process that was killed."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_batch import dataset
from tenclip_batch.dataset import open_dataset, read_settings
from tenclip_batch.locks import locked
from tenclip_batch.parts import PartFormat

FORM = PartFormat(
    task="features", model="tiny", version="1", feature_dim=4, labels=(), top_k=5, with_clips=False, metadata={}
)
SETTINGS = {"model": "tiny"}
HALF = "0123456789abcdef.part"


def test_drafts_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    with open_dataset(tmp_path / "out", FORM, SETTINGS):
        pass
    drafts = [
        tmp_path / "out" / place
        for place in (
            f".dataset.json.{HALF}",
            f".summary.json.{HALF}",
            f"clips/.part-00000.parquet.{HALF}",
            f"videos/.part-00000.parquet.{HALF}",
            f"files/.a.npy.{HALF}",
            f"files/deep/er/.a.npz.{HALF}",
        )
    ]
    (tmp_path / "out" / "files" / "deep" / "er").mkdir(parents=True)
    mine, done = tmp_path / "out" / ".mine.part", tmp_path / "out" / "files" / "deep" / "a.npy"
    for path in (*drafts, mine, done):
        path.write_bytes(b"half")
    with open_dataset(tmp_path / "out", FORM, SETTINGS):
        assert [d for d in drafts if d.exists()] == []
    assert mine.exists()
    assert done.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_is_full_at_the_beginning(tmp_path: Path, overwrite: bool) -> None:
    """The system refuses to let a file of this process grow beyond 10 bytes."""
    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(DatasetError, match=r"out/dataset\.json: cannot be written: File too large; the same"):
            begin(out, overwrite)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    begin(out, overwrite)
    assert read_settings(out) == SETTINGS


# A child that kills itself at the Nth time that it makes a folder, takes a file away, or puts one into its place.
_KILLED = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from tests.tenclip_batch.test_dataset import begin
folder, overwrite = Path(sys.argv[1]), sys.argv[2] == "True"

def watched(owner, name, last, calls):
    real = getattr(owner, name)
    def call(*arguments, **options):
        if next(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(owner, name, call)

for last in range(100):
    out = folder / str(last)
    if overwrite:
        begin(out, settings={"model": "another"})
        (out / "notes.txt").write_text("mine")
    child = os.fork()
    if not child:
        calls = itertools.count()
        for owner, name in ((Path, "mkdir"), (Path, "unlink"), (Path, "replace"), (shutil, "rmtree")):
            watched(owner, name, last, calls)
        begin(out, overwrite)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    begin(out, overwrite)
    if code != -signal.SIGKILL:
        sys.exit(code)
"""


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_any_moment_of_the_beginning(tmp_path: Path, overwrite: bool) -> None:
    """The same command begins it then."""
    words = [sys.executable, "-c", _KILLED, str(tmp_path), str(overwrite)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    folders = list(tmp_path.iterdir())
    assert len(folders) > 5
    for out in folders:
        assert read_settings(out) == SETTINGS
        assert not list(out.glob(".*.part"))
        assert not overwrite or (out / "notes.txt").exists()


def test_folders_of_a_run_that_never_began(tmp_path: Path) -> None:
    for name in ("clips", "videos", ".attempts"):
        (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / ".lock").touch()
    begin(tmp_path / "out")
    assert read_settings(tmp_path / "out") == SETTINGS


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_of_others_are_left_alone(tmp_path: Path, overwrite: bool) -> None:
    film = tmp_path / "out" / "videos" / "film.mp4"
    film.parent.mkdir(parents=True)
    film.touch()
    for place in (tmp_path / "out", film.parent):
        with pytest.raises(DatasetError, match="holds something else than a batch dataset"):
            begin(place, overwrite)
    (tmp_path / "out" / "dataset.json").write_text(json.dumps({"name": "films", "license": "ours"}))
    with pytest.raises(DatasetError, match="holds something else than a batch dataset"):
        begin(tmp_path / "out", overwrite)
    assert film.exists()
    assert not list(tmp_path.rglob(".lock"))


def test_another_run_has_begun_it_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look at the folder and the lock."""
    out = tmp_path / "out"

    @contextlib.contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.setattr(dataset, "locked", locked)
        begin(out, settings={"model": "another"})
        with locked(folder):
            yield

    monkeypatch.setattr(dataset, "locked", late)
    with pytest.raises(DatasetError, match="model was another, now tiny"):
        begin(out)
    assert read_settings(out) == {"model": "another"}


def begin(out: Path, overwrite: bool = False, settings: dict[str, str] = SETTINGS) -> None:
    """Open the dataset, and close it."""
    with open_dataset(out, FORM, settings, overwrite=overwrite):
        pass
