"""Networks that look at single frames: which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import create_model
from tenclip_training.omni.networks import open_network
from tenclip_training.omni.teachers import open_teacher
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.spec import ClipSpec, Resize

FLOW = ClipSpec(num_frames=2, modality="flow", resize=Resize(height=32, width=32), crop=32)


def test_networks_of_flow_look_at_no_pictures(tmp_path: Path) -> None:
    model = create_model("r2d_18", num_classes=2, width=4, num_frames=2, crop=32, in_channels=2)
    path = tmp_path / "flow.pt"
    save_checkpoint(path, model, clip_spec=FLOW, labels=("a", "b"), provenance={})
    message = r"flow\.pt: a network of optical flow; name one that looks at pictures"
    with pytest.raises(InvalidRequest, match=message):
        open_network(str(path))
    with pytest.raises(InvalidRequest, match=message):
        open_teacher(str(path))
