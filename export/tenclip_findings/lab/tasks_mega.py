"""Tasks of the mega-scale finding: parts of a dataset by class and by instance, and datasets put together."""

from __future__ import annotations

from pathlib import Path

from tenclip_data.manifest import read_manifest
from tenclip_findings.lab.tasks import MANIFEST, Found
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.curation.subsets import class_subset, instance_subset

_CHOOSE = {"classes": class_subset, "instances": instance_subset}


def part(folder: Path, manifest: str, kind: str, fraction: float, seed: int) -> Found:
    """`tenclip curate subset --kind classes` or `instances`: a fraction of the classes, or of the videos of each."""
    kept = _CHOOSE[kind](read_manifest(Path(manifest), leaks="allow", images=True).samples, fraction, seed=seed)
    write_manifest(folder / MANIFEST, kept)
    return {"videos": len(kept), "classes": len({label for s in kept for label in s.labels})}
