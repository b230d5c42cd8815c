"""What a network's logits owe to the kernel that resizes its frames.

The same clips of the sample videos, resized by each kernel in turn, go through the same network; the reference is the
kernel of the network's own preset. With real ImageNet weights (EfficientNet-Lite0 as a TSN) where their package is
installed, and with random ones at the VMZ preset.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import MissingDependency
from tenclip_export.onnx_graph import ServedModel
from tenclip_training.loaders import load_public_checkpoint
from tenclip_training.loaders.packages import efficientnet_lite0_path
from tenclip_training.loaders.presets import PRESETS
from tenclip_training.models import create_model
from tenclip_video.clips import read_clips
from tenclip_video.parity import relative_l2, top1_agreement
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec, ResizeKernel
from tests.conftest import DATA_DIR

SUFFIXES = (".avi", ".mp4", ".mkv")


@dataclass(frozen=True, kw_only=True)
class Line:
    """Clips resized by `kernel` instead of `reference`: levels of 255 and logits, over all clips."""

    network: str
    reference: str
    kernel: str
    num_clips: int
    mean_pixel_difference: float
    logits_relative_l2: float
    top1_agreement: float


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=4, help="of each video")
    options = parser.parse_args(argv)
    videos = sorted(p for p in (DATA_DIR / "clips").glob("*") if p.suffix in SUFFIXES)
    if not videos:
        print(f"no videos in {DATA_DIR / 'clips'}: nothing measured (TENCLIP_TEST_DATA names another folder)")
        return {"lines": []}
    lines: list[Line] = []
    for name, model, spec in networks():
        lines += compare(name, model, spec, videos, options.clips)
    show(lines)
    return {"videos": len(videos), "lines": [asdict(line) for line in lines]}


def networks() -> list[tuple[str, torch.nn.Module, ClipSpec]]:
    """Name, network and preset."""
    torch.manual_seed(0)
    spec = PRESETS["vmz"].clip_spec
    model = create_model("r2plus1d_18", num_classes=400, num_frames=spec.num_frames, crop=spec.crop).eval()
    found: list[tuple[str, torch.nn.Module, ClipSpec]] = [("r2plus1d_18, random", model, spec)]
    try:
        lite0 = load_public_checkpoint(efficientnet_lite0_path())
    except MissingDependency as err:
        print(err)
    else:
        found.append(("tsn_efficientnet_lite0, ImageNet", lite0.model, lite0.clip_spec))
    return found


def compare(name: str, model: torch.nn.Module, spec: ClipSpec, videos: list[Path], num_clips: int) -> list[Line]:
    """One line for each kernel but the preset's own."""
    reference = spec.resize.kernel
    kernels: list[ResizeKernel] = [reference, *(k for k in get_args(ResizeKernel) if k != reference)]
    clips = {k: read_all(videos, with_kernel(spec, k), num_clips) for k in kernels}
    logits = {k: run(model, spec, c) for k, c in clips.items()}
    own = clips[reference].astype(np.int16)
    return [
        Line(
            network=name,
            reference=reference,
            kernel=kernel,
            num_clips=len(own),
            mean_pixel_difference=float(np.abs(clips[kernel] - own).mean()),
            logits_relative_l2=relative_l2(logits[kernel], logits[reference]),
            top1_agreement=top1_agreement(logits[kernel], logits[reference]),
        )
        for kernel in kernels[1:]
    ]


def with_kernel(spec: ClipSpec, kernel: ResizeKernel) -> ClipSpec:
    return dataclasses.replace(spec, resize=dataclasses.replace(spec.resize, kernel=kernel))


def read_all(videos: list[Path], spec: ClipSpec, num_clips: int) -> NDArray[np.uint8]:
    """[N,T,H,W,3], all videos one after the other."""
    protocol = Protocol(selection=ClipSelection(num_clips=num_clips))
    return np.concatenate([read_clips(video, spec, protocol).clips for video in videos])


def run(model: torch.nn.Module, spec: ClipSpec, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits [N,K,P], clip by clip."""
    served = ServedModel(model, spec).eval()
    with torch.inference_mode():
        return np.concatenate([served(torch.from_numpy(clip[np.newaxis]))[0].numpy() for clip in clips])


def show(lines: list[Line]) -> None:
    print(f"{'network':34}{'preset':23}{'resized by':23}{'levels':>8}{'logits':>9}{'top-1':>7}")
    for line in lines:
        print(
            f"{line.network:34}{line.reference:23}{line.kernel:23}{line.mean_pixel_difference:8.2f}"
            f"{line.logits_relative_l2:9.1%}{line.top1_agreement:7.0%}"
        )
