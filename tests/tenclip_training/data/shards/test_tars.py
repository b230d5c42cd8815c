from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.data.shards.tars import (
    NotATar,
    ShortFile,
    TarWalk,
    append_member,
    finish_tar,
    split_key,
    stored_bytes,
)


def tar_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    for name, content in members.items():
        append_member(file, name, io.BytesIO(content), len(content))
    finish_tar(file)
    return file.getvalue()


MEMBERS = {"0.cls": b"3", "0.mp4": bytes(range(256)) * 5, "1.cls": b"", "1.mp4": b"x" * 512}


@settings(deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_python_and_the_walk_read_what_was_written(contents: list[bytes]) -> None:
    data = tar_of({f"{i:08d}.mp4": content for i, content in enumerate(contents)})
    assert len(data) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(m.name, tar.extractfile(m).read()) for m in tar] == [  # type: ignore[union-attr]
            (f"{i:08d}.mp4", content) for i, content in enumerate(contents)
        ]
        assert all((m.mtime, m.uid, m.uname, m.mode) == (0, 0, "", 0o644) for m in tar)
    walk = TarWalk(io.BytesIO(data))
    found = list(walk.members(keep=1000))
    assert walk.cut_off == ""
    for member, content in zip(found, contents, strict=True):
        assert data[member.offset : member.offset + member.num_bytes] == content
        assert member.sha256 == hashlib.sha256(content).hexdigest()
        assert member.content == (content if len(content) <= 1000 else None)


def test_offsets_and_sizes_are_said_when_written() -> None:
    file = io.BytesIO()
    first = append_member(file, "a.mp4", io.BytesIO(b"abc"), 3)
    second = append_member(file, "b.mp4", io.BytesIO(b"d" * 600), 600)
    assert (first.offset, first.num_bytes, second.offset) == (512, 3, 1536)
    assert (stored_bytes(3), stored_bytes(600), stored_bytes(0), stored_bytes(512)) == (1024, 1536, 512, 1024)
    assert file.tell() == stored_bytes(3) + stored_bytes(600)


@pytest.mark.parametrize(("said", "message"), [(4, "is 1 bytes shorter"), (2, "is longer than the 2 bytes")])
def test_a_file_that_changes_while_it_is_copied(said: int, message: str) -> None:
    with pytest.raises(ShortFile, match=message):
        append_member(io.BytesIO(), "a.mp4", io.BytesIO(b"abc"), said)


@pytest.mark.parametrize("length", range(1, len(tar_of(MEMBERS)), 700))
def test_the_walk_tells_where_a_tar_is_cut_off(length: int) -> None:
    data = tar_of(MEMBERS)[:length]
    walk = TarWalk(io.BytesIO(data))
    if length < 512:
        with pytest.raises(NotATar, match="is no tar file"):
            list(walk.members())
        return
    whole = [m for m in walk.members() if m.available == m.num_bytes]
    end_of_members = sum(stored_bytes(len(c)) for c in MEMBERS.values())
    assert [m.name for m in whole] == list(MEMBERS)[: len(whole)]
    assert all(m.offset + m.num_bytes <= length for m in whole)
    assert bool(walk.cut_off) == (length < end_of_members + 512)


def test_garbage_after_the_members_is_told() -> None:
    data = tar_of(MEMBERS)
    walk = TarWalk(io.BytesIO(data[: sum(stored_bytes(len(c)) for c in MEMBERS.values())] + b"\x07" * 2000))
    assert len(list(walk.members())) == 4
    assert walk.cut_off


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"no tar\n" * 200, "is no tar file"),
        (gzip.compress(tar_of(MEMBERS)), "is packed with gzip.*unpack it"),
        (b"PK\x03\x04" + bytes(600), "is packed with zip"),
    ],
)
def test_what_is_no_tar(data: bytes, message: str) -> None:
    with pytest.raises(NotATar, match=message):
        list(TarWalk(io.BytesIO(data)).members())


def test_names_beyond_a_hundred_bytes_are_read(tmp_path: Path) -> None:
    name = f"{'folder/' * 30}video.mp4"
    for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=style) as tar:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
        (member,) = TarWalk(file).members()
        assert (member.name, file.getvalue()[member.offset : member.offset + 3]) == (name, b"abc")


@pytest.mark.parametrize(
    ("name", "key", "suffix"),
    [("a.mp4", "a", "mp4"), ("t/v.1/a.video.mp4", "t/v.1/a", "video.mp4"), ("README", "README", ""), (".x", "", "x")],
)
def test_keys(name: str, key: str, suffix: str) -> None:
    assert split_key(name) == (key, suffix)
