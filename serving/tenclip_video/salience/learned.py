"""Learned scorers: small networks in ONNX files that say which windows of a video are worth classifying."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_video.salience.inputs import INPUT_SHAPES, iter_windows
from tenclip_video.salience.motion_energy import MotionEnergyScorer
from tenclip_video.salience.sampler_spec import METADATA_KEY, SamplerSpec
from tenclip_video.salience.scores import ClipScorer, WindowScores
from tenclip_video.salience.windows import input_dtype
from tenclip_video.sampling import Clip
from tenclip_video.spec import ClipSpec, require_types
from tenclip_video.video import Video

# Samplers are small; anything larger is some other network.
MAX_SAMPLER_BYTES = 4 << 20
_MAX_NAME = 128
# Windows that a network looks at together: its activations are many times its input.
_BATCH = 16
# Scores that differ by less than this share of their size are the same but for rounding.
_SAME = 1e-6
FLAT = "all windows score the same: clips are spread evenly instead"
FLAT_SOUND = "the sound of all windows scores the same: windows are ranked by pictures alone"
NOT_A_NUMBER = "the sampler's scores are not numbers: clips are spread evenly instead"
NOT_A_NUMBER_SOUND = "the scores of the sound are not numbers: windows are ranked by pictures alone"
# What NumPy and ONNX call the two types of inputs.
_ONNX_TYPES = {np.dtype(np.uint8): "tensor(uint8)", np.dtype(np.float32): "tensor(float)"}


@dataclass(frozen=True, eq=False)
class Sampler:
    """A sampler that is ready to run, made by `load_sampler`. file: what messages call it."""

    file: str
    spec: SamplerSpec
    session: Any

    def scores(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """float32 [M] of [M,T,H,W,C]. Raises BundleError where the network fails, MemoryError for lack of memory."""
        parts = [self._scores(inputs[at : at + _BATCH]) for at in range(0, len(inputs), _BATCH)]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def _scores(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        try:
            (scores,) = self.session.run(["salience"], {"windows": inputs})
        except Exception as err:  # ONNX Runtime's own exceptions have no common class
            raise _failure(err, self.file, "the sampler fails") from err
        if scores.shape != (len(inputs),):
            raise BundleError(f"{self.file}: scores of the shape {scores.shape} for {len(inputs)} windows")
        return np.asarray(scores, np.float32)


def load_sampler(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> Sampler:
    """Read a sampler from its ONNX file, or from the bytes of one.

    name: what messages call it. It runs in one thread.
    Raises MissingDependency without ONNX Runtime, BundleError for a file that is no sampler of this version,
    MemoryError where there is no memory to load it.
    """
    file = name or ("<sampler>" if isinstance(source, bytes) else os.fspath(source))
    data = source if isinstance(source, bytes) else _read(Path(source), file)
    if len(data) > MAX_SAMPLER_BYTES:
        raise BundleError(f"{file}: {len(data)} bytes; a sampler has at most {MAX_SAMPLER_BYTES}")
    session = _open_session(data, file)
    spec = _read_spec(session, file)
    _check_graph(session, spec, file)
    return Sampler(file, spec, session)


def check_clips(sampler: Sampler, model_spec: ClipSpec) -> None:
    """Raises BundleError for a sampler that was trained for other clips than those of a model."""
    spec = sampler.spec
    if (spec.clip_span, spec.target_fps) != (model_spec.span, model_spec.target_fps):
        raise BundleError(
            f"{sampler.file}: this sampler was trained for clips of {_clips(spec.clip_span, spec.target_fps)}; the "
            f"model takes clips of {_clips(model_spec.span, model_spec.target_fps)}. Train one for this model "
            "(tenclip train-sampler)"
        )


@dataclass(frozen=True, kw_only=True)
class LearnedScorer:
    """Scores clips by samplers: one that looks, and perhaps one that listens (`ClipScorer`).

    audio_clips: how many of the chosen clips are the best by sound, at most.
    """

    picture: Sampler
    sound: Sampler | None = None
    audio_clips: int = 0

    def __post_init__(self) -> None:
        if self.picture.spec.kind == "audio":
            raise BundleError(f"{self.picture.file}: this sampler listens; one that looks is needed")
        if self.sound is not None and self.sound.spec.kind != "audio":
            raise BundleError(f"{self.sound.file}: this sampler looks ({self.sound.spec.kind}); its kind must be audio")
        if self.audio_clips < 0:
            raise ValueError(f"audio_clips must not be negative, got {self.audio_clips}")

    @property
    def name(self) -> str:
        """E.g. "compressed + audio": the names of its samplers."""
        return self.picture.spec.name + (f" + {self.sound.spec.name}" if self.sound else "")

    @property
    def window_step(self) -> int:
        """Frames from one window to the next that the sampler was trained for."""
        return self.picture.spec.window_step

    def check_clips(self, model_spec: ClipSpec) -> None:
        """Raises BundleError where a sampler was trained for other clips than those of a model."""
        for sampler in (self.picture, self.sound):
            if sampler is not None:
                check_clips(sampler, model_spec)

    def score(self, video: Video, clips: Sequence[Clip]) -> WindowScores:
        """Scores of M clips, which are in the order of their first frames.

        Scores that say nothing, constant ones and those that are no numbers, become zeros with a note.
        """
        seen, notes = _scores(self.picture, video, clips)
        result = WindowScores(np.zeros(len(clips), np.float32) if seen is None else seen)
        if self.sound is not None and self.audio_clips:
            heard, more = _scores(self.sound, video, clips)
            notes += more
            if heard is not None and np.isnan(heard).any():
                heard, notes = None, (*notes, NOT_A_NUMBER_SOUND)
            if heard is not None and _is_constant(heard):
                heard, notes = None, (*notes, FLAT_SOUND) if len(clips) > 1 else notes
            result = replace(result, audio=heard, audio_clips=self.audio_clips)
        if np.isnan(result.video).any():
            result, notes = replace(result, video=np.zeros_like(result.video)), (*notes, NOT_A_NUMBER)
        elif len(clips) > 1 and _is_constant(result.video):
            result = replace(result, video=np.zeros_like(result.video))
            notes = (*notes, FLAT) if result.audio is None else notes
        return replace(result, notes=tuple(dict.fromkeys(notes)))


def scorer_by_name(name: str) -> ClipScorer:
    """A scorer that needs no file: "motion-energy". Raises ValueError for another name."""
    scorers: dict[str, ClipScorer] = {scorer.name: scorer for scorer in (MotionEnergyScorer(),)}
    if name not in scorers:
        raise ValueError(f"scorer {name!r} is not one of {', '.join(scorers)}")
    return scorers[name]


@dataclass(frozen=True, kw_only=True)
class SamplerFiles:
    """The samplers of a model as they travel to a decode process: the bytes of their ONNX files.

    names: of the files, for messages. window_step: `SamplerSpec.window_step` of the one that looks. digest: SHA-256 of
    both files and `audio_clips`; a process that has these files already is sent no bytes.
    """

    picture: bytes
    sound: bytes | None = None
    audio_clips: int = 0
    names: tuple[str, str] = ("salience.onnx", "salience_audio.onnx")
    window_step: int
    digest: str

    @property
    def without_bytes(self) -> SamplerFiles:
        """What is sent to a process that has the bytes."""
        return replace(self, picture=b"", sound=None)

    def scorer(self) -> LearnedScorer:
        """Raises what `load_sampler` raises."""
        sound = None if self.sound is None else load_sampler(self.sound, name=self.names[1])
        return LearnedScorer(
            picture=load_sampler(self.picture, name=self.names[0]), sound=sound, audio_clips=self.audio_clips
        )


def read_sampler_files(
    picture: Path, sound: Path | None = None, *, audio_clips: int = 0, model_spec: ClipSpec | None = None
) -> SamplerFiles:
    """Read and check the samplers of a model. model_spec: its clips, which must be those that they were trained for.

    Raises MissingDependency, and BundleError with the name of the file at fault.
    """
    data = _read(picture, str(picture))
    heard = None if sound is None else _read(sound, str(sound))
    digest = hashlib.sha256(b"".join(hashlib.sha256(part or b"").digest() for part in (data, heard)))
    digest.update(f"{audio_clips} {sound is not None}".encode())
    files = SamplerFiles(
        picture=data,
        sound=heard,
        audio_clips=audio_clips,
        names=(str(picture), str(sound or "")),
        window_step=1,
        digest=digest.hexdigest(),
    )
    scorer = files.scorer()
    if model_spec is not None:
        scorer.check_clips(model_spec)
    # What is wrong with a file is said here, with its path; clients, who may hear of it later, learn no paths.
    names = (picture.name, "" if sound is None else sound.name)
    return replace(files, names=names, window_step=scorer.window_step)


def _scores(
    sampler: Sampler, video: Video, clips: Sequence[Clip]
) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """(scores of all clips, None where there is nothing to see or hear; notes)."""
    parts: list[NDArray[np.float32]] = []
    notes: tuple[str, ...] = ()
    for group in iter_windows(video, clips, sampler.spec):
        notes += group.notes
        if group.inputs is None:
            return None, notes
        parts.append(sampler.scores(group.inputs))
    return np.concatenate([np.empty(0, np.float32), *parts]), tuple(dict.fromkeys(notes))


def _is_constant(scores: NDArray[np.float32]) -> bool:
    return len(scores) < 2 or float(np.ptp(scores)) <= _SAME * max(1.0, float(np.abs(scores).max()))


def _clips(span: int, target_fps: float | None) -> str:
    return f"{span} frames" + (" of the video's own rate" if target_fps is None else f" at {target_fps:g} a second")


def _read(path: Path, file: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise BundleError(f"{file}: cannot be read: {err.strerror or err}") from err


def _open_session(data: bytes, file: str) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as err:
        raise MissingDependency("samplers need ONNX Runtime: pip install 'tenclip[serve]'") from err
    except ImportError as err:
        if _tells_of_memory(err):
            raise MemoryError(f"no memory to load ONNX Runtime: {err}") from err
        raise MissingDependency(f"ONNX Runtime, which samplers need, cannot be loaded: {err}") from err
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # as above
        raise _failure(err, file, "is no ONNX file that ONNX Runtime reads") from err


def _read_spec(session: Any, file: str) -> SamplerSpec:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise BundleError(
            f"{file}: is no sampler: its metadata have no {METADATA_KEY} (tenclip train-sampler writes it)"
        )
    try:
        spec = SamplerSpec.from_json(text)
        require_types(spec)
    except (ValueError, TypeError, AttributeError) as err:
        raise BundleError(f"{file}: {METADATA_KEY} of its metadata: {err}") from err
    if len(spec.name) > _MAX_NAME:
        raise BundleError(f"{file}: its metadata have a name of {len(spec.name)} characters; {_MAX_NAME} are the most")
    return spec


def _check_graph(session: Any, spec: SamplerSpec, file: str) -> None:
    inputs = [(i.name, list(i.shape)[1:], i.type) for i in session.get_inputs()]
    expected = [("windows", list(spec.input_shape), _ONNX_TYPES[np.dtype(input_dtype(spec))])]
    if inputs != expected:
        raise BundleError(
            f"{file}: its input is {_described(inputs)}; {spec.kind} samplers take {_described(expected)}"
        )
    if spec.channels != INPUT_SHAPES[spec.kind][3] or (spec.kind == "audio" and spec.width != 1):
        raise BundleError(
            f"{file}: windows of {spec.height}x{spec.width} with {spec.channels} channels; those of {spec.kind} "
            f"samplers have {INPUT_SHAPES[spec.kind][3]} channels"
            + (" and a width of 1" if spec.kind == "audio" else "")
        )
    outputs = [(o.name, len(o.shape), o.type) for o in session.get_outputs()]
    if outputs != [("salience", 1, "tensor(float)")]:
        names = ", ".join(f"{name} of {rank} dimensions, {kind}" for name, rank, kind in outputs)
        raise BundleError(f"{file}: its output is {names}; samplers give salience [M], tensor(float)")


def _described(inputs: list[tuple[str, list[Any], str]]) -> str:
    return ", ".join(f"{name} [M,{','.join(map(str, shape))}] {kind}" for name, shape, kind in inputs)


def _failure(err: Exception, file: str, what: str) -> BundleError | MemoryError:
    """The error for what ONNX Runtime raises, which says in words alone that memory ran out."""
    lines = str(err).strip().splitlines() or [type(err).__name__]
    message = f"{file}: {what}: {lines[0]:.300}"
    return MemoryError(message) if _tells_of_memory(err) else BundleError(message)


def _tells_of_memory(err: Exception) -> bool:
    """Also the loader's words for a library for which there is no address space."""
    return isinstance(err, MemoryError) or any(
        words in str(err)
        for words in ("bad_alloc", "failed to map segment", "Cannot allocate memory", "Failed to allocate")
    )
