"""Optical flow as frames: a square that moves so many pixels a frame is seen to do so."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tenclip_video.bundle import BundleInfo
from tenclip_video.clips import read_clips
from tenclip_video.flow import BOUND, STILL, encode_flow, flow_between, mirrored_and_scaled, read_flow
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import open_video

FLOW = ClipSpec(num_frames=4, resize=Resize(mode="none"), crop=64, fully_convolutional_crop=None, modality="flow")


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of 96x64, in which the whole picture moves 3 pixels to the right and 1 up in each."""
    texture = np.random.default_rng(0).integers(0, 256, (128, 160), dtype=np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 2).astype(np.uint8)
    low, high = int(texture.min()), int(texture.max())
    texture = ((texture.astype(np.float32) - low) * 255 / (high - low)).astype(np.uint8)
    path = tmp_path_factory.mktemp("flow") / "moving.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(8):
            top, left = 20 + i, 40 - 3 * i
            gray = np.ascontiguousarray(texture[top : top + 64, left : left + 96])
            frame = av.VideoFrame.from_ndarray(np.stack([gray] * 3, -1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def pixels(flow: np.ndarray) -> tuple[float, float]:
    """The mean motion away from the borders."""
    inner = flow[..., 16:-16, 24:-24, :2].astype(float)
    dx, dy = ((inner - STILL) * BOUND / 127).reshape(-1, 2).mean(0)
    return float(dx), float(dy)


def test_what_moved_is_seen(moving: Path) -> None:
    with open_video(moving) as video:
        flow = read_flow(video, np.array([0, 2, 7]), Resize(mode="none"))
    assert flow.shape == (3, 64, 96, 3)
    for frame in flow:
        assert pixels(frame) == pytest.approx((3, -1), abs=0.25)
        assert (frame[..., 2] == STILL).all()


def test_a_frame_has_the_same_flow_whatever_it_is_read_with(moving: Path) -> None:
    with open_video(moving) as video:
        every = read_flow(video, np.arange(8), Resize(mode="none"))
        some = read_flow(video, np.array([1, 5]), Resize(mode="none"))
    assert np.array_equal(every[[1, 5]], some)
    assert np.array_equal(every[7], every[6])


def test_clips_of_tests_are_of_flow(moving: Path) -> None:
    found = read_clips(moving, FLOW, PROTOCOLS["center-clip"])
    assert found.clips.shape == (1, 4, 64, 64, 3)
    with open_video(moving) as video:
        frames = read_flow(video, np.array(found.plan[0].frames), FLOW.resize)
    assert np.array_equal(found.clips[0], frames[:, :, 16:80])


def test_nothing_moves_in_a_picture_that_stands_still() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert np.abs(flow_between(gray, gray)[..., :2].astype(int) - STILL).max() <= 1
    assert (flow_between(gray[:8, :8], gray[:8, :8]) == STILL).all()


def test_worked_numbers() -> None:
    encoded = encode_flow(np.array([[[0, -20], [10, 40]]], np.float32))
    assert encoded.tolist() == [[[128, 1, 128], [192, 255, 128]]]
    half = mirrored_and_scaled(encoded[None], mirrored=True, scale=0.5)[0]
    assert half.tolist() == [[[128, 64, 128], [96, 192, 128]]]
    assert np.array_equal(mirrored_and_scaled(encoded[None], mirrored=False, scale=1.0)[0], encoded)


def test_mirrored_flow_is_the_flow_of_mirrored_frames(moving: Path) -> None:
    with open_video(moving) as video:
        frames = video.read_frames(np.array([0, 1]), Resize(mode="none"))
    gray = [np.ascontiguousarray(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)) for f in frames]
    flow = flow_between(*gray)
    turned = mirrored_and_scaled(flow[None, :, ::-1], mirrored=True, scale=1.0)[0]
    direct = flow_between(*(np.ascontiguousarray(g[:, ::-1]) for g in gray))
    assert pixels(turned) == pytest.approx(pixels(direct), abs=0.2)
    assert pixels(turned)[0] == pytest.approx(-3, abs=0.25)


def test_specs_say_so_only_where_it_is_flow() -> None:
    assert "modality" not in ClipSpec().to_dict()
    assert ClipSpec.from_dict(FLOW.to_dict()) == FLOW
    with pytest.raises(ValueError, match="modality 'depth' is not one of"):
        ClipSpec(modality="depth")  # type: ignore[arg-type]


def test_bundles_of_flow_are_refused() -> None:
    values = {"name": "m", "version": "1", "architecture": "r3d", "family": "x", "num_classes": 2, "feature_dim": 4}
    with pytest.raises(ValueError, match="bundles are of networks of pictures"):
        BundleInfo(clip_spec=FLOW, **values)  # type: ignore[arg-type]
