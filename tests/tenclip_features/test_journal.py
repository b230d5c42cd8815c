"""The journal holds every finished video and no half of one, however the process ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import DatasetError
from tenclip_features.journal import ExtractionJournal
from tenclip_features.rows import ClipRow, VideoFailure, VideoRows
from tenclip_features.stamps import VideoStamp

SETTINGS: dict[str, Any] = {"model": "actions", "version": "2", "num_clips": None}


def clips(seed: int, count: int = 2, dim: int = 3) -> list[ClipRow]:
    rng = random.Random(seed)
    return [ClipRow(i, i * 0.1, i * 0.1 + 0.64, array("f", [rng.random() for _ in range(dim)])) for i in range(count)]


def video(name: str, seed: int) -> VideoRows:
    return VideoRows(name, VideoStamp(seed, 1, "abc" if seed % 2 else ""), clips(seed))


def add(journal: ExtractionJournal, name: str, seed: int) -> None:
    journal.add(video(name, seed), protocol="ten-clip")


def test_what_goes_in_comes_out_again(tmp_path: Path) -> None:
    with ExtractionJournal(tmp_path / "p", SETTINGS) as journal:
        add(journal, "a", 1)
        journal.fail(VideoFailure("b", "EMPTY_VIDEO", "b: empty\nreally"))
        journal.add(VideoRows("ü\u2028 c", None, clips(3)), protocol="center-clip")
    with ExtractionJournal(tmp_path / "p", SETTINGS) as journal:
        assert journal.rows("a") == video("a", 1)
        assert journal.rows("ü\u2028 c") == VideoRows("ü\u2028 c", None, clips(3))
        assert (journal.protocol("a"), journal.protocol("ü\u2028 c")) == ("ten-clip", "center-clip")
        assert journal.done() == {"a": VideoStamp(1, 1, "abc"), "ü\u2028 c": None}
        assert journal.failures() == {"b": VideoFailure("b", "EMPTY_VIDEO", "b: empty\nreally")}
        for name in ("b", "never seen"):
            with pytest.raises(KeyError):
                journal.rows(name)
            with pytest.raises(KeyError):
                journal.protocol(name)


def test_the_last_entry_counts(tmp_path: Path) -> None:
    with ExtractionJournal(tmp_path / "p", SETTINGS) as journal:
        journal.fail(VideoFailure("a", "EMPTY_VIDEO", "a"))
        add(journal, "a", 1)
        add(journal, "b", 2)
        add(journal, "b", 3)
        add(journal, "c", 4)
        journal.fail(VideoFailure("c", "NO_FRAMES", "c"))
    with ExtractionJournal(tmp_path / "p", SETTINGS) as journal:
        assert list(journal.done()) == ["a", "b"], "in the order of their first entry"
        assert (journal.rows("a"), journal.rows("b")) == (video("a", 1), video("b", 3))
        assert list(journal.failures()) == ["c"]


def test_a_new_journal_begins_with_what_there_is_and_an_old_one_does_not(tmp_path: Path) -> None:
    begin = ("ten-clip", [video("a", 1), video("b", 2)])
    with ExtractionJournal(tmp_path / "p", SETTINGS, begin_with=lambda: begin) as journal:
        assert list(journal.done()) == ["a", "b"]
        assert journal.protocol("b") == "ten-clip"
    with ExtractionJournal(tmp_path / "p", SETTINGS, begin_with=lambda: ("x", [video("c", 3)])) as journal:
        assert list(journal.done()) == ["a", "b"]


def test_a_beginning_that_fails_leaves_nothing_begun(tmp_path: Path) -> None:
    def broken() -> Iterator[VideoRows]:
        yield video("a", 1)
        raise DatasetError("the table is damaged")

    with pytest.raises(DatasetError, match="the table is damaged"):
        ExtractionJournal(tmp_path / "p", SETTINGS, begin_with=lambda: ("", broken()))
    with ExtractionJournal(tmp_path / "p", SETTINGS, begin_with=lambda: ("", [video("b", 2)])) as journal:
        assert list(journal.done()) == ["b"]


_ENDLESS = """
import json, sys
from pathlib import Path
from tests.tenclip_features.test_journal import SETTINGS, add
from tenclip_features.journal import ExtractionJournal
with ExtractionJournal(Path(sys.argv[1]), SETTINGS) as journal:
    for i in range(len(journal.done()), 10**9):
        add(journal, f"v{i}", i)
        print(i, flush=True)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(0)
    said = 0
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", _ENDLESS, tmp_path / "p"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        wanted = said + rng.randint(1, 12)
        while said < wanted:
            said = int(process.stdout.readline()) + 1
        time.sleep(rng.random() / 200)
        process.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) + 1 for line in process.stdout.read().split("\n")[:-1])])
        process.stdout.close()
        assert process.wait(30) == -signal.SIGKILL
        with ExtractionJournal(tmp_path / "p", SETTINGS) as journal:
            done = list(journal.done())
            assert done == [f"v{i}" for i in range(len(done))]
            assert said <= len(done) <= said + 1, "what was said is there, and at most one more"
            assert all(journal.rows(name) == video(name, i) for i, name in enumerate(done))
        said = len(done)


