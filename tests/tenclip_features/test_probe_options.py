"""The option groups of `tenclip probe`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_features.probe import STRENGTHS
from tenclip_features.probe_options import FitOptions, OutputOptions, SplitOptions

A, B = Path("a.csv"), Path("b.csv")


@pytest.mark.parametrize(
    ("splits", "labels", "out", "says"),
    [
        (SplitOptions(cv=5), [A, B], None, "it takes one --labels"),
        (SplitOptions(cv=5, test_split="test"), [A], None, "leave --test-split out"),
        (SplitOptions(), [A, B], Path("p"), "several --labels give a probe each"),
        (SplitOptions(), [A, B, A], None, "--labels a.csv is given twice"),
    ],
)
def test_options_that_do_not_go_together(splits: SplitOptions, labels: list[Path], out: Path | None, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        splits.check(labels, out)


def test_options_that_go_together() -> None:
    SplitOptions(cv=5).check([A], Path("p"))
    SplitOptions(test_split="val").check([A, B], None)


def test_strengths_are_those_that_are_given() -> None:
    assert FitOptions().settings()["strengths"] == STRENGTHS
    assert FitOptions(strength=[0.5]).settings()["strengths"] == [0.5]


def test_predictions_are_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    OutputOptions(predictions=tmp_path / "p.csv").check()
    with pytest.raises(InvalidRequest, match=r"p\.txt"):
        OutputOptions(predictions=tmp_path / "p.txt").check()
