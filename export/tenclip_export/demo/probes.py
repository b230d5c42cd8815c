"""Probes on features that came from the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_export.demo.report import Count, ProbeFacts
from tenclip_export.demo.videos import ProbeSample, ProbeSet

Features = Mapping[tuple[Path, float | None, float | None], NDArray[np.float32]]


def fit_probe(probe: ProbeSet, features: Features) -> ProbeFacts:
    """Fit on the probe's training videos, count on its test videos. Videos without features are left out.

    Raises DatasetError when nothing is left on one of the sides.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = [s for s in probe.train if _key(s) in features]
    test = [s for s in probe.test if _key(s) in features]
    classes = sorted({s.label for s in train})
    if len(classes) < 2 or not test:
        raise DatasetError(
            f"probe {probe.name!r}: {len(train)} videos of {len(classes)} classes to fit, {len(test)} to test"
        )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(np.stack([features[_key(s)] for s in train]), [s.label for s in train])
    predicted = model.predict(np.stack([features[_key(s)] for s in test]))
    most_frequent = Counter(s.label for s in train).most_common(1)[0][0]
    return ProbeFacts(
        label_set=probe.name,
        description=probe.description,
        classes=tuple(classes),
        train_videos=len({s.path for s in train}),
        accuracy=Count(correct=sum(p == s.label for p, s in zip(predicted, test, strict=True)), total=len(test)),
        chance=sum(s.label == most_frequent for s in test) / len(test),
    )


def _key(sample: ProbeSample) -> tuple[Path, float | None, float | None]:
    return sample.path, sample.start, sample.end
