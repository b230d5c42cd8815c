from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_data.atomic import is_draft, remove_drafts, replacing, write_text


def test_text_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    write_text(str(path), "new \N{SNOWMAN}")
    assert path.read_bytes() == b"new \xe2\x98\x83"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_block_that_raises_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"whole")

    def fail_half_way() -> None:
        with replacing(path) as file:
            file.write(b"ha")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_bytes() == b"whole"
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]


def test_text_that_cannot_be_encoded_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\udc80")
    assert path.read_text() == "old"


def test_others_may_read_the_file(tmp_path: Path) -> None:
    """Unlike a file of mkstemp, which is its owner's alone: another user's server reads our checkpoints."""
    write_text(tmp_path / "a", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a", "x")


def test_drafts_of_a_process_that_was_killed(tmp_path: Path) -> None:
    below = tmp_path / "a" / ".b.part"
    below.mkdir(parents=True)
    drafts = []
    for path in (tmp_path / "x.json", tmp_path / "x.jsonl", tmp_path / "a" / "y.npy", below / "z.npy"):
        with replacing(path) as file:
            drafts.append(Path(file.name))
        path.rename(drafts[-1])  # as if it had been killed just before the end
    (tmp_path / "mine.part").touch()
    assert [is_draft(d.name) for d in drafts] == [True] * 4
    remove_drafts(tmp_path / "nothing")
    remove_drafts(tmp_path, of="x.json")
    assert [d.exists() for d in drafts] == [False, True, True, True]
    remove_drafts(tmp_path)
    assert [d.exists() for d in drafts] == [False, False, True, True]
    remove_drafts(tmp_path, below=True)
    assert not any(d.exists() for d in drafts)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".b.part", "a", "mine.part"]
