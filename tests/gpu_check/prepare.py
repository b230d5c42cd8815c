"""What steps need and a GPU is too good for: references, a bundle, videos. A process of its own, on the CPU alone.

    references/NAME.pt   calibrated weights, golden clips, logits and features in float64 and float32, and how far
                         bfloat16 is off on the CPU
    bundle/              R(2+1)D-18 as `tenclip export` writes it, with a bfloat16 torch program
    videos/              H.264, 340x256, 10 seconds, a keyframe every 250 frames

Everything appears under its name when it is whole.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenclip_export.bundle_writer import export_bundle
from tenclip_export.golden import golden_clips
from tenclip_export.parity import run_batched, torch_run
from tenclip_export.variants.program import HalfTrunk
from tenclip_training.models import VideoModel
from tenclip_training.models.resnet import BasicBlock, Bottleneck
from tenclip_training.preprocess import normalise
from tenclip_video.cpus import usable_cpus
from tenclip_video.parity import relative_l2
from tests.gpu_check.context import NETWORKS, TINY, Network
from tests.videos import Recipe, make_video

# Those that are painted, and how many copies of each lie there: copies are decoded as often as others.
NUM_VIDEOS, COPIES = 4, 8
# Gain of the last batch norm of a residual branch.
BRANCH = 0.15


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(argv)
    folder, networks = options.folder, TINY if options.dry_run else NETWORKS
    torch.set_num_threads(max(1, usable_cpus() // 2))  # the other cores launch kernels and copy
    try:
        (folder / "references").mkdir()
        write_videos(folder, dry=options.dry_run)
        for network in (networks[1], networks[0], *networks[2:]):  # the smaller one first: it is waited for
            write_reference(network, folder / "references")
            if network == networks[1]:
                write_bundle(network, folder, dry=options.dry_run)
    except Exception:  # those who wait are told
        (folder / "prepare.failed").write_text(traceback.format_exc(), encoding="utf-8")
        return 1
    return 0


def write_reference(network: Network, folder: Path) -> None:
    start = time.monotonic()
    clips = golden_clips(network.frames, network.crop)
    model = network.make()
    calibrate(model, network, torch.from_numpy(clips))
    exact = run_batched(torch_run(model, network.spec, double=True), clips, batch=1)
    single = run_batched(torch_run(model, network.spec), clips, batch=1)
    half = run_batched(torch_run(HalfTrunk(copy.deepcopy(model), torch.bfloat16), network.spec), clips[:1])
    aside = folder / f"{network.architecture}.part"
    found: dict[str, Any] = {
        "weights": model.state_dict(),
        "clips": torch.from_numpy(clips),
        "exact": [torch.from_numpy(part) for part in exact],
        "single": [torch.from_numpy(part) for part in single],
        "bf16_noise": max(relative_l2(h, e[:1]) for h, e in zip(half, exact, strict=True)),
        "seconds": time.monotonic() - start,
    }
    torch.save(found, aside)
    aside.replace(folder / f"{network.architecture}.pt")


def read_reference(network: Network, path: Path) -> tuple[VideoModel, dict[str, Any]]:
    """The network with its weights in eval mode, and the rest of the file."""
    found = torch.load(path, weights_only=True)
    model = network.make()
    model.load_state_dict(found["weights"])
    return model.eval(), found


@torch.no_grad()
def calibrate(model: VideoModel, network: Network, clips: torch.Tensor) -> None:
    """Batch norms as after training: statistics of the golden clips, and residual branches smaller than what they join.

    As it is made, maps of a deep network overflow float16; and with branches as large as the trunk, rounding grows with
    each block beyond what any trained network shows.
    """
    for part in model.modules():
        if isinstance(part, BasicBlock | Bottleneck):
            branch = (part.conv3 if isinstance(part, Bottleneck) else part.conv2)[1]
            assert isinstance(branch, nn.BatchNorm3d)
            nn.init.constant_(branch.weight, BRANCH)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm3d | nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = None  # a plain average
        norm.reset_running_stats()
    model.train()
    model(normalise(clips, network.spec))
    model.eval()


def write_bundle(network: Network, folder: Path, *, dry: bool) -> None:
    model, _ = read_reference(network, folder / "references" / f"{network.architecture}.pt")
    out = folder / "bundle.part"
    export_bundle(
        model, network.spec, out, name="check", variants=["bf16"], formats=["torch"], runtimes=["onnxruntime", "torch"]
    )
    out.replace(folder / "bundle")


def write_videos(folder: Path, *, dry: bool) -> None:
    count, copies, frames = (2, 1, 20) if dry else (NUM_VIDEOS, COPIES, 300)
    out = folder / "videos.part"
    out.mkdir()

    def write(number: int) -> None:
        recipe = Recipe(num_frames=frames, width=340, height=256, fps=Fraction(30), gop=250)
        video = make_video(recipe)
        for copy_number in range(copies):
            (out / f"{number}-{copy_number}.mp4").write_bytes(video)

    with ThreadPoolExecutor(2 if dry else max(1, usable_cpus() // 2)) as pool:
        list(pool.map(write, range(count)))
    out.replace(folder / "videos")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
