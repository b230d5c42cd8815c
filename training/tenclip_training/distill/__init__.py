"""DistInit: a network of clips learns from networks of frames, on videos without labels (Girdhar et al. 2019).

frame_choice    which frames of a clip a teacher looks at
choices         names of what can be chosen
views           which part of them
networks        what runs a teacher: OpenVINO, ONNX Runtime, torch
teacher         a teacher with its own input
sources         teachers by package, checkpoint, ONNX file (`onnx_teacher`) and bundle
targets         mean logits, softmax, entropy, threshold
objective       the student's loss, a linear head for each teacher
frame_stream    what teachers say of whole videos, a part at a time
cache           teachers' outputs in Parquet, resumable
videos          folders and lists without labels
dataset         clips with what their teachers see
config, method, run    settings, the training method, and `distill` itself
dry_run         what it would do
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenclip_training.distill.cache import OutputCache as OutputCache
    from tenclip_training.distill.config import DistillConfig as DistillConfig
    from tenclip_training.distill.config import TeachingConfig as TeachingConfig
    from tenclip_training.distill.run import DistillResult as DistillResult
    from tenclip_training.distill.run import distill as distill
    from tenclip_training.distill.sources import load_teacher as load_teacher
    from tenclip_training.distill.sources import load_teachers as load_teachers
    from tenclip_training.distill.teacher import FrameTeacher as FrameTeacher
    from tenclip_training.distill.videos import read_unlabelled as read_unlabelled

# Where each public name is from.
_MODULES = {
    "DistillConfig": "config",
    "TeachingConfig": "config",
    "distill": "run",
    "DistillResult": "run",
    "load_teacher": "sources",
    "load_teachers": "sources",
    "FrameTeacher": "teacher",
    "OutputCache": "cache",
    "read_unlabelled": "videos",
}

__all__ = [
    "DistillConfig",
    "TeachingConfig",
    "distill",
    "DistillResult",
    "load_teacher",
    "load_teachers",
    "FrameTeacher",
    "OutputCache",
    "read_unlabelled",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
