"""IG-65M (Ghadiyaram et al. 2019): pre-training of section 3.3, and every row of tables 8 to 17 of the supplement.

The rate of a table is that of one GPU, of which there were 16 x 4; weight decay 1e-4 and a factor of 0.1 hold for all
of them. The LR steps of a table are read so that they fit every row: the rate falls after the warm-up and after each
listed number of epochs from there on; the last of them may fall on the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tenclip_training.recipes.recipe import Recipe

PAPER = "IG-65M"
PRETRAIN_GPUS, FINETUNE_GPUS = 128, 64
PRETRAIN_CLIPS = 490_000_000
CLIPS_AN_EPOCH = 1_000_000

# Clips of a GPU, by the frames of a clip.
BATCH_SIZES = {8: 16, 32: 6}

_VMZ_OPTIMISER = "momentum 0.9, plain, and weight decay on every parameter: those of the authors' code (VMZ)"
_WARMUP_START = "the warm-up starts from the rate of one GPU (Goyal et al. 2017)"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table. `rates`: of one GPU, (target, rate) pairs: one of Kinetics, or one each of verb and noun."""

    table: int
    name: str
    starts_from: str
    architecture: str
    frames: int
    epochs: int
    rates: tuple[tuple[str, float], ...]
    warmup: float
    steps: tuple[float, ...]
    place: str


def _kinetics(
    table: int, names: dict[str, str], *, architecture: str = "r2plus1d_34", frames: int, rate: float, number: str
) -> list[Row]:
    """Rows that differ in what they start from; `names` are (name, starts_from) pairs."""
    return [
        Row(
            table=table,
            name=name,
            starts_from=source,
            architecture=architecture,
            frames=frames,
            epochs=58,
            rates=(("kinetics", rate),),
            warmup=16,
            steps=(16, 16),
            place=number,
        )
        for name, source in names.items()
    ]


def _r3d(name: str, source: str, epochs: int, rate: float, warmup: float, steps: tuple[float, ...], row: int) -> Row:
    return Row(
        table=12,
        name=name,
        starts_from=source,
        architecture="torchvision_r3d_18",
        frames=8,
        epochs=epochs,
        rates=(("kinetics", rate),),
        warmup=warmup,
        steps=steps,
        place=f"row {row}",
    )


def _epic(table: int, name: str, source: str, depth: int, frames: int, verb: float, noun: float, row: int) -> Row:
    return Row(
        table=table,
        name=name,
        starts_from=source,
        architecture=f"r2plus1d_{depth}",
        frames=frames,
        epochs=27,
        rates=(("verb", verb), ("noun", noun)),
        warmup=0,
        steps=(9, 9, 9),
        place=f"row {row}",
    )


def _something(name: str, source: str, depth: int, rate: float, steps: tuple[float, ...], row: int) -> Row:
    return Row(
        table=17,
        name=name,
        starts_from=source,
        architecture=f"r2plus1d_{depth}",
        frames=32,
        epochs=16,
        rates=(("something", rate),),
        warmup=0,
        steps=steps,
        place=f"row {row}",
    )


def _on(depth: int | str, source: str) -> str:
    return f"R(2+1)D-{depth} pre-trained on {source}"


def _sizes(*sizes: str) -> dict[str, str]:
    return {f"ig-kinetics-{size.lower()}": _on(34, f"IG-Kinetics-{size}") for size in sizes}


def _depths(table: int) -> list[Row]:
    rows = []
    for depth in (18, 34, 101, 152):
        names = {f"r2plus1d-{depth}": _on(depth, "IG-Kinetics-65M")}
        architecture = f"r2plus1d_{depth}"
        rows += _kinetics(table, names, architecture=architecture, frames=32, rate=0.00003, number="row 1")
    return rows


def _labels(source: str, *counts: int) -> dict[str, str]:
    return {f"{n}-labels": _on(34, f"{source}-1M with {n:,} labels") for n in counts}


