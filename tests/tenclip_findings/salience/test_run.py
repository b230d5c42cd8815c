"""The whole experiment in small, on real files, with samplers that are trained and a real server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tenclip_findings.salience import config, samplers
from tenclip_findings.salience.__main__ import salience
from tenclip_findings.salience.config import MOTION_ENERGY, SeedConfig
from tenclip_findings.salience.results import Results
from tenclip_findings.salience.samplers import SAMPLERS
from tenclip_findings.salience.scoring import ScoredSet
from tenclip_findings.salience.verdicts import verdicts
from tenclip_serving.runtimes import create_runtime
from tenclip_training.models.cost import count_macs
from tenclip_training.runs import train as training
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_video.bundle import read_bundle
from tenclip_video.clips import read_clips
from tenclip_video.protocols import PROTOCOLS, Protocol, softmax
from tenclip_video.sampling import ClipSelection

pytestmark = pytest.mark.timeout(900)  # on a busy machine
app = typer.Typer()
app.command()(salience)


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("findings") / "salience"
    result = run("--quick", "--out", out, "--page", out.parent)
    assert result.exit_code == 0, (result.output, result.exception)
    return out


@pytest.fixture(scope="module")
def values(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def results(values: dict[str, Any]) -> Results:
    return Results.from_dict(values)


def test_every_arm_is_judged_on_every_set(results: Results) -> None:
    (seed,) = results.seeds
    assert [s.name for s in seed.sets] == ["calibration", "test", "trimmed", "elsewhere"]
    assert results.scorers == (*(p.name for p in SAMPLERS[:2]), MOTION_ENERGY)
    for name in ("test", "trimmed", "elsewhere"):
        for scorer in results.scorers:
            (arm,) = results.arms(name, "salient", scorer, 3)
            assert arm.clips == (3,) * len(arm.correct) == (3,) * seed.set(name).videos
            for bound in results.error_bounds:
                (adaptive,) = results.adaptive(name, scorer, bound)
                assert 1 <= adaptive.mean_clips <= 10


def test_verdicts_are_those_of_the_results(values: dict[str, Any], results: Results, out: Path) -> None:
    assert [v["verdict"] for v in values["verdicts"]] == [v.verdict for v in verdicts(results)]
    page = (out / "salience-proof.md").read_text(encoding="utf-8")
    assert "A quick run: its figures mean nothing" in page
    assert (out.parent / "salience-proof.md").read_text(encoding="utf-8") == page
    assert (out.parent / "salience-proof.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_server_gives_the_clips_and_scores_of_the_arithmetic(results: Results) -> None:
    (seed,) = results.seeds
    assert seed.served["agrees"], seed.served
    assert seed.served["scorer"] == "compressed-rank"


def test_operations_are_those_of_the_graphs(results: Results, out: Path) -> None:
    (seed,) = results.seeds
    loaded = load_checkpoint(next((out / "seed-1" / "training").glob("last*.pt")))
    macs = count_macs(loaded.model, num_frames=loaded.clip_spec.num_frames, crop=loaded.clip_spec.crop)
    assert seed.clip_macs == macs
    ten, three = (seed.set("test").arm("uniform", num_clips=n) for n in (10, 3))
    assert ten.gflops == pytest.approx(10 * macs / 1e9)
    assert three.gflops == pytest.approx(0.3 * ten.gflops)
    for scorer in seed.scorers:
        arm = seed.set("test").arm("salient", scorer.name, 3)
        scoring = seed.set("test").windows * scorer.macs_per_window / 1e9
        assert arm.gflops == pytest.approx(three.gflops + scoring)
        # Eight moments of 32x32, convolved to 8, 16 and 32 channels at half the size each.
        assert scorer.macs_per_window == 0 if scorer.name == MOTION_ENERGY else 1e6 < scorer.macs_per_window < 4e6


def test_scores_are_those_of_the_serving_path(out: Path) -> None:
    seed = out / "seed-1"
    scored = ScoredSet.load(seed / "scores" / "scores-test.npz")
    bundle = read_bundle(seed / "models" / "salience" / "1")
    runtime = create_runtime("onnxruntime", bundle.path / bundle.variant("fp32").path)
    manifest = [line.split(",") for line in (seed / "videos" / "untrimmed" / "manifest.csv").read_text().splitlines()]
    path = seed / "videos" / "untrimmed" / next(row[0] for row in manifest if row[2] == "test")
    step = bundle.info.clip_spec.span // 2
    for protocol, found in (
        (PROTOCOLS["ten-clip"], scored.videos[0].uniform[10]),
        (Protocol(selection=ClipSelection(mode="windows", window_step=step)), scored.videos[0].windows),
    ):
        clips = read_clips(path, bundle.info.clip_spec, protocol).clips
        assert np.allclose(softmax(runtime.run(clips).logits[..., 0], axis=1), found, atol=1e-4)


def test_a_second_run_takes_over_what_is_done(
    out: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(training, "train", never)
    monkeypatch.setattr(samplers, "train_sampler", never)
    result = run("--quick", "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    again = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert again == values


def test_the_baseline_alone_is_shown_where_difficulty_is_set(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 0, of which videos and network are there already: those of the seed that is done, by its configuration."""
    asked = list[int]()

    def done(*, seed: int, quick: bool) -> SeedConfig:
        asked.append(seed)
        return SeedConfig(seed=1, quick=quick)

    monkeypatch.setattr(config, "SeedConfig", done)
    folder = tmp_path / "tuning" / "seed-0"
    shutil.copytree(out / "seed-1", folder, ignore=shutil.ignore_patterns("samplers", "seed.json"))
    result = run("--quick", "--tuning", "--out", folder.parent)
    assert result.exit_code == 0, (result.output, result.exception)
    assert asked == [0]
    assert "10 uniform clips, untrimmed:" in result.stdout
    assert "salient" not in result.stdout
    assert not (folder / "samplers").exists()
    assert not (folder / "seed.json").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "thesis.txt").write_text("mine")
    result = run("--quick", "--out", tmp_path)
    assert result.exit_code == 1
    assert "holds something that is not a seed of this experiment" in " ".join(result.stderr.split())