def _read_all(folder: Path) -> None:
    with ExtractionJournal(folder, SETTINGS) as journal:
        for name in journal.done():
            journal.rows(name)


def _add_many(journal: ExtractionJournal) -> None:
    for i in range(100):
        journal.add(VideoRows(f"v{i}", None, clips(i, dim=1000)), protocol="ten-clip")


def test_damage_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    with ExtractionJournal(folder, SETTINGS) as journal:
        for i in range(20):
            add(journal, f"v{i}", i)
    path = folder / "journal.sqlite"
    whole = path.read_bytes()
    for content in (b"x" * len(whole), whole[:1000], whole[:4096] + b"\xff" * (len(whole) - 4096)):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"journal\.sqlite: is damaged .*--overwrite"):
            _read_all(folder)
    ExtractionJournal.discard(folder)
    assert not folder.exists()


def test_a_full_or_forbidden_disk_is_said(tmp_path: Path) -> None:
    with ExtractionJournal(tmp_path / "p", SETTINGS) as journal:
        journal._database.execute("PRAGMA max_page_count = 20")
        with pytest.raises(DatasetError, match=r"journal\.sqlite: cannot be read or written: .*full"):
            _add_many(journal)
        done = journal.done()
        assert [journal.rows(name).clips for name in done] == [clips(i, dim=1000) for i in range(len(done))]
    (tmp_path / "q" / "journal.sqlite").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"journal\.sqlite: cannot be read or written"):
        ExtractionJournal(tmp_path / "q", SETTINGS)


@pytest.mark.parametrize("name", ["ledger.jsonl", "settings.json"])
def test_the_form_of_earlier_versions_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / name).write_text("{}\n")
    with pytest.raises(DatasetError, match=r"p: was begun by an earlier version of tenclip.*--overwrite"):
        ExtractionJournal(tmp_path / "p", SETTINGS)
    assert os.listdir(tmp_path / "p") == [name]
    ExtractionJournal.discard(tmp_path / "p")
    assert os.listdir(tmp_path) == []


def test_a_later_form_is_refused(tmp_path: Path) -> None:
    with ExtractionJournal(tmp_path, SETTINGS) as journal:
        journal._database.execute("PRAGMA user_version = 9")
    with pytest.raises(DatasetError, match="its format is version 9, this version of tenclip reads 1"):
        ExtractionJournal(tmp_path, SETTINGS)


def test_other_settings_are_named(tmp_path: Path) -> None:
    with ExtractionJournal(tmp_path, SETTINGS):
        pass
    with pytest.raises(DatasetError, match=r"version was 2, now 3; num_clips was not set, now 5") as caught:
        ExtractionJournal(tmp_path, {"model": "actions", "version": "3", "num_clips": 5})
    assert "--overwrite" in str(caught.value)
    with ExtractionJournal(tmp_path, SETTINGS):
        pass


def test_one_process_at_a_time(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tenclip_features.journal import ExtractionJournal\n"
        f"ExtractionJournal(Path(sys.argv[1]), {json.dumps(SETTINGS).replace('null', 'None')})"
    )
    with ExtractionJournal(tmp_path / "p", SETTINGS) as journal:
        add(journal, "a", 1)
        other = subprocess.run([sys.executable, "-c", program, tmp_path / "p"], capture_output=True, text=True)
        assert "p: another process is extracting features into it" in other.stderr
        with pytest.raises(DatasetError, match="another process"):
            ExtractionJournal.discard(tmp_path / "p")
        add(journal, "b", 2)
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, tmp_path / "p"], check=True)
    ExtractionJournal.discard(tmp_path / "p")
    assert not (tmp_path / "p").exists()
    ExtractionJournal.discard(tmp_path / "p")
