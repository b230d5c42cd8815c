"""The heavy network: exported as a bundle, and run."""

from __future__ import annotations

from pathlib import Path

from tenclip_api.errors import TenclipError
from tenclip_export.bundle_writer import export_bundle
from tenclip_findings.salience.config import MODEL_NAME
from tenclip_serving.runtimes import Runtime, available_runtimes, create_runtime, reads
from tenclip_training.models.cost import count_macs
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_video.bundle import Bundle, read_bundle
from tenclip_video.cpus import usable_cpus


def export_network(checkpoint: Path, models: Path) -> Bundle:
    """The bundle `models`/salience/1 of a checkpoint."""
    loaded = load_checkpoint(checkpoint)
    return export_bundle(
        loaded.model,
        loaded.clip_spec,
        models,
        name=MODEL_NAME,
        version="1",
        labels=loaded.labels,
        provenance=loaded.provenance,
        overwrite=True,
    )


def network_macs(checkpoint: Path) -> int:
    """Multiply-adds of one clip: what the papers of these networks call FLOPs."""
    loaded = load_checkpoint(checkpoint)
    return count_macs(loaded.model, num_frames=loaded.clip_spec.num_frames, crop=loaded.clip_spec.crop)


def open_runtimes(bundle: Bundle) -> list[Runtime]:
    """One of a single thread for each core: small networks gain little from several threads. All have run once."""
    runtimes = [open_runtime(bundle, threads=1) for _ in range(usable_cpus())]
    for runtime in runtimes:
        runtime.run(bundle.golden.clips[:1])
    return runtimes


def open_runtime(bundle: Bundle, *, threads: int = 0) -> Runtime:
    """The fastest kind of runtime that is installed here, on the bundle's float32 graph. threads: 0, its own choice."""
    variant = bundle.variant("fp32")
    name = next(n for n in available_runtimes() if reads(n, variant.format, variant.path))
    return create_runtime(name, bundle.path / variant.path, threads=threads)


def is_bundle(path: Path) -> bool:
    """Whether a bundle is there and whole."""
    try:
        read_bundle(path)
    except TenclipError:
        return False
    return True
