"""Lists without a header: where the path ends, what follows it, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.lists import parse_line, split_of_file
from tenclip_data.manifest import read_manifest

from .files import touch, write


def rows(path: Path, **options: object) -> list[tuple[str, tuple[str, ...]]]:
    return [(s.name, s.labels) for s in read_manifest(path, **options).samples]  # type: ignore[arg-type]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    touch(tmp_path, "a.mp4", "b.mp4", "c d.mp4", "e, f.mp4", "deep/g.avi")
    return tmp_path


# -- path label --


@pytest.mark.parametrize("suffix", ["txt", "csv", "list", "tsv", "lst"])
@pytest.mark.parametrize("separator", [" ", "  ", "\t", ",", ", ", ";", " | "])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_path_and_label_whatever_the_separator(videos: Path, suffix: str, separator: str, newline: str) -> None:
    pairs = [("a.mp4", "0"), ("c d.mp4", "1"), ("b.mp4", "1"), ("deep/g.avi", "0")]
    text = newline.join(f"{name}{separator}{label}" for name, label in pairs) + newline
    manifest = read_manifest(write(videos / f"list.{suffix}", text))
    assert [(s.name, s.labels) for s in manifest.samples] == [(n, (label,)) for n, label in pairs]
    assert [s.path for s in manifest.samples] == [videos / n for n, _ in pairs]
    assert [s.line for s in manifest.samples] == [1, 2, 3, 4]
    assert manifest.labels == ("0", "1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(videos: Path, encoding: str) -> None:
    file = write(videos / "list.txt", "a.mp4 run\r\nb.mp4 run\r\n", encoding)
    assert rows(file) == [("a.mp4", ("run",)), ("b.mp4", ("run",))]


@pytest.mark.parametrize(
    ("text", "name", "label"),
    [
        ("e, f.mp4 run", "e, f.mp4", "run"),
        ("e, f.mp4,run", "e, f.mp4", "run"),
        ('"e, f.mp4",run', "e, f.mp4", "run"),
        ("'c d.mp4' run", "c d.mp4", "run"),
        ('"c d.mp4"   "long jump"', "c d.mp4", "long jump"),
        ("a.mp4 long jump", "a.mp4", "long jump"),
        ("a.mp4\tlong jump\t", "a.mp4", "long jump"),
        ("  a.mp4 , long jump  ", "a.mp4", "long jump"),
        ("gone.mp4 copy.mp4 3", "gone.mp4 copy.mp4", "3"),
        ('"say ""hi"".mp4" 3', 'say "hi".mp4', "3"),
        ("no/suffix 3", "no/suffix", "3"),
        ("s3://bucket/a.mp4 3", "s3://bucket/a.mp4", "3"),
        ("https://host/get?id=1,2 3", "https://host/get?id=1,2", "3"),
    ],
)
def test_where_the_path_ends(videos: Path, text: str, name: str, label: str) -> None:
    line = parse_line(1, text, videos)
    assert (line.name, line.label, line.layout) == (name, label, "path label")


def test_a_name_that_is_a_file_ends_the_path_before_any_suffix_does(tmp_path: Path) -> None:
    touch(tmp_path, "one.mp4 two.mp4", "plain")
    assert parse_line(1, "one.mp4 two.mp4 5", tmp_path).name == "one.mp4 two.mp4"
    assert parse_line(1, "plain jump", tmp_path).name == "plain"
    touch(tmp_path, "one.mp4")
    with pytest.raises(DatasetError, match=r"'one\.mp4' and 'one\.mp4 two\.mp4' are both files; .*double quotes"):
        parse_line(1, "one.mp4 two.mp4 5", tmp_path)


def test_comments_and_names_that_begin_with_a_hash(tmp_path: Path) -> None:
    touch(tmp_path, "#20_clap.avi", "a.avi")
    file = write(tmp_path / "l.txt", "# path label\n\n#20_clap.avi 0\n#a.avi 0\na.avi 0\n")
    assert rows(file) == [("#20_clap.avi", ("0",)), ("a.avi", ("0",))]


def test_names_without_a_suffix_stand_for_the_video_of_that_name(tmp_path: Path) -> None:
    touch(tmp_path, "100218.webm", "7.webm")
    samples = read_manifest(write(tmp_path / "l.csv", "100218;Holding something\n7;Holding something\n")).samples
    assert [(s.name, s.path.name) for s in samples] == [("100218", "100218.webm"), ("7", "7.webm")]


# -- path start end label --


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";"])
def test_parts_of_videos(videos: Path, separator: str) -> None:
    fields = [
        ("a.mp4", "0", "2.5", "1"),
        ("c d.mp4", "00:01:00.5", "1:02", "0"),
        ("b.mp4", "3", "10", "0"),
        ("a.mp4", "2.5", "4", "1"),
    ]
    manifest = read_manifest(write(videos / "l.csv", "\n".join(separator.join(f) for f in fields)))
    parts = [(s.name, s.start_seconds, s.end_seconds, s.labels) for s in manifest.samples]
    assert parts == [
        ("a.mp4", 0.0, 2.5, ("1",)),
        ("c d.mp4", 60.5, 62.0, ("0",)),
        ("b.mp4", 3.0, 10.0, ("0",)),
        ("a.mp4", 2.5, 4.0, ("1",)),
    ]
    assert len({s.split for s in manifest.samples if s.name == "a.mp4"}) == 1


def test_a_label_of_several_words_after_seconds(videos: Path) -> None:
    (first, _) = read_manifest(write(videos / "l.txt", "a.mp4 0 10 long jump\nb.mp4 0 3 long jump\n")).samples
    assert (first.start_seconds, first.end_seconds, first.labels) == (0, 10, ("long jump",))


def test_empty_start_and_end_are_the_whole_video(videos: Path) -> None:
    samples = read_manifest(write(videos / "l.txt", "a.mp4,,,run\nb.mp4,1,2,run\n")).samples
    assert [(s.start_seconds, s.end_seconds) for s in samples] == [(None, None), (1, 2)]


# -- where the videos lie --


def test_environment_variables(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "lists" / "l.txt", "$VIDEO_ROOT/a.mp4 0\n${VIDEO_ROOT}/c d.mp4 0\n")
    monkeypatch.setenv("VIDEO_ROOT", str(videos))
    samples = read_manifest(file).samples
    assert [s.path for s in samples] == [videos / "a.mp4", videos / "c d.mp4"]
    assert samples[0].name == "$VIDEO_ROOT/a.mp4"
    monkeypatch.delenv("VIDEO_ROOT")
    with pytest.raises(DatasetError, match=r"l\.txt, line 1: .*begins with \$VIDEO_ROOT, and no environment variable"):
        read_manifest(file)


def test_a_dollar_in_a_name_is_a_sign_like_others(tmp_path: Path) -> None:
    touch(tmp_path, "$a.mp4", "cash$.mp4")
    assert rows(write(tmp_path / "l.txt", "$a.mp4 0\ncash$.mp4 0\n")) == [("$a.mp4", ("0",)), ("cash$.mp4", ("0",))]


def test_a_variable_that_is_not_set_may_be_the_folder_of_the_videos(videos: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "lists" / "l.txt", "$NOT_SET_ANYWHERE/a.mp4 0\n${NOT_SET_ANYWHERE}/deep/g.avi 0\n")
    assert [s.path for s in read_manifest(file, videos=videos).samples] == [videos / "a.mp4", videos / "deep/g.avi"]


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    touch(tmp_path, "caf\u00e9.mp4", "u\u0308.mp4")
    file = write(tmp_path / "val.txt", "cafe\u0301.mp4 r\u00e9\n\u00fc.mp4 re\u0301\n")
    manifest = read_manifest(file)
    assert [s.path.name for s in manifest.samples] == ["caf\u00e9.mp4", "u\u0308.mp4"]
    assert manifest.labels == ("r\u00e9",)
    assert read_manifest(file, labels=["re\u0301"]).labels == ("r\u00e9",)


def test_text_that_is_no_list(tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", "word " * 200 + "\n")
    with pytest.raises(DatasetError, match=r"l\.txt, line 1: .*: no label"):
        read_manifest(file)


def test_videos_root_and_windows_separators(videos: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "lists" / "l.txt", "deep\\g.avi 0\na.mp4 0\n")
    assert [s.path for s in read_manifest(file, videos=videos).samples] == [videos / "deep/g.avi", videos / "a.mp4"]


# -- splits by the name of the file --


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("kinetics400_val_list_videos.txt", "val"),
        ("train.csv", "train"),
        ("EPIC_100_validation.csv", "val"),
        ("testlist.txt", ""),
        ("train_val.csv", ""),
        ("videos.txt", ""),
    ],
)
def test_split_of_file(name: str, split: str) -> None:
    assert split_of_file(Path(name)) == split


def test_a_list_named_for_a_held_out_split_is_that_split(videos: Path) -> None:
    manifest = read_manifest(write(videos / "val_list.txt", "a.mp4 0\nb.mp4 1\n"))
    assert manifest.splits == ("val",)
    assert [s.name for s in manifest.split("validation").samples] == ["a.mp4", "b.mp4"]


def test_a_list_for_training_alone_has_something_held_out_and_says_so(videos: Path) -> None:
    manifest = read_manifest(write(videos / "train_list.txt", "a.mp4 0\nb.mp4 0\n"))
    assert sorted(s.split for s in manifest.samples) == ["train", "val"]
    (warning,) = manifest.warnings
    assert "1 of its 2 videos are held out" in warning


def test_a_folder_of_lists_as_slowfast_has_it(videos: Path) -> None:
    write(videos / "ucf" / "train.csv", "a.mp4 0\nb.mp4 1\n")
    write(videos / "ucf" / "val.csv", "c d.mp4 1\n")
    manifest = read_manifest(videos / "ucf", videos=videos)
    assert [(s.name, s.split) for s in manifest.samples] == [("a.mp4", "train"), ("b.mp4", "train"), ("c d.mp4", "val")]
    write(videos / "ucf" / "val.csv", "c d.mp4 1\ngone.mp4 1\n")
    with pytest.raises(DatasetError, match=r"val\.csv, line 2 \(gone\.mp4\): no such file"):
        read_manifest(videos / "ucf", videos=videos)


def test_the_list_of_a_split_is_the_one_that_is_called_by_it(videos: Path) -> None:
    lists = videos / "lists"
    write(lists / "train.csv", "a.mp4 0\n")
    write(lists / "train_small.csv", "b.mp4 0\n")
    write(lists / "val_list.csv", "c d.mp4 0\n")
    write(lists / "test.csv", "deep/g.avi\n")
    manifest = read_manifest(lists, videos=videos)
    assert [(s.name, s.split) for s in manifest.samples] == [("c d.mp4", "val"), ("a.mp4", "train")][::-1]
    assert manifest.warnings == (f"{lists / 'test.csv'}: has no labels: passed over",)
    write(lists / "val_more.csv", "b.mp4 0\n")
    with pytest.raises(DatasetError, match=r"val_list\.csv, val_more\.csv are all named for split 'val'; name one"):
        read_manifest(lists, videos=videos)


def test_a_folder_of_other_lists_is_refused_with_their_names(videos: Path) -> None:
    for i in range(5):
        write(videos / "lists" / f"x_test_split{i}.txt", "a.avi 1\n")
    with pytest.raises(DatasetError, match=r"but lists \(x_test_split0\.txt, .* and 2 more\); name one of them"):
        read_manifest(videos / "lists", videos=videos)


# -- what is refused --


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.mp4 300 1\n",
            r"line 1: 'a\.mp4 300 1': 2 numbers follow the path, which can be frames, seconds or several",
        ),
        ("a.mp4 1 3 5 7\n", r"line 1: .*4 numbers follow the path.*path,labels and the labels separated by ';'"),
        ("a.mp4 1,3\n", r"line 1: 'a\.mp4 1,3'.*For several labels"),
        ("a.mp4 3 1 5\n", r"line 1 \(a\.mp4\): end 1 s is not after start 3 s"),
        ("a.mp4,run,jump\n", r"line 1: 'a\.mp4,run,jump': 2 fields follow the path; a line is 'path'"),
        ("dir/one 163 1\ndir/two 122 1\n", r"line 1: 'dir/one 163 1' reads as a folder of frames.*rawframe list"),
        ("dir/one 0 163 1\n", r"line 1: .*rawframe list"),
        ("deep 4\n", r"line 1: .*rawframe list"),
        ("a/img_00001.jpg 4\n", r"line 1: 'a/img_00001\.jpg' is a picture"),
        ("0 a.mp4\n", r"line 1: '0 a\.mp4': no label after the path; if '0' is the label, write it after the path"),
        ("run,a.mp4\n", r"line 1: 'run,a\.mp4': no label after the path; if 'run' is the label"),
        ("a.mp4\nb.mp4\n", r"line 1: 'a\.mp4': no label; write it after the path, as in 'a\.mp4 run'"),
        ("a.mp4 0\n\nb.mp4\n", r"line 3: 'b\.mp4': no label"),
        ("a.mp4 0\nb.mp4 0 3 1\n", r"line 2: .* reads as 'path start end label', where line 1 reads as 'path label'"),
        ("a.mp4 0\nb.mp4,1\n", r"line 2: the path ends at ',', where line 1 has ' '; use one separator"),
        ("a.mp4 b.mp4\n", r"line 1: 'a\.mp4 b\.mp4' names two videos, 'a\.mp4' and 'b\.mp4'"),
        ("a.mp4 0\ngone.mp4 1\n", r"line 2 \(gone\.mp4\): no such file"),
        ("a.mp4 0\na.mp4 1\n", r"line 2 \(a\.mp4\): the same video is on line 1 already"),
        ("a.mp4 0 5 0\nb.mp4 -3 5 1\n", r"line 2 \(b\.mp4\): start -3 s is negative"),
        ("a.mp4 -1\n", r"line 1 \(a\.mp4\): label -1 is negative"),
        ("a.mp4 123456789\n", r"line 1 \(a\.mp4\): label 123456789 is no number of a class"),
        ("Some text.\n", r"line 1: 'Some text\.': no label; write it after the path"),
        ("", "lists no videos"),
        ("# only\n", "lists no videos"),
    ],
)
def test_lists_that_cannot_be_used_name_file_and_line(videos: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"l\.txt.*{message}"):
        read_manifest(write(videos / "l.txt", text))


def test_folders_are_no_videos(videos: Path) -> None:
    (videos / "frames.mp4").mkdir()
    with pytest.raises(DatasetError, match="is a folder, not a video"):
        read_manifest(write(videos / "l.txt", "frames.mp4 0\na.mp4 0\n"))


def test_a_label_column_needs_a_header(videos: Path) -> None:
    with pytest.raises(DatasetError, match="no column 'speed'"):
        read_manifest(write(videos / "l.txt", "a.mp4 0\n"), label_column="speed")


# -- what is written is read --

_SIGNS = st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="/\\\"'#$~;|,")
_STEM = st.text(_SIGNS, min_size=1, max_size=8).map(lambda s: s.replace("\0", "x"))
_STEMS = st.lists(_STEM, min_size=1, max_size=3).map(" ".join).filter(lambda s: len(s.encode()) < 60)
_LABEL = st.one_of(st.integers(0, 50).map(str), st.from_regex(r"[a-z]{2,8}( [a-z]{2,8})?", fullmatch=True))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    videos=st.dictionaries(_STEMS, _LABEL, min_size=1, max_size=6),
    separator=st.sampled_from([" ", "\t", ",", ";", "|"]),
    quoted=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    timed=st.booleans(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    videos: dict[str, str],
    separator: str,
    quoted: bool,
    newline: str,
    timed: bool,
) -> None:
    root = tmp_path_factory.mktemp("lists")
    names = {f"{stem}.mp4": label for stem, label in videos.items()}
    lines = []
    for name, label in names.items():
        fields = [f'"{name}"' if quoted else name, *(("1.5", "3") if timed else ()), label]
        lines.append(separator.join(fields))
    file = root / "val.txt"
    file.write_bytes(newline.join(lines).encode())
    part = (1.5, 3.0) if timed else (None, None)
    samples = read_manifest(file, missing="keep").samples
    assert [(s.name, s.labels, (s.start_seconds, s.end_seconds)) for s in samples] == [
        (name, (label,), part) for name, label in names.items()
    ]


@given(text=st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_line_is_read_or_refused(text: str) -> None:
    try:
        line = parse_line(1, text, Path(os.devnull).parent)
    except DatasetError:
        return
    assert line.layout in ("", "path", "path label", "path start end label")
    assert isinstance(line.label, str) if line.layout else True
