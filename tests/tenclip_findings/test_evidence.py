"""Evidence outlives its jobs: what is kept is what was found, and verdicts follow from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_client.cli.main import main
from tenclip_findings.catalog import all_findings, chosen, headlines
from tenclip_findings.evidence import Evidence, Pretraining, SeedEvidence, pack, read_evidence, unpack, write_evidence
from tenclip_findings.finding import Contrast, Finding
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job, Output, in_order
from tenclip_findings.report import section
from tenclip_findings.run import OPEN, PRECISIONS, VOID, Measured, Options, measure, seeds_missing, settings_of
from tenclip_findings.selection import select

(DURATIONS,) = chosen(["durations"])
ARMS = tuple(DURATIONS.arms(Lab(seed=1)))


def kept(
    accuracy: Mapping[str, float],
    *,
    seeds: int = 5,
    settings: str | None = None,
    scale: float = 1.0,
    videos: int = 1600,
) -> Evidence:
    """Evidence of `durations` with arms of these accuracies, and of a half for the others."""
    found = []
    for seed in range(1, seeds + 1):
        luck = np.random.default_rng(seed).random(videos)
        correct: dict[str, NDArray[np.bool_]] = {name: luck < accuracy.get(name, 0.5) for name in ARMS}
        found.append(
            SeedEvidence(
                seed=seed,
                correct=correct,
                date="2026-01-02",
                version="1.2.3 (abc)",
                machine="a machine",
                seconds=9.0,
                precision="fp32",
            )
        )
    settings = settings or settings_of(DURATIONS, scale)
    return Evidence(name="durations", settings=settings, scale=scale, seeds=tuple(found))


def verdicts(folder: Path) -> dict[str, str]:
    (measured,) = measure([DURATIONS], Options(out=folder, kept=folder))
    return {r.contrast.name: measured.verdict(r) for r in measured.results}


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_hits_come_back_as_they_were(hits: list[bool]) -> None:
    assert unpack(pack(np.array(hits)), len(hits)).tolist() == hits


def test_evidence_comes_back_as_it_was_and_is_small(tmp_path: Path) -> None:
    evidence = kept({"short-N": 0.6})
    path = write_evidence(tmp_path, evidence)
    again = read_evidence(tmp_path, "durations")
    assert again is not None
    assert (again.settings, again.scale, len(again.seeds)) == (evidence.settings, 1.0, 5)
    for before, after in zip(evidence.seeds, again.seeds, strict=True):
        assert list(before.correct) == list(after.correct)
        assert all((before.correct[name] == after.correct[name]).all() for name in ARMS)
        assert (after.date, after.version, after.machine, after.seconds) == (
            before.date, before.version, before.machine, before.seconds,
        )  # fmt: skip
    assert path.stat().st_size < 20_000
    assert read_evidence(tmp_path, "capacity") is None


def test_identical_arms_show_nothing_and_swapped_arms_flip_the_verdict(tmp_path: Path) -> None:
    localised = "localised: short-N - long-center-N"
    write_evidence(tmp_path, kept({}))
    assert verdicts(tmp_path)[localised] == "not shown"
    write_evidence(tmp_path, kept({"short-N": 0.6}))
    assert verdicts(tmp_path)[localised] == "shown"
    write_evidence(tmp_path, kept({"long-center-N": 0.6}))
    assert verdicts(tmp_path)[localised] == "the opposite is shown"


def test_a_verdict_is_open_while_seeds_are_missing(tmp_path: Path) -> None:
    write_evidence(tmp_path, kept({"short-N": 0.9}, seeds=4))
    assert set(verdicts(tmp_path).values()) == {OPEN}
    (measured,) = measure([DURATIONS], Options(out=tmp_path, kept=tmp_path))
    assert measured.extent == "4 of 5 seeds"


def test_only_seeds_without_evidence_of_these_settings_are_missing(tmp_path: Path) -> None:
    options = Options(out=tmp_path, kept=tmp_path)
    assert seeds_missing(DURATIONS, options) == [1, 2, 3, 4, 5]
    write_evidence(tmp_path, kept({}, seeds=3))
    assert seeds_missing(DURATIONS, options) == [4, 5]
    assert seeds_missing(DURATIONS, Options(out=tmp_path, kept=tmp_path, seeds=2)) == []
    write_evidence(tmp_path, kept({}, settings="other"))
    assert seeds_missing(DURATIONS, options) == [1, 2, 3, 4, 5]
    (measured,) = measure([DURATIONS], options)
    assert measured.to_dict()["of_these_settings"] is False


def test_evidence_of_another_scale_or_width_is_not_overwritten(tmp_path: Path) -> None:
    path = write_evidence(tmp_path, kept({}))
    with pytest.raises(InvalidRequest, match=r"durations\.json: is evidence of scale 1, and this run is of 0\.25"):
        seeds_missing(DURATIONS, Options(out=tmp_path, kept=tmp_path, scale=0.25))
    with pytest.raises(InvalidRequest, match=r"durations\.json: is evidence of width 16, and this run is of 64"):
        seeds_missing(DURATIONS, Options(out=tmp_path, kept=tmp_path, width=64))
    assert path.exists()
    wide = dataclasses.replace(kept({}), width=64, settings=settings_of(DURATIONS, 1.0, 64))
    write_evidence(tmp_path, wide)
    assert seeds_missing(DURATIONS, Options(out=tmp_path, kept=tmp_path, width=64)) == []
    assert "with networks 64 planes wide." in section(Measured(finding=DURATIONS, evidence=wide).to_dict())


@pytest.mark.parametrize("finding", [f for f in all_findings() if f.name != "salient-clips"], ids=lambda f: f.name)
def test_a_width_is_that_of_all_networks_and_of_nothing_else(finding: Finding) -> None:
    usual, wide = ({job.key: job for job in in_order(finding.arms(Lab(seed=1, width=w)).values()) if job.clips}
                   for w in (16, 32))  # fmt: skip
    assert not usual.keys() & wide.keys()
    changed = 0
    for one, two in zip(usual.values(), wide.values(), strict=True):
        old, new = (dict(job.settings["values"]) for job in (one, two))
        assert 2 * old.pop("model")["width"] == new.pop("model")["width"] == 32
        changed += 1
        assert {k: v for k, v in old.items() if not isinstance(v, Output | list)} == {
            k: v for k, v in new.items() if not isinstance(v, Output | list)
        }
    assert changed


def test_a_page_says_the_precision_of_each_seed(tmp_path: Path) -> None:
    whole = kept({}, seeds=5)
    words = section(Measured(finding=DURATIONS, evidence=whole).to_dict())
    assert "a machine, tenclip 1.2.3 (abc), trained in fp32, settings" in words
    mixed = whole.with_seed(dataclasses.replace(whole.seeds[1], precision="bf16"))
    words = section(Measured(finding=DURATIONS, evidence=mixed).to_dict())
    assert "trained in fp32 (seeds 1, 3, 4, 5) and in bf16 (seeds 2), settings" in words
    unknown = dataclasses.replace(whole, seeds=tuple(dataclasses.replace(s, precision=None) for s in whole.seeds))
    write_evidence(tmp_path, unknown)
    (measured,) = measure([DURATIONS], Options(out=tmp_path, kept=tmp_path))
    words = section(measured.to_dict())
    assert "trained in" not in words
    assert "changed since" not in words


def test_seeds_of_another_machine_go_on_in_the_precision_of_this_one(tmp_path: Path) -> None:
    write_evidence(tmp_path, kept({}, seeds=2))
    for precision in PRECISIONS:
        options = Options(out=tmp_path, kept=tmp_path, precision=precision)
        assert options.precision_of(DURATIONS) == options.lab(DURATIONS, 3).precision == precision
        assert seeds_missing(DURATIONS, options) == [3, 4, 5]


def test_a_finding_may_have_a_precision_of_its_own(tmp_path: Path) -> None:
    (finding,) = chosen(["salient-clips"])
    assert Options(out=tmp_path, precision="fp32").precision_of(finding) == "bf16"
    assert Options(out=tmp_path, precision="fp32", scale=0.25).precision_of(finding) == "fp32"


def test_what_rests_on_a_pretraining_that_did_not_learn_is_void(tmp_path: Path) -> None:
    contrast = DURATIONS.contrasts[0]
    arm, other = contrast.weights
    better = {name: 0.5 + 0.1 * weight for name, weight in contrast.weights.items()}
    whole = kept(better)
    assert verdicts(write_evidence(tmp_path, whole).parent)[contrast.name] == "shown"
    for loss, verdict in ((2.74, VOID), (2.0, "shown")):
        seen = {arm: [Pretraining(title="train on much", top1=0.3, loss=loss, entropy=np.log(16))], other: []}
        seeds = (dataclasses.replace(whole.seeds[0], pretrainings=seen), *whole.seeds[1:])
        write_evidence(tmp_path, dataclasses.replace(whole, seeds=seeds))
        found = verdicts(tmp_path)
        assert found[contrast.name] == verdict
        assert [v for name, v in found.items() if arm not in weights_of(name)].count(VOID) == 0
    (measured,) = measure([DURATIONS], Options(out=tmp_path, kept=tmp_path))
    words = section(measured.to_dict())
    assert (
        "what came before, in its last epoch: train on much 30.0% right, loss 2.00 of 2.77. Of seeds 2, 3, 4, 5"
        in words
    )


def test_what_arms_made_of_their_own_training_is_said_of_those_that_all_seeds_have(tmp_path: Path) -> None:
    arm, other = DURATIONS.contrasts[0].weights
    whole = kept({arm: 0.6, other: 0.5})
    fitted = [{arm: 0.9, other: 0.4}, *[{arm: 0.8}] * (len(whole.seeds) - 1)]
    seeds = tuple(dataclasses.replace(s, fitted=f) for s, f in zip(whole.seeds, fitted, strict=True))
    write_evidence(tmp_path, dataclasses.replace(whole, seeds=seeds))
    (measured,) = measure([DURATIONS], Options(out=tmp_path, kept=tmp_path))
    assert measured.fitted == {arm: pytest.approx(82)}
    assert f"Of their own training, at its end: {arm} 82.0." in section(measured.to_dict())


def weights_of(name: str) -> Mapping[str, float]:
    (found,) = [c.weights for c in DURATIONS.contrasts if c.name == name]
    return found


@pytest.mark.parametrize(("loss", "learned"), [(2.5, False), (2.49, True)])
def test_a_pretraining_has_learned_where_its_loss_is_a_tenth_below_the_entropy(loss: float, learned: bool) -> None:
    assert Pretraining(title="", top1=0.1, loss=loss, entropy=np.log(16)).learned == learned


def test_evidence_is_chosen_by_any_name_that_a_finding_has(tmp_path: Path) -> None:
    names = ["log-linear", "log-linear-r2plus1d", "mega-scale-r2plus1d"]
    for name in names:
        (tmp_path / f"{name}.json").touch()

    def found(*names: str, network: str = "r3d") -> list[str]:
        return [f.name for f in select(list(names), kept=tmp_path, network=network).findings]

    assert found() == names
    assert found("log-linear-r2plus1d") == ["log-linear-r2plus1d"]
    assert found("1", "mega-scale-r2plus1d") == ["log-linear", "mega-scale-r2plus1d"]
    assert found(network="r2plus1d") == names[1:]
    assert found("8", network="r2plus1d") == found("mega-scale", network="r2plus1d") == names[2:]
    with pytest.raises(InvalidRequest, match="no finding nonsense"):
        found("log-linear-r2plus1d", "nonsense")
    with pytest.raises(InvalidRequest, match="has no evidence of distinit-r2plus1d"):
        found("distinit-r2plus1d")
    with pytest.raises(InvalidRequest, match="no network 'vgg'"):
        found(network="vgg")


DOCS = Path(__file__).parents[2] / "docs" / "findings"


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.json")), ids=lambda path: path.stem)
def test_the_evidence_of_the_documentation_is_of_the_findings_as_they_are_or_the_page_says_so(path: Path) -> None:
    (finding,) = [f for f in (*all_findings(), *headlines()) if f.name == path.stem]
    (measured,) = measure([finding], Options(out=DOCS, kept=DOCS))
    assert [seed for seeds in measured.precisions.values() for seed in sorted(seeds)]
    assert set(measured.precisions) <= set(PRECISIONS)
    missing = seeds_missing(finding, Options(out=DOCS, kept=DOCS, seeds=len(measured.evidence.seeds)))
    page = DOCS.with_suffix(".md").read_text(encoding="utf-8")
    (said,) = [text for text in page.split("<!-- finding: ") if text.startswith(f"{path.stem} -->")]
    assert measured.of_these_settings == (not missing) == ("which have changed since" not in said)


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: "{",
        lambda v: json.dumps([]),
        lambda v: json.dumps({**v, "format": 99}),
        lambda v: json.dumps({k: x for k, x in v.items() if k != "scale"}),
        lambda v: json.dumps({**v, "seeds": [{**v["seeds"][0], "videos": 1700}]}),
        lambda v: json.dumps({**v, "seeds": [{**v["seeds"][0], "arms": {"scratch": {"correct": "$"}}}]}),
    ],
)
def test_damaged_evidence_is_named_with_what_would_help(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    path = write_evidence(tmp_path, kept({}, seeds=1))
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(DatasetError, match=r"durations\.json: is no evidence.*remove it to run the finding anew"):
        read_evidence(tmp_path, "durations")


def test_evidence_without_an_arm_of_a_contrast_is_left_out(tmp_path: Path) -> None:
    write_evidence(tmp_path, kept({}))
    contrast = Contrast(name="new", weights={"new arm": 1.0, "scratch": -1.0})
    changed = Finding(
        number=5, name="durations", question="?", paper="", data="", arms=_no_arms, contrasts=(contrast,),
        baseline="scratch", chance=1.0,
    )  # fmt: skip
    assert measure([changed], Options(out=tmp_path, kept=tmp_path)) == []


def _no_arms(lab: Lab) -> Mapping[str, Job]:
    return {}


def test_the_command_makes_a_page_of_evidence_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page, out = tmp_path / "docs" / "findings", tmp_path / "docs" / "findings.md", tmp_path / "out"
    write_evidence(folder, kept({"short-N": 0.6}))
    (folder / "unheard-of.json").write_text("{}")
    code, said = _run(capsys, "findings", "--from", folder, "--page", page, "--out", out)
    assert code == 0, said
    text = page.read_text()
    assert "### 5. Are short videos better" in text
    assert "| localised: short-N - long-center-N (points) |" in text
    assert "Measured on 2026-01-02, a machine, tenclip 1.2.3 (abc)" in text
    assert "[hits of every video](findings/durations.json)" in text
    assert "left out: unheard-of: no finding has this name" in said
    assert (out / "report.html").exists()
    assert not (out / "jobs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "nowhere"), "no such folder of evidence"),
        (("--from", ".", "--quick"), "runs nothing"),
        (("--tuning", "--page", "x.md"), "no page is written"),
        (("salient-clips", "--tuning"), "python -m tenclip_findings.salience --tuning"),
        (("--from", "."), "has no evidence of any finding"),
        (("--network", "vgg"), "no network 'vgg'"),
        (("capacity", "--network", "r2plus1d"), "no finding with headlines for r2plus1d capacity"),
    ],
)
def test_options_that_cannot_be_are_refused(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = _run(capsys, "findings", *arguments)
    assert code != 0
    assert words in said


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    """(exit code, what was printed, on one line)."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return caught.value.code, " ".join((printed.out + printed.err).replace("│", " ").split())
