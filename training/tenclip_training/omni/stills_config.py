"""What a training run does with images: the settings, which import nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tenclip_settings import Setting, check_all
from tenclip_training.data.clip_overrides import CLIPS

ImageTransform = Literal["replicate", "translate-constant", "translate-random", "warp", "warp-class"]


@dataclass(frozen=True, kw_only=True)
class StillsConfig:
    """images: how a clip is made of an image, see `pseudo_clips`; None: images are refused.
    motion: the file of `tenclip omni fit-motion` that warp and warp-class draw from.
    Raises ValueError where one is given without the other.
    """

    images: Annotated[
        ImageTransform | None,
        Setting("Take images, too, and make clips of them so.", group=CLIPS, default="images are refused"),
    ] = None
    motion: Annotated[
        str | None,
        Setting("Motion file of `tenclip omni fit-motion`, for images that are warped.", is_path=True, group=CLIPS),
    ] = None

    def __post_init__(self) -> None:
        check_all(self)
        if self.images in ("warp", "warp-class") and self.motion is None:
            raise ValueError(
                f"images {self.images!r} needs motion, a file that `tenclip omni fit-motion` writes from real videos"
            )
        if self.motion is not None and self.images not in ("warp", "warp-class"):
            raise ValueError(f"motion is used where images are warped, and images is {self.images!r}")
