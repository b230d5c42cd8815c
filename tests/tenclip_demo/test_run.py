"""The whole demo in small, on real files and with a real server; no figure of a quick run means anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import typer
from typer.testing import CliRunner, Result

from tenclip_api.errors import InvalidRequest
from tenclip_client import Client
from tenclip_data.manifest import read_manifest
from tenclip_demo import served
from tenclip_demo.commands import demo
from tenclip_demo.config import DemoConfig
from tenclip_demo.facts import _server
from tenclip_demo.server import ServerProcess
from tenclip_demo.stages import STATE
from tenclip_demo.videos import Part
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.runs import train as training
from tenclip_video.bundle import read_bundle

from .test_page import Page

app = typer.Typer()
app.command()(demo)
STAGES = ["generate", "train", "evaluate", "export", "serve", "predict", "look", "features", "probe"]


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module", autouse=True)
def processes_before() -> set[psutil.Process]:
    """Servers that tests of other files share live until the session's end."""
    return set(psutil.Process().children(recursive=True))


@pytest.fixture(autouse=True)
def no_server_is_left(processes_before: set[psutil.Process]) -> Iterator[None]:
    yield
    now = set(psutil.Process().children(recursive=True)) - processes_before
    assert [p for p in now if "tenclip_serving" in " ".join(p.cmdline())] == []


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "demo"


