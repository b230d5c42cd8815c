"""What a cell means."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.cells import is_number, to_labels, to_seconds, to_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (float("nan"), None),
        ("", None),
        ("  ", None),
        (" a ", "a"),
        (0, "0"),
        (3.0, "3"),
        (0.5, "0.5"),
        (False, "False"),
        (b"caf\xc3\xa9", "café"),
        (decimal.Decimal("2.00"), "2"),
        (float("inf"), "inf"),
    ],
)
def test_text(value: Any, text: str | None) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("run", ("run",)),
        ("run;jump|run; ", ("run", "jump")),
        ("#a #b", ("#a", "#b")),
        ("['run', \"it's\"]", ("run", "it's")),
        ("['a' 'b']", ("a", "b")),
        ("[0]", ("0",)),
        ("[1. 2.]", ("1", "2")),
        ("[]", ()),
        ("[Something] colliding with [something]", ("[Something] colliding with [something]",)),
        (["a;b", "c"], ("a;b", "c")),
        ([1, 2.0], ("1", "2")),
        ([0, 1], ("0", "1")),
        (["cup", "plate", "cup"], ("cup", "plate")),
        (0, ("0",)),
        (None, ()),
    ],
)
def test_labels(value: Any, labels: tuple[str, ...]) -> None:
    assert to_labels(value) == labels


def test_a_whole_label_that_is_known_is_one() -> None:
    assert to_labels("a;b", {"a;b", "a"}) == ("a;b",)
    assert to_labels("a;b", {"a", "b"}) == ("a", "b")


@pytest.mark.parametrize("value", [[0, 1, 0], [0.0, 0.0], [True, False, False], "[0 0 1]", "[0., 1., 0.]", ["1", "1"]])
def test_one_hot_vectors_are_refused(value: Any) -> None:
    with pytest.raises(DatasetError, match="reads as a one-hot vector; write the numbers or the names"):
        to_labels(value)


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], [None], 0.5])
def test_what_is_no_label(value: Any) -> None:
    with pytest.raises(DatasetError):
        to_labels(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1.5", 1.5),
        (3, 3.0),
        ("", None),
        (None, None),
        (float("nan"), None),
        ("00:01:02.50", 62.5),
        ("01:02", 62.0),
        (datetime.timedelta(seconds=90), 90.0),
        (datetime.time(1, 0, 0), 3600.0),
        (decimal.Decimal("1.5"), 1.5),
    ],
)
def test_seconds(value: Any, seconds: float | None) -> None:
    assert to_seconds(value) == seconds


@pytest.mark.parametrize("value", ["soon", "nan", "inf", True, "1,5", "1:2:3:4"])
def test_what_is_no_number_of_seconds(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^$|could not convert"):
        to_seconds(value)
    assert not is_number(str(value))


@given(st.floats(0, 360_000).map(lambda s: round(s, 2)))
def test_clock_and_number_agree(seconds: float) -> None:
    hours, rest = divmod(round(seconds * 100), 360_000)
    minutes, hundredths = divmod(rest, 6000)
    clock = f"{hours:02}:{minutes:02}:{hundredths / 100:05.2f}"
    assert to_seconds(clock) == pytest.approx(seconds)
    assert to_seconds(str(seconds)) == seconds
