"""Training clips: manifest row -> random clip of the video -> augmentation -> batch.

Decoding, sampling and resizing are tenclip_video's, the same that serving uses. Everything random follows from (seed,
visit, index), so a clip is the same whichever worker makes it, cached or not, and in a run that was resumed.

B clips of T frames, crop x crop pixels, K classes.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tenclip_api.errors import FetchFailed, NoFrames, VideoError
from tenclip_data.manifest import Manifest, Sample
from tenclip_training.data.augment import Augmentation, Placement, augment_placed
from tenclip_training.data.damage import Damage
from tenclip_training.data.failures import Failure
from tenclip_training.data.frame_store import CachedVideo, FrameStore, StoredVideo
from tenclip_training.data.samplers import Draw
from tenclip_training.data.segments import Snippets, segment_frames, snippets_of
from tenclip_training.data.tags import TargetKind, Targets
from tenclip_training.omni.stills import StillClips, StillImage
from tenclip_video.flow import mirrored_and_scaled, read_flow
from tenclip_video.sampling import Clip, ClipSelection, frames_needed, plan_clips, timeline_of
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video, open_video


@dataclass(frozen=True, eq=False)
class Batch:
    """clips: uint8 [B,T,crop,crop,3]; targets: float32 [B,K], see `Targets`. B lacks the videos in `failures`.

    Rows of targets sum to 1 for a softmax, and are 0 or 1 in each class for sigmoids. videos: where each clip is from;
    damaged: those of them whose clip has damaged frames.
    """

    clips: Tensor
    targets: Tensor
    failures: tuple[Failure, ...] = ()
    videos: tuple[str, ...] = ()
    damaged: tuple[Damage, ...] = ()

    def split(self, parts: int) -> list[Batch]:
        """The clips in micro-batches as equal as they can be; fewer where there are fewer clips."""
        parts = max(1, min(parts, len(self.clips)))
        pairs = zip(self.clips.tensor_split(parts), self.targets.tensor_split(parts), strict=True)
        return [Batch(*pair) for pair in pairs]

    def pin_memory(self) -> Batch:
        """Called by DataLoader."""
        return dataclasses.replace(self, clips=self.clips.pin_memory(), targets=self.targets.pin_memory())


class TrainingClip(NamedTuple):
    """frames: uint8 [T,crop,crop,3]; target: float32 [K]; video: the sample's key; damage: of the frames, if any."""

    frames: NDArray[np.uint8]
    target: NDArray[np.float32]
    video: str = ""
    damage: Damage | None = None


class ReadClip(NamedTuple):
    """frames: uint8 RGB [T,H,W,3], resized; plan: their places in the video, whose frames are shown at `times`.

    beside: what a method has decoded with them, [M,H',W',3].
    """

    frames: NDArray[np.uint8]
    plan: Clip
    times: NDArray[np.float64]
    damage: Damage | None = None
    beside: NDArray[np.uint8] | None = None


Cached = CachedVideo | StoredVideo | StillImage | Failure


