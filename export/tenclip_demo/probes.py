"""Probes on features that came from the server."""

from __future__ import annotations

from collections import Counter

from tenclip_demo.report import Count, ProbeFacts
from tenclip_demo.videos import ProbeSet, Progress
from tenclip_features.probe import fit_probe
from tenclip_features.table import FeatureTable

# Below so many training videos of some class the strength of the regularisation cannot be chosen by cross-validation.
FEWEST_TO_CROSS_VALIDATE = 5
DEFAULT_STRENGTH = 0.1
# Weaker regularisation takes most of the time and has never been chosen here.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)


def run_probe(probe: ProbeSet, table: FeatureTable, progress: Progress = lambda done, total: None) -> ProbeFacts:
    """Fit on the training split's features, count on the test split. Raises DatasetError when there are too few."""
    train = Counter(s.labels[0] for s in probe.manifest.samples if s.split == "train")
    enough = min(train.values(), default=0) >= FEWEST_TO_CROSS_VALIDATE
    strengths = STRENGTHS if enough else (DEFAULT_STRENGTH,)
    result = fit_probe(table, probe.manifest, test_split=probe.test_split, strengths=strengths, progress=progress)
    return ProbeFacts(
        label_set=probe.name,
        description=probe.description,
        classes=result.probe.labels,
        train_videos=result.train_videos,
        accuracy=Count(correct=result.mean_features.top1_correct, total=result.mean_features.total),
        chance=result.chance.top1,
    )
