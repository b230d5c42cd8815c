from __future__ import annotations

import dataclasses
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError, InvalidRequest, TruncatedVideo, VideoChanged, VideoNotFound
from tenclip_data.manifest import read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset
from tenclip_training.data.shards import samples as samples_module
from tenclip_training.data.shards.index import INDEX_NAME, ShardIndex, read_index, write_index
from tenclip_training.data.shards.read import CacheOptions, read_videos
from tenclip_training.data.shards.samples import FilePart, ShardSample
from tenclip_training.data.shards.storage import Retries
from tenclip_training.data.shards.write import write_shards
from tenclip_training.runs.run_folder import manifest_sha256
from tests.tenclip_training.conftest import SPEC
from tests.tenclip_training.data.shards.server import Files


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def rewritten(folder: Path, change: Callable[[ShardIndex], ShardIndex]) -> Path:
    write_index(folder / INDEX_NAME, change(read_index(folder / INDEX_NAME, name="index")))
    return folder


# -- the manifest --


def test_shards_read_as_the_manifest_that_they_were_made_of(shards: Path, validated_videos: Path) -> None:
    expected, found = read_manifest(validated_videos), read_videos(shards)
    assert found.labels == expected.labels
    by_split = [s for split in ("train", "val") for s in expected.split(split).samples]
    assert [(s.key, s.labels, s.split, dict(s.extra)) for s in found.samples] == [
        (s.key, s.labels, s.split, dict(s.extra)) for s in by_split
    ]
    for sample, file in zip(found.samples, by_split, strict=True):
        assert sample.source() == file.path.read_bytes()
    assert read_videos(validated_videos) == expected, "what is no folder of shards is read as ever"
    assert read_videos(f"file://{shards}").samples == found.samples


def test_the_hash_of_a_run_includes_what_is_in_the_shards(shards: Path, copy: Path) -> None:
    before = manifest_sha256(read_videos(shards))
    assert manifest_sha256(read_videos(copy)) == before, "wherever they lie"

    def other_bytes(index: ShardIndex) -> ShardIndex:
        return dataclasses.replace(index, rows=(dataclasses.replace(index.rows[0], sha256="0" * 64), *index.rows[1:]))

    def other_shard(index: ShardIndex) -> ShardIndex:
        return dataclasses.replace(index, rows=(dataclasses.replace(index.rows[0], shard=1), *index.rows[1:]))

    assert manifest_sha256(read_videos(rewritten(copy, other_bytes))) != before
    shutil.copy(shards / INDEX_NAME, copy)
    assert manifest_sha256(read_videos(rewritten(copy, other_shard))) != before


def test_labels_in_another_order(shards: Path, tmp_path: Path) -> None:
    assert read_videos(shards, labels=["move_right", "move_left"]).labels == ("move_right", "move_left")
    with pytest.raises(DatasetError, match="label 'move_right' is not one of the 1 known ones"):
        read_videos(shards, labels=["move_left"])


def test_options_that_shards_do_not_have(shards: Path) -> None:
    for options in ({"videos": "x"}, {"label_column": "verb"}):
        with pytest.raises(InvalidRequest, match="give --videos and --label-column to tenclip shards write"):
            read_videos(shards, **options)  # type: ignore[arg-type]


def test_without_splits_some_are_held_out(copy: Path, validated_videos: Path) -> None:
    def no_splits(index: ShardIndex) -> ShardIndex:
        return dataclasses.replace(index, rows=tuple(dataclasses.replace(r, split="") for r in index.rows))

    folder = rewritten(copy, no_splits)
    found = read_videos(folder, held_out=0.25)
    assert {s: len(found.split(s).samples) for s in found.splits} == {"train": 12, "val": 4}
    assert read_videos(folder, held_out=None).splits == ("",)


def test_a_copy_of_a_video_in_another_split_is_found_by_its_content(copy: Path) -> None:
    def leak(index: ShardIndex) -> ShardIndex:
        return dataclasses.replace(index, rows=(*index.rows[:-1], dataclasses.replace(index.rows[0], split="val")))

    rewritten(copy, leak)
    with pytest.raises(DatasetError, match="the same video is in two splits"):
        read_videos(copy)
    assert len(read_videos(copy, leaks="warn").warnings) == 1


def test_whole_videos(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "b.mp4").write_bytes(b"b")
    (tmp_path / "l.csv").write_text("path,label,split,start,end\na.mp4,x,train,1,2\nb.mp4,x,val,1,2\n")
    write_shards(read_manifest(tmp_path / "l.csv"), tmp_path / "out")
    assert [s.key for s in read_videos(tmp_path / "out").samples] == ["a.mp4[1:2]", "b.mp4[1:2]"]
    assert [s.key for s in read_videos(tmp_path / "out", whole_videos=True).samples] == ["a.mp4", "b.mp4"]


