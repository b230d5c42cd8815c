"""Joint training as a method of the one loop: auxiliary sources beside the target (OmniSource, sections 3.2 and 3.6).

Batches are `data/joint.py`'s. The loss is the mean over all clips of a step, which is eq. 1 with the rate in
proportion; each epoch also says loss and accuracy of each source.

B clips, K classes, S sources with the target.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.leaks import file_facts
from tenclip_data.manifest import read_manifest
from tenclip_data.samples import Manifest, Sample
from tenclip_training.data import sampling
from tenclip_training.data.dataset import Batch
from tenclip_training.data.joint import JointCollate, JointDataset, JointSampler, source_seed
from tenclip_training.data.ratios import joint_batch_sizes, show_ratio
from tenclip_training.data.samplers import EpochSampler
from tenclip_training.data.shards.order import by_shards
from tenclip_training.heads import Heads
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.method import Method, RunDataset, RunSampler
from tenclip_training.runs.objectives import Inputs, Network, Objective, build_objective, count_correct
from tenclip_training.runs.run_folder import manifest_sha256
from tenclip_training.runs.setup import Splits, build_dataset, read_splits
from tenclip_video.spec import ClipSpec

TARGET = "target"
_log = logging.getLogger(__name__)


def method_of(config: TrainConfig) -> Method:
    """What a config trains by: joint training where it names auxiliary sources.

    Raises InvalidRequest for settings about such sources where none is named.
    """
    if unused := config.joint.unused():
        raise InvalidRequest(f"{', '.join(unused)}: about auxiliary sources, and none is named; name them with --aux")
    return JointMethod() if config.joint.aux else Method()


@dataclass(frozen=True, kw_only=True)
class AuxiliarySource:
    """name: of its manifest, for reports; `manifest` has the target's labels, and the split `aux:NAME`."""

    name: str
    manifest: Manifest


def read_sources(config: TrainConfig, splits: Splits) -> tuple[AuxiliarySource, ...]:
    """The auxiliary sources, with the labels of the target: their split train, or all of a manifest without one.

    Raises DatasetError for the target's own manifest; for labels that the target does not have, by name; for images
    where none are asked for; and for files of a split that the target holds out (val, test), unless leaks are warned of
    or allowed.
    """
    found = []
    names = _unique_names(config.joint.aux)
    for name, path in zip(names, config.joint.aux, strict=True):
        if _is_same_file(path, config.manifest):
            raise DatasetError(
                f"{path}: is the target's own manifest, whose files are learned from already; an auxiliary source is "
                "another one"
            )
        manifest = read_manifest(
            path,
            labels=list(splits.train.labels),
            held_out=None,
            missing=config.missing,
            leaks="allow",
            images=config.stills.images is not None,
        )
        if "train" in manifest.splits:
            manifest = manifest.split("train")
        _check_leaks(config, path, manifest, splits.held_out)
        split = f"aux:{name}"
        samples = tuple(dataclasses.replace(sample, split=split) for sample in manifest.samples)
        found.append(AuxiliarySource(name=name, manifest=dataclasses.replace(manifest, samples=samples)))
    return tuple(found)


def _is_same_file(one: str, other: str) -> bool:
    """Whether two names are of one file or folder; shards may lie behind a URL, of which the text counts."""
    if one == other:
        return True
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _unique_names(paths: Sequence[str]) -> list[str]:
    stems = [_stem(Path(path).resolve()) for path in paths]
    taken = {TARGET} | {stem for stem in stems if stems.count(stem) > 1}
    return [f"{stem}-{i}" if stem in taken else stem for i, stem in enumerate(stems, start=1)]


def _stem(path: Path) -> str:
    return path.parent.name if path.stem == "manifest" else path.stem


def _check_leaks(config: TrainConfig, path: str, manifest: Manifest, held_out: Sequence[Sample]) -> None:
    if config.leaks == "allow":
        return
    of_target = file_facts(held_out)
    split_of = {of_target[s.path].identity: s.split for s in held_out}
    facts = file_facts(manifest.samples)
    same = [s for s in manifest.samples if facts[s.path].identity in split_of]
    if not same:
        return
    first = same[0]
    message = (
        f"{path}: {len(same)} of its files are videos that the target holds out, {first.name} of split "
        f"{split_of[facts[first.path].identity]!r} the first: leave them out (`tenclip omni duplicates` finds copies, "
        "too), or allow leaks"
    )
    if config.leaks == "error":
        raise DatasetError(message)
    _log.warning("%s", message)


