"""A teacher that is a model of a running server: asked for the scores of all windows, through the usual client."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import InvalidRequest, MessageTooLarge, TenclipError, VideoError
from tenclip_client import Client, ModelInfo, Prediction
from tenclip_data.labels import read_class_names
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.sampler.identity import identity_of
from tenclip_training.sampler.teacher import TeacherFailed, TeacherWindows, WindowTeacher
from tenclip_training.sampler.windows import WindowGrid
from tenclip_video.bundle import BundleInfo
from tenclip_video.spec import ClipSpec
from tenclip_video.video import open_video

# Gives the arguments of `Client`, in the processes that ask, too: a function that can be pickled.
Settings = Callable[[], Mapping[str, Any]]


def served_teacher(settings: Settings, model: str = "", *, labels: Path | None = None) -> WindowTeacher:
    """A model of a server. model: "name", "name:version", or "" for the only one.

    labels: a file with its classes, where it does not name them. Raises ModelNotFound, ServerUnavailable, and
    InvalidRequest for a model without a classifier or without names of its classes.
    """
    with Client(**settings()) as client:
        info, target = client.get_model(model), client.target
    bundle = BundleInfo.from_dict(dict(info.bundle))
    classes = _classes(info, labels)
    scoring = Scoring.of_checkpoint(classes, bundle.provenance, source=info.ref)
    if scoring.heads is not None:
        raise InvalidRequest(f"model {info.ref} has the heads {' and '.join(scoring.heads.names)}; a teacher has one")
    return WindowTeacher(
        name=f"{info.ref} on {target}",
        identity=identity_of(bundle),
        spec=bundle.clip_spec,
        labels=classes,
        activation=scoring.activation,
        reader=functools.partial(_reader, settings, info.ref, bundle.clip_spec, len(classes)),
        judge=lambda _, found: found,
    )


def _classes(info: ModelInfo, labels: Path | None) -> tuple[str, ...]:
    if not info.num_classes:
        raise InvalidRequest(f"model {info.ref} has no classifier: it gives features and no classes")
    if labels is not None:
        names = tuple(read_class_names(labels).names)
        if len(names) != info.num_classes:
            raise InvalidRequest(f"{labels}: has {len(names)} classes, and model {info.ref} has {info.num_classes}")
        return names
    if info.label_source != "file":
        raise InvalidRequest(
            f"model {info.ref} does not name its classes: give the file of their names in order with --labels"
        )
    return tuple(info.labels)


def _reader(
    settings: Settings, model: str, spec: ClipSpec, num_classes: int, grid: WindowGrid
) -> functools.partial[TeacherWindows]:
    return functools.partial(ask_server, settings=settings, model=model, spec=spec, num_classes=num_classes, grid=grid)


def ask_server(
    video: SetVideo, *, settings: Settings, model: str, spec: ClipSpec, num_classes: int, grid: WindowGrid
) -> TeacherWindows:
    """The scores of a video's windows by a server's model.

    Raises VideoError, InvalidRequest and MessageTooLarge, which are about the video, and TeacherFailed for all else.
    """
    with open_video(video.path, name=video.name) as opened:
        step = grid.selection(opened, spec).window_step
    try:
        with Client(**settings()) as client:
            answer = client.predict(
                video.path,
                model=model,
                clips="windows",
                window_step=step,
                fully_convolutional=False,
                top_k=num_classes,
                clip_scores=True,
                name=video.name,
            )
    except (VideoError, InvalidRequest, MessageTooLarge):
        raise
    except TenclipError as err:
        raise TeacherFailed(err) from err
    return windows_of(answer, num_classes)


def windows_of(answer: Prediction, num_classes: int) -> TeacherWindows:
    """The clips of an answer that has all classes of each."""
    scores = np.zeros((len(answer.clips), num_classes), np.float32)
    for i, clip in enumerate(answer.clips):
        for top in clip.top:
            scores[i, top.index] = top.score
    seconds = [(c.clip.start_seconds, c.clip.end_seconds) for c in answer.clips]
    return TeacherWindows(np.array(seconds, np.float64).reshape(-1, 2), scores)
