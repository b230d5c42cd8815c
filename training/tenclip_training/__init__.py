"""Train, fine-tune and evaluate video action-recognition models, and load public checkpoints.

::

    from tenclip_training import TrainConfig, evaluate, load_checkpoint, read_manifest, train

    result = train(TrainConfig(manifest="videos/manifest.csv", out="run", epochs=10))
    print(result.history[-1].val_video_top1, result.best)

    model, clip_spec, provenance = load_checkpoint(result.best)  # ours and public ones alike
    scores = evaluate(result.best, read_manifest("videos/manifest.csv"), split="test")
    print(scores.video_top1)  # 93.75% (75 of 80)

A model takes float32 clips [B,3,T,H,W], which `normalise(clips, clip_spec)` makes of uint8 ones [B,T,H,W,3], and
returns logits [B,K,P] and features [B,D]. Whatever a user can get wrong raises an error of `tenclip_api.errors`, or
ValueError for a setting that cannot be.

Everything here is loaded when it is first used, for most of it brings torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenclip_data.manifest import read_manifest as read_manifest
    from tenclip_training.data.augment import Augmentation as Augmentation
    from tenclip_training.data.clip_overrides import ClipOverrides as ClipOverrides
    from tenclip_training.evaluation.actions import evaluate_actions as evaluate_actions
    from tenclip_training.evaluation.actions import head_names as head_names
    from tenclip_training.evaluation.actions import load_action_models as load_action_models
    from tenclip_training.evaluation.evaluate import EvaluationResult as EvaluationResult
    from tenclip_training.evaluation.evaluate import evaluate as evaluate
    from tenclip_training.loaders import load_checkpoint as load_checkpoint
    from tenclip_training.models import ARCHITECTURES as ARCHITECTURES
    from tenclip_training.models import VideoModel as VideoModel
    from tenclip_training.models import create_model as create_model
    from tenclip_training.preprocess import normalise as normalise
    from tenclip_training.runs.checkpoint import save_checkpoint as save_checkpoint
    from tenclip_training.runs.config import TrainConfig as TrainConfig
    from tenclip_training.runs.config import read_config as read_config
    from tenclip_training.runs.results import EpochResult as EpochResult
    from tenclip_training.runs.results import Progress as Progress
    from tenclip_training.runs.results import TrainResult as TrainResult
    from tenclip_training.runs.train import train as train

# Where each public name is from.
_MODULES = {
    "load_checkpoint": "tenclip_training.loaders",
    "save_checkpoint": "tenclip_training.runs.checkpoint",
    "create_model": "tenclip_training.models",
    "ARCHITECTURES": "tenclip_training.models",
    "VideoModel": "tenclip_training.models",
    "normalise": "tenclip_training.preprocess",
    "train": "tenclip_training.runs.train",
    "TrainConfig": "tenclip_training.runs.config",
    "read_config": "tenclip_training.runs.config",
    "ClipOverrides": "tenclip_training.data.clip_overrides",
    "Augmentation": "tenclip_training.data.augment",
    "TrainResult": "tenclip_training.runs.results",
    "EpochResult": "tenclip_training.runs.results",
    "Progress": "tenclip_training.runs.results",
    "evaluate": "tenclip_training.evaluation.evaluate",
    "EvaluationResult": "tenclip_training.evaluation.evaluate",
    "load_action_models": "tenclip_training.evaluation.actions",
    "head_names": "tenclip_training.evaluation.actions",
    "evaluate_actions": "tenclip_training.evaluation.actions",
    "read_manifest": "tenclip_data.manifest",
}

__all__ = [
    "load_checkpoint",
    "save_checkpoint",
    "create_model",
    "ARCHITECTURES",
    "VideoModel",
    "normalise",
    "train",
    "TrainConfig",
    "read_config",
    "ClipOverrides",
    "Augmentation",
    "TrainResult",
    "EpochResult",
    "Progress",
    "evaluate",
    "EvaluationResult",
    "load_action_models",
    "head_names",
    "evaluate_actions",
    "read_manifest",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
