"""ClipSpec: everything that stands between a decoded frame and the network's input.

Training writes it into the checkpoint, export into the bundle, serving reads it. Nothing else in tenclip knows a mean
or a crop size.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

# The resize kernels of the authors' own loaders; they differ visibly, so a preset names its own.
ResizeKernel = Literal[
    "swscale_fast_bilinear",  # VMZ's Caffe2 video operator: scaled and converted to RGB in one step
    "swscale_bilinear",  # our own models: the fastest that antialiases
    "opencv_bilinear",  # MMAction2 (uint8, no antialiasing)
    "pil_bilinear",  # 3D-ResNets (uint8, antialiased)
    "torch_bilinear",  # torchvision and pytorchvideo (float, no antialiasing), rounded back to uint8
]
ValueRange = Literal["0-1", "0-255", "-1-1"]
ColorOrder = Literal["rgb", "bgr"]
ResizeMode = Literal["squash", "short_edge", "none"]
InterlacedMode = Literal["fields", "progressive"]
PaddingRule = Literal["loop"]
# What a frame is: its picture, or how it moves to the next one (`tenclip_video.flow`).
Modality = Literal["rgb", "flow"]


@dataclass(frozen=True, kw_only=True)
class Resize:
    """The scaling of a whole frame before it is cropped.

    squash: to exactly `height` x `width`, whatever the aspect ratio (VMZ: 128x171).
    short_edge: so that the shorter side is `short_edge`, aspect ratio kept. The longer side is floored, as torchvision,
    PySlowFast and pytorchvideo do; with the kernel `opencv_bilinear` it is rounded, halves up, as MMAction2 does
    (mmcv's `rescale_size`: int(side * scale + 0.5)).
    none: not at all.
    interlaced: "fields" treats the two fields of an interlaced frame apart, as swscale does (`tenclip_video.resize`);
    "progressive" ignores that a frame is marked as interlaced, as OpenCV and decord do. Progressive videos come out the
    same either way.
    """

    mode: ResizeMode = "squash"
    height: int = 128
    width: int = 171
    short_edge: int = 128
    kernel: ResizeKernel = "swscale_bilinear"
    interlaced: InterlacedMode = "fields"

    def __post_init__(self) -> None:
        _require(self.mode in get_args(ResizeMode), f"resize mode {self.mode!r} is not one of {get_args(ResizeMode)}")
        _require(
            self.kernel in get_args(ResizeKernel), f"kernel {self.kernel!r} is not one of {get_args(ResizeKernel)}"
        )
        _require(
            self.interlaced in get_args(InterlacedMode),
            f"interlaced {self.interlaced!r} is not one of {get_args(InterlacedMode)}",
        )
        _require(min(self.height, self.width, self.short_edge) >= 1, f"resize to a size below 1: {self}")

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a `height` x `width` frame after this resize, as it is shown (after rotation).

        >>> Resize(mode="short_edge", short_edge=128).target(240, 320)
        (128, 170)
        >>> Resize(mode="short_edge", short_edge=128, kernel="opencv_bilinear").target(240, 320)
        (128, 171)
        """
        if self.mode == "squash":
            return self.height, self.width
        if self.mode == "none":
            return height, width
        short, long = sorted((height, width))
        if self.kernel == "opencv_bilinear":
            longer = int(long * (self.short_edge / short) + 0.5)
        else:
            longer = int(self.short_edge * long / short)
        longer = max(longer, 1)
        return (self.short_edge, longer) if height <= width else (longer, self.short_edge)


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """The specification of one clip: T frames, how they are sampled, scaled, cropped and normalised.

    `target_fps` resamples the video by presentation time before `frame_stride` is counted; None takes its own frames.
    Where a protocol places clips by a rule that stretches them over the video's own frames (MMAction2, PySlowFast,
    pytorchvideo), `target_fps` is the rate of that rule instead (`tenclip_video.rules`).
    `crop` is the side of the square centre crop; `fully_convolutional_crop` the larger one over which the classifier
    slides (IG-65M, section 4.4), None where the family has none.
    `mean` and `std` are per channel in `color_order`, in units of `value_range`.
    """

    num_frames: int = 16
    frame_stride: int = 1
    target_fps: float | None = None
    resize: Resize = field(default_factory=Resize)
    crop: int = 112
    fully_convolutional_crop: int | None = 128
    mean: tuple[float, float, float] = (0.43216, 0.394666, 0.37645)
    std: tuple[float, float, float] = (0.22803, 0.22145, 0.216989)
    value_range: ValueRange = "0-1"
    color_order: ColorOrder = "rgb"
    padding: PaddingRule = "loop"
    modality: Modality = "rgb"

    def __post_init__(self) -> None:
        _require(self.num_frames >= 1, f"num_frames must be at least 1, got {self.num_frames}")
        _require(self.frame_stride >= 1, f"frame_stride must be at least 1, got {self.frame_stride}")
        fps = self.target_fps
        _require(fps is None or (fps > 0 and math.isfinite(fps)), f"target_fps must be positive, got {fps}")
        _require(self.crop >= 1, f"crop must be at least 1, got {self.crop}")
        fcn = self.fully_convolutional_crop
        _require(fcn is None or fcn >= self.crop, f"fully_convolutional_crop {fcn} is below the crop {self.crop}")
        _require(len(self.mean) == 3 and len(self.std) == 3, f"mean and std need 3 values: {self.mean}, {self.std}")
        _require(all(map(math.isfinite, self.mean)), f"mean must be finite, got {self.mean}")
        _require(all(s > 0 and math.isfinite(s) for s in self.std), f"std must be positive and finite, got {self.std}")
        _require(self.value_range in get_args(ValueRange), f"value_range {self.value_range!r} is unknown")
        _require(self.color_order in get_args(ColorOrder), f"color_order {self.color_order!r} is unknown")
        _require(self.padding in get_args(PaddingRule), f"padding {self.padding!r} is unknown")
        _require(self.modality in get_args(Modality), f"modality {self.modality!r} is not one of {get_args(Modality)}")

    @property
    def span(self) -> int:
        """Frames from a clip's first to its last, both counted: R = (L-1)*s + 1."""
        return (self.num_frames - 1) * self.frame_stride + 1

    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(scale [3], bias [3]) so that `x * scale + bias` normalises x, uint8 0-255 in `color_order`."""
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        factor, offset = {"0-1": (1 / 255, 0.0), "0-255": (1.0, 0.0), "-1-1": (2 / 255, -1.0)}[self.value_range]
        return (factor / std).astype(np.float32), ((offset - mean) / std).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or a checkpoint; `from_dict` reads them back. Pictures are not named as such."""
        values = dataclasses.asdict(self)
        if self.modality == "rgb":
            del values["modality"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises ValueError for fields that this version does not know: guessing would change predictions."""
        values = dict(values)
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        _require(not unknown, f"ClipSpec has no field {', '.join(sorted(unknown))}")
        resize = values.get("resize", {})
        unknown = set(resize) - {f.name for f in dataclasses.fields(Resize)}
        _require(not unknown, f"ClipSpec.resize has no field {', '.join(sorted(unknown))}")
        values["resize"] = Resize(**resize)
        for name in ("mean", "std"):
            if name in values:
                values[name] = tuple(float(v) for v in values[name])
        spec = cls(**values)
        require_types(spec.resize)
        require_types(spec)
        return spec


def require_types(values: Any) -> None:
    """Raises ValueError for a field of a dataclass that is not of its declared type: 2.0 frames, text for a number.

    For what was read from a file; `__post_init__` checks ranges, and Python's own code is checked by mypy.
    """
    hints = get_type_hints(type(values))
    for f in dataclasses.fields(values):
        value = getattr(values, f.name)
        _require(
            _is_of_type(value, hints[f.name]), f"{type(values).__name__}.{f.name} cannot be {value!r}, it is a {f.type}"
        )


def _is_of_type(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_is_of_type(value, a) for a in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return isinstance(value, tuple) and all(_is_of_type(v, arguments[0]) for v in value)
    if origin is tuple:
        return (
            isinstance(value, tuple)
            and len(value) == len(arguments)
            and all(_is_of_type(v, a) for v, a in zip(value, arguments, strict=True))
        )
    if origin is dict:
        return isinstance(value, dict) and all(
            _is_of_type(k, arguments[0]) and _is_of_type(v, arguments[1]) for k, v in value.items()
        )
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if hint is float else hint)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
