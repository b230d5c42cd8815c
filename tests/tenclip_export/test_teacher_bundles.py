"""A bundle as a teacher of `tenclip omni filter`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tenclip_export.bundle_writer import export_bundle
from tenclip_training.models import create_model
from tenclip_training.omni.teacher_clips import TeacherClips
from tenclip_training.omni.teachers import open_teacher
from tenclip_video.bundle import Bundle
from tenclip_video.protocols import softmax


def test_a_bundle_of_a_network_of_clips(bundle: Bundle) -> None:
    teacher = open_teacher(str(bundle.path), threads=1)
    assert teacher.labels == tuple(bundle.labels)
    assert not teacher.of_frames
    clips = bundle.golden.clips[:2]
    scores = teacher.scores(TeacherClips(clips, views=1), of="golden clips")
    logits = teacher.runtime.run(np.ascontiguousarray(clips)).logits
    np.testing.assert_allclose(scores, softmax(logits.mean(2), axis=1).mean(0), atol=1e-6)


def test_a_bundle_of_a_network_of_frames(bundle: Bundle, tmp_path: Path) -> None:
    spec = replace(bundle.info.clip_spec, num_frames=1, fully_convolutional_crop=None)
    model = create_model("r2d_18", num_classes=2, width=8, stages=[1, 1, 1, 1], num_frames=1, crop=spec.crop).eval()
    made = export_bundle(model, spec, tmp_path, name="frames", labels=("a", "b"), runtimes=["onnxruntime"])
    teacher = open_teacher(str(made.path), threads=1)
    assert teacher.of_frames
    assert teacher.labels == ("a", "b")
    assert teacher.frame_scores(np.zeros((3, spec.crop, spec.crop, 3), np.uint8), of="x").shape == (3, 2)
