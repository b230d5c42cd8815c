from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, Sample, read_labels, read_manifest, stratified_split


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# -- tables --


def test_csv_keeps_parts_splits_and_extra_columns(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(
        tmp_path / "m.csv",
        "path,label,start_seconds,end_seconds,split,speed\na.mp4,run,1.5,3,train,fast\nb.mp4,jump,,,val,slow\n",
    )
    manifest = read_manifest(file)
    assert manifest.labels == ("jump", "run")
    first, second = manifest.samples
    assert (first.path, first.name, first.labels) == (tmp_path / "a.mp4", "a.mp4", ("run",))
    assert (first.start_seconds, first.end_seconds, first.split, first.line) == (1.5, 3.0, "train", 2)
    assert first.extra == {"speed": "fast"}
    assert (second.start_seconds, second.end_seconds) == (None, None)
    assert manifest.targets(first) == (1,)
    assert first.key == "a.mp4[1.5:3]"
    assert second.key == "b.mp4"


@pytest.mark.parametrize("text", ["run;jump", "run|jump", " run ; jump ;", "run;jump;run"])
def test_several_labels_in_one_cell(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "m.csv", f"path,labels,split\na.mp4,{text},train\nb.mp4,run,test\n")
    manifest = read_manifest(file)
    assert manifest.samples[0].labels == ("run", "jump")
    assert manifest.multi_label
    assert manifest.targets(manifest.samples[0]) == (1, 0)


def test_hashtags_are_divided_by_blanks_and_other_labels_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "m.csv", "path,tags,split\na.mp4,#run #fun,train\nb.mp4,long jump,test\n")
    manifest = read_manifest(file, label_column="tags")
    assert [s.labels for s in manifest.samples] == [("#run", "#fun"), ("long jump",)]


