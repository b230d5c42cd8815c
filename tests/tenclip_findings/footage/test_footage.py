"""Findings on a folder of labelled videos: which can be run, why others cannot, and one that is run."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_client.cli.main import main
from tenclip_data.samples import Sample
from tenclip_findings.catalog import all_findings
from tenclip_findings.costs import Rates, measure_rates, work_of
from tenclip_findings.evidence import read_evidence
from tenclip_findings.finding import OWN, Finding
from tenclip_findings.footage.data import Footage, read_footage
from tenclip_findings.footage.findings import findings_of
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import in_order
from tenclip_findings.lab.tasks_footage import clips, part
from tenclip_findings.run import Options, settings_of
from tenclip_findings.selection import select
from tenclip_training.synth import SynthConfig, generate

DOCS = Path(__file__).parents[3] / "docs"
SPEC: dict[str, Any] = {"num_frames": 8, "target_fps": 15.0, "resize": [36, 48], "crop": 32}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of 32 training and 5 test videos."""
    config = SynthConfig(
        num_classes=4, videos_per_class=37, splits=(("train", 32 / 37), ("test", 5 / 37)), seconds=(0.6, 0.8),
        width=48, height=36, objects=(1, 1), clutter=0, seed=3,
    )  # fmt: skip
    return generate(config, tmp_path_factory.mktemp("footage"), workers=1)


def rewritten(manifest: Path, target: Path, change: Any) -> Path:
    """A copy of the table with other rows: `change` gives a row, or None to leave it out."""
    with manifest.open(newline="") as file:
        rows = [dict(row, path=str(manifest.parent / row["path"])) for row in csv.DictReader(file)]
    kept = [row for row in map(change, rows) if row is not None]
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return target


def named(manifest: Path) -> tuple[dict[str, Finding], Mapping[str, str]]:
    """By the names of the findings on generated videos."""
    found, refused = findings_of(read_footage(manifest))
    return {base(f): f for f in found}, refused


def base(finding: Finding) -> str:
    return finding.name.partition(OWN)[0]


def test_what_applies_is_there_and_the_rest_is_refused_with_the_reason(manifest: Path) -> None:
    found, refused = named(manifest)
    assert set(found) == {"log-linear", "capacity", "clips-or-frames", "salient-clips"}
    assert set(found) | set(refused) == {f.name for f in all_findings()}
    assert "32 to 32 training videos, which is no long tail" in refused["tail-preserving"]
    assert "has 4 classes; 16 are needed" in refused["mega-scale"]
    assert "128 training videos are of 1 to 5 s" in refused["durations"] or "0 training videos" in refused["durations"]
    assert "teacher of images" in refused["distinit"]


def test_how_much_there_is_to_pre_train_on_is_that_of_the_smallest_classes(manifest: Path, tmp_path: Path) -> None:
    first = sorted(read_footage(manifest).classes)[0]
    seen = list[str]()

    def tailed(row: dict[str, str]) -> dict[str, str] | None:
        if row["label"] == first and row["split"] == "train":
            seen.append(row["path"])
            return row if len(seen) <= 8 else None
        return row

    table = rewritten(manifest, tmp_path / "tail.csv", tailed)
    with pytest.raises(DatasetError, match="as few as 40 training videos; findings need 64"):
        read_footage(table)


def test_long_tails_many_classes_and_two_lengths_are_what_three_findings_need() -> None:
    """As the table says it, without a video."""
    names = tuple(f"class {n:02}" for n in range(16))
    samples = [
        Sample(
            path=Path(f"{name}-{n}.mp4"), name=f"{name}-{n}.mp4", labels=(name,), split="train",
            start_seconds=0.0, end_seconds=3.0 if n % 2 else 57.0,
        )
        for place, name in enumerate(names)
        for n in range(40 if place else 10)
    ]  # fmt: skip
    train = Counter(s.labels[0] for s in samples)
    footage = Footage(
        path=Path("made-up.csv"), samples=samples, classes=names, train=train, test=dict.fromkeys(names, 9),
        test_split="test", digest="",
    )  # fmt: skip
    found, refused = findings_of(footage)
    assert {"tail-preserving", "mega-scale", "durations"} <= {base(f) for f in found}
    assert set(refused) == {"label-kinds", "label-counts", "distinit", "omnisource"}
    for finding in found:
        arms = finding.arms(Lab(seed=1))
        assert {arm for c in finding.contrasts for arm in c.weights} <= set(arms)
        assert all(sum(c.weights.values()) == pytest.approx(0) for c in finding.contrasts)