@pytest.fixture(scope="module")
def summary(out: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    text = tmp_path_factory.mktemp("text") / "not <a> video.mp4"
    text.write_text("no video at all")
    result = run("--quick", "--out", out, "--video", text, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def test_figures_with_their_denominators(summary: dict[str, Any], out: Path) -> None:
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["quick"] is True
    counts = summary["counts"]
    assert counts["top1"]["total"] == counts["served_top1"]["total"] == summary["data"]["held_out_videos"] == 8
    assert summary["top1"] == counts["top1"]["correct"] / 8
    assert counts["served_agrees_with_torch"]["correct"] == 8, "the server answers as torch does"
    assert counts["served_top1"] == counts["top1"]
    assert summary["server"]["requests"] == 8
    assert 0 < summary["server"]["p50_seconds"] <= summary["server"]["p95_seconds"]
    assert list(summary["seconds"]) == STAGES
    assert all(seconds > 0 for seconds in summary["seconds"].values())


def test_the_probe_has_other_labels_than_the_training(summary: dict[str, Any]) -> None:
    first, *others = summary["probes"]
    assert not set(first["classes"]) & set(summary["data"]["classes"])
    assert summary["probe_accuracy"] == first["accuracy"]["value"]
    assert [p["label_set"] for p in others] == ["speed", "objects"]
    assert all(p["accuracy"]["total"] > 0 for p in summary["probes"])


def test_the_page_shows_videos_and_what_was_refused(summary: dict[str, Any], out: Path) -> None:
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    cards = [attributes for tag, attributes in page.elements if tag == "article"]
    assert len(cards) >= 4 + 2, "one of each class, and the untrimmed ones"
    assert page.text.count("salient clips ✓") + page.text.count("salient clips ✗") == 2
    assert "not <a> video.mp4" in page.text
    assert "NOT_A_VIDEO" in page.text
    assert "the action is from" in page.text
    images = [a["src"] or "" for tag, a in page.elements if tag == "img"]
    assert len(images) == 10 * len(cards)
    assert all(len(source) > 500 for source in images)


def test_the_bundle_stays(summary: dict[str, Any], out: Path) -> None:
    bundle = read_bundle(out / "models" / "demo" / "1")
    assert list(bundle.labels) == summary["data"]["classes"]
    assert {p.runtime for p in bundle.info.parity if p.passed} == {"onnxruntime", "openvino"}
    assert len(bundle.golden.clips) == 3 + 3, "real clips are among the golden ones"


def test_a_second_run_takes_over_what_is_done(
    summary: dict[str, Any], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "train", never)
    monkeypatch.setattr(DemoConfig, "required_top1", 1.01)  # which no model reaches
    result = run("--quick", "--out", out)
    assert result.exit_code == 1
    assert "fewer than 101%" in result.stdout
    again = json.loads((out / "summary.json").read_text())
    assert again["seconds_reused"] == STAGES[:4]
    assert again["counts"]["top1"] == summary["counts"]["top1"]
    assert again["seconds"]["train"] == summary["seconds"]["train"]
    assert again["passed"] is False


def test_an_interrupted_training_ends_the_demo(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(out / "videos", tmp_path / "videos")
    state = json.loads((out / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps({"generate": state["generate"]}))
    train = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: train(*a, **{**k, "stop_after_steps": 1}))
    result = run("--quick", "--out", tmp_path)
    assert result.exit_code == 130, (result.output, result.exception)
    assert "goes on from here" in result.stderr
    left = json.loads((tmp_path / STATE).read_text())
    assert "result" in left["generate"]
    assert "result" not in left["train"]
    assert (tmp_path / "training" / "last.pt").exists(), "the next run goes on from here"


def test_a_folder_of_ones_own(
    out: Path, summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "LARGEST_MESSAGE", 0)  # the server opens every video itself, of spared classes too
    data = tmp_path / "videos"
    shutil.copytree(out / "videos" / "trimmed" / "videos", data)
    broken = next(data.rglob("move_up_*.mp4"))
    broken.write_bytes(b"")
    result = run("--quick", "--data", data, "--out", tmp_path / "demo", "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    mine = json.loads(result.stdout)
    assert len(mine["data"]["classes"]) == len(mine["data"]["held_out_classes"]) == 2
    assert {*mine["data"]["classes"], *mine["data"]["held_out_classes"]} == {p.name for p in data.iterdir()}
    assert mine["probes"][0]["label_set"] == "unseen classes"
    assert set(mine["probes"][0]["classes"]) == set(mine["data"]["held_out_classes"])
    assert mine["required_top1"] is None
    page = Page((tmp_path / "demo" / "report.html").read_text(encoding="utf-8"))
    assert "Classes kept from training altogether" in page.text


def test_rows_that_are_parts_of_one_video_are_asked_about_by_part(
    out: Path, summary: dict[str, Any], tmp_path: Path
) -> None:
    video = next((out / "videos" / "untrimmed").rglob("*.mp4"))
    first, second, *_ = summary["data"]["classes"]
    table = tmp_path / "parts.csv"
    table.write_text(f"path,label,split,start,end\n{video},{first},test,0,0.9\n{video},{second},test,0.9,1.8\n")
    manifest = read_manifest(table)
    checkpoint = out / "training" / json.loads((out / STATE).read_text())["train"]["result"]["checkpoint"]
    evaluated = evaluate(checkpoint, manifest, split="").to_dict()
    parts = [Part.of(s) for s in manifest.samples]
    bundle = read_bundle(out / "models" / "demo" / "1")
    with ServerProcess(out / "models", tmp_path / "server.log") as server, Client(server.address) as client:
        answers, failed = served.predict_all(client, manifest.samples, lambda done, total: None)
        features = served.extract_features(client, parts, lambda done, total: None)
        card = served.video_card(
            client, parts[1], labels=bundle.labels, spec=bundle.info.clip_spec, group="", name="", truth=second
        )
    assert failed == []
    of_first, of_second = features.seconds[: served.PROBE_CLIPS], features.seconds[served.PROBE_CLIPS :]
    assert of_first.max() <= 1.0, "the last frame may be shown a little longer than the part is"
    assert of_second.min() >= 0.9
    assert card.interval == (0.9, 1.8)
    assert card.part
    assert card.top[0][0] == answers[1].label
    learned = SimpleNamespace(bundle=bundle, evaluated=evaluated, videos=SimpleNamespace(test=manifest))
    found = SimpleNamespace(answers=tuple(answers), runtime="", runtime_reason="")
    facts = _server(cast(Any, learned), cast(Any, found))
    assert (facts.agreement.correct, facts.agreement.total) == (2, 2)
    assert facts.top1.correct == evaluated["video_top1"]["correct"]


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run("--quick", "--out", tmp_path)
    assert isinstance(result.exception, InvalidRequest)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
