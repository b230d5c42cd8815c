"""What features say of classes: a map of videos (t-SNE), the silhouette, and nearest neighbours.

N videos, D features.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_training.inspection.features import VideoFeatures

# van der Maaten and Hinton's middle value; less where there are few videos.
PERPLEXITY = 30.0
NEIGHBOURS = 5
SHOWN_QUERIES = 12


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The videos closest to one, by the cosine of their features: (name, label, cosine) each, closest first."""

    name: str
    label: str
    closest: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """classes: those that are shown. points: float64 [N,2]; labels, names: of each.

    silhouette: of the features, from -1 to 1; None where there is a class of one video only. neighbour_accuracy: how
    many of the videos have a nearest neighbour of their own class, as a part; chance: what guessing would give.
    """

    classes: tuple[str, ...]
    points: NDArray[np.float64]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    silhouette: float | None
    neighbour_accuracy: float
    chance: float
    queries: tuple[Neighbours, ...]


def embed(videos: VideoFeatures, *, classes: int = 10, seed: int = 0) -> Embedding:
    """A map of the videos of `classes` classes, drawn at random where there are more (the paper: 10).

    Raises DatasetError for fewer than 4 videos, or a single class.
    """
    known = sorted(set(videos.labels))
    rng = np.random.default_rng(seed)
    chosen = tuple(known if len(known) <= classes else sorted(rng.choice(known, classes, replace=False).tolist()))
    rows = [i for i, label in enumerate(videos.labels) if label in chosen]
    if len(rows) < 4 or len(chosen) < 2:
        raise DatasetError(
            f"{videos.source}: {len(rows)} videos of {len(chosen)} classes; a map needs 4 videos of 2 classes or more"
        )
    features = videos.features[rows]
    labels, names = tuple(videos.labels[i] for i in rows), tuple(videos.names[i] for i in rows)
    cosines = _cosines(features)
    return Embedding(
        classes=chosen,
        points=_tsne(features, seed),
        labels=labels,
        names=names,
        silhouette=_silhouette(features, labels),
        neighbour_accuracy=float(np.mean([labels[i] == labels[j] for i, j in enumerate(cosines.argmax(1))])),
        chance=_chance(labels),
        queries=_queries(cosines, names, labels, rng),
    )


def _tsne(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    spread = features.std(0)
    if not (spread > 0).any():
        return np.zeros((len(features), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that a platform does not have
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features.astype(np.float64))
    return np.asarray(points, np.float64)


def _silhouette(features: NDArray[np.float32], labels: tuple[str, ...]) -> float | None:
    from sklearn.metrics import silhouette_score

    counts = Counter(labels)
    if min(counts.values()) < 2:
        return None
    return float(silhouette_score(features, labels))


def _chance(labels: tuple[str, ...]) -> float:
    """The chance that another video, drawn blindly, has the same class."""
    counts = np.array(list(Counter(labels).values()), float)
    total = counts.sum()
    return float((counts * (counts - 1)).sum() / (total * (total - 1)))


def _cosines(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N,N]; -inf of a video with itself."""
    rows = features.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosines: NDArray[np.float64] = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines


def _queries(
    cosines: NDArray[np.float64], names: tuple[str, ...], labels: tuple[str, ...], rng: np.random.Generator
) -> tuple[Neighbours, ...]:
    count = min(SHOWN_QUERIES, len(names))
    found = []
    for i in sorted(rng.choice(len(names), count, replace=False).tolist()):
        order = np.argsort(-cosines[i], kind="stable")[: min(NEIGHBOURS, len(names) - 1)]
        closest = tuple((names[j], labels[j], float(cosines[i, j])) for j in order)
        found.append(Neighbours(name=names[i], label=labels[i], closest=closest))
    return tuple(found)
