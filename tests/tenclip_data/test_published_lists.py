"""UCF-101 and HMDB-51."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest

from .files import touch, write


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


@pytest.mark.parametrize("line", ["Archery/v x.avi 1", "Archery/v x.avi 1 ", "Archery/v x.avi", "Archery\\v x.avi\t1"])
def test_ucf101_names_may_hold_blanks(tmp_path: Path, line: str) -> None:
    touch(tmp_path, "Archery/v x.avi", "Archery/v y.avi")
    write(tmp_path / "trainlist01.txt", f"{line}\r\n")
    write(tmp_path / "testlist01.txt", "Archery/v y.avi\r\n")
    first, second = read_manifest(tmp_path / "trainlist01.txt").samples
    assert (first.path, first.labels, first.split) == (tmp_path / "Archery/v x.avi", ("Archery",), "train")
    assert (second.path, second.split) == (tmp_path / "Archery/v y.avi", "test")


def test_ucf101_lines_of_other_layouts_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "Archery/a.avi")
    write(tmp_path / "trainlist01.txt", "Archery/a.avi 0 10 1\n")
    with pytest.raises(DatasetError, match=r"trainlist01\.txt, line 1: expected 'Class/video\.avi 1'"):
        read_manifest(tmp_path / "trainlist01.txt")


def test_hmdb51_names_may_begin_with_a_hash(tmp_path: Path) -> None:
    touch(tmp_path, "clap/#20_Rhythm clap.avi", "clap/b.avi")
    file = write(tmp_path / "clap_test_split1.txt", "#20_Rhythm clap.avi 1 \r\nb.avi\t2\r\n")
    assert [(s.name, s.split) for s in read_manifest(file).samples] == [
        ("clap/#20_Rhythm clap.avi", "train"),
        ("clap/b.avi", "test"),
    ]
