from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import CheckpointError
from tenclip_training.data.augment import Augmentation
from tenclip_training.runs.config import TrainConfig, read_config
from tenclip_video.spec import ClipSpec, Resize


def test_round_trip_through_json() -> None:
    config = TrainConfig(
        manifest="m.csv",
        out="run",
        clip_spec=ClipSpec(num_frames=8, resize=Resize(height=64, width=86), crop=56, fully_convolutional_crop=None),
        augmentation=Augmentation(scale=(0.5, 1.0), flip=None),
        model={"width": 16, "stages": [1, 1, 1, 1]},
        heads=("verb", "noun"),
    )
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    plain = TrainConfig(manifest="m.csv", out="run")
    assert TrainConfig.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": 0.0}, r"lr must be above 0, got 0\.0"),
        ({"warmup_epochs": 45}, "warmup_epochs: 45 of 45 epochs in all"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0"),
        ({"momentum": 1.0}, "momentum"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"max_failures": 2.0}, "max_failures must be from 0 to 1"),
        ({"algorithm": "adam"}, "algorithm 'adam' is not one of sgd, adamw"),
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"missing": "skip"}, "missing 'skip'"),
        ({"heads": ("verb",)}, "heads are two columns or more, got verb"),
        ({"heads": ("verb", "verb")}, "head 'verb' is named twice"),
        ({"heads": ("verb", "noun"), "label_column": "label"}, "one label column .* or several heads"),
        ({"heads": ("verb", "noun"), "loss": "sigmoid"}, "heads have a softmax each"),
        ({"heads": ("verb", "noun"), "tags": "draw"}, "tags 'draw' would train one head of each clip"),
        ({"val_protocol": "11-clip"}, "val_protocol '11-clip' is not one of ten-clip"),
        (
            {"clip_spec": ClipSpec(resize=Resize(height=64, width=86), crop=80, fully_convolutional_crop=None)},
            "crop of 80",
        ),
        ({"clip_spec": ClipSpec(resize=Resize(mode="short_edge", short_edge=120), crop=112)}, "crop of 128"),
    ],
)
def test_bad_values_are_named(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(manifest="m.csv", out="run").changed(**bad)


def test_read_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not the folder of a training run"):
        read_config(tmp_path)
    path = tmp_path / "config.json"
    config = TrainConfig(manifest="m.csv", out="run")
    path.write_text(json.dumps(config.to_dict()))
    assert read_config(tmp_path) == config
    for text, message in (("{", "config.json"), ("[]", "config.json"), ('{"wings": 2}', "no field wings")):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            read_config(tmp_path)


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig(manifest="m.csv", out="run").epochs = 3  # type: ignore[misc]


def test_changed_takes_fields_of_all_sections() -> None:
    config = TrainConfig(manifest="m.csv", out="run", epochs=20)
    other = config.changed(lr=0.3, epochs=10, num_frames=8, warmup_epochs=2.0, clip_spec=ClipSpec())
    assert (other.optimizer.lr, other.epochs, other.clip.num_frames) == (0.3, 10, 8)
    assert (other.schedule.warmup_epochs, other.clip_spec) == (2.0, ClipSpec())
    assert config.optimizer.lr == 0.01, "the config itself stays"
    with pytest.raises(TypeError, match="learning_rate"):
        config.changed(learning_rate=0.1)
