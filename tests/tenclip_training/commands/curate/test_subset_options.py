"""The option groups of `tenclip curate subset`."""

from __future__ import annotations

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.commands.curate.subset_options import BandOptions, ChoiceOptions, Kinds


def test_one_budget_of_three() -> None:
    budget = ChoiceOptions(minutes=2.5).budget()
    assert budget is not None
    assert (budget.videos, budget.minutes, budget.fraction) == (None, 2.5, None)
    with pytest.raises(InvalidRequest, match="give one budget"):
        ChoiceOptions(minutes=2.5, fraction=0.5).budget()


@pytest.mark.parametrize("kind", [Kinds.SHORT, Kinds.LONG, Kinds.LONG_CENTER])
def test_kinds_of_a_duration_need_no_budget(kind: Kinds) -> None:
    assert ChoiceOptions(kind=kind).budget() is None
    assert ChoiceOptions(kind=kind, num_videos=3).budget() is not None


@pytest.mark.parametrize("kind", [Kinds.CLASSES, Kinds.INSTANCES])
def test_kinds_that_take_a_fraction_only(kind: Kinds) -> None:
    budget = ChoiceOptions(kind=kind, fraction=0.25).budget()
    assert budget is not None
    assert budget.fraction == 0.25
    with pytest.raises(InvalidRequest, match=f"--kind {kind.value} takes a --fraction"):
        ChoiceOptions(kind=kind, fraction=0.25, num_videos=3).budget()


def test_bands_are_from_to() -> None:
    bands = BandOptions(short="0.5-2", center=3).bands()
    assert (bands.short, bands.long, bands.center_seconds) == ((0.5, 2.0), (55.0, 60.0), 3)


@pytest.mark.parametrize("text", ["5", "a-b", "5-1", "-1-2", "1-inf", "nan-2", ""])
def test_texts_that_are_no_bands(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--long is from-to in seconds"):
        BandOptions(long=text).bands()
