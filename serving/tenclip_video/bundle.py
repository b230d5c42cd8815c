"""Bundles: the directory `NAME/VERSION/` that export writes and serving reads.

`bundle.json`, `model.onnx`, `labels.txt`, `golden.npz` and optional variants. Reading checks everything that can be
checked without a runtime; outputs are checked by replaying `golden.npz` (see `tenclip_serving.models.repository`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import BundleError
from tenclip_video.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from tenclip_video.salience.stopping import StoppingRule, all_rules, read_rules
from tenclip_video.spec import ClipSpec, require_types

SCHEMA_VERSION = 1
NAME_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")

# "none": a backbone without a classifier, whose bundle answers features and no predictions.
LabelSource = Literal["file", "index", "none"]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest relative L2 distance of outputs on golden clips from those of the reference framework."""

    logits: float = 1e-3
    features: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One executable form of the model. `path` is relative to the bundle, `format` what reads it."""

    name: str  # its precision: "fp32", "fp16", "bf16", "int8"
    format: str  # "onnx", "openvino", "tensorrt", "torch"
    path: str
    # Every file of the variant, relative to the bundle, with its SHA-256.
    files: dict[str, str] = field(default_factory=dict)
    # Of this variant; None: as the bundle says. Reduced precision is held to a bound of its own.
    tolerance: Tolerance | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        tolerance = values.get("tolerance")
        return cls(**{**values, "tolerance": None if tolerance is None else Tolerance(**tolerance)})


@dataclass(frozen=True, kw_only=True)
class Parity:
    """A variant on a runtime against the reference framework, over the golden clips."""

    variant: str
    runtime: str
    max_abs: float
    relative_l2: float
    features_relative_l2: float
    top1_agreement: float
    num_clips: int
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured on the machine that exported the bundle."""

    variant: str
    runtime: str
    machine: str
    clips_per_second: float
    threads: int
    batch_size: int
    # Of the network's convolutions and linear layers, a multiply-add counted as two; and that as a share of what the
    # machine's float32 matrix product reached in the same run. None: not measured.
    gflops_per_second: float | None = None
    sgemm_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class BundleSampler:
    """The learned salience of a bundle: paths relative to it, each with its SHA-256 in `files`.

    path: the sampler that looks, `salience.onnx`. audio_path: the one that listens; `audio_clips` of the chosen clips
    are its own. stopping: the rule of adaptive prediction where no error bound is asked for; other_stopping: those of
    other bounds. All are calibrated for this model with this sampler.
    """

    path: str = "salience.onnx"
    audio_path: str | None = None
    audio_clips: int = 0
    files: dict[str, str] = field(default_factory=dict)
    stopping: StoppingRule | None = None
    other_stopping: tuple[StoppingRule, ...] = ()

    @property
    def rules(self) -> tuple[StoppingRule, ...]:
        """All stopping rules, the strictest bound first."""
        return all_rules(self.stopping, self.other_stopping)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**{**values, **read_rules(values)})


