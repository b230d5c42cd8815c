"""Features of labelled videos: from a table that `tenclip features` wrote, or from a network itself.

N videos, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Manifest
from tenclip_features.join import label_clips
from tenclip_features.table import read_feature_table
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.evaluate import clip_outputs, decoded_videos, find_protocol
from tenclip_training.loaders.any import Loaded
from tenclip_training.models.video_model import eval_mode


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFeatures:
    """features: float32 [N,D], means over clips; names, labels: of each video, of several labels the first.

    source: where they are from; left_out: videos without features.
    """

    features: NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    source: str
    left_out: int = 0


def features_of_table(paths: Sequence[Path | str], manifest: Manifest, split: str | None) -> VideoFeatures:
    """From Parquet files, with the manifest's labels. Raises DatasetError."""
    table = read_feature_table(paths)
    clips = label_clips(table, manifest, split)
    return VideoFeatures(
        features=clips.video_features(),
        names=clips.names,
        labels=tuple(labels[0] for labels in clips.labels),
        source=f"{table.source}, {table.model} {table.version}",
        left_out=len(clips.without_features),
    )


def features_of_network(
    loaded: Loaded,
    manifest: Manifest,
    *,
    protocol: str = "center-clip",
    device: str = "cpu",
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> VideoFeatures:
    """From the network's own pass over the manifest's videos. Raises DatasetError where none can be read."""
    rows: list[NDArray[np.float32]] = []
    places: list[int] = []
    loaded.model.to(device)
    videos = decoded_videos(manifest, range(len(manifest.samples)), loaded.clip_spec, find_protocol(protocol), threads)
    with eval_mode(loaded.model):
        for done, (index, clips) in enumerate(videos, 1):
            if not isinstance(clips, Failure):
                outputs = clip_outputs(loaded.model, clips.clips, loaded.clip_spec, device)
                rows.append(np.concatenate([o.features for o in outputs]).mean(0))
                places.append(index)
            if progress is not None:
                progress(done, len(manifest.samples))
    if not rows:
        raise DatasetError(f"{manifest.source}: none of its {len(manifest.samples)} videos could be read")
    chosen = [manifest.samples[index] for index in places]
    return VideoFeatures(
        features=np.stack(rows),
        names=tuple(sample.key for sample in chosen),
        labels=tuple(sample.labels[0] for sample in chosen),
        source=f"{loaded.model.architecture}, {protocol}",
        left_out=len(manifest.samples) - len(rows),
    )
