"""A sampler into a bundle: in one step, or not at all; no torch.

The sampler's file is written first, under a name that the bundle does not list yet, then `bundle.json` in its place.
Whoever reads the bundle meanwhile sees it as it was or as it is.
"""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tenclip_api.errors import BundleError, InvalidRequest
from tenclip_data.atomic import replacing, write_text
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.sampler.identity import identity_of
from tenclip_training.sampler.results import SamplerResult
from tenclip_video.bundle import (
    NAME_PATTERN,
    Bundle,
    BundleInfo,
    BundleSampler,
    ScoreCalibration,
    read_bundle,
    sha256,
)
from tenclip_video.salience import LearnedScorer, StoppingRule, check_clips, load_sampler

PROTOCOL = "salient-clips"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is put into a bundle. file, audio_file: samplers. notes: what was left behind, and why."""

    file: Path
    audio_file: Path | None = None
    audio_clips: int = 0
    stopping: StoppingRule | None = None
    other_stopping: tuple[StoppingRule, ...] = ()
    calibration: ScoreCalibration | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Added:
    """The bundle as it is now, and what a person should know."""

    bundle: Bundle
    notes: tuple[str, ...]


def add_sampler(
    bundle_path: Path,
    sampler: Path,
    *,
    audio: Path | None = None,
    audio_clips: int = 0,
    out: Path | None = None,
    keep_default_protocol: bool = False,
) -> Added:
    """Put a sampler into a bundle.

    sampler: a folder of `tenclip train-sampler`, an ONNX file, or another bundle that has one. A stopping rule and a
    temperature come along from a folder whose teacher is this very network; they hold for no other.
    audio: a sampler that listens, or the folder of one; `audio_clips` of the chosen clips are its own.
    out: write a copy, OUT/NAME/VERSION as its path says, and leave the bundle as it is.
    keep_default_protocol: else it becomes "salient-clips", unless the network scores classes by sigmoids.
    Raises BundleError for files that do not fit, InvalidRequest.
    """
    bundle = read_bundle(bundle_path)
    source = _with_audio(_source(sampler, bundle), audio, audio_clips)
    _check(source, bundle)
    if out is None:
        notes = _write(bundle, bundle.info, source, keep_default_protocol=keep_default_protocol)
        return Added(bundle=read_bundle(bundle.path), notes=notes)
    info = _info_at(bundle.info, out)
    stage = out.with_name(f".incomplete-{secrets.token_hex(8)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bundle.path, stage)
        notes = _write(replace(bundle, path=stage), info, source, keep_default_protocol=keep_default_protocol)
        stage.rename(out)
    except OSError as err:
        raise BundleError(f"{out}: the bundle cannot be written: {err}") from err
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return Added(bundle=read_bundle(out), notes=notes)


def _source(path: Path, bundle: Bundle) -> Source:
    """The sampler that a path names. Raises BundleError."""
    if path.is_file():
        return Source(file=path, notes=("a file brings no stopping rules: adaptive prediction needs a folder's",))
    if (path / "bundle.json").exists():
        other = read_bundle(path)
        if other.info.sampler is None:
            raise BundleError(f"{path}: this bundle has no sampler")
        files = other.sampler_files
        note = "another bundle's stopping rules and temperature hold for its network alone, and stay there"
        return Source(
            file=files[0],
            audio_file=files[1] if len(files) > 1 else None,
            audio_clips=other.info.sampler.audio_clips,
            notes=(note,),
        )
    result = SamplerResult.read(path)
    file = path / result.file
    if result.teacher_identity != identity_of(bundle.info):
        note = (
            f"the sampler learned from another network ({result.teacher}); its stopping rules and temperature hold for "
            "that one alone, and stay there"
        )
        return Source(file=file, notes=(note,))
    notes = [
        f"no {what}: {reason}"
        for what, reason in (
            ("stopping rule for some error bounds" if result.rules else "stopping rule", result.stopping_refused),
            ("temperature", result.calibration_refused),
        )
        if reason
    ]
    return Source(
        file=file,
        stopping=result.stopping,
        other_stopping=result.other_stopping,
        calibration=result.calibration,
        notes=tuple(notes),
    )


def _with_audio(source: Source, audio: Path | None, audio_clips: int) -> Source:
    if audio is None:
        if audio_clips:
            raise InvalidRequest(f"--audio-clips {audio_clips}: there is no sampler that listens; name it with --audio")
        return source
    if audio_clips < 1:
        raise InvalidRequest("a sampler that listens needs --audio-clips: how many of the clips it chooses")
    file = audio if audio.is_file() else audio / SamplerResult.read(audio).file
    notes = source.notes
    if source.stopping is not None or source.other_stopping or source.calibration is not None:
        notes += ("with clips chosen by sound the stopping rules and the temperature no longer hold: left out",)
    return replace(
        source,
        audio_file=file,
        audio_clips=audio_clips,
        stopping=None,
        other_stopping=(),
        calibration=None,
        notes=notes,
    )


def _check(source: Source, bundle: Bundle) -> None:
    """Raise BundleError for samplers that do not run, or are for other clips than the bundle's."""
    if bundle.info.features_only:
        raise BundleError(f"{bundle.path}: has no classifier, so there is nothing to predict from salient clips")
    sound = None if source.audio_file is None else load_sampler(source.audio_file)
    scorer = LearnedScorer(picture=load_sampler(source.file), sound=sound, audio_clips=source.audio_clips)
    for sampler in (scorer.picture, scorer.sound):
        if sampler is not None:
            check_clips(sampler, bundle.info.clip_spec)