def test_whole_videos_forgets_parts(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,start,end,split\na.mp4,run,1,2,train\n")
    assert read_manifest(file).samples[0].start_seconds == 1
    assert read_manifest(file, whole_videos=True).samples[0].key == "a.mp4"


def test_a_quoted_cell_may_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    touch(tmp_path, "a, b.mp4", "c.mp4")
    file = write(tmp_path / "m.csv", 'path,label,note,split\n"a, b.mp4",run,"one\ntwo",train\nc.mp4,run,,train\n')
    samples = read_manifest(file).samples
    assert [s.name for s in samples] == ["a, b.mp4", "c.mp4"]
    assert samples[0].extra["note"] == "one\ntwo"
    assert samples[1].line == 4


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = tmp_path / "m.csv"
    file.write_bytes("\ufeffpath,label,split\na.mp4,run,train\n".encode())
    assert read_manifest(file).samples[0].name == "a.mp4"


def test_parquet_with_a_list_column_equals_the_csv(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    table = {
        "path": ["a.mp4", "b.mp4"],
        "labels": [["run", "jump"], ["run"]],
        "split": ["train", "test"],
        "start_seconds": [None, 0.5],
        "end_seconds": [None, 1.0],
        "speed": ["fast", "slow"],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "m.parquet")
    text = "path,labels,split,start_seconds,end_seconds,speed\na.mp4,run;jump,train,,,fast\nb.mp4,run,test,0.5,1,slow\n"
    from_csv = read_manifest(write(tmp_path / "m.csv", text))
    from_parquet = read_manifest(tmp_path / "m.parquet")
    for a, b in zip(from_parquet.samples, from_csv.samples, strict=True):
        assert (a.path, a.labels, a.split, a.start_seconds, a.end_seconds, dict(a.extra)) == (
            *(b.path, b.labels, b.split, b.start_seconds, b.end_seconds),
            dict(b.extra),
        )
    assert from_parquet.labels == from_csv.labels


def test_videos_may_lie_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path / "far", "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,split\na.mp4,run,train\n")
    assert read_manifest(file, videos=tmp_path / "far").samples[0].path == tmp_path / "far" / "a.mp4"


# -- label spaces --


def test_label_space_from_a_file_gives_the_order(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,split\na.mp4,run,train\n")
    labels = write(tmp_path / "labels.txt", "run\njump\n\n")
    manifest = read_manifest(file, labels=labels)
    assert manifest.labels == ("run", "jump")
    assert manifest.targets(manifest.samples[0]) == (0,)


def test_unknown_label_names_line_and_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    file = write(tmp_path / "m.csv", "path,label,split\na.mp4,run,train\nb.mp4,jumping,train\n")
    with pytest.raises(DatasetError, match=r"m\.csv, line 3 \(b\.mp4\): label 'jumping'.*did you mean 'jump'"):
        read_manifest(file, labels=["run", "jump"])


def test_labels_file_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"l\.txt, line 3: 'run' stands on line 1"):
        read_labels(write(tmp_path / "l.txt", "run\njump\nrun\n"))
    with pytest.raises(DatasetError, match="holds no labels"):
        read_labels(write(tmp_path / "l.txt", "\n"))
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_labels(tmp_path / "absent.txt")


def test_the_projects_label_lists_are_read(data_dir: Path) -> None:
    assert len(read_labels(data_dir / "labels" / "ucf101.txt")) == 101
    assert len(read_labels(data_dir / "labels" / "kinetics400.txt")) == 400


# -- errors in tables --


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\nx,run\n", r"line 1: no column 'path' \(or video, video_path, file\); it has name, label"),
        ("path,split\na.mp4,train\n", r"line 1: no column 'label'"),
        ("", r"line 1: no column 'path'.*it has none"),
        ("path,label,split\n", "lists no videos"),
        ("path,label,split\na.mp4,,train\n", r"line 2 \(a\.mp4\): no label"),
        ("path,label,split\n,run,train\n", r"line 2: column 'path' is empty"),
        ("path,label,split\nmissing.mp4,run,train\n", r"line 2 \(missing\.mp4\): no such file"),
        ("path,label,start,end\na.mp4,run,3,3\n", r"line 2 \(a\.mp4\): end 3 s is not after start 3 s"),
        ("path,label,start,end\na.mp4,run,,0\n", r"line 2 \(a\.mp4\): end 0 s is not after start 0 s"),
        ("path,label,start,end\na.mp4,run,-1,3\n", r"line 2 \(a\.mp4\): start -1 s is negative"),
        ("path,label,start\na.mp4,run,soon\n", r"line 2: start is 'soon', not a number"),
        ("path,label,start\na.mp4,run,nan\n", r"line 2: start is 'nan', not a number"),
        (
            "path,label,split\na.mp4,run,train\na.mp4,run,test\n",
            r"line 3 \(a\.mp4\).*on line 2 already \(split 'train'",
        ),
        ("path,label,split\na.mp4,run,train\nb.mp4,run,\n", r"line 3 \(b\.mp4\): no split"),
        ("path,label,split\na.mp4,run\n", r"line 2: 2 fields where the header has 3"),
        ("path,label\na.mp4,run,train\n", r"line 2: 3 fields where the header has 2"),
        ("path,label,label\na.mp4,run,run\n", r"line 1: a column name stands twice"),
        ('path,label\n"a.mp4,run\n', r"line 2: unexpected end of data"),
    ],
)
def test_bad_tables_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(DatasetError, match=rf"m\.csv.*{message}"):
        read_manifest(write(tmp_path / "m.csv", text))


def test_the_same_video_may_stand_twice_with_different_parts(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    file = write(tmp_path / "m.csv", "path,label,start,end,split\na.mp4,run,0,1,train\na.mp4,jump,1,2,train\n")
    assert len(read_manifest(file).samples) == 2


def test_missing_videos_can_be_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "m.csv", "path,label,split\nmissing.mp4,run,train\n")
    assert len(read_manifest(file, missing="keep").samples) == 1


@pytest.mark.parametrize("name", ["absent.csv", "absent"])
def test_absent_manifest(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="no such manifest or folder"):
        read_manifest(tmp_path / name)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a manifest that tenclip reads"):
        read_manifest(write(tmp_path / "m.json", "{}"))
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read_manifest(write(tmp_path / "m.parquet", "path,label\n"))
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff\xfe,run\n")
    with pytest.raises(DatasetError, match="cannot be read as text"):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(DatasetError, match="no such folder of videos"):
        read_manifest(write(tmp_path / "n.csv", "path,label\n"), videos=tmp_path / "nowhere")


# -- published lists --


