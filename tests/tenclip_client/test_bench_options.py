"""The option groups of `tenclip bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_client.cli.bench_options import LoadOptions, RequestOptions


@pytest.fixture
def video(tmp_path: Path) -> str:
    (tmp_path / "a.mp4").write_bytes(b"bytes that are sent as they are")
    return str(tmp_path / "a.mp4")


def test_a_closed_loop_of_one_for_ten_seconds_unless_told(video: str) -> None:
    plan = LoadOptions().plan([video], server_path=False)
    assert (plan.concurrency, plan.rate, plan.seconds, plan.num_requests) == (1, None, 10.0, None)


def test_an_open_loop_has_no_concurrency(video: str) -> None:
    plan = LoadOptions(rate=5.0, requests=20).plan([video], server_path=False)
    assert (plan.concurrency, plan.rate, plan.seconds, plan.num_requests) == (None, 5.0, None, 20)


def test_the_clips_of_a_request() -> None:
    choice = RequestOptions(model="a:1", selection="uniform", num_clips=3).choice()
    assert (choice.model, choice.clips, choice.num_clips, choice.protocol) == ("a:1", "uniform", 3, None)
