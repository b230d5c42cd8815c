"""The folder of a dataset, opened without a model: how it begins, what is left of a process that was killed."""

from __future__ import annotations

from pathlib import Path

from tenclip_batch.dataset import open_dataset
from tenclip_batch.parts import PartFormat

FORM = PartFormat(
    task="features", model="tiny", version="1", feature_dim=4, labels=(), top_k=5, with_clips=False, metadata={}
)
SETTINGS = {"model": "tiny"}
HALF = "0123456789abcdef.part"


def test_drafts_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    with open_dataset(tmp_path / "out", FORM, SETTINGS):
        pass
    drafts = [
        tmp_path / "out" / place
        for place in (
            f".dataset.json.{HALF}",
            f".summary.json.{HALF}",
            f"clips/.part-00000.parquet.{HALF}",
            f"videos/.part-00000.parquet.{HALF}",
            f"files/.a.npy.{HALF}",
            f"files/deep/er/.a.npz.{HALF}",
        )
    ]
    (tmp_path / "out" / "files" / "deep" / "er").mkdir(parents=True)
    mine, done = tmp_path / "out" / ".mine.part", tmp_path / "out" / "files" / "deep" / "a.npy"
    for path in (*drafts, mine, done):
        path.write_bytes(b"half")
    with open_dataset(tmp_path / "out", FORM, SETTINGS):
        assert [d for d in drafts if d.exists()] == []
    assert mine.exists()
    assert done.exists()