@dataclass(frozen=True, kw_only=True)
class ScoreCalibration:
    """Temperature scaling of a video's scores (Guo et al., 2017): p_k ** (1 / temperature), made to sum to one.

    Fitted on `num_videos` held-out videos under `protocol`. ece_before, ece_after: expected calibration error of videos
    that it was not fitted on.
    """

    temperature: float
    protocol: str
    num_videos: int
    ece_before: float
    ece_after: float

    def apply(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated scores of float32 [...,K]; the order of classes stays as it is."""
        logs = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny)) / self.temperature
        scaled = np.exp(logs - logs.max(axis=-1, keepdims=True))
        result: NDArray[np.float32] = (scaled / scaled.sum(axis=-1, keepdims=True)).astype(np.float32)
        return result


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """The content of `bundle.json`. `to_dict` and `from_dict` are its schema."""

    name: str
    version: str
    architecture: str
    family: str
    clip_spec: ClipSpec
    num_classes: int
    feature_dim: int
    label_source: LabelSource = "file"
    default_protocol: str = DEFAULT_PROTOCOL
    variants: tuple[Variant, ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    parity: tuple[Parity, ...] = ()
    speed: tuple[Speed, ...] = ()
    sampler: BundleSampler | None = None
    calibration: ScoreCalibration | None = None
    # weights hash, training run, family preset, tool versions: free form, for people.
    provenance: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("version", self.version)):
            if not NAME_PATTERN.fullmatch(value):
                raise ValueError(
                    f"bundle {what} {value!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
                )
        if self.num_classes < 0 or self.feature_dim < 1:
            raise ValueError(
                f"num_classes {self.num_classes} must be at least 0 and feature_dim {self.feature_dim} at least 1"
            )
        if self.features_only != (self.label_source == "none"):
            raise ValueError(
                f"{self.num_classes} classes and label_source {self.label_source!r}: no classes have no labels, "
                "classes have some"
            )
        if self.clip_spec.modality != "rgb":
            raise ValueError("bundles are of networks of pictures; those of optical flow cannot be served yet")
        if self.default_protocol not in PROTOCOLS:
            raise ValueError(f"default_protocol {self.default_protocol!r} is not one of {', '.join(PROTOCOLS)}")

    @property
    def features_only(self) -> bool:
        """Whether the model is a backbone without a classifier: it answers features, and refuses predictions."""
        return self.num_classes == 0

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "clip_spec": self.clip_spec.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises ValueError or TypeError for anything that is not this schema."""
        if values.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"schema_version {values.get('schema_version')!r}; this version of tenclip reads {SCHEMA_VERSION}"
            )
        values = dict(values)
        values["clip_spec"] = ClipSpec.from_dict(values["clip_spec"])
        values["tolerance"] = Tolerance(**values.get("tolerance", {}))
        values["variants"] = tuple(Variant.from_dict(v) for v in values.get("variants", ()))
        for key, kind in (("parity", Parity), ("speed", Speed)):
            values[key] = tuple(kind(**v) for v in values.get(key, ()))
        if (sampler := values.get("sampler")) is not None:
            values["sampler"] = BundleSampler.from_dict(sampler)
        if (calibration := values.get("calibration")) is not None:
            values["calibration"] = ScoreCalibration(**calibration)
        info = cls(**values)
        parts = (info, info.tolerance, *info.variants, *info.parity, *info.speed, info.sampler, info.calibration)
        for part in (*parts, *(() if info.sampler is None else info.sampler.rules)):
            if part is not None:
                require_types(part)
        return info


