"""From what a caller asked for to the sampler that scores the windows, and to the rule of an adaptive request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenclip_api.errors import BundleError, InvalidRequest, ModelError
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.models.samplers import ServedSampler
from tenclip_serving.requests import ClipRequest
from tenclip_video.bundle import BundleInfo
from tenclip_video.salience import MotionEnergyScorer, StoppingRule

MOTION_ENERGY = MotionEnergyScorer.name


@dataclass(frozen=True, kw_only=True)
class Salience:
    """sampler: None is motion energy. stopping: set where the request is adaptive."""

    sampler: ServedSampler | None = None
    stopping: StoppingRule | None = None


def resolve_salience(asked: ClipRequest, model: ServedModel, repository: Repository) -> Salience:
    """The sampler that a request names, or the model's own; motion energy where it has none.

    Raises InvalidRequest for a sampler that is not there or was made for other clips, for an adaptive request
    without a stopping rule that holds for it, and for an error bound without adaptive.
    """
    if asked.sampler in ("", MOTION_ENERGY):
        sampler = None if asked.sampler else model.sampler
        owner = model
    else:
        owner = _owner(asked.sampler, repository)
        sampler = owner.sampler
        if sampler is None:
            raise InvalidRequest(f"model {owner.name}/{owner.version} has no sampler; {_known(repository)}")
        try:
            sampler.check_clips(model.bundle.info.clip_spec)
        except BundleError as err:
            raise InvalidRequest(f"the sampler of {owner.name}/{owner.version} does not fit: {err.message}") from err
    if asked.error_bound and not asked.adaptive:
        raise InvalidRequest(
            f"error_bound {asked.error_bound:g} is of adaptive prediction, which was not asked for; ask for it, or "
            "leave the bound out"
        )
    borrowed = owner.key != model.key
    stopping = _stopping(asked, model, sampler, borrowed=borrowed) if asked.adaptive else None
    return Salience(sampler=sampler, stopping=stopping)


def _owner(name: str, repository: Repository) -> ServedModel:
    """Raises InvalidRequest that lists the samplers that there are."""
    model, _, version = name.partition("/")
    if model:
        try:
            return repository.get(model, version)
        except ModelError as err:
            raise InvalidRequest(f"no sampler {name!r}: {err.message}; {_known(repository)}") from err
    raise InvalidRequest(f"no sampler {name!r}: write NAME or NAME/VERSION of a model; {_known(repository)}")


def _known(repository: Repository) -> str:
    names = [MOTION_ENERGY, *(f"{m.name}/{m.version}" for m in repository if m.sampler is not None)]
    return f"this server has the samplers {', '.join(names)}"


def _stopping(asked: ClipRequest, model: ServedModel, sampler: ServedSampler | None, *, borrowed: bool) -> StoppingRule:
    """Raises InvalidRequest where the model has no rule, or the rule does not hold for what is asked."""
    ref = f"{model.name}/{model.version}"
    own = model.sampler
    if own is None or not own.rules:
        lacks = "no sampler, and so no stopping rule" if own is None else "a sampler without a stopping rule"
        raise InvalidRequest(
            f"model {ref} has {lacks}; ask without adaptive, or give its bundle a calibrated one (tenclip add-sampler)"
        )
    if borrowed or sampler is None:
        raise InvalidRequest(
            f"the stopping rule of {ref} was calibrated on clips that its own sampler chose, and does not hold for "
            f"those of {asked.sampler!r}; leave out the sampler, or adaptive"
        )
    if model.bundle.info.features_only:
        raise InvalidRequest(f"model {ref} has no classifier, so no classes that could be settled; leave out adaptive")
    if has_independent_classes(model.bundle.info):
        raise InvalidRequest(
            f"model {ref} was trained with a sigmoid for each class: several classes may be right at once, so the lead "
            "of the best over the second says nothing of when to stop; ask without adaptive"
        )
    return _rule_for(asked.error_bound, own, ref)


def _rule_for(error_bound: float, sampler: ServedSampler, ref: str) -> StoppingRule:
    """error_bound: 0 for the default. Raises InvalidRequest that names the bounds that there are."""
    known = ", ".join(f"{rule.error_bound:g}" for rule in sampler.rules)
    if not error_bound:
        if sampler.stopping is None:
            raise InvalidRequest(
                f"model {ref} has no stopping rule for the error bound that is taken where a request names none; name "
                f"one that it has: {known}"
            )
        return sampler.stopping
    for rule in sampler.rules:
        if math.isclose(rule.error_bound, error_bound, rel_tol=1e-6):
            return rule
    raise InvalidRequest(
        f"model {ref} has no stopping rule with the error bound {error_bound:g}; it has {known}"
        + ("" if sampler.stopping is None else f" ({sampler.stopping.error_bound:g} where a request names none)")
    )


def has_independent_classes(info: BundleInfo) -> bool:
    """Whether the bundle says of itself that its network was trained with a sigmoid for each class."""
    config = info.provenance.get("config")
    objective: Any = config.get("objective") if isinstance(config, Mapping) else None
    return isinstance(objective, Mapping) and "sigmoid" in str(objective.get("loss", ""))
