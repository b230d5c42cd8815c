"""Features of frames of videos and images by a network, stored in Parquet (OmniSource, section 3.3).

The paper uses an ImageNet ResNet-50; by default this is EfficientNet-Lite0, whose weights come as a package. A frame is
squashed to the network's input, so that all of it is seen. Crops are five squares of 7/8 of its sides: the corners and
the centre. Videos are looked at once a second; the paper names neither rate nor crops.

Files are decoded in processes of their own; the network runs here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_training.curation.frame_codes import sample_indices
from tenclip_training.curation.killable import DEFAULT_TIMEOUT_SECONDS
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import Progress, VideoStore, only_chunk
from tenclip_training.omni.networks import FrameNetwork
from tenclip_video.images import read_image
from tenclip_video.spec import Resize
from tenclip_video.video import open_video

CROP_PART = 7 / 8
NUM_CROPS = 5
# Of a video: ten minutes at one a second. Frames of a longer one are spread over it.
MAX_FRAMES = 600
# Of a file in the store, and so what is in memory at once, more or less.
MAX_FILE_BYTES = 256 << 20

Views = Literal["whole", "crops"]

_COLUMNS = (
    ("seconds", pa.large_list(pa.float64())),
    ("features", pa.large_list(pa.float32())),
)


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """rate: frames a second. side: of the network's input. views: each frame whole, or its five crops, of which only
    the frame in the middle is looked at.
    """

    rate: float
    side: int
    views: Views

    @property
    def per_frame(self) -> int:
        """Rows of features of one frame."""
        return 1 if self.views == "whole" else NUM_CROPS


@dataclass(frozen=True, eq=False)
class SampledFrames:
    """frames: uint8 RGB [N*V,side,side,3], the views of a frame side by side. seconds: [N]."""

    frames: NDArray[np.uint8]
    seconds: NDArray[np.float64]


def sample_frames(video: SetVideo, sampling: FrameSampling) -> SampledFrames:
    """Decode the frames of a video or an image that a network is to see. Raises VideoError."""
    cv2.setNumThreads(1)
    large = round(sampling.side / CROP_PART)
    resize = Resize(height=large, width=large)
    if video.is_image:
        frames, seconds = read_image(video.path, resize, name=video.name)[None], np.zeros(1)
    else:
        frames, seconds = _read_frames(video, sampling, resize)
    if sampling.views == "crops":
        return SampledFrames(np.concatenate([five_crops(f, sampling.side) for f in frames]), seconds)
    size = (sampling.side, sampling.side)
    whole = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]
    return SampledFrames(np.stack(whole).astype(np.uint8), seconds)


def _read_frames(
    video: SetVideo, sampling: FrameSampling, resize: Resize
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    with open_video(video.path, name=video.name) as opened:
        start = video.start_seconds or 0.0
        indices = np.unique(
            sample_indices(opened.times, opened.info.duration_seconds, start, video.end_seconds, rate=sampling.rate)
        )
        if not len(indices):
            raise InvalidRequest(
                f"{video.name}: no frame at {start:g} s or later; it is {opened.info.duration_seconds:g} s long"
            )
        if sampling.views == "crops":
            indices = indices[len(indices) // 2 : len(indices) // 2 + 1]
        elif len(indices) > MAX_FRAMES:
            indices = indices[np.linspace(0, len(indices) - 1, MAX_FRAMES).astype(np.int64)]
        return opened.read_frames(indices, resize), opened.times[indices]


def five_crops(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The four corners and the centre of a frame [H,W,3]: [5,side,side,3]."""
    bottom, right = frame.shape[0] - side, frame.shape[1] - side
    places = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    return np.stack([frame[top : top + side, left : left + side] for top, left in places])


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of the frames of a set, one behind the other. features: float32 [F*V,D]; item: [F] the place of each
    frame's file in `names`; seconds: [F].
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    item: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @property
    def num_frames(self) -> int:
        return len(self.seconds)


class FeatureStore(VideoStore):
    """The features of one network in one folder. Raises DatasetError for files of another network or sampling."""

    def __init__(self, folder: Path, network: FrameNetwork, *, rate: float = 1.0, views: Views = "whole") -> None:
        self._network = network
        self._sampling = FrameSampling(rate=rate, side=network.spec.crop, views=views)
        recipe = f"{network.identity}, {views} v1, {rate:g} fps, {self._sampling.side}x{self._sampling.side}"
        super().__init__(folder, noun="features", columns=_COLUMNS, recipe=recipe, max_bytes=MAX_FILE_BYTES)

    def update(
        self,
        videos: Sequence[SetVideo],
        *,
        workers: int,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        progress: Progress | None = None,
    ) -> int:
        """Compute the features of the files that have none or have changed; returns how many those were."""
        return self.fill(
            videos,
            functools.partial(sample_frames, sampling=self._sampling),
            self._columns_of,
            workers=workers,
            timeout_seconds=timeout_seconds,
            progress=progress,
        )

    def tables(self, videos: Sequence[SetVideo]) -> Iterator[FeatureTable]:
        """The features of these files, some files at a time: a million images have 5 GB of them."""
        names = tuple(v.name for v in videos)
        for rows, places in self.batches_of(videos, ("seconds", "features")):
            seconds, features = (only_chunk(rows.column(name)) for name in ("seconds", "features"))
            counts = seconds.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
            flat = np.asarray(features.flatten().to_numpy(zero_copy_only=False), np.float32)
            yield FeatureTable(
                names=names,
                features=flat.reshape(int(counts.sum()) * self._sampling.per_frame, -1),
                item=np.repeat(np.array(places, np.int64), counts),
                seconds=np.asarray(seconds.flatten().to_numpy(zero_copy_only=False), np.float64),
            )

    def read(self, videos: Sequence[SetVideo]) -> FeatureTable:
        """The features of all of these files, in memory."""
        tables = list(self.tables(videos))
        if not tables:
            return FeatureTable(
                tuple(v.name for v in videos), np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0)
            )
        return FeatureTable(
            names=tables[0].names,
            features=np.concatenate([t.features for t in tables]),
            item=np.concatenate([t.item for t in tables]),
            seconds=np.concatenate([t.seconds for t in tables]),
        )

    def _columns_of(self, video: SetVideo, sampled: SampledFrames) -> dict[str, Any]:
        features = self._network.features(sampled.frames)
        return {"seconds": sampled.seconds, "features": features.ravel()}
