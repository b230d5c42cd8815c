from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_export.demo import videos
from tenclip_export.demo.config import REQUIRED_TOP1, DemoConfig
from tenclip_export.demo.probes import fit_probe
from tenclip_export.demo.videos import ProbeSample, ProbeSet, spare_classes, users_videos
from tenclip_training.manifest import read_manifest


def folder(root: Path, classes: dict[str, int]) -> Path:
    """Class-named sub-folders of empty files: nothing here opens them."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.mp4").touch()
    return root


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
    assert {s.label for s in (*probe.train, *probe.test)} == set(found.facts.held_out_classes)
    assert not {s.path for s in probe.train} & {s.path for s in probe.test}
    # The manifest that training reads knows nothing of the spared classes.
    manifest = read_manifest(found.manifest)
    assert manifest.labels == tuple(sorted(found.facts.classes))
    assert {s.split for s in manifest.samples} == {"train", "val"}
    assert len(manifest.samples) == 48
    assert {s.path for s in manifest.split("val").samples} == {s.path.resolve() for s in found.test.samples}


def test_with_few_classes_the_probe_is_about_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder(tmp_path / "data", {"a": 4, "b": 4})

    def halves(path: Path) -> tuple[ProbeSample, ...]:
        first = ProbeSample(path=path, label="first", start=0.0, end=1.0)
        return first, ProbeSample(path=path, label="second", start=1.0, end=2.0)

    monkeypatch.setattr(videos, "_halves", halves)
    found = users_videos(config(data, tmp_path / "out"), tmp_path / "out")
    assert found.facts.held_out_classes == ()
    (probe,) = found.probes
    assert (len(probe.train), len(probe.test)) == (12, 4)
    assert not {s.path for s in probe.train} & {s.path for s in probe.test}


def test_halves_of_a_real_video(data_dir: Path) -> None:
    first, second = videos._halves(data_dir / "clips" / "archery.avi")
    assert first.end == second.start
    assert first.start == 0
    assert second.end is not None
    assert 4 < second.end < 7
    assert videos._halves(data_dir / "clips" / "SOURCES.md") == ()


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
    def samples(self, count: int, offset: int = 0) -> tuple[ProbeSample, ...]:
        return tuple(ProbeSample(path=Path(f"{offset + i}"), label="ab"[i % 2]) for i in range(count))

    def features(
        self, samples: tuple[ProbeSample, ...], signal: float
    ) -> dict[object, np.ndarray[tuple[int], np.dtype[np.float32]]]:
        rng = np.random.default_rng(0)
        return {
            (s.path, s.start, s.end): (rng.normal(size=8) + signal * (s.label == "a")).astype(np.float32)
            for s in samples
        }

    def test_it_finds_what_is_there_and_nothing_where_nothing_is(self) -> None:
        probe = ProbeSet(name="letters", description="d", train=self.samples(80), test=self.samples(40, 100))
        everything = (*probe.train, *probe.test)
        good = fit_probe(probe, self.features(everything, 4.0))  # type: ignore[arg-type]
        assert good.accuracy.value is not None
        assert good.accuracy.value >= 0.95
        assert (good.accuracy.total, good.train_videos, good.classes, good.chance) == (40, 80, ("a", "b"), 0.5)
        blind = fit_probe(probe, self.features(everything, 0.0))  # type: ignore[arg-type]
        assert blind.accuracy.value is not None
        assert 0.2 < blind.accuracy.value < 0.8

    def test_videos_without_features_are_left_out_of_the_count(self) -> None:
        probe = ProbeSet(name="letters", description="d", train=self.samples(20), test=self.samples(10, 100))
        features = self.features((*probe.train, *probe.test[:6]), 4.0)
        assert fit_probe(probe, features).accuracy.total == 6  # type: ignore[arg-type]

    def test_nothing_to_fit_or_to_test(self) -> None:
        probe = ProbeSet(name="letters", description="d", train=self.samples(20), test=self.samples(10, 100))
        with pytest.raises(DatasetError, match="20 videos of 2 classes to fit, 0 to test"):
            fit_probe(probe, self.features(probe.train, 1.0))  # type: ignore[arg-type]
        with pytest.raises(DatasetError, match="0 videos of 0 classes to fit"):
            fit_probe(probe, self.features(probe.test, 1.0))  # type: ignore[arg-type]