def test_ucf101_reads_both_lists_and_the_class_index(tmp_path: Path) -> None:
    lists, videos = tmp_path / "ucfTrainTestlist", tmp_path / "UCF-101"
    names = ["Archery/v_Archery_g01_c01.avi", "ApplyLipstick/v_ApplyLipstick_g01_c01.avi"]
    test = "Archery/v_Archery_g02_c01.avi"
    touch(videos, *names, test)
    train_list = write(lists / "trainlist01.txt", "".join(f"{n} {i}\r\n" for i, n in enumerate(names, start=1)))
    write(lists / "testlist01.txt", f"{test}\n")
    write(lists / "classInd.txt", "1 ApplyLipstick\n2 Archery\n3 BabyCrawling\n")
    manifest = read_manifest(train_list, videos=videos)
    assert manifest.labels == ("ApplyLipstick", "Archery", "BabyCrawling")
    assert [(s.labels[0], s.split) for s in manifest.samples] == [
        ("Archery", "train"),
        ("ApplyLipstick", "train"),
        ("Archery", "test"),
    ]
    assert read_manifest(lists / "testlist01.txt", videos=videos).samples == manifest.samples


def test_ucf101_errors_name_the_list_they_are_in(tmp_path: Path) -> None:
    touch(tmp_path, "A/a.avi")
    write(tmp_path / "trainlist02.txt", "A/a.avi 1\n")
    write(tmp_path / "testlist02.txt", "A/gone.avi\n")
    with pytest.raises(DatasetError, match=r"testlist02\.txt, line 1 \(A/gone\.avi\): no such file"):
        read_manifest(tmp_path / "trainlist02.txt")
    write(tmp_path / "testlist02.txt", "\ngone.avi\n")
    with pytest.raises(DatasetError, match=r"testlist02\.txt, line 2: expected 'Class/video\.avi 1'"):
        read_manifest(tmp_path / "trainlist02.txt")
    with pytest.raises(DatasetError, match="no column 'speed'"):
        read_manifest(tmp_path / "trainlist02.txt", label_column="speed")


def test_hmdb51_reads_the_lists_of_all_classes(tmp_path: Path) -> None:
    lists, videos = tmp_path / "splits", tmp_path / "hmdb51"
    touch(videos, "wave/w 1.avi", "wave/w2.avi", "brush_hair/b1.avi")
    file = write(lists / "wave_test_split1.txt", "w 1.avi 1 \nw2.avi 2 \n")
    write(lists / "brush_hair_test_split1.txt", "b1.avi 0\n")
    write(lists / "brush_hair_test_split2.txt", "other.avi 1\n")
    manifest = read_manifest(file, videos=videos)
    assert manifest.labels == ("brush_hair", "wave")
    assert sorted((s.name, s.split) for s in manifest.samples) == [
        ("brush_hair/b1.avi", "unused"),
        ("wave/w 1.avi", "train"),
        ("wave/w2.avi", "test"),
    ]
    write(lists / "brush_hair_test_split1.txt", "b1.avi 3\n")
    with pytest.raises(DatasetError, match=r"brush_hair_test_split1\.txt, line 1: expected"):
        read_manifest(file, videos=videos)


KINETICS = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("air drumming/abc_000012_000022.mp4", (None, None)),
        ("air_drumming/abc_000012_000022.mkv", (None, None)),
        ("train/air drumming/abc_000012_000022.webm", (None, None)),
        ("abc_000012_000022.mp4", (None, None)),
        ("abc.mp4", (12, 22)),
    ],
)
def test_kinetics_finds_videos_where_tools_put_them(
    tmp_path: Path, name: str, part: tuple[float | None, float | None]
) -> None:
    videos = tmp_path / "videos"
    touch(videos, name)
    file = write(tmp_path / "k.csv", KINETICS + "air drumming,abc,12,22,train\n")
    (sample,) = read_manifest(file, videos=videos).samples
    assert (sample.name, sample.labels, sample.split) == (name, ("air drumming",), "train")
    assert (sample.start_seconds, sample.end_seconds) == part
    assert sample.extra["youtube_id"] == "abc"


