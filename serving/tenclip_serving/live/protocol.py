"""The protocol of a live stream: every window, one after the other, as the model's own protocol crops and averages."""

from __future__ import annotations

from tenclip_api.errors import InvalidRequest, NoClassifier
from tenclip_serving.live.requests import LiveRequest
from tenclip_serving.models.repository import ServedModel
from tenclip_serving.requests import ClipRequest, RecognitionRequest
from tenclip_serving.resolve_protocol import resolve_protocol
from tenclip_video.protocols import Protocol

# Of one window with all of its views.
_MAX_CLIP_BYTES = 256 << 20


def live_protocol(request: LiveRequest, model: ServedModel) -> Protocol:
    """Raises NoClassifier, and InvalidRequest for a model or a spatial mode that live streams cannot have."""
    info = model.bundle.info
    if not model.bundle.labels:
        raise NoClassifier(f"model {model.name!r} has features only; live streams are classified")
    if info.clip_spec.modality != "rgb":
        modality = info.clip_spec.modality
        raise InvalidRequest(f"model {model.name!r} looks at {modality}; live streams are read as rgb only")
    asked = RecognitionRequest(
        clips=ClipRequest(mode="windows", window_step=request.step), spatial_mode=request.spatial_mode
    )
    return resolve_protocol(asked, info.clip_spec, info.default_protocol, max_clips=1, max_clip_bytes=_MAX_CLIP_BYTES)
