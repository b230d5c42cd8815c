from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from tenclip_training.data.shards.check import CheckResult, check_shards
from tenclip_training.data.shards.index import INDEX_NAME, read_index
from tenclip_training.data.shards.storage import LocalShards


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def check(folder: Path) -> CheckResult:
    return check_shards(read_index(folder / INDEX_NAME, name="index"), LocalShards(folder))


def test_shards_that_are_whole(copy: Path) -> None:
    seen: list[tuple[int, int]] = []
    index = read_index(copy / INDEX_NAME, name="index")
    result = check_shards(index, LocalShards(copy), progress=lambda *a: seen.append(a))
    assert (result.shards, result.samples, result.findings, result.lost) == (6, 16, (), 0)
    assert seen == [(i, 6) for i in range(1, 7)]


def test_a_shard_that_is_cut_off(copy: Path) -> None:
    index = read_index(copy / INDEX_NAME, name="index")
    second = index.rows[4]  # of three in the second shard
    path = copy / "train-000001.tar"
    for length, lost in ((second.offset + second.num_bytes, 1), (second.offset + second.num_bytes - 1, 2), (100, 3)):
        path.write_bytes(path.read_bytes()[:length])
        (finding,) = check(copy).findings
        assert (finding.shard, len(finding.lost), finding.total) == ("train-000001.tar", lost, 3)
        assert [r.name for r in finding.lost] == [r.name for r in index.rows[3:6]][-lost:]
    path.write_bytes(b"")
    (finding,) = check(copy).findings
    assert "train-000001.tar: is empty" in finding.message


def test_what_a_cut_off_shard_says(copy: Path) -> None:
    path = copy / "val-000000.tar"
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-9000])
    (finding,) = check(copy).findings
    assert finding.message.endswith(f"val-000000.tar: is cut off: it has {whole - 9000:,} of {whole:,} bytes")
    padding = copy / "val-000001.tar"
    padding.write_bytes(padding.read_bytes()[:-10])
    result = check(copy)
    assert [f.shard for f in result.findings] == ["val-000000.tar", "val-000001.tar"]
    assert result.findings[1].lost == (), "only zeros are missing"


def test_a_shard_that_has_changed(copy: Path) -> None:
    index = read_index(copy / INDEX_NAME, name="index")
    row = index.rows[1]
    path = copy / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[row.offset + row.num_bytes // 2] ^= 1
    path.write_bytes(data)
    (finding,) = check(copy).findings
    assert [r.name for r in finding.lost] == [row.name]
    assert "has changed since its index was made" in finding.message
    shutil.copy(copy / "train-000002.tar", path)
    (finding,) = check(copy).findings
    assert len(finding.lost) == 3


def test_a_shard_that_is_gone_or_no_tar(copy: Path) -> None:
    (copy / "train-000000.tar").unlink()
    (copy / "train-000001.tar").write_bytes(b"not a tar\n" * 5000)
    (copy / "val-000001.tar").unlink()
    (copy / "val-000001.tar").mkdir()
    messages = {f.shard: f.message for f in check(copy).findings}
    assert messages["train-000000.tar"].endswith("there is no such shard")
    assert "is no tar file" in messages["train-000001.tar"]
    assert "cannot be read: Is a directory" in messages["val-000001.tar"]
    assert check(copy).lost == 3 + 3 + 1


def test_an_index_that_is_wrong_is_found_out(copy: Path) -> None:
    index = read_index(copy / INDEX_NAME, name="index")
    for change in ({"offset": 0}, {"num_bytes": 3}, {"sha256": "0" * 64}, {"key": "1"}):
        rows = (dataclasses.replace(index.rows[0], **change), *index.rows[1:])
        result = check_shards(dataclasses.replace(index, rows=rows), LocalShards(copy))
        assert result.lost == 1, change
