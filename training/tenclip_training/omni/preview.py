"""A picture of the clips that images become: a row for each transform, a column for each frame."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tenclip_api.errors import InvalidRequest
from tenclip_data.atomic import replacing
from tenclip_data.samples import Sample
from tenclip_training.omni.motion import Motion
from tenclip_training.omni.stills import StillClips
from tenclip_training.omni.stills_config import ImageTransform
from tenclip_video.spec import ClipSpec

_FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
_MAX_SIDE = {"WEBP": 16383, "JPEG": 65500}
_GAP, _LABEL_HEIGHT = 4, 14


def preview(
    image: Path,
    transforms: Sequence[ImageTransform],
    spec: ClipSpec,
    *,
    motion: Motion | None = None,
    label: str = "",
    seed: int = 0,
) -> NDArray[np.uint8]:
    """uint8 RGB [H,W,3]. label: the class whose motion warp-class takes. Raises VideoError for a bad image."""
    sample = Sample(path=image, name=str(image), labels=(label,))
    rows = []
    for transform in transforms:
        stills = StillClips(spec=dataclasses.replace(spec, color_order="rgb"), transform=transform, motion=motion)
        clip = stills.clip(stills.read(sample), sample, np.random.default_rng((seed, 1, 0)))
        rows.append(_row(transform, clip))
    return np.concatenate(rows)


def _row(title: str, clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One clip side by side, its title above: frames [T,H,W,3] with white between them."""
    padded = np.pad(clip, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    strip = np.concatenate(list(padded), axis=1)
    heading = Image.new("RGB", (strip.shape[1], _LABEL_HEIGHT), "white")
    ImageDraw.Draw(heading).text((0, 0), title, fill="black")
    return np.concatenate([np.asarray(heading), strip])


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as its suffix says. Raises OSError, and InvalidRequest for a suffix that is none and a picture
    that is larger than the format allows.
    """
    format = _FORMATS.get(path.suffix.lower())
    if format is None:
        raise InvalidRequest(f"{path}: a picture is written as {', '.join(_FORMATS)}")
    encoded = io.BytesIO()
    height, width = picture.shape[:2]
    if max(height, width) > _MAX_SIDE.get(format, max(height, width)):
        raise InvalidRequest(
            f"{path}: {width}x{height} pixels, and {format} holds {_MAX_SIDE[format]} a side; take fewer frames, "
            "a smaller size, or .png"
        )
    Image.fromarray(picture).save(encoded, format, quality=80)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(encoded.getvalue())
