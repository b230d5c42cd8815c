"""The short forms of the proofs in tests/soak about memory, overload and the end, and their checks themselves.

What depends on how fast this machine is just now (throughput kept, milliseconds of a refusal) is for `make soak`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tenclip_client._load import Failures, LoadPlan, LoadReport, LoadVideo
from tests.soak import client_memory, memory, overload_deadlines, sigterm
from tests.soak._mixed import FLAGS
from tests.soak._table import Row, read_table, write_table
from tests.tenclip_serving.helpers import make_bundle, running_server

LIMIT_BYTES = 100e6


def test_the_servers_memory_and_one_that_leaks() -> None:
    # The leak keeps 2 MB of each request, so that it fails the check of the long form within 200.
    sound = memory.measure(200, padding=2 << 20)
    assert sound.unexpected == []
    assert {"good OK", "cancelled CANCELLED", "oversized VIDEO_TOO_LARGE"} <= set(sound.answers)
    assert sound.growth <= LIMIT_BYTES
    assert memory.measure(200, padding=2 << 20, leaking=True).growth > LIMIT_BYTES


def test_the_clients_memory_and_one_that_leaks() -> None:
    sound, leaking = client_memory.measure_both(200)
    assert sound.unexpected == []
    assert sound.allocated <= 1e6 < leaking.allocated


def test_calls_that_are_cancelled_leave_nothing_on_the_clients_heap(tmp_path: Path) -> None:
    if not client_memory.SEES_THE_HEAP:
        pytest.skip("needs mallinfo2 (glibc 2.33)")
    make_bundle(tmp_path)
    with running_server(tmp_path, *FLAGS) as server:
        run = client_memory.measure(server.address, 400, kind="cancelled")
    cancelled = run.answers["cancelled CANCELLED"]
    assert cancelled > 50
    # grpc.aio leaves more than twice as much of each where its own tasks are cancelled.
    assert run.heap / cancelled < 300


def test_sigterm_loses_nothing() -> None:
    report = sigterm.run(1)
    assert report.failures == []
    assert report.answers["OK"] > sigterm.CLIENTS


def test_overload_is_refused_and_survived() -> None:
    # A small queue, so that it is too much for it however slow this machine is just now.
    spec = replace(overload_deadlines.LARGE, num_frames=4)
    run = overload_deadlines.measure(4.0, times=10.0, alone_seconds=2.0, spec=spec, max_queue=2)
    assert overload_deadlines.judge(run, slack_mb=150, refusal_ms=5000, share_kept=0.0) == []


def test_growth_is_from_the_middle_on() -> None:
    assert memory.growth_from_middle([*range(0, 1000, 10), *[1000] * 100]) == 0
    assert memory.growth_from_middle(range(0, 2000, 10)) == pytest.approx(800, abs=10)  # from 55% to 95%
    assert memory.growth_from_middle([0] * 199 + [10**9]) == 0  # one sample proves nothing
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        memory.growth_from_middle([1, 2, 3])


def test_the_table_keeps_rows_of_proofs_that_did_not_run(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "soak.md"
    assert read_table(path) == {}
    first = Row(proof="memory", passed=True, when="2026-01-02", summary="1 MB a | b", machine="CPU, 2 cores")
    second = Row(proof="fuzz_videos", passed=False, when="2026-01-03", summary="3 hangs", machine="CPU, 2 cores")
    write_table(path, {"memory": first})
    write_table(path, {**read_table(path), "fuzz_videos": second})
    assert list(read_table(path)) == ["fuzz_videos", "memory"]
    assert read_table(path)["fuzz_videos"] == second
    assert read_table(path)["memory"].summary == "1 MB a / b"
    assert "**FAILED**" in path.read_text()


def test_the_judge_of_an_overload_sees_each_fault() -> None:
    run = overload_deadlines.Run(
        alone=_report(num_ok=110),
        afterwards=_report(num_ok=90),
        overloaded=_report(num_ok=50, refused_seconds=0.2, refused="INTERNAL"),
        bytes_before=0,
        most_bytes=10**9,
        exit_code=-11,
    )
    found = overload_deadlines.judge(run, slack_mb=100, refusal_ms=50)
    for fault in (
        "ended with exit code -11",
        "other answers: {'INTERNAL': 100}",
        "this was no overload",
        "1000 MB more than before",
        "took up to 200 ms, not 50",
        "50% of the throughput was kept, not 90%",
    ):
        assert any(fault in line for line in found), (fault, found)
    sound = overload_deadlines.Run(
        alone=_report(num_ok=110),
        afterwards=_report(num_ok=90),
        overloaded=_report(num_ok=95, refused_seconds=0.01),
        bytes_before=0,
        most_bytes=10**8,
        exit_code=None,
    )
    assert overload_deadlines.judge(sound, slack_mb=100, refusal_ms=50) == []


def _report(*, num_ok: int, refused_seconds: float = 0.0, refused: str = "RESOURCE_EXHAUSTED") -> LoadReport:
    """Of one second."""
    video = LoadVideo(name="a", data=b"a", group="a")
    report = LoadReport(LoadPlan(videos=[video], concurrency=1, seconds=1.0))
    report.window_seconds, report.num_ok_in_window = 1.0, num_ok
    for _ in range(num_ok):
        report.latency.add(0.1)
    if refused_seconds:
        failures = report.failures.setdefault((refused, "X"), Failures(refused, "X", "an example"))
        for _ in range(100):
            failures.seconds.add(refused_seconds)
    return report
