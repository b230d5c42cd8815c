"""The sampler that chooses the clips of an extraction, fixed at its beginning as the model is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tenclip_client._aio import AsyncClient
from tenclip_client._extraction import ClipChoice
from tenclip_client._types import ModelInfo

MOTION_ENERGY = "motion-energy"
_SALIENT_PROTOCOL = "salient-clips"


async def pin_sampler(client: AsyncClient, choice: ClipChoice, model: ModelInfo) -> tuple[ClipChoice, dict[str, Any]]:
    """(the choice, with the version of a sampler that is borrowed; settings that the numbers depend on by the sampler).

    sampler_files: SHA-256 of each file of the learned sampler that chooses the clips. There are no settings where no
    learned sampler does and nothing was asked about it, so that tables of earlier versions are taken for the same.
    Raises what `get_model` raises for the name of a sampler that is not there.
    """
    asked: dict[str, Any] = {"adaptive": True} if choice.adaptive else {}
    if choice.error_bound is not None:
        asked["error_bound"] = choice.error_bound
    owner = model
    if choice.sampler == MOTION_ENERGY:
        return choice, {**asked, "sampler": MOTION_ENERGY}
    if choice.sampler:
        owner = await client.get_model(choice.sampler.replace("/", ":"))
        choice = replace(choice, sampler=f"{owner.name}/{owner.version}")
        asked["sampler"] = choice.sampler
    if _is_salient(choice, model) and owner.sampler is not None:
        files = (owner.bundle.get("sampler") or {}).get("files", {})
        asked["sampler_files"] = json.dumps(files, sort_keys=True)
    return choice, asked


def _is_salient(choice: ClipChoice, model: ModelInfo) -> bool:
    if choice.clips is not None:
        return choice.clips == "salient"
    return (choice.protocol or model.default_protocol) == _SALIENT_PROTOCOL
