from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Manifest, Sample
from tenclip_training.curation.merging import canonical, merge


def dataset(videos: Mapping[str, str], **options: Any) -> Manifest:
    samples = tuple(Sample(path=Path(p), name=Path(p).name, labels=(label,), **options) for p, label in videos.items())
    return Manifest(source=Path("m.csv"), samples=samples, labels=tuple(sorted(set(videos.values()))))


def test_label_spaces_are_concatenated() -> None:
    """700 classes of Kinetics and 339 of Moments in Time are 1,039, whatever names they share."""
    kinetics = dataset({f"/k/{i}.mp4": f"class {i}" for i in range(700)})
    moments = dataset({f"/m/{i}.mp4": f"class {i}" for i in range(339)})
    merged = merge({"K": kinetics, "M": moments})
    assert len(merged.labels) == 1039
    assert merged.labels[:700] == tuple(f"K/{label}" for label in kinetics.labels)
    assert len(merged.collisions) == 339
    assert merged.collisions["class5"] == (("K", "class 5"), ("M", "class 5"))
    assert len(merge({"K": kinetics, "M": moments}, unify=True).labels) == 700


LABELS = st.sets(st.sampled_from(["run", "Run", "high jump", "high_jump", "swim", "sit/stand"]), min_size=1)


@given(LABELS, LABELS)
def test_every_label_leads_back(one: set[str], other: set[str]) -> None:
    datasets = {"A": dataset({f"/a/{x}": x for x in one}), "B": dataset({f"/b/{x}": x for x in other})}
    merged = merge(datasets)
    assert len(set(merged.labels)) == len(one) + len(other)
    for sample in merged.samples:
        name, _, label = sample.labels[0].partition("/")
        assert (name, label) == (sample.extra["source"], sample.extra["source_label"])
        assert label in datasets[name].labels
    unified = merge(datasets, unify=True)
    assert {canonical(label) for label in unified.labels} == {canonical(label) for label in one | other}
    assert {label for s in unified.samples for label in s.labels} == set(unified.labels)
    for name, labels in (("A", one), ("B", other)):
        assert len({s.labels for s in unified.samples if s.extra["source"] == name}) == len(labels)


def test_two_classes_of_one_dataset_stay_two() -> None:
    merged = merge({"A": dataset({"/a": "run", "/b": "Run!"}), "B": dataset({"/c": "RUN"})}, unify=True)
    assert set(merged.labels) == {"run", "Run!"}
    assert merged.samples[2].labels[0] in merged.labels


def test_two_classes_of_a_later_dataset_stay_two() -> None:
    """As many classes as the dataset with most of them; an equal name goes before a like one."""
    second = merge({"A": dataset({"/a": "RUN"}), "B": dataset({"/b": "run", "/c": "Run!"})}, unify=True)
    assert [s.labels[0] for s in second.samples] == ["RUN", "run", "RUN"], "labels are in their order, Run! first"
    equal = merge({"A": dataset({"/a": "Run!"}), "B": dataset({"/b": "RUN", "/c": "Run!"})}, unify=True)
    assert [s.labels[0] for s in equal.samples] == ["Run!", "RUN", "Run!"]
    third = merge(
        {
            "A": dataset({"/a": "RUN"}),
            "B": dataset({"/b": "run", "/c": "Run!"}),
            "C": dataset({"/d": "run", "/e": "r u n"}),
        },
        unify=True,
    )
    assert [s.labels[0] for s in third.samples] == ["RUN", "run", "RUN", "run", "RUN"]


def test_a_file_in_two_datasets_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    os.link(tmp_path / "a.mp4", tmp_path / "other.mp4")
    one = dataset({f"{tmp_path}/a.mp4": "run", f"{tmp_path}/gone.mp4": "swim"}, split="train")
    other = dataset({f"{tmp_path}/other.mp4": "jog"}, split="test")
    merged = merge({"A": one, "B": other})
    assert [s.labels for s in merged.samples] == [("A/run", "B/jog"), ("A/swim",)]
    assert merged.samples[0].split == "test"  # never trained on
    assert merged.samples[0].extra["source"] == "A;B"
    assert merged.videos_twice == ("a.mp4",)
    assert merged.splits_changed == ("a.mp4",)


def test_a_dataset_without_splits_is_for_training() -> None:
    merged = merge({"A": dataset({"/a": "run"}), "B": dataset({"/b": "run"}, split="val")})
    assert [s.split for s in merged.samples] == ["train", "val"]
    assert [s.split for s in merge({"A": dataset({"/a": "x"}), "B": dataset({"/b": "x"})}).samples] == ["", ""]


def test_what_cannot_be_merged() -> None:
    with pytest.raises(DatasetError, match="two or more; got 1"):
        merge({"A": dataset({"/a": "x"})})
    with pytest.raises(DatasetError, match="'A/B' is no name"):
        merge({"A/B": dataset({"/a": "x"}), "C": dataset({"/b": "x"})})


def test_canonical_names() -> None:
    assert canonical("Riding_a Bike") == canonical("riding-a-bike") == "ridingabike"
    assert canonical("!?") == "!?"
