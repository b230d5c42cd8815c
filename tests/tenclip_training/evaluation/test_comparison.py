from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest
from tenclip_training.evaluation.comparison import Comparison, compare, read_evaluation
from tenclip_training.evaluation.console import print_comparison
from tenclip_training.evaluation.counting import summarise
from tenclip_training.evaluation.report import write_evaluation
from tenclip_training.evaluation.results import Accuracy, EvaluationResult, VideoScore

LABELS = ("a", "b", "c")


def made(predicted: str, truth: str, *, first: int = 0, labels: tuple[str, ...] = LABELS) -> EvaluationResult:
    """One video a letter: its class and the one that it is taken for."""
    rows = []
    for i, (p, t) in enumerate(zip(predicted, truth, strict=True), start=first):
        scores = np.eye(len(labels), dtype=np.float32)[labels.index(p)] * 0.8 + 0.2 / len(labels)
        rows.append(
            VideoScore(
                index=i,
                name=f"v{i}",
                targets=(labels.index(t),),
                clips=scores[None],
                video=scores,
                seconds=((0.0, 1.0),),
            )
        )
    manifest = Manifest(source=Path("m.csv"), samples=(), labels=labels)
    return summarise(rows, manifest, split="test", protocol="ten-clip")


def compared(tmp_path: Path, before: EvaluationResult, after: EvaluationResult) -> Comparison:
    write_evaluation(tmp_path / "before", before, title="old.pt on m.csv")
    return compare(after, read_evaluation(tmp_path / "before"))


def test_worked_example(tmp_path: Path) -> None:
    """Eight videos: before 4 right, now 6: three gained, one lost; of 4 changes at least 3 one way, twice: p = .625.

    Of the four a, 2 were right and 4 are: +.5. Of the four b, 2 and 2.
    a and b were confused 3 of 3 + 2 + 2 times, and are 1 of 1 + 4 + 2.
    """
    found = compared(tmp_path, made("aabbbbac", "aaaabbbb"), made("aaaabacb", "aaaabbbb"))
    assert (found.before, found.videos, found.only_before, found.only_after) == ("old.pt on m.csv", 8, 0, 0)
    assert (found.top1_before, found.top1_after) == (Accuracy(correct=4, total=8), Accuracy(correct=6, total=8))
    assert (found.gained, found.lost) == (3, 1)
    assert found.p_value == pytest.approx(0.625)
    assert [(c.label, c.before, c.after, c.total, c.gain) for c in found.classes] == [
        ("a", 2, 4, 4, 0.5),
        ("b", 2, 2, 4, 0.0),
    ]
    (pair,) = found.pairs
    assert (pair.first, pair.second) == ("a", "b")
    assert pair.before == pytest.approx(3 / 7)
    assert pair.after == pytest.approx(1 / 7)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["classes"][0]["gain"] == 0.5


def test_nothing_has_changed(tmp_path: Path) -> None:
    found = compared(tmp_path, made("ab", "aa"), made("ab", "aa"))
    assert (found.gained, found.lost, found.p_value, found.pairs) == (0, 0, 1.0, ())


def test_only_common_videos_count(tmp_path: Path) -> None:
    found = compared(tmp_path, made("aab", "aab"), made("bcb", "bcb", first=2))
    assert (found.videos, found.only_before, found.only_after) == (1, 2, 2)
    assert found.top1_after.total == 1


def test_order_of_classes_does_not_matter(tmp_path: Path) -> None:
    found = compared(tmp_path, made("ab", "ab", labels=("c", "b", "a")), made("ac", "ab"))
    assert (found.gained, found.lost) == (0, 1)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (made("a", "a", labels=("a", "b")), "has other classes"),
        (made("a", "a", first=9), "has no video of this evaluation"),
        (made("a", "b"), "v0 has other labels there"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, after: EvaluationResult, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"old\.pt on m\.csv: .*{message}|{message}"):
        compared(tmp_path, made("a", "a"), after)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"videos": 3, "labels": []}', '{"videos": [{}], "labels": []}'])
def test_files_that_are_no_evaluation(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(DatasetError, match=r"e\.json: cannot be compared with: no evaluation"):
        read_evaluation(tmp_path / "e.json")
    with pytest.raises(DatasetError, match=r"gone\.json: cannot be compared with: No such file"):
        read_evaluation(tmp_path / "gone.json")


def test_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(compared(tmp_path, made("aabbbbac", "aaaabbbb"), made("aaaabacb", "aaaabbbb")))
    text = capsys.readouterr().out
    assert "against old.pt on m.csv, over 8 videos that both have scored" in text
    assert "top-1 50.00% before, 75.00% now: 3 videos gained, 1 lost (McNemar's exact test: p = 0.625)" in text
    assert "classes most gained: a +50.0 points of 4" in text
    assert "pairs less confused: a and b 42.9% to 14.3%" in text
    assert "most lost" not in text
