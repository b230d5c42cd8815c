"""What is held out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, Sample, stratified_split


def manifest_of(names: dict[str, str]) -> Manifest:
    samples = tuple(Sample(path=Path(n), name=n, labels=(c,)) for n, c in names.items())
    return Manifest(source=Path("m"), samples=samples, labels=tuple(sorted(set(names.values()))))


@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1),
    held_out=st.floats(0.05, 0.9),
    seed=st.integers(0, 5),
)
def test_stratified_split_holds_out_of_every_class(counts: dict[str, int], held_out: float, seed: int) -> None:
    names = {f"{c}{i}": c for c, n in counts.items() for i in range(n)}
    if max(counts.values()) == 1 and all(round(held_out * n) == 0 for n in counts.values()):
        with pytest.raises(DatasetError, match="none can be held out"):
            stratified_split(manifest_of(names), held_out=held_out, seed=seed)
        return
    split = stratified_split(manifest_of(names), held_out=held_out, seed=seed)
    held = Counter(s.labels[0] for s in split.samples if s.split == "val")
    for label, count in counts.items():
        assert held[label] == max(round(count * held_out), 1 if count > 1 else 0)
    # The order of the files does not matter.
    backwards = stratified_split(manifest_of(dict(reversed(names.items()))), held_out=held_out, seed=seed)
    assert {s.name: s.split for s in backwards.samples} == {s.name: s.split for s in split.samples}


def test_stratified_split_depends_on_the_seed_and_not_on_other_classes() -> None:
    names = {f"a{i}": "a" for i in range(40)}
    splits = [{s.name: s.split for s in stratified_split(manifest_of(names), seed=k).samples} for k in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    more = names | {f"b{i}": "b" for i in range(7)}
    with_more = {s.name: s.split for s in stratified_split(manifest_of(more), seed=0).samples}
    assert {n: with_more[n] for n in names} == splits[0]


def test_parts_of_one_video_stay_on_one_side() -> None:
    samples = tuple(
        Sample(path=Path(f"{v}"), name=f"{v}", labels=("a",), start_seconds=float(t), end_seconds=t + 1.0)
        for v in range(6)
        for t in range(3)
    )
    split = stratified_split(Manifest(source=Path("m"), samples=samples, labels=("a",)), held_out=0.3)
    assert all(len({s.split for s in split.samples if s.name == str(v)}) == 1 for v in range(6))


def test_bad_held_out() -> None:
    with pytest.raises(DatasetError, match="between 0 and 1"):
        stratified_split(manifest_of({"a": "a"}), held_out=1.0)
