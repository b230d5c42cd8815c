"""A bundle as a model of NVIDIA's Triton Inference Server: NAME/config.pbtxt, NAME/labels.txt, NAME/VERSION/model.onnx.

Triton then executes the graph: raw uint8 clips in, logits and features out. Decoding, sampling and averaging are the
caller's, with `tenclip_video`.

A folder of bundles has almost that layout already, so `export_triton(bundle, models)` with the folder that the bundle
is in only adds the two files, and both `tenclip serve` and Triton serve it. Triton passes over the rest.

Fields: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tenclip_api.errors import BundleError
from tenclip_data.atomic import write_text
from tenclip_export.bundle_folder import hidden_folder, replace_folder
from tenclip_export.onnx_graph import INPUT_NAME, OUTPUT_NAMES
from tenclip_video.bundle import Bundle, BundleInfo, Variant

Device = Literal["auto", "cpu", "gpu"]

# `Variant.format` -> Triton's name for what executes it.
_PLATFORMS = {"onnx": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}
_CONFIG, _LABELS = "config.pbtxt", "labels.txt"


@dataclass(frozen=True, kw_only=True)
class TritonSettings:
    """How Triton runs the model.

    variant: of the bundle. device, instances: so many copies of the model on the CPU or on every GPU; auto: GPUs
    where there are some.
    max_batch_size: clips of one execution. preferred_batch_sizes: sent off at once when the queue fills them; a smaller
    batch waits for more clips, up to max_queue_delay_ms. Only clips of one size share a batch.
    Raises ValueError for numbers that cannot work.
    """

    variant: str = "fp32"
    device: Device = "auto"
    instances: int = 1
    max_batch_size: int = 16
    preferred_batch_sizes: tuple[int, ...] = (8, 16)
    max_queue_delay_ms: float = 5.0

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise ValueError(f"device {self.device!r} is not one of {', '.join(get_args(Device))}")
        if self.instances < 1 or self.max_batch_size < 1:
            raise ValueError(
                f"instances and max_batch_size must be at least 1, got {self.instances}, {self.max_batch_size}"
            )
        if not all(1 <= size <= self.max_batch_size for size in self.preferred_batch_sizes):
            raise ValueError(
                f"preferred batch sizes {self.preferred_batch_sizes} must be from 1 to max_batch_size "
                f"{self.max_batch_size}"
            )
        if not 0 <= self.max_queue_delay_ms <= 60_000:
            raise ValueError(f"max_queue_delay_ms must be from 0 to 60000, got {self.max_queue_delay_ms}")


def export_triton(
    bundle: Bundle,
    out_dir: Path | str,
    *,
    settings: TritonSettings | None = None,
    overwrite: bool = False,
) -> Path:
    """Make `out_dir/NAME` a model of a Triton repository that serves this version; returns that directory.

    The graph is copied unless `out_dir` is the folder that holds the bundle. A NAME that is there may hold other
    versions; its config then names this one instead. The config appears last: a directory without one serves nothing.
    Raises BundleError for a version that is no positive integer, a variant that Triton does not execute, a graph that
    is not the bundle's, a version that exists with another graph (unless `overwrite`) or files that cannot be written.
    """
    settings = settings or TritonSettings()
    variant = bundle.variant(settings.variant)
    config = triton_config(bundle.info, variant, settings)
    if variant.format == "onnx":
        check_graph(bundle.path / variant.path, bundle.info)
    home = Path(out_dir) / bundle.info.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not _same(home, bundle.path.parent):
            _copy_version(bundle, variant, home / bundle.info.version, overwrite=overwrite)
        write_text(home / _LABELS, "".join(f"{label}\n" for label in bundle.labels))
        write_text(home / _CONFIG, config)
    except OSError as err:
        raise BundleError(f"{home}: cannot be written: {err}") from err
    return home


def triton_config(info: BundleInfo, variant: Variant, settings: TritonSettings) -> str:
    """The text of config.pbtxt. Raises BundleError for what Triton cannot serve."""
    if not re.fullmatch(r"[1-9]\d*", info.version):
        raise BundleError(
            f"{info.name}/{info.version}: Triton serves versions that are positive integers; export with --version 1"
        )
    if variant.format not in _PLATFORMS:
        raise BundleError(
            f"{info.name}/{info.version}: variant {variant.name!r} is {variant.format}; Triton executes "
            f"{' and '.join(_PLATFORMS)}"
        )
    if variant.format == "tensorrt" and settings.device == "cpu":
        raise BundleError(f"variant {variant.name!r} is a TensorRT engine, which runs on GPUs only")
    spec = info.clip_spec
    pooled = [spec.num_frames, spec.crop, spec.crop, 3]  # T,H,W,C; Triton's dims leave the batch out
    # Height and width stay free: the fully-convolutional crop is larger, and its logits have more positions.
    lines = [
        f'name: "{info.name}"',
        f'platform: "{_PLATFORMS[variant.format]}"',
        f'default_model_filename: "{variant.path}"',
        f"max_batch_size: {settings.max_batch_size}",
        f"version_policy {{ specific {{ versions: [{info.version}] }} }}",
        f'input [ {{ name: "{INPUT_NAME}" data_type: TYPE_UINT8 dims: [{spec.num_frames}, -1, -1, 3] }} ]',
        "output [",
        *([] if info.features_only else _logits_output(info)),
        f'  {{ name: "{OUTPUT_NAMES[1]}" data_type: TYPE_FP32 dims: [{info.feature_dim}] }}',
        "]",
        "dynamic_batching {",
        *(
            [f"  preferred_batch_size: {list(settings.preferred_batch_sizes)}"]
            if settings.preferred_batch_sizes
            else []
        ),
        f"  max_queue_delay_microseconds: {round(1000 * settings.max_queue_delay_ms)}",
        "}",
        f"instance_group [ {{ count: {settings.instances} kind: KIND_{settings.device.upper()} }} ]",
        *_warm_up(pooled, sorted({1, *settings.preferred_batch_sizes})),
    ]
    return "\n".join(lines) + "\n"


def _logits_output(info: BundleInfo) -> list[str]:
    return [
        f'  {{ name: "{OUTPUT_NAMES[0]}" data_type: TYPE_FP32 dims: [{info.num_classes}, -1]',
        f'    label_filename: "{_LABELS}" }},',
    ]


def check_graph(path: Path, info: BundleInfo) -> None:
    """Hold an ONNX graph against what the config says of it.

    Raises BundleError for a file that is no ONNX graph, or one with other names, types or shapes than a bundle's.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (OSError, DecodeError) as err:
        raise BundleError(f"{path}: is no ONNX graph: {err}") from err
    kinds: dict[int, str] = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}

    def describe(value: onnx.ValueInfoProto) -> tuple[str, str, tuple[int, ...]]:
        tensor = value.type.tensor_type
        sides = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        return value.name, kinds.get(tensor.elem_type, f"type {tensor.elem_type}"), sides

    actual = [describe(value) for value in (*graph.input, *graph.output)]
    spec = info.clip_spec
    expected = [
        (INPUT_NAME, "uint8", (-1, spec.num_frames, -1, -1, 3)),
        *([] if info.features_only else [(OUTPUT_NAMES[0], "float32", (-1, info.num_classes, -1))]),
        (OUTPUT_NAMES[1], "float32", (-1, info.feature_dim)),
    ]
    if actual != expected:
        raise BundleError(f"{path}: inputs and outputs are {actual}; Triton's config would say {expected}")


def _warm_up(dims: list[int], batch_sizes: list[int]) -> list[str]:
    """Before a model counts as ready, one run at each batch size: the first run allocates and chooses kernels."""
    lines = ["model_warmup ["]
    for size in batch_sizes:
        value = f"{{ data_type: TYPE_UINT8 dims: {dims} random_data: true }}"
        lines += [
            f'  {{ name: "pooled-{size}" batch_size: {size}',
            f'    inputs {{ key: "{INPUT_NAME}" value {value} }} }}{"," if size != batch_sizes[-1] else ""}',
        ]
    return [*lines, "]"]


def _same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()


def _copy_version(bundle: Bundle, variant: Variant, target: Path, *, overwrite: bool) -> None:
    """The variant's files as `target`, which appears whole, under the names that they have in the bundle."""
    if target.exists() and not overwrite:
        raise BundleError(f"{target} exists; --overwrite replaces it")
    # Triton takes directories for versions only when their names are numbers.
    stage = hidden_folder(target.parent, "incomplete")
    try:
        for relative in variant.files:
            (stage / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / relative, stage / relative)
        if target.exists():
            replace_folder(stage, target)
        else:
            stage.rename(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
