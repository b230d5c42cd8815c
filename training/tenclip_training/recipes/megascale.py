"""Mega-scale 3D CNNs (Kataoka et al. 2020), section 3.4: R3D and R(2+1)D 18 to 200, pre-trained and fine-tuned.

The paper has one setting for both. What it leaves open is that of the code of its authors (3D-ResNets) and of its
forerunner (Hara et al. 2018), named in `ours`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tenclip_training.recipes.recipe import Recipe

PAPER = "Mega-scale 3D CNNs"
DEPTHS = (18, 34, 50, 101, 152, 200)
# 1, 2^-1/4, 2^-1/2, 2^-3/4, 1/2 of the short side.
SCALES = tuple(2.0 ** (-i / 4) for i in range(5))
KINDS = {"r3d": "R3D", "r2plus1d": "R(2+1)D"}

_OURS = (
    "momentum is plain and every parameter decays: the authors' code",
    "batch of 128, 200 epochs, factor 0.1 on a plateau: the authors' code",
    "crops are cut from frames with a short edge of 240, the height of the authors' stored frames",
)


def recipes() -> Iterator[Recipe]:
    """All of the paper's."""
    for kind in KINDS:
        for depth in DEPTHS:
            yield _recipe("pretrain", kind, depth)
            yield _recipe("finetune", kind, depth)
    for depth in DEPTHS:
        yield _recipe("finetune-layer4", "r3d", depth, freeze_to="layer3")
        yield _recipe("finetune-fc", "r3d", depth, fc_only=True)


def _recipe(stage: str, kind: str, depth: int, **frozen: Any) -> Recipe:
    label = f"{KINDS[kind]}-{depth}"
    what = {
        "pretrain": f"{label} from random weights",
        "finetune": f"{label}, all layers",
        "finetune-layer4": f"{label}, the last stage and the classifier",
        "finetune-fc": f"{label}, the classifier alone",
    }[stage]
    ours: tuple[str, ...] = _OURS
    if frozen:
        ours = (*ours, "which layers are trained: the paper does not say; its forerunner trains conv5 and fc")
    return Recipe(
        name=f"megascale/{stage}/{kind}-{depth}",
        paper=PAPER,
        place="section 3.4",
        summary=what,
        gpus=1,
        values={
            "architecture": f"resnets3d_{kind}_{depth}",
            "num_frames": 16,
            "frame_stride": 1,
            "resize": (112,),
            "train_short_edge": 240,
            "crop": 112,
            "fully_convolutional_crop": 0,
            "crop_at": "corners",
            "scales": SCALES,
            "flip": True,
            "val_protocol": "3d-resnets",
            "batch_size": 128,
            "epochs": 200,
            "lr": 0.003,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 1e-3,
            "decay_all": True,
            "kind": "plateau",
            "plateau_patience": 10,
            "warmup_epochs": 0.0,
            **frozen,
        },
        starts_from="" if stage == "pretrain" else f"{label} pre-trained on Kinetics-700, Moments in Time, ...",
        ours=ours,
    )
