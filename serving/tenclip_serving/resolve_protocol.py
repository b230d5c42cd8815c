"""From what a caller asked for to the protocol that runs: every contradiction is named, nothing is guessed."""

from __future__ import annotations

import math
from dataclasses import replace

from tenclip_api.errors import InvalidRequest
from tenclip_serving.requests import ClipRequest, RecognitionRequest
from tenclip_video.protocols import PROTOCOLS, Averaging, Protocol
from tenclip_video.salience import StoppingRule
from tenclip_video.sampling import ClipSelection, SelectionMode
from tenclip_video.spec import ClipSpec

CUSTOM = "custom"
# Modes in which the caller says how many clips there are.
_COUNTED: tuple[SelectionMode, ...] = ("uniform", "salient", "random")
# Modes that look at every window of the video.
_WINDOWED: tuple[SelectionMode, ...] = ("windows", "salient")
# Whose clips and scores a stopping rule is calibrated on, in any number of clips.
_RULES_PROTOCOL = PROTOCOLS["salient-clips"]


def supported_protocols(spec: ClipSpec) -> tuple[str, ...]:
    """Names of the protocols that a model of this spec can run."""
    return tuple(
        name
        for name, protocol in PROTOCOLS.items()
        if spec.fully_convolutional_crop is not None or not protocol.fully_convolutional
    )


def resolve_protocol(
    request: RecognitionRequest,
    spec: ClipSpec,
    default: str,
    *,
    max_clips: int,
    max_clip_bytes: int,
    stopping: StoppingRule | None = None,
) -> Protocol:
    """The protocol that a request runs on a model of `spec` whose own protocol is `default`.

    Fields that the request leaves unset come from its named protocol or from `default`. The result has the name of
    that one where it is the same, else "custom: ..." in words, see `protocol_name`. stopping: of an adaptive request,
    whose clips are those that the rule was calibrated on. Raises InvalidRequest.
    """
    base = PROTOCOLS[default]
    if request.protocol:
        base = _named_protocol(request, spec)
    fully_convolutional = base.fully_convolutional
    if request.spatial_mode is not None:
        fully_convolutional = request.spatial_mode == "fully_convolutional"
    if fully_convolutional and spec.fully_convolutional_crop is None:
        raise InvalidRequest("this model has no fully-convolutional crop in its clip spec; ask for POOLED")
    protocol = replace(base, fully_convolutional=fully_convolutional)
    limit = _clip_limit(spec, protocol, max_clips=max_clips, max_clip_bytes=max_clip_bytes)
    clips = request.clips if stopping is None else _all_clips(request.clips, base.selection, stopping)
    protocol = replace(protocol, selection=_selection(clips, base.selection, limit))
    _check_sampler(request, protocol.selection.mode)
    if stopping is not None:
        _check_rule_holds(protocol)
    return replace(protocol, name=protocol_name(protocol, request.protocol or default))


def most_clip_bytes(protocol: Protocol, spec: ClipSpec) -> int:
    """The most bytes that the clips of a request can take, known before anything is decoded."""
    assert protocol.max_planned is not None  # `resolve_protocol` has set a limit
    return protocol.max_planned * _view_bytes(spec, protocol)


def protocol_name(protocol: Protocol, base: str) -> str:
    """`base` where the protocol of that name is the same, whatever part of the video it is run on; else all in words.

    base: the protocol that was asked for, or the model's own. A name of another family would be misleading even where
    the two happen to agree: ten uniform frames of a TSN network are nobody's "vmz-logits".

    >>> protocol_name(replace(PROTOCOLS["tsn-3"], selection=ClipSelection()), "tsn-3")
    'custom: 10 uniform clips, centre crop, pooled, logits averaged'
    """
    selection = replace(protocol.selection, start_seconds=None, end_seconds=None, max_clips=None)
    known = PROTOCOLS[base]
    if replace(protocol, name=known.name, description=known.description, selection=selection) == known:
        return known.name
    words = [
        _clips_in_words(selection),
        "centre crop" if protocol.views == 1 else f"{protocol.views} crops",
        "fully-convolutional" if protocol.fully_convolutional else "pooled",
        *(["short edge scaled"] if protocol.short_edge else []),
        _AVERAGING_IN_WORDS[protocol.averaging],
    ]
    return f"{CUSTOM}: {', '.join(words)}"


_AVERAGING_IN_WORDS: dict[Averaging, str] = {
    "probabilities": "probabilities averaged",
    "logits": "logits averaged",
    "vmz_joint": "one softmax over classes and positions",
}


def _clips_in_words(selection: ClipSelection) -> str:
    if selection.mode == "center":
        return "the centre clip"
    step = f" every {selection.window_step} frames" if selection.window_step else ""
    rule = "" if selection.rule == ClipSelection().rule else f" placed by {selection.rule}"
    if selection.mode == "windows":
        return f"all windows{step}{rule}"
    return f"{selection.num_clips} {selection.mode} clips{step}{rule}"


