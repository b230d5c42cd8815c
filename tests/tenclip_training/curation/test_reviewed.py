from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.curation.reviewed import read_reviewed


def test_pairs_of_a_report_can_be_given_back(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text('source,target,source_share\n"a, b.mp4",t.mp4,0.5\nc.mp4,t.mp4,0.2\n', encoding="utf-8-sig")
    assert read_reviewed(path) == {("a, b.mp4", "t.mp4"), ("c.mp4", "t.mp4")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: columns source and target are needed; it has none"),
        ("video,target\n", "it has video, target"),
        ("source,target\na,b\nc,\n", "line 3: source and target must both be named"),
        ('source,target\n"a,b\n', "cannot be read as CSV"),
    ],
)
def test_what_is_no_list_of_pairs(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=says):
        read_reviewed(path)


def test_bytes_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(b"source,target\n\xff\xfe,b\n")
    with pytest.raises(DatasetError, match="cannot be read as CSV"):
        read_reviewed(tmp_path / "r.csv")
    with pytest.raises(FileNotFoundError):
        read_reviewed(tmp_path / "none.csv")