ROWS: tuple[Row, ...] = (
    *_kinetics(8, _sizes("500K", "1M", "5M"), frames=8, rate=0.0003, number="row 1"),
    *_kinetics(8, _sizes("10M", "19M", "65M"), frames=8, rate=0.00003, number="row 2"),
    *_depths(9),
    # The table prints 10,563 labels; tables 1, the text and footnote 4 have 10,653.
    *_kinetics(10, _labels("IG-Verb+Noun", 675, 1350, 2700, 5400, 10653), frames=8, rate=0.0003, number="row 1"),
    *_kinetics(11, _labels("IG-Kinetics", 20, 45, 90, 180, 359), frames=8, rate=0.0003, number="row 1"),
    _r3d("imagenet", "R2D-18 pre-trained on ImageNet, inflated", 167, 0.01, 20, (40, 40, 40), 1),
    _r3d("ig-kinetics-19m-images", "R2D-18 on IG-Kinetics-19M-Images, inflated", 96, 0.00025, 20, (20, 20, 20), 2),
    _r3d("ig-kinetics-250m-images", "R2D-18 on IG-Kinetics-250M-Images, inflated", 96, 0.0025, 20, (20, 20, 20), 3),
    _r3d("ig-kinetics-19m-frames", "R2D-18 on frames of IG-Kinetics-19M, inflated", 96, 0.0005, 20, (20, 20, 20), 4),
    _r3d("ig-kinetics-19m-clips", "R3D-18 pre-trained on clips of IG-Kinetics-19M", 188, 0.01, 40, (40, 40, 40), 5),
    *_kinetics(13, {"r2plus1d-34-sports-1m": _on(34, "Sports-1M")}, frames=32, rate=0.00003, number="row 1"),
    *_kinetics(13, {"r2plus1d-34-ig-kinetics": _on(34, "IG-Kinetics-65M")}, frames=32, rate=0.00003, number="row 2"),
    *_kinetics(
        13,
        {"r2plus1d-152-ig-kinetics": _on(152, "IG-Kinetics-65M")},
        architecture="r2plus1d_152",
        frames=32,
        rate=0.00003,
        number="row 3",
    ),
    _epic(14, "ig-kinetics-500k", _on(34, "IG-Kinetics-500K"), 34, 8, 0.0005, 0.0005, 1),
    _epic(14, "ig-kinetics-1m", _on(34, "IG-Kinetics-1M"), 34, 8, 0.0005, 0.0005, 2),
    _epic(14, "ig-kinetics-5m", _on(34, "IG-Kinetics-5M"), 34, 8, 0.0005, 0.0001, 3),
    _epic(14, "ig-kinetics-10m", _on(34, "IG-Kinetics-10M"), 34, 8, 0.00025, 0.0001, 4),
    _epic(14, "ig-kinetics-19m", _on(34, "IG-Kinetics-19M"), 34, 8, 0.00025, 0.0001, 5),
    _epic(14, "ig-kinetics-65m", _on(34, "IG-Kinetics-65M"), 34, 8, 0.00025, 0.0001, 6),
    _epic(14, "kinetics", _on(34, "Kinetics"), 34, 8, 0.00025, 0.0001, 7),
    _epic(15, "r2plus1d-18", _on(18, "IG-Kinetics-65M"), 18, 32, 0.00005, 0.00025, 1),
    _epic(15, "r2plus1d-34", _on(34, "IG-Kinetics-65M"), 34, 32, 0.000025, 0.00025, 2),
    _epic(15, "r2plus1d-101", _on(101, "IG-Kinetics-65M"), 101, 32, 0.000025, 0.0001, 3),
    _epic(15, "r2plus1d-152", _on(152, "IG-Kinetics-65M"), 152, 32, 0.00005, 0.0001, 4),
    _epic(16, "r2plus1d-34-kinetics", _on(34, "Kinetics"), 34, 32, 0.0025, 0.0025, 1),
    _epic(16, "r2plus1d-34-sports-1m", _on(34, "Sports-1M"), 34, 32, 0.0025, 0.0025, 2),
    _epic(16, "r2plus1d-34-ig-kinetics", _on(34, "IG-Kinetics-65M"), 34, 32, 0.000025, 0.00025, 3),
    _epic(16, "r2plus1d-152-ig-kinetics", _on(152, "IG-Kinetics-65M"), 152, 32, 0.00005, 0.0001, 4),
    _something("r2plus1d-34-kinetics", _on(34, "Kinetics"), 34, 0.001, (6, 6), 1),
    _something("r2plus1d-34-sports-1m", _on(34, "Sports-1M"), 34, 0.001, (6, 6), 2),
    _something("r2plus1d-34-ig-kinetics", _on(34, "IG-Kinetics-65M"), 34, 0.00025, (6, 6), 3),
    _something("r2plus1d-152-ig-kinetics", _on(152, "IG-Kinetics-65M"), 152, 0.00013, (12,), 4),
)
TARGETS = {
    "kinetics": "Kinetics",
    "verb": "EPIC-Kitchens verbs",
    "noun": "EPIC-Kitchens nouns",
    "something": "Something-Something v1",
}


