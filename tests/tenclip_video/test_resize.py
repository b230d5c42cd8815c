"""Each kernel against the library whose name it bears."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_video.orientation import Orientation, frame_orientation
from tenclip_video.resize import FrameScaler
from tenclip_video.spec import InterlacedMode, Resize, ResizeKernel
from tenclip_video.video import open_video
from tests.videos import Recipe, decode_all, make_video

SIZES = [(128, 171), (256, 340), (64, 48), (300, 500), (7, 5)]


def picture(height: int = 240, width: int = 320, *, seed: int = 0) -> av.VideoFrame:
    """Smooth waves and hard edges in yuv420p, as decoders give them."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    grey = 128 + 50 * np.sin(x / 9) + 40 * np.sin((x + y) / 13)
    rgb = np.stack([grey + 15 * np.sin(y / 17), grey, grey - 20 * np.cos(x / 19)], -1)
    rgb[height // 4 : height // 2, width // 4 : width // 2] = (220, 40, 40)
    rgb += rng.normal(0, 4, rgb.shape)
    frame = av.VideoFrame.from_ndarray(np.clip(rgb, 0, 255).astype(np.uint8), format="rgb24")
    return frame.reformat(format="yuv420p", threads=1)


def scale(frame: av.VideoFrame, kernel: ResizeKernel, height: int, width: int) -> NDArray[np.uint8]:
    scaler = FrameScaler(Resize(height=height, width=width, kernel=kernel), frame)
    out = np.zeros((scaler.height, scaler.width, 3), np.uint8)
    out[:] = scaler.scaled(frame)
    return out


def full_size(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return scale(frame, "swscale_bilinear", frame.height, frame.width)


def difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int16]:
    result: NDArray[np.int16] = np.abs(a.astype(np.int16) - b.astype(np.int16))
    return result


def one_step(frame: av.VideoFrame, method: str, height: int, width: int) -> NDArray[np.uint8]:
    rgb = frame.reformat(width=width, height=height, format="rgb24", interpolation=method, threads=1)
    return np.asarray(rgb.to_ndarray(), np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_swscale_fast_bilinear_is_swscales(height: int, width: int) -> None:
    frame = picture()
    expected = one_step(frame, "FAST_BILINEAR", height, width)
    np.testing.assert_array_equal(scale(frame, "swscale_fast_bilinear", height, width), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_swscale_bilinear_in_two_steps_is_close_to_one(height: int, width: int) -> None:
    frame = picture()
    scaled, expected = scale(frame, "swscale_bilinear", height, width), one_step(frame, "BILINEAR", height, width)
    luma = np.array([0.299, 0.587, 0.114])
    off = np.abs(scaled @ luma - expected @ luma)
    assert off.mean() < 2
    assert np.percentile(off, 95) < 4
    assert difference(scaled, expected).mean() < 7  # colour edges are coarser


def test_swscale_of_other_formats_is_one_step() -> None:
    frame = picture().reformat(format="yuv444p", threads=1)
    np.testing.assert_array_equal(scale(frame, "swscale_bilinear", 40, 50), one_step(frame, "BILINEAR", 40, 50))


def test_swscale_bilinear_antialiases() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    frame = av.VideoFrame.from_ndarray(stripes, format="rgb24")
    grey = scale(frame, "swscale_bilinear", 16, 16)
    assert np.all(difference(grey, np.full_like(grey, 127)) <= 30)  # nearest or plain bilinear would give 0 or 255


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_opencv_bilinear_is_opencvs(height: int, width: int) -> None:
    cv2 = pytest.importorskip("cv2")
    frame = picture()
    expected = cv2.resize(full_size(frame), (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(scale(frame, "opencv_bilinear", height, width), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pil_bilinear_is_pillows(height: int, width: int) -> None:
    image = pytest.importorskip("PIL.Image")
    frame = picture()
    expected = image.fromarray(full_size(frame)).resize((width, height), image.Resampling.BILINEAR)
    np.testing.assert_array_equal(scale(frame, "pil_bilinear", height, width), np.asarray(expected))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_torch_bilinear_is_torchs(height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    frame = picture()
    planes = torch.from_numpy(full_size(frame)).permute(2, 0, 1)[None].float()  # [1,3,H,W]
    scaled = torch.nn.functional.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)
    expected = scaled[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    off = difference(scale(frame, "torch_bilinear", height, width), expected)
    assert off.max() <= 1  # a value that falls on a half may round either way
    assert (off > 0).mean() < 0.01


def test_kernels_differ() -> None:
    """A preset that named the wrong one would be noticed."""
    frame = picture()
    kernels: list[ResizeKernel] = ["swscale_bilinear", "opencv_bilinear", "pil_bilinear"]
    results = [scale(frame, k, 60, 80) for k in kernels]
    for i, a in enumerate(results):
        for b in results[i + 1 :]:
            assert difference(a, b).max() > 8


# -- colours ----------------------------------------------------------------------------------------------------------


def plain(luma: int, blue: int, red: int, *, colorspace: int = 2, full_range: bool = False) -> av.VideoFrame:
    """A picture of one colour; colorspace 1: BT.709, 5: BT.601, 2: not said."""
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, (luma, blue, red), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace = colorspace
    frame.color_range = 2 if full_range else 1
    return frame


def to_rgb(luma: float, blue: float, red: float, *, kr: float, kb: float, full_range: bool) -> NDArray[np.float64]:
    """The colour by the formulas of ITU-R BT.601 and BT.709."""
    y = luma / 255 if full_range else (luma - 16) / 219
    u, v = ((c - 128) / (255 if full_range else 224) for c in (blue, red))
    r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.asarray(255 * np.clip([r, g, b], 0, 1), np.float64)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("colorspace", "kr", "kb"), [(5, 0.299, 0.114), (1, 0.2126, 0.0722), (2, 0.299, 0.114)])
@pytest.mark.parametrize("kernel", ["swscale_bilinear", "opencv_bilinear", "pil_bilinear"])
@pytest.mark.parametrize("size", [(48, 64), (24, 32), (30, 30)])
def test_colours_follow_the_standard_the_video_names(
    full_range: bool, colorspace: int, kr: float, kb: float, kernel: ResizeKernel, size: tuple[int, int]
) -> None:
    for color in ((120, 90, 200), (60, 170, 100), (200, 128, 128)):
        frame = plain(*color, colorspace=colorspace, full_range=full_range)
        expected = to_rgb(*color, kr=kr, kb=kb, full_range=full_range)
        assert np.abs(scale(frame, kernel, *size) - expected).max() <= 3, color


def test_white_stays_white_and_black_black() -> None:
    for full_range, (black, white) in ((False, (16, 235)), (True, (0, 255))):
        assert scale(plain(white, 128, 128, full_range=full_range), "swscale_bilinear", 24, 32).min() >= 253
        assert scale(plain(black, 128, 128, full_range=full_range), "swscale_bilinear", 24, 32).max() <= 2


def test_ten_bits_are_scaled_down() -> None:
    frame = picture().reformat(format="yuv420p10le", threads=1)
    assert difference(full_size(frame), full_size(picture())).mean() < 3


# -- rotation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("kernel", ["swscale_bilinear", "opencv_bilinear", "pil_bilinear"])
def test_rotation_is_honoured(rotation: int, kernel: ResizeKernel) -> None:
    def quadrants(number: int, height: int, width: int) -> NDArray[np.uint8]:
        frame = np.zeros((height, width, 3), np.uint8)
        frame[: height // 2, : width // 2] = (255, 0, 0)  # top left
        frame[: height // 2, width // 2 :] = (0, 255, 0)  # top right
        frame[height // 2 :, width // 2 :] = (0, 0, 255)  # bottom right
        return frame

    def first_frame(rotation: int) -> av.VideoFrame:
        data = make_video(Recipe(num_frames=1, width=96, height=64, rotation=rotation), paint=quadrants)
        with av.open(io.BytesIO(data), "r") as container:
            return next(container.decode(video=0))

    frame = first_frame(rotation)
    assert frame_orientation(frame) == Orientation(rotation=rotation)
    out, upright = scale(frame, kernel, 40, 30), scale(first_frame(0), kernel, 40, 30)
    corners = [out[5, 5], out[5, -5], out[-5, -5], out[-5, 5]]  # clockwise from the top left
    expected = [upright[5, 5], upright[5, -5], upright[-5, -5], upright[-5, 5]]
    turned = expected[-(rotation // 90) :] + expected[: -(rotation // 90)] if rotation else expected
    assert difference(np.stack(corners), np.stack(turned)).max() <= 6


def test_short_edges_are_those_of_the_upright_picture() -> None:
    data = make_video(Recipe(num_frames=1, width=96, height=64, rotation=90, fps=Fraction(1)))
    with av.open(io.BytesIO(data), "r") as container:
        scaler = FrameScaler(Resize(mode="short_edge", short_edge=32), next(container.decode(video=0)))
    assert (scaler.height, scaler.width) == (48, 32)


# -- pictures that change on the way ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["swscale_bilinear", "swscale_fast_bilinear", "opencv_bilinear", "pil_bilinear"])
def test_the_first_frame_fixes_the_size(kernel: ResizeKernel) -> None:
    scaler = FrameScaler(Resize(mode="none", kernel=kernel), picture(48, 64))
    for frame in (picture(48, 64), picture(96, 64), picture(30, 500).reformat(format="yuv444p", threads=1)):
        out = np.zeros((48, 64, 3), np.uint8)
        out[:] = scaler.scaled(frame)
        assert out.std() > 10


# -- interlaced video -------------------------------------------------------------------------------------------------

KERNELS: list[ResizeKernel] = list(get_args(ResizeKernel))


def interlaced_frame(data_dir: Path, number: int = 10) -> av.VideoFrame:
    frames = decode_all(data_dir / "faults" / "inter.mpg")
    frame = next(itertools.islice(frames, number, None))
    assert frame.interlaced_frame
    return frame


def copy_without_flags(frame: av.VideoFrame) -> av.VideoFrame:
    """The same planes in a frame that nobody has marked as interlaced."""
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for source, target in zip(frame.planes, copy.planes, strict=True):
        rows = np.frombuffer(memoryview(source), np.uint8).reshape(source.height, source.line_size)[:, : source.width]
        padded = np.zeros((target.height, target.line_size), np.uint8)
        padded[:, : target.width] = rows
        target.update(padded.tobytes())
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy


@pytest.mark.parametrize("kernel", KERNELS)
def test_interlaced_frames_are_scaled_by_fields_or_as_if_progressive(data_dir: Path, kernel: ResizeKernel) -> None:
    frame = interlaced_frame(data_dir)
    resize = Resize(height=100, width=150, kernel=kernel)
    fields = FrameScaler(resize, frame).scaled(frame)
    progressive = FrameScaler(replace(resize, interlaced="progressive"), frame).scaled(frame)
    copied = copy_without_flags(frame)
    expected = FrameScaler(resize, copied).scaled(copied)
    # The copy has lost where its chroma samples lie, so colours may be off at edges; luma may not.
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(progressive @ luma - expected @ luma).mean() < 1
    assert difference(progressive, fields).mean() > 1
    if kernel.startswith("swscale"):
        assert np.abs(progressive @ luma - fields @ luma).mean() > 1.5
    assert frame.interlaced_frame, "the caller's frame is left as it was"


def test_progressive_luma_is_that_of_all_lines(data_dir: Path) -> None:
    frame = interlaced_frame(data_dir)
    plane = frame.planes[0]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    grey = av.VideoFrame.from_ndarray(np.ascontiguousarray(lines), format="gray")
    grey.color_range = frame.color_range
    scaler = FrameScaler(Resize(height=100, width=150, interlaced="progressive"), frame)
    rgb = scaler.scaled(frame).astype(np.float64)
    expected = grey.reformat(width=150, height=100, interpolation="BILINEAR", threads=1).to_ndarray().astype(float)
    luma = 16 + (rgb @ [65.738, 129.057, 25.064]) / 256  # BT.601, limited range
    unclipped = np.all((rgb > 2) & (rgb < 253), axis=-1)
    assert np.abs(luma - expected)[unclipped].max() <= 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_progressive_videos_are_the_same_either_way(mp4: bytes, kernel: ResizeKernel) -> None:
    frame = next(decode_all(mp4))
    resize = Resize(height=30, width=40, kernel=kernel)
    ignoring = FrameScaler(replace(resize, interlaced="progressive"), frame)
    np.testing.assert_array_equal(FrameScaler(resize, frame).scaled(frame), ignoring.scaled(frame))


def test_interlaced_frames_whose_size_changes_on_the_way(data_dir: Path) -> None:
    frame = interlaced_frame(data_dir)
    scaler = FrameScaler(Resize(height=30, width=40, interlaced="progressive"), frame)
    first = scaler.scaled(frame).copy()
    scaler.scaled(picture(48, 64))
    np.testing.assert_array_equal(scaler.scaled(frame), first)


@pytest.mark.parametrize(("interlaced", "word"), [("fields", "apart"), ("progressive", "as if they were progressive")])
def test_the_report_says_how_interlaced_video_was_scaled(data_dir: Path, interlaced: InterlacedMode, word: str) -> None:
    resize = Resize(height=60, width=80, interlaced=interlaced)
    with open_video(data_dir / "faults" / "inter.mpg") as video:
        assert not video.report.warnings
        video.read_frames([3], resize)
        (warning,) = video.report.warnings
        assert warning.startswith("interlaced: ")
        assert word in warning
    with open_video(data_dir / "faults" / "inter.mpg") as video:
        next(video.iter_frames(resize))
        assert video.report.warnings == (warning,)