def _info_at(info: BundleInfo, out: Path) -> BundleInfo:
    """The bundle as it is called at `out`. Raises BundleError for a place that is taken or no bundle's."""
    out = out.absolute()
    if out.exists():
        raise BundleError(f"{out} exists; name another folder for the copy")
    for part in (out.parent.name, out.name):
        if not NAME_PATTERN.fullmatch(part):
            raise BundleError(f"{out}: a bundle's folder is NAME/VERSION, of letters, digits, '.', '_' and '-'")
    return replace(info, name=out.parent.name, version=out.name)


def _write(bundle: Bundle, info: BundleInfo, source: Source, *, keep_default_protocol: bool) -> tuple[str, ...]:
    """Copy the files, then replace bundle.json, then remove what it no longer lists. Returns notes."""
    listed = {} if info.sampler is None else info.sampler.files
    path = _copy(source.file, bundle.path, "salience", listed)
    audio_path = None if source.audio_file is None else _copy(source.audio_file, bundle.path, "salience-audio", listed)
    files = {p: sha256(bundle.path / p) for p in (path, audio_path) if p is not None}
    made = BundleSampler(
        path=path,
        audio_path=audio_path,
        audio_clips=source.audio_clips,
        files=files,
        stopping=source.stopping,
        other_stopping=source.other_stopping,
    )
    notes = source.notes
    protocol = PROTOCOL
    if keep_default_protocol:
        protocol = info.default_protocol
    elif Scoring.of_checkpoint(bundle.labels, info.provenance, source=str(bundle.path)).activation == "sigmoid":
        protocol = info.default_protocol
        notes += (f"the network scores each class by a sigmoid, so its default protocol stays {protocol}",)
    changed = replace(info, sampler=made, calibration=source.calibration, default_protocol=protocol)
    write_text(bundle.path / "bundle.json", json.dumps(changed.to_dict(), indent=2) + "\n")
    for old in set(listed) - set(files):
        (bundle.path / old).unlink(missing_ok=True)
    return notes


def _copy(file: Path, folder: Path, stem: str, listed: dict[str, str]) -> str:
    """Copy a sampler into a bundle; returns its name there, which is new unless the same file has it already."""
    digest = sha256(file)
    name = f"{stem}.onnx"
    if listed.get(name, digest) != digest:
        name = f"{stem}-{digest[:8]}.onnx"
    if listed.get(name) != digest:
        with replacing(folder / name) as target:
            target.write(file.read_bytes())
    return name
