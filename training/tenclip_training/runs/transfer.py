"""Fine-tuning: which parts of a network are trained, at which share of the learning rate, and what its batch norms do.

A stage is a part of the network with a name, see `VideoModel.stages`. A frozen one has no gradients and is in eval
mode, so that its weights and the running statistics of its batch norms stay as they are, to the bit.

Sources: IG-65M section 4 (full fine-tuning and fc-only), 3D-ResNets' training from a named module on, VMZ's rates by
layer in fine-tuning. Frozen batch norms are MMAction2's `norm_eval`; neither they nor synchronised ones are in a paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import VideoModel
from tenclip_training.runs.sections import OptimizerConfig, TransferConfig

CLASSIFIER = "fc"


# -- what is trained --------------------------------------------------------------------------------------------------


def prepare_transfer(model: VideoModel, config: TransferConfig, device: torch.device) -> None:
    """Freeze what `config` says and set the batch norms, in place; for a model that is on its device already.

    Raises InvalidRequest as `freeze` does, and for synchronised batch norm on a CPU.
    """
    freeze(model, config)
    if config.batch_norm == "sync":
        if device.type != "cuda":
            raise InvalidRequest(
                f"batch_norm sync runs on GPUs only (torch has no other), and this run is on {device.type}; "
                "use batch_norm train, or frozen"
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]


def freeze(model: VideoModel, config: TransferConfig) -> None:
    """Take gradients from the frozen stages, and put these and frozen batch norms into eval mode, in place.

    Raises InvalidRequest for a stage that does not exist, and where nothing would be left to train.
    """
    for name in frozen_stages(model, config):
        for stage in model.stages()[name]:
            stage.requires_grad_(False).eval()
    if config.batch_norm == "frozen":
        for part in model.modules():
            if isinstance(part, _BatchNorm):
                part.eval()


def frozen_stages(model: VideoModel, config: TransferConfig) -> tuple[str, ...]:
    """The names of the stages that are not trained, in their order. Raises InvalidRequest."""
    stages = list(model.stages())
    if config.fc_only:
        return tuple(name for name in stages if name != CLASSIFIER)
    if config.freeze_to is None:
        return ()
    _require_stage(model, config.freeze_to, "freeze_to")
    if config.freeze_to == stages[-1]:
        raise InvalidRequest(
            f"freeze_to {config.freeze_to} leaves nothing to train; stages before it: {', '.join(stages[:-1])}"
        )
    return tuple(stages[: stages.index(config.freeze_to) + 1])


def parameter_groups(model: VideoModel, config: OptimizerConfig) -> list[dict[str, Any]]:
    """The optimiser's groups: two for each factor of the rate, those with weight decay first.

    `lr_factor` of a group is its share of the learning rate. Frozen weights are in none. Raises InvalidRequest for a
    stage of `layer_lr` that does not exist or is frozen, and where nothing is trained.
    """
    for name in config.layer_lr:
        _require_stage(model, name, "layer_lr")
        if not any(p.requires_grad for p in _parameters(model, name)):
            raise InvalidRequest(
                f"layer_lr {name}={config.layer_lr[name]:g}: {name} is frozen; leave one of the two out"
            )
    factor_of = {id(p): float(f) for name, f in config.layer_lr.items() for p in _parameters(model, name)}
    trained = [p for p in model.parameters() if p.requires_grad]
    factors = list(dict.fromkeys(factor_of.get(id(p), 1.0) for p in trained))
    if not any(factors):
        raise InvalidRequest("nothing is trained: every part of the network is frozen, or has a layer_lr of 0")
    groups = []
    for factor in factors:
        members = [p for p in trained if factor_of.get(id(p), 1.0) == factor]
        decayed = [p for p in members if config.decay_all or p.ndim > 1]
        others = [p for p in members if not (config.decay_all or p.ndim > 1)]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "lr_factor": factor})
        groups.append({"params": others, "weight_decay": 0.0, "lr_factor": factor})
    return groups


def _parameters(model: VideoModel, stage: str) -> Iterable[nn.Parameter]:
    for part in model.stages()[stage]:
        yield from part.parameters()


def _require_stage(model: VideoModel, name: str, setting: str) -> None:
    stages = model.stages()
    if name not in stages:
        raise InvalidRequest(f"{setting} {name!r} is no stage of {model.architecture}, which has {', '.join(stages)}")


# -- the classifier of the checkpoint ---------------------------------------------------------------------------------


def classifier_weights(
    weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor], was: Sequence[str] | None, now: Sequence[str]
) -> dict[str, Tensor]:
    """`weights` for a network of the labels `now`: a checkpoint's, with its classifier or that of `fresh`.

    It is kept where the checkpoint's labels `was` are those of the run; in another order its rows follow their labels.
    """
    kept = dict(weights)
    names = [name for name in fresh if name.startswith(f"{CLASSIFIER}.")]
    if was is None or sorted(was) != sorted(now):
        return {**kept, **{name: fresh[name] for name in names}}
    order = torch.tensor([list(was).index(label) for label in now])
    return {**kept, **{name: kept[name][order] for name in names}}


def classifier_note(was: Sequence[str] | None, count: int, now: Sequence[str]) -> str:
    """What became of a checkpoint's classifier of `count` classes, in words. 0: it has none, or nobody looked."""
    classes = f"{len(now)} classes"
    if count == 0:
        return f"its classifier begins anew with {classes}: the checkpoint names none"
    if was is None:
        return f"its classifier begins anew with {classes}: that of the checkpoint has {count}, which have no names"
    if sorted(was) == sorted(now):
        return f"its classifier is kept: the same {classes}{'' if list(was) == list(now) else ' in another order'}"
    both = len(set(was) & set(now))
    return f"its classifier begins anew with {classes}: the checkpoint has {count}, of which {both} are the same"


# -- in words ---------------------------------------------------------------------------------------------------------


def transfer_notes(model: VideoModel, transfer: TransferConfig, optimizer: OptimizerConfig) -> tuple[str, ...]:
    """What is frozen and what is trained how, a line each; nothing where all is trained alike."""
    notes = []
    if frozen := frozen_stages(model, transfer):
        trained = [name for name in model.stages() if name not in frozen]
        some, every = (
            sum(p.numel() for n in names for p in _parameters(model, n)) for names in (trained, model.stages())
        )
        notes.append(f"trained: {', '.join(trained)}, {some:,} of {every:,} weights; frozen: {', '.join(frozen)}")
    if transfer.batch_norm == "frozen" and not transfer.fc_only:
        notes.append(
            "batch norms use the checkpoint's statistics, which stay; gains and biases are trained where they are not "
            "frozen"
        )
    if optimizer.layer_lr:
        parts = [f"{name} x {factor:g}" for name, factor in optimizer.layer_lr.items()]
        notes.append(f"learning rates by stage: {', '.join(parts)}, all others x 1")
    return tuple(notes)