class JointMethod(Method):
    """Learns from a target and auxiliary sources."""

    def __init__(self) -> None:
        self.sources: tuple[AuxiliarySource, ...] = ()
        self._objective: JointObjective | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the target and the sources, in their order."""
        return (TARGET, *(source.name for source in self.sources))

    def read_splits(self, config: TrainConfig) -> Splits:
        splits = read_splits(config)
        self.sources = read_sources(config, splits)
        self.bounded = {f"aux:{source.name}": len(source.manifest.samples) for source in self.sources}
        return splits

    def build_sampler(self, config: TrainConfig, manifest: Manifest, world: World) -> RunSampler:
        samplers = (
            _source_sampler(config, manifest, 0),
            *(_source_sampler(config, source.manifest, i) for i, source in enumerate(self.sources, start=1)),
        )
        sampler = JointSampler(
            sources=samplers,
            batch_sizes=batch_sizes(config),
            epochs=config.epochs,
            turns=config.joint.parts if config.joint.turns == "alternate" else None,
            rank=world.rank,
            world_size=world.size,
        )
        self.notes = tuple(self._describe(config, sampler, world))
        return sampler

    def build_dataset(self, config: TrainConfig, manifest: Manifest, spec: ClipSpec) -> RunDataset:
        sources = [build_dataset(config, manifest, spec)]
        for i, source in enumerate(self.sources, start=1):
            seeded = dataclasses.replace(config, seed=source_seed(config.seed, i))
            sources.append(build_dataset(seeded, source.manifest, spec))
        return JointDataset(sources)

    def collate(self, manifest: Manifest, spec: ClipSpec) -> Callable[[Sequence[Any]], Batch]:
        return JointCollate(super().collate(manifest, spec))

    def build_objective(self, config: TrainConfig, heads: Heads | None) -> Objective:
        self._objective = JointObjective(
            build_objective(config.objective, heads),
            len(self.names),
            mixup=config.objective.mixup,
            cross_mixup=config.joint.cross_mixup,
        )
        return self._objective

    def end_epoch(self, world: World) -> dict[str, float]:
        assert self._objective is not None
        totals = world.sum(self._objective.totals.clone()).tolist()
        self._objective.reset()
        facts = {}
        for name, (loss, correct, clips) in zip(self.names, totals, strict=True):
            facts[f"{name} clips"] = clips
            if clips:
                facts[f"{name} loss"], facts[f"{name} clip top-1"] = loss / clips, correct / clips
        return facts

    def state_dict(self, world: World) -> dict[str, Any]:
        assert self._objective is not None
        return {
            "sources": [manifest_sha256(s.manifest) for s in self.sources],
            "totals": world.sum(self._objective.totals.clone()).tolist(),
        }

    def load_state_dict(self, state: dict[str, Any], world: World) -> None:
        assert self._objective is not None
        for source, was in zip(self.sources, state["sources"], strict=True):
            if manifest_sha256(source.manifest) != was:
                raise CheckpointError(
                    f"{source.manifest.source}: its files or labels changed since the run was begun, so it cannot be "
                    "resumed"
                )
        if world.is_first:  # sums are added up over processes at the end of the epoch
            self._objective.totals = torch.tensor(state["totals"], dtype=torch.float64)

    def _describe(self, config: TrainConfig, sampler: JointSampler, world: World) -> Iterator[str]:
        joint = config.joint
        how = "in each step" if joint.turns == "union" else "in turn, a step each"
        yield f"joint training of {', '.join(self.names)} at {show_ratio(joint.parts)}, {how}"
        steps = sampler.steps_per_epoch
        turns = sampler.turns or (1,) * len(sampler.sources)
        for i, source in enumerate(self.sources, start=1):
            manifest = source.manifest
            clips = steps * turns[i] / (sum(turns) if sampler.turns else 1) * sampler.batch_sizes[i] * world.size
            images = sum(s.is_image for s in manifest.samples)
            labels = {label for s in manifest.samples for label in s.labels}
            yield (
                f"{source.name}: {len(manifest.samples)} files ({images} of them images) of {len(labels)} of "
                f"{len(manifest.labels)} classes, {clips:.0f} clips an epoch, each file "
                f"{clips / len(manifest.samples):.2g} times"
            )
        missing = _classes_of_none([s.manifest for s in self.sources])
        if missing:
            yield f"classes of which no auxiliary source has a file: {', '.join(missing)}"


def _classes_of_none(manifests: Sequence[Manifest]) -> list[str]:
    there = {label for manifest in manifests for sample in manifest.samples for label in sample.labels}
    return [label for label in manifests[0].labels if label not in there]


def batch_sizes(config: TrainConfig) -> tuple[int, ...]:
    """Clips of each source in a batch of one process, all its micro-batches together."""
    target = config.batch_size * config.optimizer.accumulate
    if config.joint.turns == "union":
        return joint_batch_sizes(target, config.joint.parts)
    aux = config.joint.aux_batch or (config.batch_size,) * len(config.joint.aux)
    return (target, *(size * config.optimizer.accumulate for size in aux))


def _source_sampler(config: TrainConfig, manifest: Manifest, number: int) -> EpochSampler:
    """The endless draws of a source, of all processes together; from a few shards at a time, where it is in shards."""
    wanted = config.sampling
    if number > 0:
        wanted = dataclasses.replace(
            wanted, class_power=config.joint.aux_power, class_cap=config.joint.aux_cap, draws=None, clips_per_video=1
        )
    sampler = sampling.build_sampler(
        [manifest.targets(sample) for sample in manifest.samples],
        len(manifest.labels),
        wanted,
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=source_seed(config.seed, number),
    )
    return by_shards(sampler, manifest, window=config.sampling.shuffle_shards)


class JointObjective:
    """The mean loss of the clips of all sources, from one pass of the network; `totals` sums up each source alone.

    mixup: alpha of blends within each source; cross_mixup: of auxiliary clips with those of the target, which takes the
    place of blends within the auxiliary sources: x = lambda x_A + (1 - lambda) x_T, with the pairs of the batch in
    their order, the target's again from the first where it has fewer. The target's own clips stay. One lambda a source
    and micro-batch. A blend is right as `Mixup` counts it.
    totals: float64 [S,3], loss, correct and clips, summed over clips since the last `reset`.
    """

    def __init__(self, objective: Objective, num_sources: int, *, mixup: float = 0.0, cross_mixup: float = 0.0) -> None:
        self.objective, self.num_sources = objective, num_sources
        self.mixup, self.cross_mixup = mixup, cross_mixup
        self._count: Callable[[Tensor, Tensor], Tensor] = getattr(objective, "count_correct", count_correct)
        self.reset()

    def reset(self) -> None:
        """Begin new sums."""
        self.totals = torch.zeros(self.num_sources, 3, dtype=torch.float64)

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        assert inputs.sources is not None
        counts = torch.bincount(inputs.sources, minlength=self.num_sources).tolist()
        blend = self._blend(counts, inputs.clips.device)
        clips, targets = inputs.clips, inputs.targets
        if blend is not None:
            clips, targets = blend.of(clips), blend.of(targets)
        logits, features = network(clips)
        rows, loss, start = [], logits.new_zeros((), dtype=torch.float32), 0
        for count in counts:
            part = slice(start, start + count)
            rows.append(torch.zeros(3, dtype=torch.float64, device=logits.device))
            if count:
                given = Inputs(clips=clips[part], targets=targets[part])
                of_part, correct = self.objective(given, _Known(logits[part], features[part]))
                if blend is not None:
                    correct = blend.correct(self._count, logits, inputs.targets, part)
                loss = loss + of_part * (count / len(clips))
                rows[-1] = torch.stack([of_part.detach() * count, correct, torch.full_like(correct, count)]).double()
            start += count
        sums = torch.stack(rows)
        self.totals = self.totals.to(sums.device) + sums
        return loss, sums[:, 1].sum().float()

    def _blend(self, counts: Sequence[int], device: torch.device) -> _Blend | None:
        """What is blended with what: random numbers come from torch's generator, which the step seeds."""
        if not self.mixup and not self.cross_mixup:
            return None
        shares, partners, start = torch.ones(sum(counts)), torch.arange(sum(counts)), 0
        for source, count in enumerate(counts):
            part = slice(start, start + count)
            if source > 0 and self.cross_mixup and counts[0]:
                shares[part] = float(torch.distributions.Beta(self.cross_mixup, self.cross_mixup).sample())
                partners[part] = torch.arange(count) % counts[0]
            elif self.mixup and count:
                shares[part] = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
                partners[part] = start + torch.randperm(count)
            start += count
        return _Blend(shares.to(device), partners.to(device))


@dataclass(frozen=True, eq=False)
class _Known:
    """Stands for the network where its outputs are known already."""

    logits: Tensor
    features: Tensor

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits, self.features


@dataclass(frozen=True, eq=False)
class _Blend:
    """shares: float32 [B], of each clip itself; partners: int64 [B], the place of the clip that makes the rest."""

    shares: Tensor
    partners: Tensor

    def of(self, values: Tensor) -> Tensor:
        """[B,...], blended."""
        share = self.shares.view(-1, *([1] * (values.dim() - 1)))
        return share * values + (1 - share) * values[self.partners]

    def correct(
        self, count: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor, part: slice
    ) -> Tensor:
        """Clips of a part that are right: by the share of each of the two that a blend is of."""
        share = self.shares[part][0]
        own, others = targets[part], targets[self.partners[part]]
        return share * count(logits[part], own) + (1 - share) * count(logits[part], others)
