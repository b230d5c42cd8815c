"""Rows of web data, with labels and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.curation.manifests import read_labelled, write_manifest
from tenclip_training.omni.web_files import WebFiles, read_web, true_label
from tests.tenclip_training.omni.colors import write_images

ROWS = [("red", "red", "search"), ("green", "red", "search"), ("blue", "off_topic", "social")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_images(tmp_path, ROWS)


def facts(web: WebFiles) -> list[tuple[str, str | None, Path]]:
    return [(source, true_label(s), s.path) for s, source in zip(web.samples, web.sources, strict=True)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_without_labels_keep_their_other_columns(table: Path, suffix: str) -> None:
    if suffix == "parquet":
        write_manifest(table.with_suffix(".parquet"), read_labelled(table, images=True).samples)
    labelled, plain = (read_web(table.with_suffix(f".{suffix}"), labelled=labels) for labels in (True, False))
    assert [s.labels for s in plain.samples] == [()] * 3
    assert facts(plain) == facts(labelled)
    assert plain.source_names == ("search", "social")
    assert plain.num_images == 3


def test_tables_need_no_column_of_labels(table: Path) -> None:
    name = table.parent / "images" / "000.png"
    table.write_text(f"path,origin\n{name},here\n{name},there\nimages/gone.png,there\n")
    web = read_web(table, labelled=False, source_column="origin")
    assert web.sources == ("there", "there")
    assert "1 rows name a file that another row names" in web.notes[0]
    with pytest.raises(DatasetError, match="no row names its source in a column place"):
        read_web(table, labelled=False, source_column="place")


def test_folders_files_and_lists_without_labels(table: Path) -> None:
    images = table.parent / "images"
    assert [s.path.name for s in read_web(images, labelled=False).samples] == ["000.png", "001.png", "002.png"]
    assert len(read_web(images / "000.png", labelled=False).samples) == 1
    table.with_suffix(".txt").write_text("images/001.png\n")
    assert read_web(table.with_suffix(".txt"), labelled=False).samples[0].path == images / "001.png"
    with pytest.raises(DatasetError, match=r"nothing\.csv: no such"):
        read_web(table.with_name("nothing.csv"), labelled=False)
