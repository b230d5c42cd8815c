"""Distillation from tar shards is that from the files that they were made of, but for the order of the videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tenclip_data.manifest import read_manifest
from tenclip_training.data.shards.write import write_shards
from tenclip_training.distill import DistillConfig, OutputCache, distill, load_teacher, read_unlabelled


@pytest.fixture(scope="module")
def shards(action_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "shards"
    write_shards(read_manifest(action_videos), folder, videos_per_shard=5)
    return folder


def test_videos_of_shards_have_the_same_outputs(
    shards: Path, action_videos: Path, teacher_file: Path, tmp_path: Path
) -> None:
    teacher = load_teacher(str(teacher_file), runtime="torch")
    found = []
    for name, source in (("files", action_videos), ("shards", shards)):
        samples = {sample.name: sample for sample in read_unlabelled(source).samples}
        outputs = OutputCache(tmp_path / name, teacher, 4.0)
        assert outputs.fill(list(samples.values()), teacher, threads=1) == []
        again = OutputCache(tmp_path / name, teacher, 4.0)
        assert all(sample in again for sample in samples.values())
        found.append({name: again[sample].logits for name, sample in samples.items()})
    files, tars = found
    assert files.keys() == tars.keys()
    assert len(files) == 12
    assert all(np.array_equal(files[name], tars[name]) for name in files)


@pytest.mark.parametrize("sees", ["clip", "frame"])
def test_a_student_learns_from_shards(distill_config: Callable[..., DistillConfig], shards: Path, sees: str) -> None:
    result = distill(distill_config(manifest=str(shards), teacher_sees=sees))
    assert result.run.train_videos == 12
    assert result.run.history[-1].train_clips == 12
    assert result.run.videos_failed == 0
