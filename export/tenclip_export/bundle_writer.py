"""From a model in memory to a bundle on disk: graph, labels, golden clips, parity, `bundle.json`.

Reading order: `onnx_graph` (the graph), `golden` (the clips to check it on), `parity` (what torch makes of them, and
how far a runtime may be off), `runtime_checks` (every runtime), `bundle_folder` (all of it on disk, or nothing).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import BundleError
from tenclip_export import speed
from tenclip_export.bundle_folder import choose_version, publish, staging
from tenclip_export.golden import golden_clips
from tenclip_export.onnx_graph import export_onnx
from tenclip_export.parity import Reference, Row, make_reference, summarise, tolerance_for
from tenclip_export.runtime_checks import Progress, RuntimeChecks, make_further_variants, runtimes_to_check
from tenclip_export.variants import Source, check_calibration, wanted_variants
from tenclip_training.models import VideoModel
from tenclip_training.runs.checkpoint import weights_sha256
from tenclip_video.bundle import Bundle, BundleInfo, LabelSource, Variant, read_bundle, sha256
from tenclip_video.protocols import DEFAULT_PROTOCOL
from tenclip_video.spec import ClipSpec

Clips = NDArray[np.uint8]


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

    model: one without a classifier (`num_classes` 0) makes a bundle that answers features and refuses predictions.
    version: None takes the next free integer. labels: one name for each class; None names classes by their index, and
    the bundle says so.
    clips, fully_convolutional_clips: real clips to be among the golden ones, uint8 [B,T,H,W,3] at `clip_spec.crop`
    and at `clip_spec.fully_convolutional_crop`.
    runtimes: names of runtimes to check; None checks every installed one.
    variants, formats: precisions ("fp16", "bf16", "int8") and formats ("torch", "tensorrt") beside the float32 ONNX
    graph, which is always there. One that no runtime here executes within its bound is left out, and
    `provenance["refused_variants"]` says why. calibration: clips of real videos for int8, uint8 [N,T,H,W,3] at
    `clip_spec.crop`.
    measure: also time each runtime. on_row: called with every row of the parity table, those that fail included.

    Raises ParityError when a runtime drifts beyond the tolerance, and BundleError for a version that exists (unless
    `overwrite`), weights that are not finite, labels that do not fit, a model that does not export, or a directory that
    cannot be written. Nothing is left behind then.

    >>> bundle = export_bundle(model, spec, "models", name="moves", labels=("wave", "jump"))  # doctest: +SKIP
    >>> bundle.path  # doctest: +SKIP
    PosixPath('models/moves/1')
    """
    wanted = wanted_variants(variants, formats)
    check_calibration(wanted, calibration)
    model = _for_export(model, clip_spec)
    labels, label_source = _labels(labels, model.num_classes)
    home = Path(out_dir) / name
    with staging(home, name) as stage:
        info = BundleInfo(
            name=name,
            version=choose_version(home, version, overwrite=overwrite),
            architecture=model.architecture,
            family=family,
            clip_spec=clip_spec,
            num_classes=model.num_classes,
            feature_dim=model.feature_dim,
            label_source=label_source,
            default_protocol=default_protocol,
        )
        progress("writing the ONNX graph")
        graph = _write_onnx(model, clip_spec, stage)
        (stage / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        progress("running the golden clips in torch, in float32 and float64")
        references = _references(model, clip_spec, clips, fully_convolutional_clips)
        references[0].save(stage / "golden.npz")
        tolerance = tolerance_for(references)
        checks = RuntimeChecks(
            stage=stage,
            references=references,
            names=runtimes_to_check(runtimes, formats),
            progress=progress,
            on_row=on_row,
            timer=speed.Timer(model, clip_spec) if measure else None,
        )
        checks.require(graph, tolerance)
        source = Source(model=model, spec=clip_spec, stage=stage, graph=stage / graph.path, calibration=calibration)
        further = make_further_variants(wanted, source, checks, tolerance)
        info = replace(
            info,
            variants=(graph, *further.kept),
            tolerance=tolerance,
            parity=summarise(checks.rows),
            speed=tuple(checks.speeds),
            provenance={
                **(provenance or {}),
                **_export_provenance(model, references),
                **({"refused_variants": list(further.refused)} if further.refused else {}),
            },
        )
        path = publish(stage, home, info, automatic=version is None, overwrite=overwrite)
    return read_bundle(path)


def _for_export(model: VideoModel, spec: ClipSpec) -> VideoModel:
    """A copy in eval mode on the CPU that runs its convolutions as convolutions. Raises BundleError for NaN weights."""
    if spec.modality != "rgb":
        raise BundleError("a network of optical flow cannot be served yet; `tenclip evaluate` evaluates it")
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


def _labels(labels: Sequence[str] | None, num_classes: int) -> tuple[tuple[str, ...], LabelSource]:
    if num_classes == 0:
        if labels:
            raise BundleError(f"{len(labels)} labels for a model without a classifier; leave them out")
        return (), "none"
    if labels is None:
        return tuple(str(i) for i in range(num_classes)), "index"
    if len(labels) != num_classes:
        raise BundleError(f"{len(labels)} labels for a model of {num_classes} classes")
    for index, label in enumerate(labels):
        if not label.strip() or label.splitlines() != [label]:
            raise BundleError(f"label {index} is {label!r}; a label is one line of text that is not blank")
    return tuple(labels), "file"


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
