"""Teachers: networks trained on the target set, which say what web data show (OmniSource, section 3.4).

Each is named by a bundle's folder or a checkpoint, and runs on a runtime of the server. Its input is its own: size,
resize, normalisation and colour order have nothing to do with the student's. The paper's best teacher is an ensemble;
here several teachers are one by the mean of their scores, classes matched by name.

K classes; a network of frames ("2D") looks at no frame together with another one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, ModelError
from tenclip_data.labels import read_class_names
from tenclip_training.omni.networks import FrameNetwork, network_of_bundle, network_of_checkpoint
from tenclip_training.omni.rows_file import Rows
from tenclip_training.omni.teacher_clips import TeacherClips
from tenclip_video.protocols import PROTOCOLS, Protocol
from tenclip_video.spec import ClipSpec

if TYPE_CHECKING:
    from tenclip_serving.runtimes import Runtime
    from tenclip_training.evaluation.scoring import Scoring
    from tenclip_video.aggregate import Outputs

_BATCH = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """name: as it was asked for. identity: tells teachers apart. spec: its input; labels: its classes in order.
    of_frames: a 2D network. protocol: which clips of a video it sees.
    """

    name: str
    identity: str
    spec: ClipSpec
    labels: tuple[str, ...]
    of_frames: bool
    protocol: Protocol
    scoring: Scoring
    runtime: Runtime

    @property
    def recipe(self) -> str:
        """All that its scores follow from."""
        values = {"spec": self.spec.to_dict(), "protocol": dataclasses.asdict(self.protocol), "labels": self.labels}
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.identity}, {self.protocol.name}, {digest} v1"

    @property
    def folder(self) -> str:
        """A name for the folder of its scores."""
        return hashlib.sha256(self.recipe.encode()).hexdigest()[:16]

    def scores(self, clips: TeacherClips, *, of: str) -> NDArray[np.float32]:
        """The scores of one video, float32 [K], which sum to 1 unless the teacher has sigmoids.

        Raises ModelError where they are no numbers.
        """
        outputs = [self._run(part, of) for part in _parts(clips.clips)]
        return self.scoring.aggregate(outputs, self.protocol.averaging, views=clips.views).probabilities

    def clip_scores(self, clips: NDArray[np.uint8], *, of: str) -> NDArray[np.float32]:
        """The scores of single views of clips uint8 [M,T,S,S,3] by themselves, float32 [M,K].

        Raises ModelError where they are no numbers.
        """
        outputs = [self._run(part, of) for part in _parts(clips)]
        return self.scoring.aggregate(outputs, self.protocol.averaging, views=1).clip_probabilities

    def frame_scores(self, frames: Rows, *, of: str) -> NDArray[np.float32]:
        """The scores of frames uint8 RGB [F,S,S,3] by themselves, float32 [F,K]; in a network of T frames, each is in
        all T places. Raises ModelError where they are no numbers.
        """
        rows = []
        for part in _parts(frames):
            ordered = part if self.spec.color_order == "rgb" else part[..., ::-1]
            outputs = self._run(np.ascontiguousarray(np.repeat(ordered[:, None], self.spec.num_frames, axis=1)), of)
            found = self.scoring.aggregate([outputs], self.protocol.averaging, views=1)
            rows.append(found.clip_probabilities)
        return np.concatenate(rows)

    def _run(self, clips: NDArray[np.uint8], of: str) -> Outputs:
        outputs = self.runtime.run(clips)
        if not np.isfinite(outputs.logits).all():
            raise ModelError(
                f"teacher {self.name} gives scores that are no numbers (NaN or infinity) for {of}: its weights, or "
                "mean and std of its input, are not what they should be; nothing can be filtered by it"
            )
        return outputs


def _parts(rows: Rows) -> Iterator[NDArray[np.uint8]]:
    """One at a time: they may be more than memory holds."""
    return (np.ascontiguousarray(rows[i : i + _BATCH]) for i in range(0, len(rows), _BATCH))


def open_teacher(name: str, *, labels: Path | None = None, protocol: str | None = None, threads: int = 0) -> Teacher:
    """Load a teacher: a bundle's folder, or a checkpoint. labels: a file with its classes, where it does not name them.
    protocol: None takes its own. threads: 0 lets the runtime choose.

    Raises InvalidRequest for one that does not know its classes or has several heads, CheckpointError, BundleError,
    MissingDependency.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise InvalidRequest(f"protocol {protocol!r} is not one of {', '.join(PROTOCOLS)}")
    path = Path(name)
    if path.is_dir():
        return _of_bundle(name, path, labels, protocol, threads)
    if path.is_file():
        return _of_checkpoint(name, path, labels, protocol, threads)
    raise InvalidRequest(f"teacher {name!r} is neither a bundle's folder nor a checkpoint")


def _of_bundle(name: str, folder: Path, labels: Path | None, protocol: str | None, threads: int) -> Teacher:
    from tenclip_training.evaluation.scoring import Scoring
    from tenclip_video.bundle import read_bundle

    bundle = read_bundle(folder)
    info = bundle.info
    if info.features_only:
        raise InvalidRequest(f"teacher {name} has no classifier: it gives features and no classes")
    own = tuple(bundle.labels) if info.label_source == "file" else None
    classes = _classes(name, own, labels, info.num_classes)
    scoring = Scoring.of_checkpoint(own, info.provenance, source=name)
    _check(name, scoring, PROTOCOLS[protocol or info.default_protocol])
    return _teacher(
        network_of_bundle(name, bundle, threads=threads),
        labels=classes,
        of_frames=_looks_at_frames(info.architecture),
        protocol=PROTOCOLS[protocol or info.default_protocol],
        scoring=scoring,
    )


