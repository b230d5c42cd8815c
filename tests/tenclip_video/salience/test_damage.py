"""Windows of files with random bytes changed and of files cut off: inputs for every window, or a typed error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tenclip_api.errors import VideoError
from tenclip_video.salience import SamplerKind, default_spec, read_windows
from tenclip_video.spec import ClipSpec
from tenclip_video.video import open_video
from tests.tenclip_video.salience.panning import windows_of
from tests.videos import Recipe, make_video

MODEL = ClipSpec(num_frames=8)
KINDS: tuple[SamplerKind, ...] = ("compressed", "rgb", "keyframes", "audio")
RECIPES = {
    "mp4": Recipe(gop=10, audio=True, muxer_options={"movflags": "faststart"}),
    "mkv": Recipe(container="matroska", gop=10, audio=True),
    "ts": Recipe(codec="mpeg2video", container="mpegts", gop=10, audio=True),
    "avi": Recipe(codec="mpeg4", container="avi", gop=10),
    "hevc": Recipe(codec="libx265", gop=10, muxer_options={"movflags": "faststart"}),
    "webm": Recipe(codec="libvpx-vp9", container="webm", gop=10),
}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.3:
        return data[: rng.integers(len(data) // 3, len(data))]
    changed = bytearray(data)
    for at in rng.integers(len(data) // 8, len(data), rng.integers(1, 60)).tolist():
        changed[at] = int(rng.integers(256))
    return bytes(changed)


@pytest.mark.parametrize("name", RECIPES)
def test_every_window_has_inputs_or_the_video_an_error(name: str) -> None:
    data = make_video(RECIPES[name])
    rng = np.random.default_rng(0)
    scored = 0
    for _ in range(20):
        try:
            with open_video(damaged(data, rng)) as video:
                clips = windows_of(video, replace(default_spec("rgb", MODEL), window_step=4), MODEL)
                for kind in KINDS:
                    spec = default_spec(kind, MODEL)
                    found = read_windows(video, clips, spec)
                    if found.inputs is None:
                        assert kind == "audio"
                        assert found.notes
                        continue
                    assert found.inputs.shape == (len(clips), *spec.input_shape)
                    assert np.isfinite(found.inputs).all()
                scored += 1
        except VideoError:
            continue
    assert scored >= 5