@pytest.mark.parametrize("name", ["log-linear", "capacity", "clips-or-frames", "salient-clips"])
def test_arms_are_of_this_data_and_each_seed_has_its_own_half_of_the_classes(manifest: Path, name: str) -> None:
    found, _ = named(manifest)
    finding, footage = found[name], read_footage(manifest)
    halves = {footage.halves(seed) for seed in range(1, 6)}
    assert len(halves) > 1
    for seed in (1, 2):
        arms = finding.arms(Lab(seed=seed, scale=0.01))
        assert finding.baseline in arms
        source, target = footage.halves(seed)
        assert not set(source) & set(target)
        for contrast in finding.contrasts:
            assert set(contrast.weights) <= set(arms)
            assert sum(contrast.weights.values()) == pytest.approx(0)
        parts = [j for j in in_order(arms.values()) if j.kind == "lab.tasks_footage.part"]
        assert {tuple(j.settings["classes"]) for j in parts} == {source, target}
        tested = [j for j in parts if j.settings["split"] == "test"]
        assert [tuple(j.settings["classes"]) for j in tested] == [target], "one set of test videos for all arms"
        assert all(j.kind != "lab.tasks.synth" for j in in_order(arms.values()))
    cost = work_of({name: finding}, {name: [1]}, Options(out=Path(), scale=0.01))
    assert cost.training_clips > 0
    assert cost.videos == 64 + 64 + 10, "to pre-train on, of the target, to test on"
    assert 0.6 * cost.videos <= cost.footage_seconds <= 0.8 * cost.videos
    slower = [cost.minutes(Rates(clip=dict.fromkeys(cost.networks, 0.0), video=0, footage=f), 1) for f in (0, 1)]
    assert slower == [0, pytest.approx(cost.footage_seconds / 60)]


def test_decoding_is_priced_by_a_few_of_the_videos(manifest: Path, tmp_path: Path) -> None:
    assert measure_rates((), "fp32").footage == 0
    assert 0 < measure_rates((), "fp32", read_footage(manifest)).footage < 5


def test_other_data_is_other_work(manifest: Path, tmp_path: Path) -> None:
    found, _ = named(manifest)
    tests = [s.name for s in read_footage(manifest).samples if s.split == "test"]
    table = rewritten(manifest, tmp_path / "fewer.csv", lambda row: None if row["path"].endswith(tests[0]) else row)
    other, _ = named(table)
    assert settings_of(found["capacity"], 1.0) != settings_of(other["capacity"], 1.0)
    names = [f["capacity"].name for f in (found, other)]
    assert names == [f"capacity@manifest-{read_footage(manifest).digest[:8]}", names[1]]
    assert names[1].startswith("capacity@fewer-")
    assert [f.name for f in select(["capacity"], data=manifest).findings] == names[:1]


