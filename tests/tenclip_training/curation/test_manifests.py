from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_data.samples import Sample
from tenclip_training.curation.manifests import read_labelled, read_plain, write_manifest


def sample(folder: Path, name: str = "a.mp4", *labels: str, **options: Any) -> Sample:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
    return Sample(path=path, name=name, labels=labels or ("x",), **options)


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_every_command_reads_what_is_written(tmp_path: Path, name: str) -> None:
    samples = [
        sample(tmp_path / "in", "a.mp4", "x", "y", split="train", extra={"tags": "#a", "n": 3}),
        sample(tmp_path / "in", "sub/b.mp4", "y", split="val", start_seconds=0.5, end_seconds=2.25, extra={"n": None}),
        sample(tmp_path / "elsewhere", "c.mp4", "x", split="test"),
    ]
    out = tmp_path / "in" / name
    write_manifest(out, samples)
    read = read_manifest(out)
    assert [s.path for s in read.samples] == [s.path for s in samples]
    assert [(s.labels, s.split, s.start_seconds, s.end_seconds) for s in read.samples] == [
        (s.labels, s.split, s.start_seconds, s.end_seconds) for s in samples
    ]
    assert read.samples[0].name == "a.mp4"  # as seen from the manifest
    assert str(read.samples[0].extra["n"]) in ("3", "3.0")


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    labels=st.lists(st.lists(TEXT, min_size=1, max_size=3, unique=True), min_size=1, max_size=4), suffix=st.booleans()
)
def test_labels_read_back_or_are_refused(tmp_path: Path, labels: list[list[str]], suffix: bool) -> None:
    samples = [sample(tmp_path, f"{i}.mp4", *names) for i, names in enumerate(labels)]
    out = tmp_path / ("m.parquet" if suffix else "m.csv")
    out.unlink(missing_ok=True)
    try:
        write_manifest(out, samples)
    except DatasetError:
        assert not out.exists()
        return
    assert [s.labels for s in read_labelled(out).samples] == [s.labels for s in samples] or any(
        label.isdigit() or not label.isascii() for names in labels for label in names
    )


def test_labels_with_separators_need_parquet(tmp_path: Path) -> None:
    samples = [sample(tmp_path, "a.mp4", "this; that")]
    with pytest.raises(DatasetError, match=r"write a \.parquet file"):
        write_manifest(tmp_path / "m.csv", samples)
    write_manifest(tmp_path / "m.parquet", samples)
    assert read_labelled(tmp_path / "m.parquet").labels == ("this; that",)


def test_columns_that_mean_something_keep_their_values(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "t.csv").write_text("path,label,verb\na.mp4,cutting bread,cut\n")
    read = read_labelled(tmp_path / "t.csv", label_column="verb")
    write_manifest(tmp_path / "o.csv", read.samples)
    (again,) = read_labelled(tmp_path / "o.csv").samples
    assert again.labels == ("cut",)
    assert again.extra["label_given"] == "cutting bread"


def test_nothing_is_held_out_and_missing_files_are_told(tmp_path: Path) -> None:
    for label in "xy":
        sample(tmp_path / "v" / label)
    assert read_labelled(tmp_path / "v").splits == ("",)
    (tmp_path / "t.csv").write_text("path,label\ngone.mp4,x\n")
    with pytest.raises(DatasetError, match=r"line 2 \(gone\.mp4\): no such file"):
        read_labelled(tmp_path / "t.csv")
    assert len(read_labelled(tmp_path / "t.csv", missing="keep").samples) == 1


def test_videos_without_labels(tmp_path: Path) -> None:
    for name in ("train/deep/b.mp4", "Validation/c.mp4"):
        sample(tmp_path / "v", name)
    found = read_plain(tmp_path / "v").samples
    assert {s.name: s.split for s in found} == {"train/deep/b.mp4": "train", "Validation/c.mp4": "val"}
    for name in ("a.mp4", "x/d.mp4"):
        sample(tmp_path / "v", name)
    found = read_plain(tmp_path / "v").samples
    assert [s.split for s in found] == [""] * 4
    (tmp_path / "t.csv").write_text("path,split,n\nv/a.mp4,train,1\nv/gone.mp4,val,2\n")
    with pytest.raises(DatasetError, match=r"line 3 \(v/gone\.mp4\): no such file"):
        read_plain(tmp_path / "t.csv")
    assert [s.split for s in read_plain(tmp_path / "t.csv", missing="keep").samples] == ["train", "val"]
    (tmp_path / "l.txt").write_text("v/a.mp4\nv/x/d.mp4\n")
    assert [s.labels for s in read_plain(tmp_path / "l.txt").samples] == [(), ()]
    (tmp_path / "empty").mkdir()
    for name, message in (("empty", "holds no videos"), ("none", "no such manifest or folder")):
        with pytest.raises(DatasetError, match=message):
            read_plain(tmp_path / name)


def test_numbers_count_the_class_file(tmp_path: Path) -> None:
    sample(tmp_path)
    (tmp_path / "l.txt").write_text("a.mp4 1\n")
    (tmp_path / "classes.txt").write_text("run\njump\n")
    assert read_labelled(tmp_path / "l.txt", labels=tmp_path / "classes.txt").samples[0].labels == ("jump",)


@pytest.mark.parametrize(("name", "says"), [("m.txt", "as .csv or .parquet, not as .txt"), ("m", "no suffix")])
def test_other_suffixes(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        write_manifest(tmp_path / name, [sample(tmp_path)])


def test_no_videos_and_names_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no video to write"):
        write_manifest(tmp_path / "m.csv", [])
    odd = Sample(path=tmp_path / "caf\udce9.mp4", name="caf\\xe9.mp4", labels=("x",))
    with pytest.raises(DatasetError, match="not valid UTF-8"):
        write_manifest(tmp_path / "m.csv", [odd])


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_parts_that_all_begin_at_0_are_parts(tmp_path: Path, name: str) -> None:
    samples = [sample(tmp_path, f"{i}.mp4", start_seconds=0.0, end_seconds=10.0) for i in range(2)]
    write_manifest(tmp_path / name, samples)
    assert [(s.start_seconds, s.end_seconds) for s in read_labelled(tmp_path / name).samples] == [(0.0, 10.0)] * 2
