"""How a call is recorded whose caller has hung up."""

from __future__ import annotations

import pytest

from tenclip_serving.telemetry.call_records import why_cancelled


@pytest.mark.parametrize(
    ("seconds_left", "expected"),
    [
        (None, "CANCELLED"),
        (30.0, "CANCELLED"),
        (0.2, "CANCELLED"),
        (0.05, "DEADLINE_EXCEEDED"),  # the caller's clock began a moment before the server's
        (0.0, "DEADLINE_EXCEEDED"),
        (-1.0, "DEADLINE_EXCEEDED"),
    ],
)
def test_a_caller_that_goes_at_its_deadline_has_waited_for_it(seconds_left: float | None, expected: str) -> None:
    assert why_cancelled(seconds_left) == expected
