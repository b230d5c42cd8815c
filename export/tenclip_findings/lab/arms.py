"""What findings are made of: videos, networks and scores, each as a job.

Difficulty and rates are set here for all findings alike, by the baseline arm (from scratch) of seed 99 and by nothing
else; see `docs/findings.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenclip_findings.lab.jobs import Job, Output
from tenclip_findings.lab.tasks import LAST, MANIFEST, STUDENT, synth_config

SPEC: dict[str, Any] = {"num_frames": 8, "target_fps": 15.0, "resize": [46, 62], "crop": 40}
WIDTH = 16  # planes of the first stage of every network, which the sizes of all sets are chosen for
# A stem of 3x3x3: for clips this small, that of 7x7x7 would be most of a network's work.
R3D: dict[str, Any] = {"width": WIDTH, "stem_frames": 3, "stem_size": 3}
R3D_10 = ("resnets3d_r3d_10", R3D)
R2D: dict[str, Any] = {"width": WIDTH, "stem_size": 3}  # of a teacher or of what is inflated: networks that see frames
R2PLUS1D_10 = ("r2plus1d_10", {"width": WIDTH, "stem_pool": True})
EPOCHS = 10  # of every run: how often the rate's schedule may look at an end of an epoch
BATCH = 16
TRAINED = "lab.tasks.train"
SCORED = "lab.tasks.score"  # the job of an arm whose last network is scored as it is


@dataclass(frozen=True, kw_only=True)
class Lab:
    """One seed of one finding.

    seed: of videos, weights and order alike. scale: factor of videos and of training clips. architecture: of every
    network that an arm does not name another for. precision: that networks are trained in, "fp32" or "bf16". width: of
    networks, teachers included, in the place of `WIDTH`.
    """

    seed: int
    scale: float = 1.0
    precision: str = "fp32"
    architecture: tuple[str, Mapping[str, Any]] = R3D_10
    width: int = WIDTH

    def count(self, number: int, least: int = 1) -> int:
        """A number of videos or clips at this scale."""
        return max(least, round(number * self.scale))

    def videos(self, name: str, *, total: int, seed: int | None = None, least: int = 32, **config: Any) -> Job:
        """Generated videos or stills, `total` of them at scale 1; at any scale `least`, and one a class. `config` as of
        SynthConfig. All in split train, unless it says otherwise. seed: of another set than this seed's own. Raises
        ValueError for a configuration that cannot be.
        """
        made: dict[str, Any] = {
            "splits": [["train", 1.0]],
            "seed": 1000 * self.seed if seed is None else seed,
            **config,
        }
        made["total"] = self.count(total, max(least, len(synth_config(made).class_names)))
        return Job("lab.tasks.synth", {"config": made}, title=f"{name}: {made['total']} {config.get('kind', 'videos')}")

    def rows(self, *sources: Job, title: str = "rows", **settings: Any) -> Job:
        """Rows of manifests, see `tasks.rows`."""
        return Job(
            "lab.tasks.rows", {"manifests": [s / MANIFEST for s in sources], "seed": self.seed, **settings}, title
        )

    def subset(self, kind: str, data: Job, *, videos: int, least: int = 32) -> Job:
        """So many videos at scale 1 of a set: "random" or "tail-preserving"; see `tasks.subset`."""
        count = self.count(videos, least)
        settings = {"manifest": data / MANIFEST, "kind": kind, "videos": count, "seed": self.seed}
        return Job("lab.tasks.subset", settings, title=f"{kind} subset: {count} videos")

    def train(self, name: str, data: Job, *, clips: int, start: Output | None = None, **values: Any) -> Job:
        """A network that has seen so many training clips, whatever the number of videos. start: weights to begin with;
        values: fields of TrainConfig.
        """
        settings = self._network(clips, values)
        if start is not None:
            settings["init_from"] = start
        return Job(
            TRAINED,
            {"manifest": data / MANIFEST, "values": settings},
            title=f"train {name}",
            clips=self.count(clips),
        )

    def distill(self, name: str, data: Job, *, clips: int, teachers: Sequence[Output | str], **values: Any) -> Job:
        """A student of image teachers; `/ STUDENT` is its network."""
        settings = self._network(clips, {"teachers": list(teachers), **values})
        return Job(
            "lab.tasks.distill",
            {"manifest": data / MANIFEST, "values": settings},
            title=f"distil {name}",
            clips=self.count(clips),
        )

    def _network(self, clips: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a training of the lab's network, or of that which `values` name."""
        architecture, options = self.architecture
        settings = {**self._run(clips), "architecture": architecture, "model": options, **values}
        settings["model"] = {
            name: round(v * self.width / WIDTH) if name == "width" else v for name, v in settings["model"].items()
        }
        return settings

    def _run(self, clips: int) -> dict[str, Any]:
        count = self.count(clips, 2 * EPOCHS * BATCH)
        return {
            "epochs": EPOCHS,
            "draws": max(BATCH, count // EPOCHS),
            "batch_size": BATCH,
            "algorithm": "adamw",
            "lr": 0.002,
            "weight_decay": 0.05,
            "warmup_epochs": 1.0,
            "seed": self.seed,
            "precision": self.precision,
            "cache_gib": 0.0,
            "save_every_minutes": 2.0,
            "num_frames": SPEC["num_frames"],
            "target_fps": SPEC["target_fps"],
            "resize": SPEC["resize"],
            "crop": SPEC["crop"],
            "fully_convolutional_crop": SPEC["crop"],
            "leaks": "allow",
        }

    def clips(self, data: Job, *, split: str = "", protocol: str = "center-clip", **spec: Any) -> Job:
        """The test clips of videos."""
        settings = {"manifest": data / MANIFEST, "spec": {**SPEC, **spec}, "split": split, "protocol": protocol}
        return Job("lab.tasks.clips", settings, title="decode test clips")

    def score(self, network: Output, clips: Job, *, column: str = "label") -> Job:
        """What a network gets right."""
        return Job(SCORED, {"checkpoint": network, "clips": clips / "", "column": column}, title="evaluate")

    def probe(self, network: Output, train: Job, test: Job, *, column: str = "label") -> Job:
        """What a linear classifier on its frozen features gets right."""
        settings = {
            "checkpoint": network,
            "train_clips": train / "",
            "test_clips": test / "",
            "column": column,
            "seed": self.seed,
        }
        return Job("lab.tasks.probe", settings, title="probe")

    def finetuned(self, name: str, start: Output | None, data: Job, test: Job, *, clips: int, **values: Any) -> Job:
        """Scores of a network that was trained on a target, from `start` or from random weights."""
        run = self.train(name, data, clips=clips, start=start, **values)
        return self.score(run / LAST, test)


__all__ = ["LAST", "MANIFEST", "R2D", "R2PLUS1D_10", "R3D", "R3D_10", "SPEC", "STUDENT", "Lab"]
