from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import DatasetError
from tests.tenclip_training.commands.helpers import error_of, output_of, run


def write(path: Path, clip: float, top1: float, top5: float, *, videos: int = 4, **changes: Any) -> Path:
    def figure(value: float) -> dict[str, float]:
        return {"value": value, "correct": round(value * videos), "total": videos}

    values = {
        "protocol": "ten-clip",
        "labels": ["a", "b"],
        "clip_top1": figure(clip),
        "video_top1": figure(top1),
        "video_top5": figure(top5),
        "videos": [{"video": f"{path.stem}/{i}.mp4"} for i in range(videos)],
    }
    path.write_text(json.dumps({**values, **changes}))
    return path


def test_every_split_weighs_the_same(tmp_path: Path) -> None:
    """DistInit's table 6: 54.9 on split 1, 54.8 over three."""
    splits = [
        write(tmp_path / f"{i}.json", 0.5, top1, 1.0, videos=n)
        for i, (top1, n) in enumerate([(0.5, 4), (0.6, 10), (0.7, 100)])
    ]
    values = output_of(run("average-splits", *splits, "--json"))
    assert values["mean"]["video_top1"] == pytest.approx(0.6)
    assert values["spread"]["video_top1"] == pytest.approx(0.1)
    assert [row["videos"] for row in values["splits"]] == [4, 10, 100]
    text = run("average-splits", *splits).output
    assert "mean of 3" in text
    assert "60.0%" in text
    assert "10.0" in text


def test_what_evaluate_writes(trained: Path, action_videos: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        output_of(run("evaluate", trained / "best.pt", action_videos, "--split", split, "--out", tmp_path / split,
                      "--json"))  # fmt: skip
    values = output_of(run("average-splits", tmp_path / "train", tmp_path / "test", "--json"))
    ones = [json.loads((tmp_path / s / "evaluation.json").read_text())["video_top1"] for s in ("train", "test")]
    assert values["mean"]["video_top1"] == pytest.approx((ones[0]["value"] + ones[1]["value"]) / 2)
    assert run("average-splits", tmp_path / "test").exit_code == 0


def test_mistakes(tmp_path: Path) -> None:
    one = write(tmp_path / "1.json", 0.5, 0.5, 0.5)
    other = write(tmp_path / "2.json", 0.5, 0.5, 0.5, protocol="center-clip")
    labels = write(tmp_path / "3.json", 0.5, 0.5, 0.5, labels=["a", "c"])
    copy = tmp_path / "copy.json"
    copy.write_bytes(one.read_bytes())
    (tmp_path / "text.json").write_text("{}")
    for paths, message in (
        ([one, other], "another protocol than in"),
        ([one, labels], "another label than in"),
        ([one, copy], "of the same videos as"),
        ([tmp_path / "none.json"], "cannot be read"),
        ([tmp_path / "text.json"], "is not what tenclip evaluate writes"),
        ([tmp_path], "evaluation.json: cannot be read"),
    ):
        error = error_of(run("average-splits", *paths))
        assert isinstance(error, DatasetError)
        assert message in str(error)
