"""Everything that the numbers of a dataset depend on: what a run that goes on has to ask for again."""

from __future__ import annotations

import json
from typing import Any

from tenclip_api.errors import InvalidRequest, NoClassifier
from tenclip_batch.bundle import BatchBundle, weights_of
from tenclip_batch.options import ClipChoices, OutputOptions, RuntimeOptions
from tenclip_batch.parts import PartFormat
from tenclip_features.schema import SETTINGS_KEY, shown_settings
from tenclip_serving.resolve_protocol import resolve_protocol
from tenclip_video.protocols import Protocol


def protocol_of(bundle: BatchBundle, choices: ClipChoices, runtime: RuntimeOptions) -> Protocol:
    """The protocol that every video gets. Raises InvalidRequest for what contradicts itself or does not fit."""
    sampler = bundle.info.sampler
    stopping = sampler.stopping if choices.adaptive and sampler is not None else None
    if choices.adaptive and stopping is None:
        raise InvalidRequest(
            f"model {bundle.info.name}/{bundle.info.version} has no stopping rule; leave out --adaptive, or give its "
            "bundle a calibrated one (tenclip add-sampler)"
        )
    protocol = resolve_protocol(
        choices.request(),
        bundle.spec,
        bundle.info.default_protocol,
        max_clips=runtime.max_clips,
        max_clip_bytes=runtime.max_clip_mb << 20,
        stopping=stopping,
    )
    if protocol.selection.mode == "salient" and bundle.changed and sampler is not None and not choices.motion_energy:
        raise InvalidRequest(
            "the sampler of this bundle was trained for its own clips, and --window and --fps change them; leave them "
            "out, or take --sampler motion-energy"
        )
    return protocol


def settings_of(
    bundle: BatchBundle, choices: ClipChoices, output: OutputOptions, protocol: Protocol, *, runtime: str, variant: str
) -> dict[str, Any]:
    """JSON values, with the names that `tenclip features` uses where it has the same. runtime, variant: that run.

    Raises NoClassifier for predictions of a bundle that has features only.
    """
    info, selection = bundle.info, protocol.selection
    if output.task == "predict" and info.features_only:
        raise NoClassifier(
            f"model {info.name}/{info.version} has no classifier, so it predicts nothing; take its features: "
            "`tenclip batch features`"
        )
    settings: dict[str, Any] = {
        "task": output.task,
        "format": output.format,
        "model": info.name,
        "version": info.version,
        "weights": weights_of(info),
        "variant": variant,
        "runtime": runtime,
        "protocol": protocol.name,
        "clip_selection": choices.mode,
        "num_clips": choices.num_clips,
        "window_step": choices.step,
        "start": choices.start,
        "end": choices.end,
        "fully_convolutional": choices.fully_convolutional,
        "window": choices.window,
        "fps": choices.fps,
    }
    if selection.mode == "salient":
        files = None if info.sampler is None or choices.motion_energy else info.sampler.files
        settings["adaptive"] = choices.adaptive
        settings["sampler_files"] = "motion-energy" if files is None else json.dumps(files, sort_keys=True)
    if output.task == "predict":
        settings |= {"top_k": output.top_k, "per_clip": output.per_clip}
    return settings


def part_format(bundle: BatchBundle, output: OutputOptions, settings: dict[str, Any]) -> PartFormat:
    """Columns and metadata of every part."""
    metadata = {
        **shown_settings(settings),
        **bundle.metadata(settings["runtime"], settings["variant"]),
        SETTINGS_KEY.decode(): json.dumps(settings, sort_keys=True),
    }
    return PartFormat(
        task=output.task,
        model=bundle.info.name,
        version=bundle.info.version,
        feature_dim=bundle.info.feature_dim,
        labels=bundle.labels,
        top_k=output.top_k,
        with_clips=output.with_clips,
        metadata=metadata,
    )
