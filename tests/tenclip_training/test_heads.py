from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import CheckpointError
from tenclip_training.heads import Heads, heads_of

LABELS = ("verb:cut", "verb:wash", "noun:knife", "noun:pan:dust", "noun:tomato")
CONFIG = {"config": {"heads": ["verb", "noun"]}}


def test_heads_of_labels() -> None:
    heads = Heads.of(LABELS)
    assert heads is not None
    assert heads.names == ("verb", "noun")
    assert heads["noun"].labels == ("knife", "pan:dust", "tomato")
    assert [h.outputs for h in heads.heads] == [slice(0, 2), slice(2, 5)]
    assert heads.labels == LABELS
    with pytest.raises(KeyError, match="no head 'action'; there are verb, noun"):
        heads["action"]


@pytest.mark.parametrize("labels", [["run", "jump"], ["a:x", "run"], ["a:x", "a:y"], [":x", "b:y"], ["a:", "b:x"], []])
def test_labels_without_heads(labels: list[str]) -> None:
    assert Heads.of(labels) is None


def test_a_head_stands_side_by_side() -> None:
    with pytest.raises(ValueError, match="the labels of head 'a' do not stand side by side"):
        Heads.of(["a:x", "b:x", "a:y"])


def test_split_along_any_axis() -> None:
    heads = Heads.of(LABELS)
    assert heads is not None
    for values in (np.arange(20).reshape(2, 5, 2), torch.arange(20).reshape(2, 5, 2)):
        verb, noun = heads.split(values, axis=1)
        assert verb.tolist() == values[:, :2].tolist()
        assert noun.tolist() == values[:, 2:].tolist()
    assert [p.tolist() for p in heads.split(np.arange(5))] == [[0, 1], [2, 3, 4]]


def test_a_checkpoint_says_whether_it_has_heads() -> None:
    assert heads_of(LABELS, {}, source="x.pt") is None, "classes with a colon in their names"
    assert heads_of(("run", "jump"), {"config": {"heads": []}}, source="x.pt") is None
    heads = heads_of(LABELS, CONFIG, source="x.pt")
    assert heads is not None
    assert heads.names == ("verb", "noun")
    for labels in (None, ("run", "jump"), LABELS[::-1], ("verb:a", "noun:x", "verb:b")):
        with pytest.raises(CheckpointError, match=r"x\.pt: "):
            heads_of(labels, CONFIG, source="x.pt")


NAMES = st.text(st.characters(exclude_characters=":"), min_size=1, max_size=4)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(NAMES, st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4)), min_size=2, max_size=4
    )
)
def test_any_heads_come_back(parts: list[tuple[str, list[str]]]) -> None:
    names = [name for name, _ in parts]
    labels = [f"{name}:{label}" for name, members in parts for label in members]
    if len(set(names)) < len(names):
        return
    heads = Heads.of(labels)
    assert heads is not None
    assert heads.names == tuple(names)
    assert list(heads.labels) == labels
    split = heads.split(np.arange(len(labels)))
    assert np.concatenate(split).tolist() == list(range(len(labels)))
