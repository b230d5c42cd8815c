"""What a recipe is: the settings of a published run, with where they are from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tenclip_settings import build
from tenclip_training.runs.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A function from (manifest, folder of the run) to a TrainConfig.

    paper, place: where the values are printed, e.g. ("IG-65M", "table 8, row 1"). gpus: of the authors' run; with
    `lr_scaling` linear, the rate of so many processes is theirs, and that of fewer is in proportion.
    starts_from: what `init_from` has to be, "" for random weights. ours: what the paper leaves open, and what we chose.
    values: fields of TrainConfig and of its sections by their names, as `TrainConfig.changed` takes them.
    command: that it is for, train or distill; distill's are those of a DistillConfig.
    """

    name: str
    paper: str
    place: str
    summary: str
    gpus: int
    values: Mapping[str, Any]
    starts_from: str = ""
    ours: tuple[str, ...] = field(default=())
    command: Literal["train", "distill"] = "train"

    @property
    def source(self) -> str:
        return f"{self.paper}, {self.place}"

    def __call__(self, manifest: Path | str, out: Path | str) -> TrainConfig:
        """The config of the run; `init_from` is still to be set where the recipe starts from a checkpoint.

        >>> from tenclip_training.recipes import find_recipe
        >>> find_recipe("ig65m/table17/r2plus1d-152-ig-kinetics")("videos.csv", "run").schedule.lr_steps
        (12.0,)
        """
        # Made at once and not by `changed`: the defaults of a config depend on its other values.
        return build(self.config_type, {"manifest": str(manifest), "out": str(out), **self.values})

    @property
    def config_type(self) -> type[TrainConfig]:
        """TrainConfig, or DistillConfig."""
        if self.command == "train":
            return TrainConfig
        from tenclip_training.distill.config import DistillConfig

        return DistillConfig

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the recipe, and its config without the names of files."""
        config = self("MANIFEST", "OUT").to_dict()
        about = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "values"}
        return {**about, "ours": list(self.ours), "config": {k: v for k, v in config.items() if k not in _FILES}}


_FILES = ("manifest", "out")
