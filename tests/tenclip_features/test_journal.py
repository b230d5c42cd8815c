"""The ledger says the truth after a stop at any byte."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_features.journal import ClipRow, Failure, Ledger

SETTINGS: dict[str, Any] = {"model": "actions", "version": "2", "num_clips": None}


def rows(seed: int, count: int = 2, dim: int = 3) -> list[ClipRow]:
    rng = random.Random(seed)
    return [ClipRow(i, i * 0.1, i * 0.1 + 0.64, array("f", [rng.random() for _ in range(dim)])) for i in range(count)]


def add(ledger: Ledger, video: str, seed: int) -> None:
    ledger.add(video, rows(seed), protocol="ten-clip", fingerprint=[seed, 1])


def test_what_goes_in_comes_out_again(tmp_path: Path) -> None:
    with Ledger(tmp_path / "p", SETTINGS) as ledger:
        add(ledger, "a", 1)
        ledger.fail(Failure("b", "EMPTY_VIDEO", "b: empty\nreally"))
        add(ledger, "ü\u2028 c", 3)
    with Ledger(tmp_path / "p", SETTINGS) as ledger:
        assert ledger.rows("a") == rows(1)
        assert ledger.rows("ü\u2028 c") == rows(3)
        assert ledger.rows("b") == ledger.rows("never seen") == []
        assert ledger.protocol("a") == "ten-clip"
        assert ledger.is_done("a", [1, 1])
        assert not ledger.is_done("a", [1, 2])  # the file has changed since
        assert not ledger.is_done("b", [])
        assert ledger.failures == {"b": Failure("b", "EMPTY_VIDEO", "b: empty\nreally")}


def test_the_last_word_counts(tmp_path: Path) -> None:
    with Ledger(tmp_path / "p", SETTINGS) as ledger:
        ledger.fail(Failure("a", "EMPTY_VIDEO", "a"))
        add(ledger, "a", 1)
        add(ledger, "b", 2)
        add(ledger, "b", 3)
        add(ledger, "c", 4)
        ledger.fail(Failure("c", "NO_FRAMES", "c"))
        before = (ledger.rows("a"), ledger.rows("b"), ledger.rows("c"), dict(ledger.failures))
    with Ledger(tmp_path / "p", SETTINGS) as ledger:
        assert (ledger.rows("a"), ledger.rows("b"), ledger.rows("c"), ledger.failures) == before
        assert before[1] == rows(3)
        assert list(before[3]) == ["c"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "p"
    with Ledger(folder, SETTINGS) as ledger:
        for i in range(5):
            add(ledger, f"v{i}", i)
    return folder


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_cut_off_at_any_byte(full: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cut") / "p"
    shutil.copytree(full, folder)
    for name in ("ledger.jsonl", "vectors.f32"):
        file = folder / name
        size = data.draw(st.integers(0, file.stat().st_size), label=name)
        with file.open("r+b") as opened:
            opened.truncate(size)
    with Ledger(folder, SETTINGS) as ledger:
        done = [i for i in range(5) if ledger.is_done(f"v{i}", [i, 1])]
        assert done == list(range(len(done)))
        for i in range(5):
            assert ledger.rows(f"v{i}") == (rows(i) if i in done else [])
        for i in range(len(done), 5):
            add(ledger, f"v{i}", i)
    with Ledger(folder, SETTINGS) as ledger:
        assert [ledger.rows(f"v{i}") for i in range(5)] == [rows(i) for i in range(5)]
    shutil.rmtree(folder)


def test_vectors_that_no_line_points_to_are_dropped(full: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(full, folder)
    size = (folder / "vectors.f32").stat().st_size
    with (folder / "vectors.f32").open("ab") as file:
        file.write(b"half a vec")
    with Ledger(folder, SETTINGS):
        assert (folder / "vectors.f32").stat().st_size == size


@pytest.mark.parametrize("line", ["not json", '{"video": "x"}', '{"video": "x", "status": "done", "offset": "?"}', "3"])
def test_damage_in_the_middle_is_not_passed_over(full: Path, tmp_path: Path, line: str) -> None:
    folder = tmp_path / "p"
    shutil.copytree(full, folder)
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_text().splitlines()
    ledger.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(DatasetError, match=r"ledger\.jsonl: line 2 is damaged .*--overwrite"):
        Ledger(folder, SETTINGS)


def test_other_settings_are_named(full: Path) -> None:
    with pytest.raises(DatasetError, match=r"version was 2, now 3; num_clips was not set, now 5") as caught:
        Ledger(full, {"model": "actions", "version": "3", "num_clips": 5})
    assert "--overwrite" in str(caught.value)


def test_damaged_settings(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(DatasetError, match=r"settings\.json: is damaged"):
        Ledger(tmp_path, SETTINGS)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tenclip_features.journal import Ledger\n"
        f"Ledger(Path(sys.argv[1]), {json.dumps(SETTINGS).replace('null', 'None')})"
    )
    with Ledger(tmp_path, SETTINGS):
        other = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
        assert "another process is extracting" in other.stderr
        with pytest.raises(DatasetError, match="another process"):
            Ledger.discard(tmp_path)
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)
    Ledger.discard(tmp_path)
    assert not tmp_path.exists()
    Ledger.discard(tmp_path)
