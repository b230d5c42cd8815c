from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenclip_data.samples import Sample
from tenclip_training.data.damage import Damage, DamageLog
from tenclip_video.video import DecodeReport


def damage(video: str, corrupt: int = 1) -> Damage:
    return Damage(video=video, split="train", frames_corrupt=corrupt, frames_substituted=0)


def videos_in(path: Path) -> list[str]:
    return [json.loads(line)["video"] for line in path.read_text().splitlines()]


def test_only_frames_that_are_damaged_or_stood_in_for_count() -> None:
    sample = Sample(path=Path("a.mp4"), name="a.mp4", labels=("x",), split="train")
    assert Damage.of(sample, DecodeReport(frames_requested=4, warnings=("interlaced",))) is None
    found = Damage.of(sample, DecodeReport(frames_corrupt=2, frames_substituted=1))
    assert found == Damage(video=sample.key, split="train", frames_corrupt=2, frames_substituted=1)


def test_each_video_has_one_line_and_a_resumed_run_those_of_its_checkpoint(tmp_path: Path) -> None:
    log = DamageLog(tmp_path / "damaged.jsonl")
    log.restore([])
    log.record([damage("a.mp4"), damage("b.mp4")])
    log.record([damage("a.mp4", corrupt=7)])
    assert videos_in(log.path) == ["a.mp4", "b.mp4"]
    assert log.found["a.mp4"].frames_corrupt == 1, "as it was first met"
    again = DamageLog(log.path)
    again.restore([{"video": "a.mp4", "split": "train", "frames_corrupt": 1, "frames_substituted": 0}])
    assert videos_in(log.path) == ["a.mp4"], "b.mp4 was met after the save"
    again.record([damage("b.mp4")])
    assert videos_in(log.path) == ["a.mp4", "b.mp4"]
    with pytest.raises(TypeError):
        again.restore([{"wings": 2}])