def test_kinetics_missing_videos(tmp_path: Path) -> None:
    file = write(tmp_path / "k.csv", KINETICS + "air drumming,abc,12,22,train\n")
    with pytest.raises(DatasetError, match=r"line 2 \(air drumming/abc_000012_000022\.mp4\): no such file"):
        read_manifest(file)
    assert read_manifest(file, missing="keep").samples[0].labels == ("air drumming",)
    with pytest.raises(DatasetError, match="line 2: time_start and time_end are needed"):
        read_manifest(write(tmp_path / "k.csv", KINETICS + "air drumming,abc,,,train\n"))


# -- folders --


def test_folder_of_class_folders(tmp_path: Path) -> None:
    names = [f"{c}/{i}.mp4" for c in ("jump", "run") for i in range(5)]
    touch(tmp_path, *names, "run/notes.txt", ".cache/x.mp4", "run/deeper/9.AVI")
    manifest = read_manifest(tmp_path)
    assert manifest.labels == ("jump", "run")
    assert sorted(s.name for s in manifest.samples) == sorted([*names, "run/deeper/9.AVI"])
    assert Counter((s.labels[0], s.split) for s in manifest.samples) == {
        ("jump", "train"): 4,
        ("jump", "val"): 1,
        ("run", "train"): 5,
        ("run", "val"): 1,
    }


def test_folder_with_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4", "Validation/run/b.mp4", "test/jump/c.mp4")
    manifest = read_manifest(tmp_path)
    assert {s.name: s.split for s in manifest.samples} == {
        "train/run/a.mp4": "train",
        "Validation/run/b.mp4": "val",
        "test/jump/c.mp4": "test",
    }
    assert [s.name for s in manifest.split("test").samples] == ["test/jump/c.mp4"]
    with pytest.raises(DatasetError, match="no video in split 'trian'; its splits are"):
        manifest.split("trian")


def test_folder_without_videos(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "run/readme.txt")
    with pytest.raises(DatasetError, match="no videos in class-named sub-folders"):
        read_manifest(tmp_path)


# -- holding out --


def manifest_of(names: dict[str, str]) -> Manifest:
    samples = tuple(Sample(path=Path(n), name=n, labels=(c,)) for n, c in names.items())
    return Manifest(source=Path("m"), samples=samples, labels=tuple(sorted(set(names.values()))))


@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1),
    held_out=st.floats(0.05, 0.9),
    seed=st.integers(0, 5),
)
def test_stratified_split_holds_out_of_every_class(counts: dict[str, int], held_out: float, seed: int) -> None:
    names = {f"{c}{i}": c for c, n in counts.items() for i in range(n)}
    if max(counts.values()) == 1 and all(round(held_out * n) == 0 for n in counts.values()):
        with pytest.raises(DatasetError, match="none can be held out"):
            stratified_split(manifest_of(names), held_out=held_out, seed=seed)
        return
    split = stratified_split(manifest_of(names), held_out=held_out, seed=seed)
    held = Counter(s.labels[0] for s in split.samples if s.split == "val")
    for label, count in counts.items():
        assert held[label] == max(round(count * held_out), 1 if count > 1 else 0)
    # The order of the files does not matter.
    backwards = stratified_split(manifest_of(dict(reversed(names.items()))), held_out=held_out, seed=seed)
    assert {s.name: s.split for s in backwards.samples} == {s.name: s.split for s in split.samples}


def test_stratified_split_depends_on_the_seed_and_not_on_other_classes() -> None:
    names = {f"a{i}": "a" for i in range(40)}
    splits = [{s.name: s.split for s in stratified_split(manifest_of(names), seed=k).samples} for k in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    more = names | {f"b{i}": "b" for i in range(7)}
    with_more = {s.name: s.split for s in stratified_split(manifest_of(more), seed=0).samples}
    assert {n: with_more[n] for n in names} == splits[0]


def test_parts_of_one_video_stay_on_one_side() -> None:
    samples = tuple(
        Sample(path=Path(f"{v}"), name=f"{v}", labels=("a",), start_seconds=float(t), end_seconds=t + 1.0)
        for v in range(6)
        for t in range(3)
    )
    split = stratified_split(Manifest(source=Path("m"), samples=samples, labels=("a",)), held_out=0.3)
    assert all(len({s.split for s in split.samples if s.name == str(v)}) == 1 for v in range(6))


def test_bad_held_out() -> None:
    with pytest.raises(DatasetError, match="between 0 and 1"):
        stratified_split(manifest_of({"a": "a"}), held_out=1.0)
