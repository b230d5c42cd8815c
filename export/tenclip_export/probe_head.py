"""A fitted linear probe as the classifier of a bundle, so that it is served.

The classifier of a bundle's float32 graph sees features [B,P,D] (clips, positions) whose mean over the positions is the
output `features`. A new head takes its place there: logits = weights @ features + bias, with the probe's
standardisation folded into the weights. Fully-convolutional prediction works as before, a softmax at each position.

Everything a server checks is made anew: labels, golden logits, parity. The reference is the head in float64 on features
that torch computed when the bundle was exported.

B clips, P positions, D features, K classes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tenclip_api.errors import BundleError
from tenclip_export import speed
from tenclip_export.bundle_folder import choose_version, publish, staging
from tenclip_export.golden import golden_clips
from tenclip_export.onnx_graph import save_graph
from tenclip_export.parity import FLOOR, Outputs, Reference, Row, run_batched, summarise
from tenclip_export.runtime_checks import Progress, RuntimeChecks, runtimes_to_check
from tenclip_features.linear import Probe
from tenclip_features.weights import weights_hash
from tenclip_serving.runtimes import create_runtime
from tenclip_video.bundle import Bundle, BundleSampler, Tolerance, Variant, read_bundle, sha256
from tenclip_video.parity import relative_l2

# The runtime that computes features at every position for the reference; `features` of its run must be torch's.
_REFERENCE_RUNTIME = "onnxruntime"
# What a bundle says of its old classifier and of variants that the new one does not have.
_NOT_KEPT = ("notes", "refused_variants", "label_source", "float32_noise")
_NAMES = ("replaced_logits", "probe_features", "probe_weights", "probe_bias", "probe_products", "probe_scores")


def export_probe(
    probe: Probe,
    bundle: Bundle,
    out_dir: Path | str,
    *,
    name: str,
    version: str | None = None,
    overwrite: bool = False,
    provenance: dict[str, Any] | None = None,
    progress: Progress = lambda _: None,
    on_row: Callable[[Row], None] = lambda _: None,
) -> Bundle:
    """Write `bundle` with `probe` as its classifier to `out_dir/name/version`, checked on every installed runtime.

    bundle: the one whose features the probe was fitted on; with or without a classifier of its own. The new bundle has
    its float32 ONNX graph only, and its sampler, if it has one; the stopping rule and the calibrated scores of the old
    classes are left out. version: None takes the next free integer. provenance: kept under "probe".
    Raises BundleError where the probe was fitted on features of another model or has several labels a video (a server
    answers one softmax over all classes), and where `bundle` has no such graph; ParityError when a runtime drifts.
    Nothing is left behind then.

    ::

        export_probe(load_probe("speed"), read_bundle("models/moves/1"), "models", name="moves-speed")
    """
    _check(probe, bundle)
    graph = _float32_graph(bundle)
    home = Path(out_dir) / name
    with staging(home, name) as stage:
        chosen = choose_version(home, version, overwrite=overwrite)
        progress("replacing the classifier")
        weights, bias = probe.folded()
        pooled_only = _write_graph(bundle.path / graph.path, stage / "model.onnx", weights, bias)
        (stage / "labels.txt").write_text("".join(f"{label}\n" for label in probe.labels), encoding="utf-8")
        progress("computing the golden outputs")
        references = _references(bundle, graph, stage, weights, bias)
        references[0].save(stage / "golden.npz")
        tolerance = _tolerance(bundle, references, weights, bias)
        files = {f.name: sha256(f) for f in stage.glob("model.onnx*")}
        variant = Variant(name="fp32", format="onnx", path="model.onnx", files=files)
        checks = RuntimeChecks(
            stage=stage,
            references=references,
            names=runtimes_to_check(None, ()),
            progress=progress,
            on_row=on_row,
            timer=None,
        )
        checks.require(variant, tolerance)
        info = replace(
            bundle.info,
            name=name,
            version=chosen,
            num_classes=len(probe.labels),
            label_source="file",
            variants=(variant,),
            tolerance=tolerance,
            parity=summarise(checks.rows),
            speed=(),
            sampler=_copy_sampler(bundle, stage),
            calibration=None,
            provenance=_provenance(probe, bundle, provenance or {}, pooled_only=pooled_only),
        )
        path = publish(stage, home, info, automatic=version is None, overwrite=overwrite)
    return read_bundle(path)


def _copy_sampler(bundle: Bundle, stage: Path) -> BundleSampler | None:
    """The sampler of the bundle, which says where something happens, without the stopping rule of the old classes."""
    sampler = bundle.info.sampler
    if sampler is None:
        return None
    for relative in sampler.files:
        (stage / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / relative, stage / relative)
    return replace(sampler, stopping=None, other_stopping=())


def _check(probe: Probe, bundle: Bundle) -> None:
    info = bundle.info
    if probe.multi_label:
        raise BundleError(
            "the probe has a sigmoid for each class (several labels a video), a server answers one softmax over all "
            "classes; fit one with --single-label to serve it"
        )
    if (probe.model, probe.version) != (info.name, info.version):
        raise BundleError(
            f"the probe takes features of {probe.model} version {probe.version}, {bundle.path} is {info.name} version "
            f"{info.version}"
        )
    if len(probe.mean) != info.feature_dim:
        raise BundleError(f"the probe takes {len(probe.mean)} features, {bundle.path} gives {info.feature_dim}")
    if probe.model_weights and probe.model_weights != weights_hash(info.to_dict()):
        raise BundleError(
            f"the probe was fitted on features of other weights than those of {bundle.path}: {info.name} version "
            f"{info.version} was exported again meanwhile; extract features anew, and fit the probe on those"
        )
    for index, label in enumerate(probe.labels):
        if not label.strip() or label.splitlines() != [label]:
            raise BundleError(f"label {index} is {label!r}; a label is one line of text that is not blank")


def _float32_graph(bundle: Bundle) -> Variant:
    for variant in bundle.info.variants:
        if (variant.name, variant.format) == ("fp32", "onnx"):
            return variant
    raise BundleError(f"{bundle.path}: has no float32 ONNX graph, which a probe's head is put into")


def _write_graph(source: Path, target: Path, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> bool:
    """Write the graph with the head weights [K,D], bias [K].

    Returns whether its logits are of the mean features alone, because the graph has no features at each position.
    """
    try:
        model = ir.load(source)
    except Exception as err:  # protobuf, the file system and the library have an exception each
        raise BundleError(f"{source}: cannot be read as ONNX: {err}") from err
    found = _find_positions(model.graph)
    _replace_logits(model.graph, found, weights, bias)
    # What only the old classifier used, its weights included.
    ir.passes.common.RemoveUnusedNodesPass()(model)
    save_graph(model, target)
    return found.positions_axis is None


@dataclass(frozen=True, eq=False)
class _Features:
    """`value`: what the classifier sees, [B,P,D] or [B,D,P] with the positions on `positions_axis`; or, for None,
    [B,D]."""

    value: ir.Value
    positions_axis: int | None


def _find_positions(graph: ir.Graph) -> _Features:
    """The output `features` is the mean over the positions, or there are none."""
    by_name = {output.name: output for output in graph.outputs}
    if "features" not in by_name:
        raise BundleError(f"the graph has no output 'features' but {', '.join(map(str, by_name))}")
    output = by_name["features"]
    node = output.producer()
    if node is not None and node.op_type == "ReduceMean" and node.inputs[0] is not None:
        axes = _constant_axes(node)
        if axes in ([1], [2]) and _is_false(node, "keepdims"):
            return _Features(node.inputs[0], axes[0])
    return _Features(output, None)


def _constant_axes(node: ir.Node) -> list[int]:
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    values = [] if axes is None or axes.const_value is None else axes.const_value.numpy().ravel().tolist()
    return [int(a) % 3 for a in values]


def _is_false(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 0


def _replace_logits(
    graph: ir.Graph, features: _Features, weights: NDArray[np.float64], bias: NDArray[np.float64]
) -> None:
    """The output `logits`, [B,K,P], becomes that of a new head."""
    replaced, moved, weights_name, bias_name, products, scores = _NAMES
    for output in [o for o in graph.outputs if o.name == "logits"]:
        output.name = replaced
        graph.outputs.remove(output)
    value = features.value
    nodes: list[ir.Node] = []
    if features.positions_axis == 2:
        nodes.append(_node("Transpose", [value], moved, perm=[0, 2, 1]))
        value = nodes[-1].outputs[0]
    parameters = [_initializer(graph, weights_name, weights.T), _initializer(graph, bias_name, bias)]
    nodes.append(_node("MatMul", [value, parameters[0]], products))
    nodes.append(_node("Add", [nodes[-1].outputs[0], parameters[1]], scores))
    if features.positions_axis is None:
        nodes.append(_node("Unsqueeze", [nodes[-1].outputs[0], _axis(graph)], "logits"))
    else:
        nodes.append(_node("Transpose", [nodes[-1].outputs[0]], "logits", perm=[0, 2, 1]))
    graph.extend(nodes)
    logits = nodes[-1].outputs[0]
    logits.type = ir.TensorType(ir.DataType.FLOAT)
    logits.shape = ir.Shape(["batch", len(bias), "positions" if features.positions_axis is not None else 1])
    graph.outputs.insert(0, logits)


def _node(kind: str, inputs: list[ir.Value], output: str, **attributes: Any) -> ir.Node:
    return ir.node(kind, inputs, attributes=attributes, outputs=[ir.Value(name=output)])


def _initializer(graph: ir.Graph, name: str, array: NDArray[np.float64]) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array, np.float32), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.FLOAT))
    graph.register_initializer(value)
    return value


def _axis(graph: ir.Graph) -> ir.Value:
    value = ir.Value(name="probe_axis", const_value=ir.tensor(np.array([2], np.int64), name="probe_axis"))
    graph.register_initializer(value)
    return value


def _references(
    bundle: Bundle, graph: Variant, stage: Path, weights: NDArray[np.float64], bias: NDArray[np.float64]
) -> list[Reference]:
    """The golden clips of the bundle; then some of the fully-convolutional size, where the spec has a larger one."""
    spec, golden = bundle.info.clip_spec, bundle.golden
    positions = _positions_of(bundle, graph, stage)
    pooled = positions(golden.clips)
    distance = relative_l2(pooled.features, golden.features)
    if distance > bundle.tolerance(graph).features:
        raise BundleError(f"{bundle.path}: its graph does not give the features of its golden.npz ({distance:.1e} off)")
    if pooled.logits.shape[2] == 1:
        pooled = Outputs(golden.features[:, :, None], golden.features)  # torch's own
    sets = [(golden.clips, Outputs(pooled.logits, golden.features))]
    larger = spec.fully_convolutional_crop
    if larger is not None and larger != spec.crop:
        clips = golden_clips(spec.num_frames, larger)
        sets.append((clips, positions(clips)))
    return [_reference(clips, outputs, weights, bias) for clips, outputs in sets]


def _positions_of(bundle: Bundle, graph: Variant, stage: Path) -> Callable[[NDArray[np.uint8]], Outputs]:
    """A function that gives the features at every position, [B,D,P], and their mean: the graph with an identity as
    its head. Checks that the one is the mean of the other."""
    dim = bundle.info.feature_dim
    path = stage / "positions.onnx"
    _write_graph(bundle.path / graph.path, path, np.eye(dim), np.zeros(dim))
    runtime = create_runtime(_REFERENCE_RUNTIME, path)
    for file in stage.glob("positions.onnx*"):
        file.unlink()

    def run(clips: NDArray[np.uint8]) -> Outputs:
        outputs = run_batched(runtime.run, clips)
        distance = relative_l2(outputs.logits.mean(axis=2), outputs.features)
        if distance > FLOOR:
            raise BundleError(f"{bundle.path}: its features are not the mean over positions ({distance:.1e} off)")
        return outputs

    return run


def _reference(
    clips: NDArray[np.uint8], positions: Outputs, weights: NDArray[np.float64], bias: NDArray[np.float64]
) -> Reference:
    logits = np.einsum("kd,bdp->bkp", weights, positions.logits.astype(np.float64)) + bias[None, :, None]
    single = np.einsum("kd,bdp->bkp", weights.astype(np.float32), positions.logits) + bias.astype(np.float32)[:, None]
    return Reference(clips.shape[2], clips, Outputs(logits, positions.features), relative_l2(single, logits), 0.0)


def _tolerance(
    bundle: Bundle, references: list[Reference], weights: NDArray[np.float64], bias: NDArray[np.float64]
) -> Tolerance:
    """For features, the bundle's own; for logits, what features at that bound make of them.

    The bound on features is carried through the head by noise of just that relative size. A head that takes small
    differences of large features enlarges it, as it enlarges the noise of the features themselves.
    """
    features = bundle.info.tolerance.features
    largest = FLOOR
    for reference in references:
        exact = reference.outputs.features.astype(np.float64)
        logits = exact @ weights.T + bias
        for seed in range(8):
            noise = np.random.default_rng(seed).normal(size=exact.shape)
            noise *= features * np.linalg.norm(exact) / np.linalg.norm(noise)
            largest = max(largest, relative_l2(logits + noise @ weights.T, logits))
    return Tolerance(logits=largest, features=features)


def _provenance(probe: Probe, bundle: Bundle, about: dict[str, Any], *, pooled_only: bool) -> dict[str, Any]:
    info = bundle.info
    notes = list(info.provenance.get("notes", ()))
    left_out = [f"{v.name} ({v.format})" for v in info.variants if (v.name, v.format) != ("fp32", "onnx")]
    if left_out:
        notes.append(
            f"variants of {info.name}:{info.version} without the probe's head are left out: {', '.join(left_out)}"
        )
    if pooled_only:
        notes.append(
            "the graph gives mean features only: logits have one position, in fully-convolutional prediction too"
        )
    kept = {k: v for k, v in info.provenance.items() if k not in _NOT_KEPT}
    return {
        **kept,
        **({"notes": notes} if notes else {}),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exported_on": speed.machine(),
        "tools": {p: package_version(p) for p in ("tenclip", "onnx", "onnx-ir")},
        "probe": {
            **about,
            "head_of": f"{info.name}:{info.version}",
            "classes_before": info.num_classes,
            "feature_dim": len(probe.mean),
        },
    }