def test_shards_that_are_gone(copy: Path) -> None:
    (copy / "train-000001.tar").unlink()
    (copy / "train-000002.tar").unlink()
    with pytest.raises(DatasetError, match=r"train-000001.tar and 1 more: no such shard of 6"):
        read_videos(copy)
    sample = read_videos(copy, missing="keep").samples[3]
    with pytest.raises(VideoNotFound, match=r"in .*train-000001.tar: there is no such shard"):
        sample.source()


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "cannot be read as an index of shards"), (b"PAR1" * 20, "cannot be read as an index of shards")],
)
def test_a_damaged_index(copy: Path, data: bytes, message: str) -> None:
    (copy / INDEX_NAME).write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_videos(copy)


def test_a_parquet_file_that_is_no_index(copy: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"]}), copy / INDEX_NAME)
    with pytest.raises(DatasetError, match="is a Parquet file, but no index of shards; make one with: tenclip shards"):
        read_videos(copy)


def test_over_http(shards: Path, server: Files, tmp_path: Path) -> None:
    shutil.copytree(shards, server.folder, dirs_exist_ok=True)
    cache = CacheOptions(folder=str(tmp_path / "cache"), retries=Retries(attempts=2, first_wait_seconds=0.01))
    found = read_videos(server.url, cache=cache)
    assert manifest_sha256(found) == manifest_sha256(read_videos(shards))
    assert set(server.requests) == {"index.parquet"}
    assert found.samples[0].source() == read_videos(shards).samples[0].source()
    assert server.requests["train-000000.tar"] == 1
    with pytest.raises(DatasetError, match=r"/no/index.parquet: there is no such file; a URL is read as shards"):
        read_videos(f"{server.url}/no", cache=cache)
    server.fail["index.parquet"] = [503, 503]
    with pytest.raises(DatasetError, match="could not be fetched after 2 tries"):
        read_videos(server.url, cache=cache)


# -- one video --


def test_a_shard_that_is_cut_off_loses_what_lies_behind(copy: Path) -> None:
    samples = [s for s in read_videos(copy).samples if isinstance(s, ShardSample) and s.number == 0]
    path = copy / "train-000000.tar"
    path.write_bytes(path.read_bytes()[: samples[1].offset + samples[1].num_bytes - 1])
    assert samples[0].source()
    for sample in samples[1:]:
        with pytest.raises(TruncatedVideo, match=r"train-000000.tar: the shard is cut off: it has \d+ of \d+ bytes"):
            sample.source()


def test_a_shard_that_has_changed(copy: Path) -> None:
    sample = read_videos(copy).samples[0]
    assert isinstance(sample, ShardSample)
    path = copy / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[sample.offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(VideoChanged, match="the shard has changed since its index was made"):
        sample.source()


def test_a_long_video_is_read_where_it_lies(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clips() -> list[np.ndarray]:
        manifest = read_videos(shards).split("train")
        dataset = ClipDataset(manifest, SPEC, Augmentation(flip=False), seed=0)
        return [dataset[(0, i)][0] for i in range(12)]  # type: ignore[index]

    whole = clips()
    monkeypatch.setattr(samples_module, "WHOLE_BYTES", 0)
    assert isinstance(read_videos(shards).samples[0].source(), FilePart)
    np.testing.assert_array_equal(clips(), whole)


@settings(deadline=None, max_examples=50)
@given(
    st.binary(max_size=200),
    st.integers(0, 50),
    st.lists(st.tuples(st.sampled_from(["read", "seek", "end", "here"]), st.integers(-20, 250)), max_size=10),
)
def test_a_part_of_a_file_is_a_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "part"
    path.write_bytes(bytes(offset) + data + b"more")
    expected = io.BytesIO(data)
    with FilePart(os.open(path, os.O_RDONLY), offset, len(data)) as part:
        for step, number in steps:
            if step == "read":
                assert part.read(number) == expected.read(number)
            elif step == "seek":
                assert part.seek(max(0, number)) == expected.seek(max(0, number))
            elif step == "end":
                assert part.seek(number, io.SEEK_END) == expected.seek(max(0, len(data) + number))
            else:
                place = max(0, expected.tell() + number)
                assert part.seek(number, io.SEEK_CUR) == expected.seek(place)
            assert part.tell() == expected.tell()
