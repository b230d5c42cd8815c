from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.setup import build_dataset, is_test_split, read_splits
from tests.tenclip_training.conftest import SPEC


def test_labels_of_a_direction_are_not_mirrored(train_config: TrainConfig) -> None:
    config = train_config.changed(augmentation=dataclasses.replace(train_config.augmentation, flip=None))
    assert build_dataset(config, read_splits(config).train, SPEC).augmentation.flip is False
    by_speed = read_splits(config.changed(label_column="speed"))
    assert build_dataset(config, by_speed.train, SPEC).augmentation.flip is True


def test_the_split_val_is_validated_and_chosen_on(train_config: TrainConfig) -> None:
    splits = read_splits(train_config)
    assert splits.val is not None
    assert (splits.val_split, splits.selects_best, splits.note, len(splits.val.samples)) == ("val", True, "", 4)


def test_other_spellings_of_val_and_train_are_the_same_splits(train_config: TrainConfig) -> None:
    splits = read_splits(train_config.changed(train_split="training", val_split="validation"))
    assert (len(splits.train.samples), splits.val_split, splits.selects_best) == (12, "val", True)


def test_a_test_split_is_left_alone_unless_named(train_config: TrainConfig, action_videos: Path) -> None:
    config = train_config.changed(manifest=str(action_videos))
    splits = read_splits(config)
    assert (splits.val, splits.val_split, splits.selects_best) == (None, None, False)
    named = read_splits(config.changed(val_split="test"))
    assert named.val is not None
    assert not named.selects_best
    assert "never chosen on a test split" in named.note


@pytest.mark.parametrize(("name", "is_test"), [("test", True), ("Testing", True), ("test2", True), ("val", False)])
def test_test_splits_are_told_by_their_name(name: str, is_test: bool) -> None:
    assert is_test_split(name) is is_test
