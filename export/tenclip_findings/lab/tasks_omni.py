"""Tasks of `tenclip omni`: filtering by a teacher, snippets of untrimmed videos, camera motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_findings.lab.tasks import MANIFEST, Found
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.omni.filter_files import filter_files
from tenclip_training.omni.fit_motion import FitRules
from tenclip_training.omni.fit_motion import fit_motion as fit
from tenclip_training.omni.motion import write_motion
from tenclip_training.omni.score_store import Decoding
from tenclip_training.omni.teacher_filter import ThresholdRule
from tenclip_training.omni.teachers import open_teachers
from tenclip_training.omni.untrimmed_files import UntrimmedRules, use_untrimmed
from tenclip_training.omni.web_files import read_web

MOTION = "motion.json"


def filtered(folder: Path, manifest: str, teachers: Sequence[str], keep_share: float, protocol: str) -> Found:
    """`tenclip omni filter`: what a teacher is surest of, with its labels."""
    web = read_web(Path(manifest))
    found = filter_files(
        open_teachers(teachers, protocol=protocol, threads=1),
        web,
        folder / "scores",
        Decoding(),
        pseudo_label="teacher",
        rule=ThresholdRule(keep_share=keep_share),
    )
    write_manifest(folder / MANIFEST, found.kept)
    truth = found.truth
    return {
        "files": len(found.rows),
        "kept": len(found.kept),
        "right_before": None if truth is None else truth.claimed_right,
        "right_kept": None if truth is None else truth.kept_right,
    }


def untrimmed(
    folder: Path, manifest: str, teachers: Sequence[str], thresholds: Sequence[float], seconds: float, protocol: str
) -> Found:
    """`tenclip omni untrimmed --form clips`: pieces of long videos that a teacher is sure of.

    thresholds: tried in this order, until one leaves a piece; the result says which it was.
    """
    ensemble = open_teachers(teachers, protocol=protocol, threads=1)
    web = read_web(Path(manifest))
    for threshold in thresholds:
        rules = UntrimmedRules(form="clips", threshold=threshold, piece_seconds=seconds, shortest_seconds=seconds / 2)
        try:
            found = use_untrimmed(ensemble, web, folder / "scores", Decoding(), rules)
        except DatasetError:
            if threshold == thresholds[-1]:
                raise
            continue
        write_manifest(folder / MANIFEST, found.rows)
        return {"videos": found.videos, "pieces": found.pieces, "positive": found.positive, "threshold": threshold}
    raise ValueError("no thresholds; give one at least")


def motion(folder: Path, manifest: str, target_fps: float) -> Found:
    """`tenclip omni fit-motion`."""
    samples = read_manifest(Path(manifest), leaks="allow").samples
    found = fit(samples, FitRules(target_fps=target_fps))
    write_motion(folder / MOTION, found.motion)
    return {"videos": found.videos, "pairs": found.pairs}
