"""The student's clips with what teachers need for their targets: their outputs, or the frames that they look at.

B clips, M frames of each for the teachers, S the side of a teacher's frames, K classes of all heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenclip_api.errors import VideoError
from tenclip_data.samples import Manifest, Sample
from tenclip_training.data.augment import Augmentation, Placement
from tenclip_training.data.damage import Damage
from tenclip_training.data.dataset import Batch, ClipDataset, Collate, ReadClip, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.frame_store import FrameStore
from tenclip_training.data.random_streams import Stream, stream
from tenclip_training.data.samplers import Draw
from tenclip_training.distill.cache import OutputCache
from tenclip_training.distill.choices import FrameChoice
from tenclip_training.distill.frame_choice import choose_frames
from tenclip_training.distill.frame_stream import VideoOutputs
from tenclip_training.distill.targets import Floats, average_logits
from tenclip_training.distill.views import same_square
from tenclip_video.sampling import Clip, frames_needed
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import Video, open_video

AS_STORED = Resize(mode="none")


class TeachingClip(NamedTuple):
    """A `TrainingClip`, with the frames for each teacher: uint8 RGB [M,S,S,3]; none where the target is known."""

    frames: NDArray[np.uint8]
    target: NDArray[np.float32]
    video: str
    damage: Damage | None
    seen: tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, eq=False)
class TeachingBatch(Batch):
    """seen: for each teacher uint8 RGB [B,M,S,S,3]; empty where `targets` have the teachers' mean logits already."""

    seen: tuple[Tensor, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class TeachersView:
    """choice, count: which frames. sides: S of each teacher. caches: of each teacher, for whole frames."""

    choice: FrameChoice
    count: int
    sides: tuple[int, ...]
    caches: tuple[OutputCache, ...] = ()


class DistillDataset(ClipDataset):
    """A random clip of a video for each (visit, index), as `ClipDataset` makes it, and what its teachers see of it.

    Which frames those are follows from (seed, visit, index), and the clip is the one that it would be without teachers.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: ClipSpec,
        augmentation: Augmentation,
        *,
        seed: int,
        view: TeachersView,
        segments: int | None = None,
        store: FrameStore | None = None,
    ) -> None:
        super().__init__(manifest, spec, augmentation, seed=seed, segments=segments, store=store)
        self.view = view

    def _finish(
        self, draw: Draw, sample: Sample, clip: NDArray[np.uint8], read: ReadClip, placement: Placement
    ) -> TrainingClip:
        if self.view.caches:
            # All teachers of one grid see the same frames of it.
            rows = [self._known(cache, sample, read, self._rng(draw)) for cache in self.view.caches]
            return TrainingClip(clip, np.concatenate(rows), sample.key, read.damage)
        frames = self._frames(draw, sample, read)
        seen = tuple(same_square(frames, placement, side) for side in self.view.sides)
        target = np.zeros(len(self.manifest.labels), np.float32)
        return TeachingClip(clip, target, sample.key, read.damage, seen)  # type: ignore[return-value]

    def _rng(self, draw: Draw) -> np.random.Generator:
        return stream(Stream.TEACHER_FRAMES, self.seed, draw.visit, draw.sample)

    def _decode(self, draw: Draw, sample: Sample, video: Video, clip: Clip) -> ReadClip:
        """The student's frames, and beside them those for the teachers, from one decode."""
        if self.view.caches or self.spec.modality == "flow":
            return super()._decode(draw, sample, video, clip)
        needed, some = frames_needed([clip]), np.unique(self._wanted(draw, clip))
        frames, beside = video.read_two_sizes(needed, self.spec.resize, some, AS_STORED)
        at = np.searchsorted(needed, clip.frames)
        return ReadClip(frames[at], clip, video.times, Damage.of(sample, video.report), beside)

    def _wanted(self, draw: Draw, clip: Clip) -> list[int]:
        """Places in the video of the frames for the teachers."""
        places = choose_frames(self.view.choice, self.view.count, len(clip.frames), self._rng(draw))
        return [clip.frames[place] for place in places]

    def _frames(self, draw: Draw, sample: Sample, read: ReadClip) -> NDArray[np.uint8]:
        """[M,H,W,3], at their full size."""
        wanted = self._wanted(draw, read.plan)
        needed = np.unique(wanted)
        frames = read.beside
        if frames is None:  # the student's are cached, flow, or damaged
            with open_video(sample.source(), name=sample.name) as video:
                frames = video.read_frames(needed, AS_STORED)
        return frames[np.searchsorted(needed, wanted)]

    def _known(self, cache: OutputCache, sample: Sample, read: ReadClip, rng: np.random.Generator) -> Floats:
        """[K_i]: the mean of what a teacher said of frames of the grid, those that are next to the clip's own."""
        try:
            outputs = cache[sample]
        except KeyError:
            raise VideoError(f"{sample.name}: the teacher has not seen it", source=sample.name) from None
        near = nearest(outputs, read.times[list(read.plan.frames)])
        places = choose_frames(self.view.choice, self.view.count, len(near), rng)
        return average_logits(outputs.logits[near[places]])


def nearest(outputs: VideoOutputs, times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places in the grid, each once, of the frames that are shown closest to these times; of two the earlier."""
    distances = np.abs(outputs.times[:, None] - times[None])
    return np.unique(distances.argmin(0))


@dataclass(frozen=True)
class TeachingCollate:
    """Clips of one batch -> TeachingBatch."""

    collate: Collate

    def __call__(self, items: Sequence[TrainingClip | Failure]) -> Batch:
        batch = self.collate(items)
        every: Sequence[object] = items
        seen = [clip.seen for clip in every if isinstance(clip, TeachingClip)]
        if not seen:
            return batch
        stacked = tuple(torch.from_numpy(np.stack(frames)) for frames in zip(*seen, strict=True))
        values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(Batch)}
        return TeachingBatch(**values, seen=stacked)
