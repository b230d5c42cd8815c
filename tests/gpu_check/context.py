"""What every step is given: device, sizes, the time that is left. In a dry run everything is tiny and on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tenclip_training.models import VideoModel, create_model
from tenclip_training.models.cost import count_macs
from tenclip_video.spec import ClipSpec, Resize

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Network:
    """An architecture at the size of clips that its paper uses. small: the same with few channels, for a dry run."""

    architecture: str
    frames: int
    crop: int
    small: bool = False

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"num_frames": self.frames, "crop": self.crop}
        return config | ({"width": 8, "stages": [1, 1, 1, 1]} if self.small else {})

    def __str__(self) -> str:
        return f"{self.architecture} {self.frames}x{self.crop}"

    def make(self) -> VideoModel:
        """The same random weights at every call, in eval mode."""
        torch.manual_seed(0)
        return create_model(self.architecture, num_classes=400, **self.config).eval()

    def on_meta(self) -> VideoModel:
        """Without weights, for counting."""
        with torch.device("meta"):
            return create_model(self.architecture, num_classes=400, **self.config).eval()

    @property
    def flop(self) -> int:
        """Operations of one clip."""
        return 2 * count_macs(self.on_meta(), num_frames=self.frames, crop=self.crop)

    @property
    def spec(self) -> ClipSpec:
        resize = Resize(height=self.crop + 8, width=self.crop + 24)
        return ClipSpec(num_frames=self.frames, resize=resize, crop=self.crop, fully_convolutional_crop=None)


# Of the golden clips; the first two are timed, too.
NETWORKS = (
    Network(architecture="r2plus1d_34", frames=32, crop=128),
    Network(architecture="r2plus1d_18", frames=16, crop=112),
    Network(architecture="resnets3d_r3d_50", frames=16, crop=112),
    Network(architecture="slowonly_r50", frames=8, crop=224),
    Network(architecture="ir_csn_50", frames=32, crop=224),
)
TINY = tuple(Network(architecture=n.architecture, frames=4, crop=32, small=True) for n in NETWORKS)


@dataclass(kw_only=True)
class Context:
    """folder: what was prepared lies there, and steps may write. deadline: on `time.monotonic`.

    report(rows): results so far; called after each row that matters, so that an end by force loses nothing.
    """

    folder: Path
    dry: bool
    deadline: float = float("inf")
    report: Callable[[Any], None] = lambda rows: None
    earlier: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.dry else "cuda")

    @property
    def networks(self) -> tuple[Network, ...]:
        return TINY if self.dry else NETWORKS

    @property
    def timed(self) -> tuple[Network, ...]:
        """The network whose goal is half of the matrix product's rate, and the smaller one."""
        return self.networks[:2]

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def part(self, share: float) -> Context:
        """The same with a share of the seconds that are left."""
        return replace(self, deadline=time.monotonic() + share * self.seconds_left)

    @property
    def rate(self) -> float | None:
        """FLOP/s of the bfloat16 matrix product that the step `machine` measured."""
        found = self.earlier.get("machine", {}).get("ceilings", {}).get("matmul_bf16_tflops")
        return None if found is None else float(found) * 1e12

    @property
    def bandwidth(self) -> float | None:
        """Bytes/s, read and written, of a copy within the device."""
        found = self.earlier.get("machine", {}).get("ceilings", {}).get("copy_gb_per_s")
        return None if found is None else float(found) * 1e9

    def wait_for(self, name: str) -> Path:
        """What `prepare` writes, once it is there. Raises RuntimeError where it failed, or time is over."""
        path, failed = self.folder / name, self.folder / "prepare.failed"
        while not path.exists():
            if failed.exists():
                raise RuntimeError(f"{name} could not be prepared: {failed.read_text(encoding='utf-8')[-2000:]}")
            if self.seconds_left <= 0:
                raise RuntimeError(f"{name} was not prepared in time")
            time.sleep(0.05)
        return path


def set_tf32(allowed: bool) -> None:
    """TensorFloat-32 in matrix products and convolutions of float32."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def channels_last(module: VideoModel) -> VideoModel:
    """Weights in channels-last memory, in place."""
    for parameter in module.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module