def _named_protocol(request: RecognitionRequest, spec: ClipSpec) -> Protocol:
    supported = supported_protocols(spec)
    if request.protocol not in PROTOCOLS:
        raise InvalidRequest(f"no protocol {request.protocol!r}; this model has {', '.join(supported)}")
    if request.protocol not in supported:
        raise InvalidRequest(
            f"protocol {request.protocol!r} needs a fully-convolutional crop, which this model's clip spec has not; "
            f"it has {', '.join(supported)}"
        )
    clips = request.clips
    asked = {
        "clips.mode": clips.mode is not None,
        "clips.num_clips": clips.num_clips > 0,
        "clips.window_step_frames": clips.window_step > 0,
        "spatial_mode": request.spatial_mode is not None,
    }
    if contradictions := [name for name, given in asked.items() if given]:
        raise InvalidRequest(
            f"protocol {request.protocol!r} already says which clips and crops are used; "
            f"leave out {', '.join(contradictions)}, or the protocol"
        )
    return PROTOCOLS[request.protocol]


def _clip_limit(spec: ClipSpec, protocol: Protocol, *, max_clips: int, max_clip_bytes: int) -> int:
    """The most clips that a request may have, by their number and by the bytes of their pixels."""
    return max(1, min(max_clips, max_clip_bytes // (protocol.views * _view_bytes(spec, protocol))))


def _view_bytes(spec: ClipSpec, protocol: Protocol) -> int:
    side = protocol.crop_side(spec)
    return spec.num_frames * side * side * 3


def _all_clips(asked: ClipRequest, base: ClipSelection, stopping: StoppingRule) -> ClipRequest:
    """With as many clips as the rule was calibrated for. Raises InvalidRequest for what it does not hold for."""
    mode = asked.mode or base.mode
    if mode != "salient":
        raise InvalidRequest(
            f"adaptive prediction runs clips in the order of their salience, which {mode.upper()} clips do not have; "
            "ask for SALIENT, or leave out adaptive"
        )
    if asked.num_clips not in (0, stopping.max_clips):
        raise InvalidRequest(
            f"the stopping rule of this model was calibrated for {stopping.max_clips} clips, and does not hold for "
            f"num_clips {asked.num_clips}; leave it out, or ask without adaptive"
        )
    return replace(asked, num_clips=stopping.max_clips)


def _check_rule_holds(protocol: Protocol) -> None:
    """Raises InvalidRequest for an adaptive request with other clips or scores than those of the calibration."""
    selection = replace(_RULES_PROTOCOL.selection, window_step=protocol.selection.window_step)
    same = replace(protocol, name=_RULES_PROTOCOL.name, description=_RULES_PROTOCOL.description, selection=selection)
    if same != _RULES_PROTOCOL:
        what = protocol_name(protocol, _RULES_PROTOCOL.name).removeprefix(f"{CUSTOM}: ")
        raise InvalidRequest(
            f"the stopping rule of this model was calibrated on {_RULES_PROTOCOL.name} (centre crop, pooled, "
            f"probabilities averaged, windows at the sampler's own step), and does not hold for {what}; ask without "
            "adaptive"
        )


def _check_sampler(request: RecognitionRequest, mode: SelectionMode) -> None:
    if request.clips.sampler and mode != "salient" and not request.timeline:
        raise InvalidRequest(
            f"sampler {request.clips.sampler!r} has no meaning for {mode.upper()} clips without a timeline; ask for "
            "SALIENT or include_timeline, or leave it out"
        )


def _selection(asked: ClipRequest, base: ClipSelection, limit: int) -> ClipSelection:
    # A mode that is named means what its name says; without one the protocol's own rule places the clips.
    chosen = base if asked.mode is None else _plain(asked.mode)
    mode = chosen.mode
    if asked.num_clips and mode not in _COUNTED and not (mode == "center" and asked.num_clips == 1):
        what = "is one clip" if mode == "center" else "is every window"
        raise InvalidRequest(f"{mode.upper()} {what}, so num_clips {asked.num_clips} has no meaning; leave it out")
    if asked.window_step and mode not in _WINDOWED:
        raise InvalidRequest(f"window_step_frames {asked.window_step} has no meaning for {mode.upper()}; leave it out")
    num_clips = asked.num_clips or chosen.num_clips
    if mode in _COUNTED and num_clips > limit:
        raise InvalidRequest(
            f"num_clips {num_clips} is more than the {limit} that this server takes for this model (max_clips, "
            f"max_clip_mb)"
        )
    start, end = _part(asked)
    try:
        return replace(
            chosen,
            num_clips=num_clips,
            window_step=asked.window_step or chosen.window_step,
            start_seconds=start,
            end_seconds=end,
            max_clips=limit,
        )
    except ValueError as err:
        raise InvalidRequest(str(err)) from err


def _plain(mode: SelectionMode) -> ClipSelection:
    return ClipSelection(mode=mode, num_clips=1) if mode == "center" else ClipSelection(mode=mode)


def _part(asked: ClipRequest) -> tuple[float | None, float | None]:
    """The part of the video, None for an open end. 0 means unset on the wire."""
    for name, value in (("start_seconds", asked.start_seconds), ("end_seconds", asked.end_seconds)):
        if not math.isfinite(value) or value < 0:
            raise InvalidRequest(f"{name} must be finite and not negative, got {value}")
    return asked.start_seconds or None, asked.end_seconds or None