class ClipDataset(Dataset["TrainingClip | Failure"]):
    """One random clip of a manifest's video for each (visit, index): uint8 [T,crop,crop,3] and its target [K].

    A video that cannot be used gives a Failure instead. targets: what several tags of a video become. stills: makes
    clips of the manifest's images. segments: a clip is a frame of each of so many parts of the video, see `segments`;
    its T is then that number. store: keeps what `fill_cache` decodes for other runs, and takes no memory.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: ClipSpec,
        augmentation: Augmentation,
        *,
        seed: int,
        targets: TargetKind = "soft",
        stills: StillClips | None = None,
        segments: int | None = None,
        store: FrameStore | None = None,
    ) -> None:
        self.manifest, self.spec, self.augmentation, self.seed = manifest, spec, augmentation, seed
        self.targets = Targets(kind=targets, num_classes=len(manifest.labels), seed=seed)
        self.stills, self.segments, self.store = stills, segments, store
        self._cache: dict[int, Cached] = {}

    def __len__(self) -> int:
        return len(self.manifest.samples)

    def __getitem__(self, draw: Draw | tuple[int, int]) -> TrainingClip | Failure:
        draw = Draw(*draw)
        index = draw.sample
        sample = self.manifest.samples[index]
        rng = np.random.default_rng((self.seed, draw.visit, index))
        cached = self._cache.get(index)
        if isinstance(cached, Failure):
            return cached
        try:
            read = self._read(draw, sample, rng) if cached is None else self._from_cache(sample, cached, rng)
            clip, placement = augment_placed(read.frames, self.spec.crop, self.augmentation, rng)
            if self.spec.modality == "flow":
                scale = self.spec.crop / placement.side
                clip = mirrored_and_scaled(clip, mirrored=placement.mirrored, scale=scale)
            if self.spec.color_order == "bgr":
                clip = np.ascontiguousarray(clip[..., ::-1])
            return self._finish(draw, sample, clip, read, placement)
        except VideoError as err:
            return Failure.of(sample, err)

    def _finish(
        self, draw: Draw, sample: Sample, clip: NDArray[np.uint8], read: ReadClip, placement: Placement
    ) -> TrainingClip:
        """The clip with its target; a method that learns from other things than labels has its own."""
        return TrainingClip(clip, self.targets(self.manifest.targets(sample), draw), sample.key, read.damage)

    def fill_cache(
        self, max_bytes: int, *, threads: int, progress: Callable[[int, int], None] | None = None
    ) -> list[Failure]:
        """Decode videos into memory until `max_bytes` are used; later ones go on being decoded each time.

        Returns what could not be decoded. What could not be fetched is left to its visits, at which it may be there.
        `progress` is called with (videos done, videos in all).
        """
        used = 0
        with ThreadPoolExecutor(threads) as pool:
            # Videos are taken in order and counted in order, so that which ones are cached does not hang on timing.
            indices = iter(range(len(self)))
            pending = deque(pool.submit(self._decode_all, i) for i in islice(indices, 4 * threads))
            for done in range(len(self)):
                video = pending.popleft().result()
                size = _memory(video)
                if used + size > max_bytes:
                    break
                if not _may_pass(video):
                    self._cache[done] = video
                used += size
                if progress is not None:
                    progress(done + 1, len(self))
                if (following := next(indices, None)) is not None:
                    pending.append(pool.submit(self._decode_all, following))
            for future in pending:
                future.cancel()
        return [video for video in self._cache.values() if isinstance(video, Failure)]

    @property
    def cached_bytes(self) -> int:
        """What the cache holds."""
        return sum(map(_memory, self._cache.values()))

    def _decode_all(self, index: int) -> Cached:
        sample = self.manifest.samples[index]
        try:
            if self.stills is not None and sample.is_image:
                return self.stills.read(sample)
            snippets = self._snippets(sample)
            if self.store is None:
                return self._decode_video(sample, snippets)
            shown = () if snippets is None else snippets.times.tolist()
            stored = self.store.find(sample, self.spec, shown)
            if stored is not None:
                return stored
            video = self._decode_video(sample, snippets)
            return self.store.add(sample, self.spec, video, shown) or video
        except VideoError as err:
            return Failure.of(sample, err)

    def _decode_video(self, sample: Sample, snippets: Snippets | None) -> CachedVideo:
        """Every frame that a clip of the sample can have. Raises VideoError."""
        with open_video(sample.source(), name=sample.name) as video:
            duration = video.info.duration_seconds
            if snippets is None:
                every = _plan(video.times, duration, self.spec, sample, ClipSelection(mode="windows", window_step=1))
            else:
                every = [_every_snippet(snippets, video.times, duration, sample)]
            indices = frames_needed(every)
            frames = self._frames_of(video, indices)
            return CachedVideo(frames, indices, video.times, duration, Damage.of(sample, video.report))

    def _read(self, draw: Draw, sample: Sample, rng: np.random.Generator) -> ReadClip:
        if self.stills is not None and sample.is_image:
            return self._of_still(self.stills.clip(self.stills.read(sample), sample, rng))
        with open_video(sample.source(), name=sample.name) as video:
            clip = self._choose(video.times, video.info.duration_seconds, sample, rng)
            return self._decode(draw, sample, video, clip)

    def _decode(self, draw: Draw, sample: Sample, video: Video, clip: Clip) -> ReadClip:
        """The frames of a clip; a method that needs more of them has its own."""
        needed = frames_needed([clip])
        frames = self._frames_of(video, needed)[np.searchsorted(needed, clip.frames)]
        return ReadClip(frames, clip, video.times, Damage.of(sample, video.report))

    def _from_cache(
        self, sample: Sample, video: CachedVideo | StoredVideo | StillImage, rng: np.random.Generator
    ) -> ReadClip:
        if isinstance(video, StillImage):
            assert self.stills is not None
            return self._of_still(self.stills.clip(video, sample, rng))
        if isinstance(video, StoredVideo):
            video = video.load(sample)
        clip = self._choose(video.times, video.duration, sample, rng)
        frames = video.frames[np.searchsorted(video.indices, clip.frames)]
        return ReadClip(frames, clip, video.times, video.damage)

    def _choose(self, times: NDArray[np.float64], duration: float, sample: Sample, rng: np.random.Generator) -> Clip:
        """A random clip of the video, or a frame of each of its segments."""
        if self.segments is None:
            (clip,) = _plan(times, duration, self.spec, sample, _RANDOM_CLIP, rng)
            return clip
        snippets = self._snippets(sample)
        try:
            if snippets is not None:
                return _shown_at(snippets.draw(self.segments, rng), times, duration)
            timeline = timeline_of(times, duration, self.spec, within(_RANDOM_CLIP, sample))
        except ValueError as err:
            raise NoFrames(f"{sample.name}: {err}", source=sample.name) from err
        return Clip(tuple(timeline[segment_frames(len(timeline), self.segments, rng)].tolist()))

    def _snippets(self, sample: Sample) -> Snippets | None:
        """The judged frames that clips of segments are drawn from; None where there are none. Raises NoFrames."""
        if self.segments is None:
            return None
        try:
            return snippets_of(sample.extra)
        except ValueError as err:
            raise NoFrames(f"{sample.name}: {err}", source=sample.name) from err

    def _frames_of(self, video: Video, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [N,H,W,3]: the frames, or how they move."""
        if self.spec.modality == "flow":
            return read_flow(video, indices, self.spec.resize)
        return video.read_frames(indices, self.spec.resize)

    def _of_still(self, frames: NDArray[np.uint8]) -> ReadClip:
        return ReadClip(frames, Clip((0,) * len(frames)), np.zeros(1))


