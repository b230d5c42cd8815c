"""From a model in memory to a bundle on disk: graph, golden clips, parity, labels, `bundle.json`; all of it or nothing.

A bundle is built in a hidden directory beside its final place and renamed when it is complete and has passed, so that a
server watching the folder sees a whole bundle or none.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import BundleError, ParityError, TenclipError
from tenclip_export import speed
from tenclip_export.golden import golden_clips
from tenclip_export.onnx_graph import export_onnx
from tenclip_export.parity import Reference, Row, compare, make_reference, summarise, tolerance_for
from tenclip_export.variants import Refused, Source, Wanted, check_calibration, make_variant, settle, wanted_variants
from tenclip_serving.runtimes import available_runtimes, create_runtime, reads
from tenclip_training.models import VideoModel
from tenclip_training.runs.checkpoint import weights_sha256
from tenclip_video.bundle import (
    NAME_PATTERN,
    Bundle,
    BundleInfo,
    Speed,
    Tolerance,
    Variant,
    read_bundle,
    sha256,
)
from tenclip_video.protocols import DEFAULT_PROTOCOL
from tenclip_video.spec import ClipSpec

Clips = NDArray[np.uint8]
# Called with what is about to happen, e.g. "checking openvino".
Progress = Callable[[str], None]


def export_bundle(
    model: VideoModel,
    clip_spec: ClipSpec,
    out_dir: Path | str,
    *,
    name: str,
    version: str | None = None,
    labels: Sequence[str] | None = None,
    clips: Clips | None = None,
    fully_convolutional_clips: Clips | None = None,
    family: str = "tenclip",
    default_protocol: str = DEFAULT_PROTOCOL,
    provenance: dict[str, Any] | None = None,
    runtimes: Sequence[str] | None = None,
    variants: Sequence[str] = (),
    formats: Sequence[str] = (),
    calibration: Clips | None = None,
    overwrite: bool = False,
    measure: bool = False,
    progress: Progress = lambda _: None,
    on_row: Callable[[Row], None] = lambda _: None,
) -> Bundle:
    """Write `model` as `out_dir/name/version`, checked against torch on every installed runtime.

    version: None takes the next free integer. labels: None names classes by their index, and the bundle says so.
    clips, fully_convolutional_clips: real clips, uint8 [B,T,H,W,3] at `clip_spec.crop` and at
    `clip_spec.fully_convolutional_crop`, to be among the golden ones. runtimes: None checks every installed one.
    variants, formats: see `tenclip_export.variants`; the float32 ONNX graph is always there. One that no runtime here
    executes within its bound is left out, and `provenance["refused_variants"]` says why. calibration: clips of real
    videos, uint8 [N,T,H,W,3] at `clip_spec.crop`, for int8.
    measure: also time each runtime. on_row: called with every line of the parity table, those that fail included.

    Raises ParityError when a runtime drifts beyond the tolerance, and BundleError for a version that exists (unless
    `overwrite`), weights that are not finite, labels that do not fit, a model that does not export, or a directory that
    cannot be written. Nothing is left behind then.
    """
    wanted = wanted_variants(variants, formats)
    check_calibration(wanted, calibration)
    model = _for_export(model, clip_spec)
    labels, label_source = _labels(labels, model.num_classes)
    home = Path(out_dir) / name
    with _staging(home, name) as stage:
        chosen = _version(home, version, overwrite=overwrite)
        info = BundleInfo(
            name=name,
            version=chosen,
            architecture=model.architecture,
            family=family,
            clip_spec=clip_spec,
            num_classes=model.num_classes,
            feature_dim=model.feature_dim,
            label_source=label_source,
            default_protocol=default_protocol,
        )
        progress("writing the ONNX graph")
        variant = _write_onnx(model, clip_spec, stage)
        (stage / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        progress("running the golden clips in torch, in float32 and float64")
        references = _references(model, clip_spec, clips, fully_convolutional_clips)
        _write_golden(stage / "golden.npz", references[0])
        tolerance = tolerance_for(references)
        checks = _Checks(
            stage=stage,
            references=references,
            names=_runtimes(runtimes, formats),
            progress=progress,
            on_row=on_row,
            timer=speed.Timer(model, clip_spec) if measure else None,
        )
        checks.require(variant, tolerance)
        source = Source(model=model, spec=clip_spec, stage=stage, graph=stage / variant.path, calibration=calibration)
        others, refused = _other_variants(wanted, source, checks, tolerance)
        info = replace(
            info,
            variants=(variant, *others),
            tolerance=tolerance,
            parity=summarise(checks.rows),
            speed=tuple(checks.speeds),
            provenance={
                **(provenance or {}),
                **_export_provenance(model, references),
                **({"refused_variants": refused} if refused else {}),
            },
        )
        path = _publish(stage, home, info, automatic=version is None, overwrite=overwrite)
    return read_bundle(path)


def _for_export(model: VideoModel, spec: ClipSpec) -> VideoModel:
    """A copy in eval mode on the CPU that runs its convolutions as convolutions. Raises BundleError for NaN weights."""
    model = copy.deepcopy(model).cpu().float().eval()
    model.set_execution("conv3d")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    broken = [key for key, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise BundleError(
            f"{len(broken)} weights of the model are not finite, {broken[0]} for one; it diverged in training"
        )
    made_for = model.config.get("crop", spec.crop)
    # Above its size the head gives several positions (pytorchvideo tests its networks of 224 pixels at 256).
    if made_for > spec.crop:
        raise BundleError(f"the model's head was made for {made_for} pixels, its ClipSpec crops to {spec.crop}")
    return model


def _labels(labels: Sequence[str] | None, num_classes: int) -> tuple[tuple[str, ...], Any]:
    if labels is None:
        return tuple(str(i) for i in range(num_classes)), "index"
    if len(labels) != num_classes:
        raise BundleError(f"{len(labels)} labels for a model of {num_classes} classes")
    for index, label in enumerate(labels):
        if not label.strip() or label.splitlines() != [label]:
            raise BundleError(f"label {index} is {label!r}; a label is one line of text that is not blank")
    return tuple(labels), "file"


@contextlib.contextmanager
def _staging(home: Path, name: str) -> Iterator[Path]:
    """A hidden directory in `home`, gone afterwards unless it was renamed; `home` too where it was new and empty."""
    if not NAME_PATTERN.fullmatch(name):
        raise BundleError(
            f"bundle name {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    created = not home.exists()
    stage: Path | None = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        stage = _hidden(home, "incomplete")
        yield stage
    except OSError as err:
        raise BundleError(f"{home}: the bundle cannot be written: {err}") from err
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if created:
            with contextlib.suppress(OSError):
                home.rmdir()


def _version(home: Path, version: str | None, *, overwrite: bool) -> str:
    if version is None:
        return next_version(home)
    if not NAME_PATTERN.fullmatch(version):
        raise BundleError(
            f"version {version!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    if (home / version).exists() and not overwrite:
        raise BundleError(
            f"{home / version} exists; give another --version, or --overwrite to replace it "
            f"(the next free version is {next_version(home)})"
        )
    return version


def next_version(home: Path) -> str:
    """One more than the highest integer version in the directory of a model; "1" where there is none."""
    numbers = [int(p.name) for p in home.iterdir() if p.name.isdecimal()] if home.is_dir() else []
    return str(max(numbers, default=0) + 1)


def _write_onnx(model: VideoModel, spec: ClipSpec, stage: Path) -> Variant:
    files = export_onnx(model, spec, stage / "model.onnx")
    return Variant(name="fp32", format="onnx", path="model.onnx", files={f.name: sha256(f) for f in files})


def _references(
    model: VideoModel, spec: ClipSpec, clips: Clips | None, fully_convolutional_clips: Clips | None
) -> list[Reference]:
    """The pooled size first; then the fully-convolutional one, where the spec has one that is larger."""
    references = [make_reference(model, spec, golden_clips(spec.num_frames, spec.crop, clips))]
    larger = spec.fully_convolutional_crop
    if larger is not None and larger != spec.crop:
        golden = golden_clips(spec.num_frames, larger, fully_convolutional_clips)
        references.append(make_reference(model, spec, golden))
    return references


def _write_golden(path: Path, reference: Reference) -> None:
    outputs = reference.outputs
    np.savez_compressed(
        path,
        clips=reference.clips,
        logits=outputs.logits.astype(np.float32),
        features=outputs.features.astype(np.float32),
    )


def _runtimes(names: Sequence[str] | None, formats: Sequence[str]) -> tuple[str, ...]:
    if names is None:
        names = available_runtimes()
        if "torch" in formats:
            names = (*names, "torch")
    if not names:
        raise BundleError("no runtime is installed, so nothing can be checked: pip install 'tenclip[export]'")
    return tuple(names)


@dataclass(kw_only=True)
class _Checks:
    """Every variant on every runtime that reads it, at every crop; `rows` and `speeds` grow."""

    stage: Path
    references: Sequence[Reference]
    names: Sequence[str]
    progress: Progress
    on_row: Callable[[Row], None]
    timer: speed.Timer | None
    rows: list[Row] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)

    def check(self, variant: Variant, tolerance: Tolerance) -> list[Row]:
        """One runtime after the other; one that cannot load the variant gives no rows. The speed of those that pass."""
        found: list[Row] = []
        for name in self.names:
            if reads(name, variant.format, variant.path):
                found += self._check_on(name, variant, tolerance)
        return found

    def require(self, variant: Variant, tolerance: Tolerance) -> None:
        """Check the variant that must be right everywhere. Raises ParityError where it is not."""
        rows = self.check(variant, tolerance)
        failed = [row for row in rows if not row.passed]
        if failed:
            worst = max(failed, key=lambda row: row.relative_l2)
            raise ParityError(
                f"{len(failed)} of {len(rows)} checks are beyond the tolerance; the worst is {worst.runtime} at crop "
                f"{worst.crop}: logits {worst.relative_l2:.2e} (allowed {tolerance.logits:.2e}), features "
                f"{worst.features_relative_l2:.2e} (allowed {tolerance.features:.2e}). Nothing was written"
            )

    def _check_on(self, name: str, variant: Variant, tolerance: Tolerance) -> list[Row]:
        self.progress(f"checking {variant.name} on {name}" if variant.name != "fp32" else f"checking {name}")
        try:
            runtime = create_runtime(name, self.stage / variant.path)
        except TenclipError:
            if variant.tolerance is None:
                raise
            return []  # reduced precision that this runtime has no kernels for
        rows = [compare(r, runtime.run, tolerance, variant=variant.name, runtime=name) for r in self.references]
        for row in rows:
            self.rows.append(row)
            self.on_row(row)
        if self.timer is not None and all(row.passed for row in rows):
            self.progress(f"timing {variant.name} on {name}")
            self.speeds.append(self.timer.measure(runtime, self.references[0].clips, variant=variant.name))
        return rows


def _other_variants(
    wanted: Sequence[Wanted], source: Source, checks: _Checks, tolerance: Tolerance
) -> tuple[list[Variant], list[dict[str, str]]]:
    """(those within their bound on some runtime, why the others are left out). What is left out leaves no files."""
    kept: list[Variant] = []
    refused: list[dict[str, str]] = []
    for one in wanted:
        checks.progress(f"making {one.name}")
        before = set(source.stage.rglob("*"))
        try:
            variant = make_variant(one, source)
            rows = checks.check(variant, variant.tolerance or tolerance)
            _require_a_runtime(variant, rows, checks.names)
        except Refused as reason:
            refused.append({"variant": one.name, "reason": str(reason)})
            for path in set(source.stage.rglob("*")) - before:
                if path.is_file():
                    path.unlink()
            continue
        kept.append(settle(variant, rows))
    return kept, refused


def _require_a_runtime(variant: Variant, rows: Sequence[Row], names: Sequence[str]) -> None:
    passing = {row.runtime for row in rows} - {row.runtime for row in rows if not row.passed}
    if passing:
        return
    if not rows:
        raise Refused(f"none of {', '.join(names)} executes it here")
    bound = variant.tolerance or Tolerance()
    figures = "; ".join(
        f"{r.runtime} at crop {r.crop}: logits {r.relative_l2:.2e}, features {r.features_relative_l2:.2e}" for r in rows
    )
    raise Refused(
        f"golden clips are too far off (allowed: logits {bound.logits}, features {bound.features}): {figures}"
    )


def _export_provenance(model: VideoModel, references: Sequence[Reference]) -> dict[str, Any]:
    return {
        "weights_sha256": weights_sha256(model.state_dict()),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exported_on": speed.machine(),
        "float32_noise": {
            "logits": max(r.logits_noise for r in references),
            "features": max(r.features_noise for r in references),
        },
        "tools": {p: package_version(p) for p in ("tenclip", "torch", "onnx", "onnxscript")},
    }


def _publish(stage: Path, home: Path, info: BundleInfo, *, automatic: bool, overwrite: bool) -> Path:
    """Rename the finished stage to its version. An automatic version that was taken meanwhile moves on to the next."""
    while True:
        (stage / "bundle.json").write_text(json.dumps(info.to_dict(), indent=2) + "\n", encoding="utf-8")
        _fsync_tree(stage)
        target = home / info.version
        try:
            if overwrite and target.exists():
                _replace(stage, target)
            else:
                stage.rename(target)
        except OSError as err:
            if not target.exists():
                raise
            if not automatic:
                raise BundleError(f"{target} appeared while this bundle was being made; nothing was replaced") from err
            info = replace(info, version=next_version(home))
            continue
        _fsync(home)
        return target


def _replace(stage: Path, target: Path) -> None:
    """Put `stage` in the place of `target`; the old one comes back if that fails."""
    aside = _hidden(target.parent, "replaced")
    target.rename(aside / target.name)
    try:
        stage.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _hidden(home: Path, purpose: str) -> Path:
    """A new directory that no server takes for a version. (tempfile would make it unreadable for other users.)"""
    path = home / f".{purpose}-{secrets.token_hex(8)}"
    path.mkdir()
    return path


def _fsync_tree(root: Path) -> None:
    for path in sorted(root.rglob("*")):
        _fsync(path)
    _fsync(root)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
