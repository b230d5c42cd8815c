from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Sample, read_manifest
from tenclip_demo import videos
from tenclip_demo.config import REQUIRED_TOP1, DemoConfig
from tenclip_demo.probes import run_probe
from tenclip_demo.videos import ProbeSet, spare_classes, users_videos
from tenclip_features.table import FeatureTable


def folder(root: Path, classes: dict[str, int]) -> Path:
    """Class-named sub-folders of empty files: nothing here opens them."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.mp4").touch()
    return root


def sides_do_not_mix(probe: ProbeSet) -> bool:
    sides = [{s.path for s in probe.manifest.split(name).samples} for name in ("train", probe.test_split)]
    return not sides[0] & sides[1]


def config(data: Path, out: Path) -> DemoConfig:
    return DemoConfig(out=out, data=data)


def test_a_quarter_of_the_classes_is_kept_for_the_probe(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {f"class {i}; with | signs": 8 for i in range(8)})
    found = users_videos(config(data, tmp_path / "out"), tmp_path / "out")
    assert len(found.facts.classes) == 6
    assert len(found.facts.held_out_classes) == 2
    assert (found.facts.train_videos, found.facts.held_out_videos) == (36, 12)
    (probe,) = found.probes
    assert probe.name == "unseen classes"
    assert {s.labels[0] for s in probe.manifest.samples} == set(found.facts.held_out_classes)
    assert len(probe.videos) == 16
    assert sides_do_not_mix(probe)
    # The manifest that training reads knows nothing of the spared classes.
    manifest = read_manifest(found.manifest)
    assert manifest.labels == tuple(sorted(found.facts.classes))
    assert {s.split for s in manifest.samples} == {"train", "val"}
    assert len(manifest.samples) == 48
    assert {s.path for s in manifest.split("val").samples} == {s.path.resolve() for s in found.test.samples}


def test_with_few_classes_the_probe_is_about_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder(tmp_path / "data", {"a": 4, "b": 4})

    monkeypatch.setattr(videos, "probe", lambda path: SimpleNamespace(duration_seconds=3.0))
    found = users_videos(config(data, tmp_path / "out"), tmp_path / "out")
    assert found.facts.held_out_classes == ()
    (probe,) = found.probes
    assert [len(probe.manifest.split(s).samples) for s in ("train", "val")] == [12, 4]
    assert len(probe.videos) == 8
    assert sides_do_not_mix(probe)


def test_halves_of_a_real_video(data_dir: Path) -> None:
    def sample(name: str, **part: float) -> Sample:
        return Sample(path=data_dir / "clips" / name, name=name, labels=("x",), **part)  # type: ignore[arg-type]

    first, second = videos._halves(sample("archery.avi"))
    assert (first.labels, second.labels) == (("first half",), ("second half",))
    assert first.start_seconds == 0
    assert first.end_seconds == second.start_seconds
    assert second.end_seconds is not None
    assert 4 < second.end_seconds < 7
    first, second = videos._halves(sample("archery.avi", start_seconds=1.0, end_seconds=2.0))
    assert (first.start_seconds, second.start_seconds, second.end_seconds) == (1.0, 1.5, 2.0)
    assert videos._halves(sample("SOURCES.md")) == ()


def test_train_and_test_folders_are_kept(tmp_path: Path) -> None:
    folder(tmp_path / "data" / "train", {"a": 3, "b": 3})
    folder(tmp_path / "data" / "test", {"a": 1, "b": 1})
    found = users_videos(config(tmp_path / "data", tmp_path / "out"), tmp_path / "out")
    assert (found.val_split, found.test_split) == ("test", "test")
    assert len(found.test.samples) == 2


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"only": 5}, "class 'only' only; a demo needs at least two"),
        ({"a": 5, "b": 1}, "class 'b' has too few videos"),
        ({"a": 1, "b": 1}, "single video"),
        ({}, "no videos in class-named sub-folders"),
    ],
)
def test_too_little(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    (tmp_path / "data").mkdir()
    data = folder(tmp_path / "data", classes)
    with pytest.raises(DatasetError, match=message):
        users_videos(config(data, tmp_path / "out"), tmp_path / "out")


def test_the_users_folder_is_left_as_it_is(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"a": 4, "b": 4, "c": 4, "d": 4})
    before = sorted(data.rglob("*"))
    users_videos(config(data, tmp_path / "out"), tmp_path / "out")
    assert sorted(data.rglob("*")) == before


@given(st.lists(st.text(min_size=1), min_size=2, max_size=40, unique=True))
def test_spared_classes(labels: list[str]) -> None:
    kept, spared = spare_classes(labels)
    assert sorted((*kept, *spared)) == sorted(labels)
    assert len(kept) >= 2
    assert len(spared) == (0 if len(labels) < 4 else max(2, len(labels) // 4))
    assert set(spare_classes(labels[::-1])[1]) == set(spared), "the order of the folders does not matter"


def test_only_the_real_demo_asks_for_an_accuracy(tmp_path: Path) -> None:
    assert DemoConfig(out=tmp_path).required_top1 == REQUIRED_TOP1 == 0.9
    assert DemoConfig(out=tmp_path, quick=True).required_top1 is None
    assert DemoConfig(out=tmp_path, data=tmp_path).required_top1 is None
    assert DemoConfig(out=tmp_path).synth.num_classes >= 8


class TestProbe:
    """Each video has two clips whose features carry its label as strongly as `signal` says."""

    def probe_set(self, root: Path, train: int, test: int) -> ProbeSet:
        data = folder(root / "data", {})
        for split, count in (("train", train), ("test", test)):
            folder(data / split, {"a": count, "b": count})
        return ProbeSet(name="letters", description="d", manifest=read_manifest(data), test_split="test")

    def table(self, probe: ProbeSet, signal: float, *, without: int = 0) -> FeatureTable:
        rng = np.random.default_rng(0)
        samples = [s for s in probe.manifest.samples if s.split == "train"]
        samples += [s for s in probe.manifest.samples if s.split == "test"][without:]
        rows = [(s, i) for s in samples for i in range(2)]
        return FeatureTable(
            source="made up",
            videos=tuple(str(s.path) for s, _ in rows),
            clip_indices=np.array([i for _, i in rows]),
            seconds=np.array([(float(i), i + 1.0) for _, i in rows]),
            features=np.stack([rng.normal(size=8) + signal * (s.labels[0] == "a") for s, _ in rows]).astype(np.float32),
            model="m",
            version="1",
        )

    def test_it_finds_what_is_there_and_nothing_where_nothing_is(self, tmp_path: Path) -> None:
        probe = self.probe_set(tmp_path, 30, 20)
        good, blind = run_probe(probe, self.table(probe, 4.0)), run_probe(probe, self.table(probe, 0.0))
        assert (good.accuracy.total, good.train_videos, good.classes, good.chance) == (40, 60, ("a", "b"), 0.5)
        assert good.accuracy.correct >= 38
        assert 8 < blind.accuracy.correct < 32

    def test_videos_without_features_are_left_out_of_the_count(self, tmp_path: Path) -> None:
        probe = self.probe_set(tmp_path, 10, 5)
        assert run_probe(probe, self.table(probe, 4.0, without=4)).accuracy.total == 6

    def test_few_videos_are_not_cross_validated(self, tmp_path: Path) -> None:
        probe = self.probe_set(tmp_path, 1, 1)
        assert run_probe(probe, self.table(probe, 9.0)).accuracy.total == 2

    def test_nothing_to_test(self, tmp_path: Path) -> None:
        probe = self.probe_set(tmp_path, 3, 2)
        with pytest.raises(DatasetError, match="none of its videos"):
            run_probe(probe, self.table(probe, 1.0, without=4))


def test_the_unseen_motions_are_really_unseen(tmp_path: Path) -> None:
    for quick in (False, True):
        demo = DemoConfig(out=tmp_path, quick=quick)
        assert not set(demo.unseen.class_names) & set(demo.synth.class_names)
        assert set(demo.untrimmed.class_names) <= set(demo.synth.class_names)
        assert len({demo.synth.seed, demo.unseen.seed, demo.untrimmed.seed}) == 3


def test_values_of_an_attribute_are_its_classes(tmp_path: Path) -> None:
    rows = ["path,label,split,objects"]
    for i, (split, objects) in enumerate((("train", 3), ("train", 1), ("test", 3))):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i]))
        rows.append(f"{i}.mp4,move_left,{split},{objects}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    manifest = videos._attribute(tmp_path / "manifest.csv", "objects").manifest
    assert manifest.labels == ("1", "3")
    assert [s.labels for s in manifest.samples] == [("3",), ("1",), ("3",)]
    assert manifest.warnings == ()