def recipes() -> Iterator[Recipe]:
    """All of the paper's."""
    for frames in BATCH_SIZES:
        yield _pretraining(frames)
        yield _from_scratch(frames)
    for row in ROWS:
        for target, rate in row.rates:
            yield _finetuning(row, target, rate)


def _clips(frames: int) -> dict[str, Any]:
    """128x171, a random 112x112 of it, consecutive frames; decoded as VMZ does it."""
    return {
        "num_frames": frames,
        "frame_stride": 1,
        "resize": (128, 171),
        "resize_kernel": "swscale_fast_bilinear",
        "crop": 112,
        "batch_size": BATCH_SIZES[frames],
    }


def _optimiser(rate: float) -> dict[str, Any]:
    return {
        "lr": rate,
        "lr_scaling": "linear",
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "decay_all": True,
    }


def _pretraining(frames: int) -> Recipe:
    epochs = PRETRAIN_CLIPS // CLIPS_AN_EPOCH
    return Recipe(
        name=f"ig65m/pretrain/{frames}f",
        paper=PAPER,
        place="section 3.3",
        summary=f"R(2+1)D-34 from hashtags, {frames} frames: 490M clips, 0.192 halved 13 times",
        gpus=PRETRAIN_GPUS,
        values={
            "architecture": "r2plus1d_34",
            **_clips(frames),
            **_optimiser(0.192 / PRETRAIN_GPUS),
            "epochs": epochs,
            "kind": "halvings",
            "halvings": 13,
            # The paper has a warm-up and does not say of what length.
            "warmup_epochs": epochs * 0.02,
            "warmup_start": "one-gpu",
            "tags": "draw",
            "class_power": 0.5,
            "draws": CLIPS_AN_EPOCH,
        },
        ours=(
            _VMZ_OPTIMISER,
            "weight decay 1e-4, that of the fine-tuning",
            f"a warm-up of 2% of the clips; {_WARMUP_START}",
            "one of a video's tags is drawn at each visit, and not once for all",
            "an epoch is a million clips; 0.192 holds for 8 and for 32 frames, as printed",
        ),
    )


def _from_scratch(frames: int) -> Recipe:
    return Recipe(
        name=f"ig65m/scratch/{frames}f",
        paper=PAPER,
        place="section 4.1 (the baseline; its settings are those of R(2+1)D's code, VMZ)",
        summary=f"R(2+1)D-34 on a target from random weights, {frames} frames",
        gpus=FINETUNE_GPUS,
        values={
            "architecture": "r2plus1d_34",
            **_clips(frames),
            **_optimiser(0.01),
            "epochs": 45,
            "kind": "steps",
            "warmup_epochs": 10.0,
            "warmup_start": "one-gpu",
            "lr_steps": (10.0, 10.0, 10.0),
        },
        ours=("every value: the paper has none for training from scratch", _VMZ_OPTIMISER),
    )


def _finetuning(row: Row, target: str, rate: float) -> Recipe:
    suffix = f"-{target}" if target in ("verb", "noun") else ""
    ours = [_VMZ_OPTIMISER]
    if row.warmup:
        ours.append(_WARMUP_START)
    if row.table == 12:
        ours.append("16 clips a GPU, those of the other runs of 8 frames; torchvision's R3D-18")
    values = {
        "architecture": row.architecture,
        **_clips(row.frames),
        **_optimiser(rate),
        "epochs": row.epochs,
        "kind": "steps",
        "lr_steps": tuple(map(float, row.steps)),
        "lr_factor": 0.1,
        "warmup_epochs": float(row.warmup),
        "warmup_start": "one-gpu",
    }
    if suffix:
        values["label_column"] = target
    return Recipe(
        name=f"ig65m/table{row.table}/{row.name}{suffix}",
        paper=PAPER,
        place=f"table {row.table}, {row.place}",
        summary=f"{row.starts_from}, to {TARGETS[target]}",
        gpus=FINETUNE_GPUS,
        values=values,
        starts_from=row.starts_from,
        ours=tuple(ours),
    )
