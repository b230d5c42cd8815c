"""Distillation as a training method: `Method` with teachers in the place of labels.

The student is any network of clips, whose classifier has one row for each class of each teacher: a linear head for each
of them. The loop, the optimiser, checkpoints and resuming are those of `tenclip train`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.samples import Manifest
from tenclip_training.data.dataset import Batch, ClipDataset, Collate, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.shards.read import CacheOptions
from tenclip_training.distill.cache import OutputCache
from tenclip_training.distill.choices import DistillLoss
from tenclip_training.distill.config import DistillConfig
from tenclip_training.distill.dataset import DistillDataset, TeachersView, TeachingBatch, TeachingCollate
from tenclip_training.distill.gate import GateCounts, over_all, refuse_nothing_learned
from tenclip_training.distill.objective import Distillation, HeadLoss
from tenclip_training.distill.targets import Floats, average_logits, entropies, percentile_threshold
from tenclip_training.distill.teacher import FrameTeacher, head_labels
from tenclip_training.distill.videos import read_unlabelled
from tenclip_training.heads import Heads
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.method import Beginning, Method
from tenclip_training.runs.objectives import Inputs, Network, Objective
from tenclip_training.runs.setup import Splits, build_dataset
from tenclip_video.cpus import usable_cpus
from tenclip_video.spec import ClipSpec

TEACHERS_FILE = "teachers.json"
_CALIBRATION_BATCH = 16


class DistillMethod(Method):
    """Learns what frozen teachers say of frames. thresholds: of each teacher's entropy, None for one that has none.

    Raises InvalidRequest for squared errors of a teacher that gives probabilities.
    """

    command = "tenclip distill"

    def __init__(self, config: DistillConfig, teachers: tuple[FrameTeacher, ...]) -> None:
        self.config, self.teaching, self.teachers = config, config.teaching, teachers
        _refuse_squared_error_of_probabilities(self.teaching.distill_loss, teachers)
        self.thresholds = [self.teaching.threshold(i) for i in range(len(teachers))]
        self.counts = [GateCounts() for _ in teachers]
        self.caches: tuple[OutputCache, ...] = ()
        self.manifest: Manifest | None = None

    # -- what the run asks for --

    def read_splits(self, config: TrainConfig) -> Splits:
        """See `Method`: videos without labels, and none to validate on."""
        self.manifest = read_unlabelled(
            config.manifest,
            heads=head_labels(self.teachers),
            videos=config.videos,
            split=config.train_split,
            missing=config.missing,
            cache=CacheOptions(folder=config.shard_cache, gib=config.shard_cache_gib),
        )
        self.notes = (*self.manifest.warnings, *self._who_teaches())
        note = f"no best.pt: there are no labels to validate on; {config.out}/last.pt is the result"
        return Splits(train=self.manifest, val=None, val_split=None, selects_best=False, note=note)

    def build_dataset(self, config: TrainConfig, manifest: Manifest, spec: ClipSpec) -> ClipDataset:
        """See `Method`. Half of the clips are mirrored unless the config says otherwise: the names of a teacher's
        classes say nothing of the videos, and it sees the mirror image itself.
        """
        if config.augmentation.flip is None:
            config = config.changed(flip=True)
        plain = build_dataset(config, manifest, spec)
        if self.teaching.teacher_sees == "frame":
            self.caches = tuple(self.cache_of(teacher) for teacher in self.teachers)
        view = TeachersView(
            choice=self.teaching.teacher_frames,
            count=self.teaching.teacher_frame_count,
            sides=tuple(teacher.spec.crop for teacher in self.teachers),
            caches=self.caches,
        )
        return DistillDataset(
            manifest,
            plain.spec,
            plain.augmentation,
            seed=config.seed,
            view=view,
            segments=plain.segments,
            store=plain.store,
        )

    def collate(self, manifest: Manifest, spec: ClipSpec) -> Callable[[Sequence[TrainingClip | Failure]], Batch]:
        """See `Method`."""
        return TeachingCollate(Collate(spec, len(manifest.labels)))

    def build_objective(self, config: TrainConfig, heads: Heads | None) -> Objective:
        """See `Method`. Thresholds may be known only after `begin`."""
        return self._objective

    def begin(self, beginning: Beginning) -> None:
        """Fill the caches, and measure the thresholds of a run that begins: the first process does, for all of them.

        Raises CheckpointError, DatasetError.
        """
        folder = beginning.folder
        self._fill_caches(beginning)
        if beginning.resumed:
            self._recall(folder.path / TEACHERS_FILE)
            return
        if self.teaching.keep_percent is not None and self.teaching.keep_percent < 100:
            if folder.world.is_first:
                self._calibrate(beginning)
            self.thresholds = folder.world.gather(self.thresholds if folder.world.is_first else [])
        if folder.world.is_first:
            about = [{**t.to_dict(), "max_entropy": limit} for t, limit in self._limits()]
            folder.write(folder.path / TEACHERS_FILE, json.dumps(about, indent=2) + "\n")
        folder.world.wait()

    def batches(self, loader: Iterable[Batch]) -> Iterable[Batch]:
        """See `Method`: batches with targets, which are counted."""
        for batch in loader:
            taught = self.teach(batch)
            self._count(taught.targets.numpy())
            yield taught

    def end_epoch(self, world: World) -> dict[str, float]:
        """The share of clips that were dropped: by each teacher, and the mean. Raises DatasetError where all were."""
        counts, names = over_all(self.counts, world), [teacher.name for teacher in self.teachers]
        self.counts = [GateCounts() for _ in self.teachers]
        by_percent = self.teaching.keep_percent is not None
        refuse_nothing_learned(names, counts, self.thresholds, by_percent=by_percent)
        facts = {"dropped": float(np.mean([count.share for count in counts]))}
        if len(self.teachers) > 1:
            facts |= {f"dropped by {name}": count.share for name, count in zip(names, counts, strict=True)}
        return facts

    def state_dict(self, world: World) -> dict[str, Any]:
        """See `Method`."""
        return {"counts": [dataclasses.asdict(count) for count in over_all(self.counts, world)]}

    def load_state_dict(self, state: dict[str, Any], world: World) -> None:
        """See `Method`. What was counted before stays with the first process."""
        if world.is_first:
            self.counts = [GateCounts(**values) for values in state["counts"]]

    # -- teaching --

    def teach(self, batch: Batch) -> Batch:
        """The batch with the teachers' mean logits as its targets. Raises CheckpointError for a teacher's NaN."""
        if not isinstance(batch, TeachingBatch):
            return batch
        columns = [
            self._means(teacher, frames.numpy(), batch.videos)
            for teacher, frames in zip(self.teachers, batch.seen, strict=True)
        ]
        values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(Batch)}
        return Batch(**{**values, "targets": torch.from_numpy(np.concatenate(columns, axis=1))})

    def _means(self, teacher: FrameTeacher, frames: NDArray[np.uint8], videos: Sequence[str]) -> Floats:
        """uint8 [B,M,S,S,3] -> [B,K_i]."""
        each = frames.shape[1]
        logits = teacher(frames.reshape(-1, *frames.shape[2:]), of=[video for video in videos for _ in range(each)])
        return np.stack([average_logits(rows) for rows in logits.reshape(len(frames), each, -1)])

    def _objective(self, inputs: Inputs, network: Network) -> tuple[torch.Tensor, torch.Tensor]:
        heads = tuple(
            HeadLoss(
                classes=teacher.num_classes,
                weight=self.teaching.weight(i),
                kind=self.teaching.distill_loss,
                temperature=self.teaching.temperature,
                student_temperature=self.teaching.student_temperature,
                threshold=limit,
                normaliser=self.teaching.gate_mean,
            )
            for i, (teacher, limit) in enumerate(self._limits())
        )
        return Distillation(heads)(inputs, network)

    def _entropies(self, targets: Floats) -> list[NDArray[np.float64]]:
        """Mean logits [B,K] -> for each teacher [B]."""
        cuts = np.cumsum([teacher.num_classes for teacher in self.teachers])[:-1]
        return [entropies(part, self.teaching.temperature) for part in np.split(targets, cuts, axis=1)]

    def _count(self, targets: Floats) -> None:
        for i, found in enumerate(self._entropies(targets)):
            self.counts[i].add(found, self.thresholds[i])

    def _limits(self) -> list[tuple[FrameTeacher, float | None]]:
        return list(zip(self.teachers, self.thresholds, strict=True))

    # -- before the first step --

    def cache_of(self, teacher: FrameTeacher) -> OutputCache:
        """Where its outputs are kept. Raises CheckpointError for a folder of another teacher's."""
        folder = Path(self.teaching.teacher_cache or Path(self.config.out) / "teacher-outputs")
        return OutputCache(folder / teacher.name, teacher, self.teaching.frames_per_second)

    def _fill_caches(self, beginning: Beginning) -> None:
        assert self.manifest is not None
        world = beginning.folder.world
        for number, (teacher, cache) in enumerate(zip(self.teachers, self.caches, strict=False)):
            if world.is_first:
                failures = cache.fill(
                    self.manifest.samples,
                    teacher,
                    threads=usable_cpus(),
                    progress=lambda done, total: beginning.progress("teacher", done, total),
                )
                beginning.record(failures)
            world.wait()
            if not world.is_first:
                self.caches = (*self.caches[:number], self.cache_of(teacher), *self.caches[number + 1 :])
        if self.caches:
            assert isinstance(beginning.dataset, DistillDataset)
            beginning.dataset.view = dataclasses.replace(beginning.dataset.view, caches=self.caches)

    def _calibrate(self, beginning: Beginning) -> None:
        """Set each teacher's threshold from one clip of each video, or of so many of them."""
        dataset, percent = beginning.dataset, self.teaching.keep_percent
        assert percent is not None
        count = min(len(dataset), self.teaching.calibration_videos)
        chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
        collate = self.collate(dataset.manifest, dataset.spec)
        found: list[list[NDArray[np.float64]]] = []
        for start in range(0, count, _CALIBRATION_BATCH):
            part = chosen[start : start + _CALIBRATION_BATCH]
            batch = self.teach(collate([dataset[0, index] for index in part]))
            beginning.record(batch.failures)
            if len(batch.targets):
                found.append(self._entropies(batch.targets.numpy()))
            beginning.progress("teacher", min(start + len(part), count), count)
        if not found:
            raise DatasetError(f"{dataset.manifest.source}: none of the {count} videos looked at could be read")
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        self.thresholds = [percentile_threshold(column, percent) for column in columns]
        self.notes += tuple(
            f"teacher {teacher.name}: keeps clips of entropy below {limit:.4g} nats, {percent:g}% of "
            f"{len(columns[0])} videos that could be read"
            for teacher, limit in self._limits()
            if limit is not None
        )

    def _recall(self, path: Path) -> None:
        """The thresholds of a run that goes on. Raises CheckpointError where its teachers were others."""
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            before = [(str(row["name"]), str(row["identity"])) for row in about]
            self.thresholds = [row["max_entropy"] for row in about]
        except (OSError, ValueError, TypeError, KeyError) as err:
            raise CheckpointError(f"{path}: does not say who taught this run: {err}") from err
        now = [(teacher.name, teacher.identity) for teacher in self.teachers]
        if before != now:
            changed = [name for name, identity in now if (name, identity) not in before]
            raise CheckpointError(
                f"{path}: cannot be resumed with other teachers: {', '.join(changed) or 'fewer'} changed since the run "
                "was begun"
            )

    def _who_teaches(self) -> tuple[str, ...]:
        notes: list[str] = []
        for teacher in self.teachers:
            spec = teacher.spec
            what = f"{spec.crop}x{spec.crop}, {spec.color_order}, mean {spec.mean}, std {spec.std}"
            notes.append(
                f"teacher {teacher.name}: {teacher.source}, {teacher.num_classes} classes, frames of {what}, run by "
                f"{teacher.network.runtime}"
            )
            notes += teacher.notes
        notes.append(
            "teachers see the student's crop and mirror image, from frames at their full size"
            if self.teaching.teacher_sees == "clip"
            else "teachers see whole frames, whatever part of them the student's clip is"
        )
        return tuple(notes)


def _refuse_squared_error_of_probabilities(loss: DistillLoss, teachers: Sequence[FrameTeacher]) -> None:
    """A softmax loses a constant of each frame's logits; a squared error sees it, a cross entropy does not."""
    soft = [teacher for teacher in teachers if teacher.from_probabilities]
    if loss == "mse" and soft:
        raise InvalidRequest(
            f"teacher {soft[0].name} ends in a softmax, which loses the constant of its logits that the squared error "
            f"of distill_loss mse needs: use cross-entropy, or name the output before the softmax ({soft[0].source})"
        )
