"""Images among the samples of a training run: which clips are made of them (OmniSource, section 3.5)."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_data.samples import Sample
from tenclip_training.omni.motion import Motion, read_motion
from tenclip_training.omni.pseudo_clips import canvas_size, pseudo_clip, walk_shares
from tenclip_training.omni.stills_config import ImageTransform, StillsConfig
from tenclip_video.images import read_pixels, scale_image
from tenclip_video.spec import ClipSpec

_log = logging.getLogger(__name__)

# Walks that go astray more often than this say that the motion is not that of clips of this length.
_MAX_REDRAWN, _MAX_HELD = 0.25, 0.01


@dataclass(frozen=True, eq=False)
class StillImage:
    """An image, scaled for the clips that are made of it. frames: uint8 RGB [H,W,3], one picture. size: (height,
    width) of a clip's frames.
    """

    frames: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class StillClips:
    """Makes clips of images, with frames of the size that `spec.resize` gives frames of videos."""

    spec: ClipSpec
    transform: ImageTransform
    motion: Motion | None = None

    def read(self, sample: Sample) -> StillImage:
        """Raises VideoError for an image that cannot be used."""
        resize = self.spec.resize
        pixels = read_pixels(sample.source(), draft=resize, name=sample.name)
        size = resize.target(*pixels.shape[:2])
        height, width = canvas_size(self.transform, *size)
        return StillImage(
            scale_image(
                pixels, dataclasses.replace(resize, mode="squash", height=height, width=width), name=sample.name
            ),
            size,
        )

    def clip(self, image: StillImage, sample: Sample, rng: np.random.Generator) -> NDArray[np.uint8]:
        """uint8 RGB [T,H,W,3]. A sample of several classes is warped by the motion of one of them, drawn anew."""
        gaussian = None
        if self.motion is not None:
            per_class = self.transform == "warp-class"
            label = sample.labels[int(rng.integers(len(sample.labels)))] if per_class else None
            gaussian = self.motion.of(label)
        return pseudo_clip(image.frames, self.spec.num_frames, image.size, self.transform, rng, gaussian=gaussian)


def still_clips(config: StillsConfig, spec: ClipSpec) -> StillClips | None:
    """What makes clips of images in a run; None where it takes none.

    Raises DatasetError for a motion file that cannot be read, and InvalidRequest for one of other clips.
    """
    if config.images is None:
        return None
    motion = None if config.motion is None else read_motion(config.motion)
    if motion is not None:
        _check_motion(config, motion, spec)
    return StillClips(spec=spec, transform=config.images, motion=motion)


def motion_sha256(config: StillsConfig) -> str | None:
    """Hex SHA-256 of the motion file of a run: with another one it would not go on with the same clips.

    Raises DatasetError for a file that cannot be read.
    """
    if config.motion is None:
        return None
    read_motion(config.motion)
    return hashlib.sha256(Path(config.motion).read_bytes()).hexdigest()


def _check_motion(config: StillsConfig, motion: Motion, spec: ClipSpec) -> None:
    fitted = (motion.sampling.get("frame_stride"), motion.sampling.get("target_fps"))
    if fitted != (spec.frame_stride, spec.target_fps):
        wanted = f"--stride {spec.frame_stride}" + (f" --fps {spec.target_fps:g}" if spec.target_fps else "")
        raise InvalidRequest(
            f"{config.motion}: was fitted to frames at stride {fitted[0]} and {_rate(fitted[1])}, and the clips have "
            f"stride {spec.frame_stride} and {_rate(spec.target_fps)}; run `tenclip omni fit-motion` with {wanted}"
        )
    if config.images == "warp-class" and not motion.classes:
        raise InvalidRequest(f"{config.motion}: has no motion of single classes; fit it with --per-class")
    shares = walk_shares(motion.overall, spec.num_frames)
    if shares.rejected > _MAX_REDRAWN or shares.held > _MAX_HELD:
        _log.warning(
            "%s: in clips of %d frames %.0f%% of the homographies fold or leave the image and are drawn again, and in "
            "%.1f%% of the frames the camera stands still for it",
            config.motion,
            spec.num_frames,
            100 * shares.rejected,
            100 * shares.held,
        )


def _rate(fps: float | None) -> str:
    return "the video's own rate" if fps is None else f"{fps:g} frames a second"