def test_the_command_runs_one_and_keeps_its_evidence_beside_that_on_generated_videos(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page, generated = tmp_path / "mine", tmp_path / "findings.md", tmp_path / "findings" / "salient-clips.json"
    shutil.copy(DOCS / "findings.md", page)
    generated.parent.mkdir()
    shutil.copy(DOCS / "findings" / generated.name, generated)
    before = generated.read_bytes()
    arguments = ["findings", "salient-clips", "--data", manifest, "--out", out, "--seeds", "1", "--scale", "0.01"]
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in [*arguments, "--json", "--processes", 1, "--page", page]])
    printed = capsys.readouterr()
    assert caught.value.code in (0, None), printed.err
    (finding,) = json.loads(printed.out)["findings"]
    assert finding["extent"] == "1 of 5 seeds"
    assert {c["verdict"] for c in finding["contrasts"]} == {"open"}
    evidence = read_evidence(page.with_suffix(""), finding["name"])
    assert evidence is not None
    assert generated.read_bytes() == before
    text = page.read_text()
    assert "<!-- finding: salient-clips -->" in text
    assert f"<!-- finding: {finding['name']} -->" in text
    assert "(findings/salient-clips.json)" in text
    assert f"(findings/{finding['name']}.json)" in text
    kept = select([], kept=page.with_suffix(""))
    assert [f.name for f in kept.findings] == ["salient-clips"]
    assert "is of your own videos" in kept.refused[finding["name"]]
    (seed,) = evidence.seeds
    assert set(seed.correct) == {"scratch", "3 uniform", "10 uniform", "3 by motion energy", "10 by motion energy"}
    assert seed.videos == 10, "five of each of two classes"
    assert finding["top1"]["10 uniform"]["mean"] == 100 * float(np.mean(seed.correct["10 uniform"]))


def test_videos_that_cannot_be_decoded_are_left_out_of_the_tests_and_counted(manifest: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    spoiled = {"n": 0}

    def spoil(row: dict[str, str]) -> dict[str, str]:
        if row["split"] == "test" and not spoiled["n"]:
            spoiled["n"] = 1
            return {**row, "path": str(broken)}
        return row

    table = rewritten(manifest, tmp_path / "table.csv", spoil)
    classes = list(read_footage(table).classes)
    found = part(tmp_path / "part", str(table), "", classes, "test", tests=100)
    assert (found["videos"], len(found["broken"])) == (19, 1)
    assert "broken.mp4" in found["broken"][0]
    few = part(tmp_path / "few", str(table), "", classes, "test", tests=4)
    assert few["videos"] + len(few["broken"]) == 4
    folder = tmp_path / "clips"
    folder.mkdir()
    clips(folder, str(tmp_path / "few" / "manifest.csv"), SPEC, mode="salient", num_clips=10)
    arrays = np.load(folder / "clips.npy")
    assert arrays.shape[1:] == (10, 8, 32, 32, 3), "the same number of clips of each video"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: {**row, "label": "one"}, "1 classes have|1 of 1 classes have"),
        (lambda row: row if row["label"] == "move_left" else None, "of 1 classes have 4 training videos"),
        (lambda row: row if row["split"] == "train" else None, "has no split 'test' or 'val', only 'train'"),
        (lambda row: {**row, "split": "test"}, "has no split 'train', only 'test'"),
        (lambda row: {**row, "label": f"{row['label']};other"}, "several labels"),
        (lambda row: row if row["path"][-5] in "05" else None, "findings need"),
    ],
)
def test_data_that_is_not_enough_is_refused_with_what_would_be(
    manifest: Path, tmp_path: Path, change: Any, words: str
) -> None:
    table = rewritten(manifest, tmp_path / "table.csv", change)
    with pytest.raises(DatasetError, match=words) as caught:
        read_footage(table)
    assert "table.csv" in str(caught.value)


def test_videos_without_labels_are_refused(manifest: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in sorted(manifest.parent.rglob("*.mp4"))[:3]:
        (videos / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DatasetError, match="videos"):
        read_footage(videos)


def test_data_goes_with_neither_another_network_nor_a_finding_that_cannot_be(manifest: Path) -> None:
    with pytest.raises(InvalidRequest, match="r2plus1d is of generated videos"):
        select([], data=manifest, network="r2plus1d")
    with pytest.raises(InvalidRequest, match="no finding can be run on it: omnisource: needs web images"):
        select(["omnisource"], data=manifest)