def _of_checkpoint(name: str, path: Path, labels: Path | None, protocol: str | None, threads: int) -> Teacher:
    from tenclip_training.evaluation.scoring import Scoring
    from tenclip_training.loaders import load_any
    from tenclip_training.models.inflate import is_frame_model

    loaded = load_any(path)
    classes = _classes(name, loaded.labels, labels, loaded.model.num_classes)
    scoring = Scoring.of_checkpoint(loaded.labels, loaded.provenance, source=name)
    _check(name, scoring, PROTOCOLS[protocol or loaded.protocol])
    return _teacher(
        network_of_checkpoint(name, path, loaded, threads=threads),
        labels=classes,
        of_frames=is_frame_model(loaded.model),
        protocol=PROTOCOLS[protocol or loaded.protocol],
        scoring=scoring,
    )


def _teacher(
    network: FrameNetwork, *, labels: tuple[str, ...], of_frames: bool, protocol: Protocol, scoring: Scoring
) -> Teacher:
    return Teacher(
        name=network.name,
        identity=network.identity,
        spec=network.spec,
        labels=labels,
        of_frames=of_frames,
        protocol=protocol,
        scoring=scoring,
        runtime=network.runtime,
    )


def _classes(name: str, own: tuple[str, ...] | None, given: Path | None, count: int) -> tuple[str, ...]:
    """The teacher's classes: its own, or those of the file that is given. Raises InvalidRequest, DatasetError."""
    if given is None:
        if own is None:
            raise InvalidRequest(
                f"teacher {name} does not name its classes: give the file of their names in order with --labels"
            )
        return own
    names = tuple(read_class_names(given).names)
    if len(names) != count:
        raise InvalidRequest(f"{given}: has {len(names)} classes, and teacher {name} has {count}")
    if own is not None and own != names:
        raise InvalidRequest(f"{given}: teacher {name} names its classes itself, and they are others")
    return names


def _check(name: str, scoring: Scoring, protocol: Protocol) -> None:
    """Raise InvalidRequest for a teacher of several heads, and a protocol that does not fit its loss."""
    if scoring.heads is not None:
        heads = " and ".join(scoring.heads.names)
        raise InvalidRequest(f"teacher {name} has the heads {heads}; a teacher has one classifier, that of the target")
    scoring.check(protocol)


def _looks_at_frames(architecture: str) -> bool:
    """Whether an architecture of that name has no kernel over time; nothing is allocated to find out."""
    import torch

    from tenclip_training.models import ARCHITECTURES, create_model
    from tenclip_training.models.inflate import is_frame_model

    if architecture not in ARCHITECTURES:
        return False
    with torch.device("meta"):
        return is_frame_model(create_model(architecture, num_classes=1))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Teachers that answer as one: the mean of their scores, in the order of the first one's labels."""

    teachers: tuple[Teacher, ...]

    def __post_init__(self) -> None:
        first = self.teachers[0]
        for other in self.teachers[1:]:
            if set(other.labels) != set(first.labels):
                odd = sorted(set(other.labels) ^ set(first.labels))[:3]
                raise InvalidRequest(
                    f"teachers {first.name} and {other.name} do not know the same classes ({', '.join(odd)}, ...); "
                    "teachers of one target set answer together"
                )

    @property
    def labels(self) -> tuple[str, ...]:
        return self.teachers[0].labels

    @property
    def name(self) -> str:
        """The names of all."""
        return " + ".join(t.name for t in self.teachers)

    @property
    def of_frames(self) -> bool:
        """Whether all of them are 2D networks."""
        return all(t.of_frames for t in self.teachers)

    def mean(self, scores: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The mean of the teachers' scores [...,K], each in its own order of classes."""
        total = np.zeros(scores[0].shape, np.float64)
        for teacher, part in zip(self.teachers, scores, strict=True):
            order = [teacher.labels.index(label) for label in self.labels]
            total += part[..., order]
        return (total / len(self.teachers)).astype(np.float32)


def open_teachers(
    names: Sequence[str], *, labels: Path | None = None, protocol: str | None = None, threads: int = 0
) -> Ensemble:
    """See `open_teacher`. Raises InvalidRequest for teachers of different classes."""
    return Ensemble(tuple(open_teacher(n, labels=labels, protocol=protocol, threads=threads) for n in names))


def refuse_images(ensemble: Ensemble, num_images: int) -> None:
    """Raise InvalidRequest where images are to be scored by a network of clips."""
    deep = [t.name for t in ensemble.teachers if not t.of_frames]
    if num_images and deep:
        raise InvalidRequest(
            f"{num_images} of the files are images, and {', '.join(deep)} looks over time: made to look at stills it "
            "is far worse than a network of frames (OmniSource, section 3.4); name a network of frames (tsn_r50, "
            "tsn_efficientnet_lite0, r2d_18, ...) for them, or leave the images out"
        )
