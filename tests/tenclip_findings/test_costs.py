"""What findings cost: every job once, rates of this machine, and what there is evidence of costs nothing more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenclip_client.cli.main import main
from tenclip_findings import run
from tenclip_findings.catalog import all_findings, chosen, headlines
from tenclip_findings.costs import Rates, Work, measure_rates, work_of
from tenclip_findings.evidence import write_evidence
from tenclip_findings.finding import Finding
from tenclip_findings.lab import arms
from tenclip_findings.run import Options
from tests.tenclip_findings.test_evidence import kept

R3D = ("resnets3d_r3d_10", tuple(sorted(arms.R3D.items())), 8, "fp32")
FAST = 1 / 180  # seconds of a clip of R3D with ten layers, on one thread of a machine that the sizes were chosen for


def work(*names: str, seeds: int = 1) -> Work:
    named = {f.name: f for f in chosen(list(names))}
    return work_of(named, {name: range(1, 1 + seeds) for name in named}, Options(out=Path(), precision="fp32"))


def test_jobs_that_findings_share_count_once() -> None:
    one, six, both = work("log-linear"), work("clips-or-frames"), work("log-linear", "clips-or-frames")
    shared = one.training_clips + six.training_clips - both.training_clips
    assert shared == 15_000 + 6_000 + 6_000, "pre-training on 500 videos, its fine-tuning, and the baseline"
    assert work("log-linear", seeds=5).training_clips == 5 * one.training_clips


def test_videos_scores_and_minutes_are_counted() -> None:
    found = work("label-kinds")
    assert found.clips == {R3D: 4 * 8_000 + 6_000}
    assert found.videos == 2000 + 320 + 1600
    assert found.video_seconds == pytest.approx(2000 * 1.3 + 320 * 2.25 + 1600 * 2.25)
    assert found.scored == {R3D: 12 * (320 + 1600) + 1600}
    rates = Rates(clip={R3D: FAST}, video=0.02)
    one, two = found.minutes(rates, 1), found.minutes(rates, 2)
    assert one == 2 * two
    assert one == pytest.approx((38_000 * FAST + found.scored[R3D] * FAST / 3 + 0.02 * found.video_seconds) / 60)


def test_all_findings_fit_into_five_hours_of_two_cores_and_a_quick_run_into_twelve_minutes() -> None:
    """By the rates that sizes were chosen for; other networks than R3D-10 as they measured against it."""

    def rates(found: Work) -> Rates:
        slow = {"resnets3d_r3d_18": 1.4, "resnets3d_r3d_34": 2.2, "r2d_18": 0.2, "r2plus1d_10": 3.7}
        return Rates(clip={n: FAST * slow.get(n[0], 1.0) for n in found.networks}, video=0.018)

    named = {f.name: f for f in all_findings()}
    whole = work_of(
        named,
        {n: Options(out=Path(), precision="fp32").seeds_of(f) for n, f in named.items()},
        Options(out=Path(), precision="fp32"),
    )
    assert whole.minutes(rates(whole), 2) < 300
    quick = {n: f for n, f in named.items() if f.quick}
    part = work_of(quick, {n: [1] for n in quick}, Options(out=Path(), scale=0.25, precision="fp32"))
    assert part.minutes(rates(part), 2) < 12


@pytest.mark.parametrize("finding", [*all_findings(), *headlines()], ids=lambda f: f.name)
def test_every_finding_has_five_seeds_and_costs_something(finding: Finding) -> None:
    assert finding.seeds >= 5
    found = work_of({finding.name: finding}, {finding.name: [1]}, Options(out=Path(), precision="fp32"))
    assert found.training_clips or found.seconds


def test_rates_are_of_this_machine_and_deeper_networks_are_slower() -> None:
    deep = ("resnets3d_r3d_34", R3D[1], 8, "fp32")
    rates = measure_rates({deep}, "fp32")
    assert rates.clip[deep] > rates.clip[R3D] > 0
    assert rates.clips_per_second == 1 / rates.clip[R3D]
    assert rates.video > 0


def test_a_dry_run_says_what_is_left_in_the_precision_that_it_would_be_done_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "fastest_precision", lambda: "fp32")
    page = tmp_path / "findings.md"
    write_evidence(tmp_path / "findings", kept({}, seeds=3))
    assert Options(out=tmp_path, precision="bf16").precision_of(chosen(["durations"])[0]) == "bf16"
    with pytest.raises(SystemExit) as caught:
        main(["findings", "durations", "--dry-run", "--json", "--page", str(page), "--out", str(tmp_path / "out")])
    values = json.loads(capsys.readouterr().out)
    assert caught.value.code in (0, None)
    (row,) = values["findings"]
    assert (row["name"], row["seeds"]) == ("durations", 2)
    assert row["training_clips"] == 2 * (4 * 8_000 + 6_000)
    assert row["minutes"] > 0
    assert row["precision"] == values["precision"] == "fp32"
    assert values["together"]["training_clips"] == row["training_clips"]
    assert not page.exists()
    assert not (tmp_path / "out").exists()
