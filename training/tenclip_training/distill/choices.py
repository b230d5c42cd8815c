"""What the settings of a distillation choose from: names alone, so that `tenclip distill --help` loads no torch."""

from __future__ import annotations

from typing import Literal

FrameChoice = Literal["random", "center", "uniform", "all"]
TeacherView = Literal["clip", "frame"]
TeacherRuntime = Literal["auto", "openvino", "onnxruntime", "torch"]
DistillLoss = Literal["cross-entropy", "mse"]
Normaliser = Literal["kept", "all"]