@dataclass(frozen=True, eq=False)
class Golden:
    """A few clips and what the reference framework makes of them.

    clips: uint8 [B,T,H,W,3]; logits: float32 [B,K,P], [B,0,1] without a classifier; features: float32 [B,D].
    """

    clips: NDArray[np.uint8]
    logits: NDArray[np.float32]
    features: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle on disk that has been read and is consistent."""

    path: Path
    info: BundleInfo
    labels: tuple[str, ...]
    golden: Golden

    def tolerance(self, variant: Variant) -> Tolerance:
        """The largest distance that `variant` may have from `golden`."""
        return variant.tolerance or self.info.tolerance

    @property
    def sampler_files(self) -> tuple[Path, ...]:
        """The files of its learned samplers: the one that looks, then the one that listens; none without samplers."""
        sampler = self.info.sampler
        if sampler is None:
            return ()
        return tuple(self.path / p for p in (sampler.path, sampler.audio_path) if p is not None)

    def variant(self, name: str) -> Variant:
        for variant in self.info.variants:
            if variant.name == name:
                return variant
        known = ", ".join(v.name for v in self.info.variants)
        raise BundleError(f"{self.path}: no variant {name!r}; it has {known}")


def read_bundle(path: Path | str, *, verify_hashes: bool = True) -> Bundle:
    """Read and check the bundle in directory `path`.

    Raises BundleError that names the file at fault: missing or malformed `bundle.json`, a file that is absent or whose
    SHA-256 differs, a label count other than `num_classes`, golden arrays of the wrong shape or type.
    """
    path = Path(path)
    info = _read_info(path / "bundle.json")
    if not info.variants:
        raise BundleError(f"{path / 'bundle.json'}: lists no variants, so there is nothing to run")
    for variant in info.variants:
        _check_files(path, f"variant {variant.name!r}", [variant.path], variant.files, verify_hashes=verify_hashes)
    if (sampler := info.sampler) is not None:
        own = [p for p in (sampler.path, sampler.audio_path) if p is not None]
        _check_files(path, "sampler", own, sampler.files, verify_hashes=verify_hashes)
    return Bundle(path, info, _read_labels(path / "labels.txt", info), _read_golden(path / "golden.npz", info))


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read_info(path: Path) -> BundleInfo:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        versions = sorted(str(p.parent) for p in path.parent.glob("*/bundle.json"))
        hint = f"; name a version of it: {', '.join(versions)}" if versions else ""
        raise BundleError(f"{path.parent}: no bundle.json, so this is not a bundle{hint}") from None
    except OSError as err:
        raise BundleError(f"{path}: cannot be read: {err.strerror or err}") from err
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        raise BundleError(f"{path}: cannot be read as JSON: {err}") from err
    try:
        return BundleInfo.from_dict(values)
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise BundleError(f"{path}: {err}") from err


def _check_files(root: Path, owner: str, own: Sequence[str], files: Mapping[str, str], *, verify_hashes: bool) -> None:
    """Raise BundleError for files that are not there, not as listed, or elsewhere. own: those that must be listed."""
    for relative in own:
        if relative not in files:
            raise BundleError(f"{root / 'bundle.json'}: {owner} does not list its own file {relative}")
    for relative, expected in files.items():
        file = root / relative
        if not file.resolve().is_relative_to(root.resolve()):
            raise BundleError(f"{root / 'bundle.json'}: {relative} lies outside the bundle")
        if not file.is_file():
            raise BundleError(f"{file}: listed in bundle.json and not there")
        if verify_hashes and (actual := sha256(file)) != expected:
            raise BundleError(f"{file}: SHA-256 is {actual[:12]}..., bundle.json says {expected[:12]}...")


def _read_labels(path: Path, info: BundleInfo) -> tuple[str, ...]:
    try:
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as err:
        raise BundleError(f"{path}: {err}") from err
    if len(labels) != info.num_classes:
        raise BundleError(f"{path}: {len(labels)} labels for {info.num_classes} classes")
    return labels


def _read_golden(path: Path, info: BundleInfo) -> Golden:
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
            golden = Golden(arrays["clips"], arrays["logits"], arrays["features"])
    except (OSError, KeyError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as err:
        raise BundleError(f"{path}: {err}") from err
    spec = info.clip_spec
    batch = golden.clips.shape[:1]
    shapes = (golden.clips.shape[1:2], golden.clips.shape[4:], golden.logits.shape[:-1], golden.features.shape)
    expected = ((spec.num_frames,), (3,), (*batch, info.num_classes), (*batch, info.feature_dim))
    types = [str(a.dtype) for a in (golden.clips, golden.logits, golden.features)]
    if shapes != expected or 0 in golden.clips.shape or types != ["uint8", "float32", "float32"]:
        raise BundleError(
            f"{path}: clips {golden.clips.dtype} {golden.clips.shape}, logits {golden.logits.dtype} "
            f"{golden.logits.shape}, features {golden.features.dtype} {golden.features.shape} do not fit "
            f"{spec.num_frames} frames, {info.num_classes} classes and {info.feature_dim} features (uint8, float32)"
        )
    return golden