def _every_snippet(snippets: Snippets, times: NDArray[np.float64], duration: float, sample: Sample) -> Clip:
    """The frames at all times that can be shown: one behind the end is an error of the clip that asks for it."""
    seconds = np.sort(snippets.times)
    there = seconds[seconds <= _end(times, duration)]
    try:
        return _shown_at(there if len(there) else seconds, times, duration)
    except ValueError as err:
        raise NoFrames(f"{sample.name}: {err}", source=sample.name) from err


def _end(times: NDArray[np.float64], duration: float) -> float:
    return max(duration, float(times[-1]))


def _shown_at(seconds: NDArray[np.float64], times: NDArray[np.float64], duration: float) -> Clip:
    """seconds: ascending. Raises ValueError where the last of them is behind the end."""
    if seconds[-1] > _end(times, duration):
        raise ValueError(f"a frame at {seconds[-1]:g} s is asked for, and the video lasts {duration:g} s")
    return Clip(tuple(np.maximum(np.searchsorted(times, seconds + 1e-6, side="right") - 1, 0).tolist()))


def _memory(video: Cached) -> int:
    """Bytes that a video of the cache takes."""
    return 0 if isinstance(video, Failure | StoredVideo) else video.frames.nbytes


def _may_pass(video: Cached) -> bool:
    """Whether it is a failure that says nothing of a later try."""
    return isinstance(video, Failure) and video.reason == FetchFailed.reason


_RANDOM_CLIP = ClipSelection(mode="random", num_clips=1)


def _plan(
    times: NDArray[np.float64],
    duration: float,
    spec: ClipSpec,
    sample: Sample,
    selection: ClipSelection,
    rng: np.random.Generator | None = None,
) -> list[Clip]:
    try:
        return plan_clips(times, duration, spec, within(selection, sample), rng=rng)
    except ValueError as err:
        raise NoFrames(f"{sample.name}: {err}", source=sample.name) from err


def within(selection: ClipSelection, sample: Sample) -> ClipSelection:
    """The selection, restricted to the part of the video that the sample names."""
    if sample.start_seconds is None and sample.end_seconds is None:
        return selection
    return dataclasses.replace(selection, start_seconds=sample.start_seconds, end_seconds=sample.end_seconds)


@dataclass(frozen=True)
class Collate:
    """Clips of one batch -> Batch. A class and not a closure, since workers may be spawned."""

    spec: ClipSpec
    num_classes: int

    def __call__(self, items: Sequence[TrainingClip | Failure]) -> Batch:
        good = [item for item in items if not isinstance(item, Failure)]
        frames = len(good[0].frames) if good else self.spec.num_frames  # clips of segments have their number
        clips = np.zeros((len(good), frames, self.spec.crop, self.spec.crop, 3), np.uint8)
        targets = np.zeros((len(good), self.num_classes), np.float32)
        for i, item in enumerate(good):
            clips[i], targets[i] = item.frames, item.target
        return Batch(
            torch.from_numpy(clips),
            torch.from_numpy(targets),
            failures=tuple(item for item in items if isinstance(item, Failure)),
            videos=tuple(item.video for item in good),
            damaged=tuple(item.damage for item in good if item.damage is not None),
        )
