"""Still images: every kind comes out as upright 8-bit RGB, and what is no image says so."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tenclip_api.errors import (
    EmptyVideo,
    InvalidRequest,
    NotAFile,
    NotAnImage,
    TenclipError,
    UndecodableImage,
    VideoNotFound,
    VideoTooLarge,
)
from tenclip_video.images import FORMATS, read_image, read_pixels, scale_image
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.source import Limits
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.still_clips import read_image_clips

RESIZE = Resize(height=24, width=32)


def blocks(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Four quarters of different colours: red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 10, 10)
    pixels[: height // 2, width // 2 :] = (10, 250, 10)
    pixels[height // 2 :, : width // 2] = (10, 10, 250)
    pixels[height // 2 :, width // 2 :] = (250, 250, 250)
    return pixels


def encoded(image: Image.Image | NDArray[Any], format: str = "PNG", **options: Any) -> bytes:
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format(format: str) -> None:
    if format == "AVIF":
        Image.init()
        if format not in Image.SAVE:
            pytest.skip("this Pillow writes no AVIF")
    pixels = read_image(encoded(blocks(), format))
    assert pixels.shape == (60, 80, 3)
    assert np.abs(pixels[10:20, 10:20].astype(int) - (250, 10, 10)).max() < 24


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(blocks(), "WEBP"))
    assert read_image(tmp_path / "a.jpg", RESIZE).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, "red"), (2, "green"), (3, "white"), (4, "blue"), (5, "red"), (6, "blue"), (7, "white"), (8, "green")],
)
def test_exif_orientation(orientation: int, corner: str) -> None:
    """The corner that is top left when the image is shown as its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = read_image(encoded(blocks(), "JPEG", exif=exif, quality=95))
    assert shown.shape[:2] == ((80, 60) if orientation >= 5 else (60, 80))
    colours = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250), "white": (250, 250, 250)}
    assert np.abs(shown[5:15, 5:15].astype(int) - colours[corner]).max() < 30


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_a_fraction(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(blocks(960, 1280), "JPEG", quality=95, exif=exif)
    small = read_pixels(data, draft=RESIZE)
    assert small.shape[:2] == ((160, 120) if orientation == 6 else (120, 160))
    exact = scale_image(read_pixels(data), RESIZE)
    assert np.abs(read_image(data, RESIZE).astype(int) - exact).mean() < 3
    assert read_pixels(data, draft=Resize(mode="none")).shape[0] in (960, 1280)


def test_odd_pixels() -> None:
    image = Image.fromarray(blocks())
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    deep = read_image(encoded(ramp))
    assert (deep[0, 0, 0], deep[-1, -1, 0]) == (0, 255)
    assert deep.mean() == pytest.approx(127.5)  # by its range, where Pillow would cut at 255
    cmyk = read_image(encoded(image.convert("CMYK"), "JPEG", quality=95))
    np.testing.assert_allclose(cmyk.mean(axis=(0, 1)), blocks().mean(axis=(0, 1)), atol=3)
    assert np.array_equal(read_image(encoded(image.convert("P", palette=Image.Palette.ADAPTIVE))), blocks())
    grey = read_image(encoded(image.convert("L")))
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert read_image(encoded(image.convert("1"))).max() == 255


def test_what_is_transparent_lies_on_white() -> None:
    pixels = np.dstack([blocks(), np.full((60, 80), 255, np.uint8)])
    pixels[:30, :40, 3] = 0
    shown = read_image(encoded(pixels))
    assert (shown[:30, :40] == 255).all()
    assert np.array_equal(shown[30:], blocks()[30:])
    palette = Image.fromarray(blocks()).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    red = palette.getpixel((0, 0))
    assert (read_image(encoded(palette, "PNG", transparency=red))[:30, :40] == 255).all()


def test_of_an_animated_one_the_first_frame() -> None:
    frames = [Image.fromarray(blocks()), Image.fromarray(blocks()[::-1].copy())]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(read_image(data), blocks())


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", EmptyVideo, "0 bytes"),
        (b"<html>404</html>" * 20, NotAnImage, "no image in a format that tenclip reads"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NotAnImage, "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NotAnImage, "no image"),
        (encoded(blocks(), "JPEG")[:-200], UndecodableImage, "damaged or cut off"),
        (encoded(blocks(), "PNG")[:-30], UndecodableImage, "damaged or cut off"),
        (encoded(blocks(), "WEBP")[:-30], UndecodableImage, "damaged or cut off"),
        (encoded(blocks(), "TIFF")[:500], UndecodableImage, "damaged or cut off"),
    ],
)
def test_images_that_are_none(tmp_path: Path, data: bytes, error: type[TenclipError], says: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(error, match=says) as caught:
        read_image(path, RESIZE, name="web/a.jpg")
    assert str(caught.value).startswith("web/a.jpg: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(VideoNotFound, match="no such file"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(NotAFile):
        read_image(tmp_path)
    data = encoded(blocks())
    with pytest.raises(VideoTooLarge, match="4800 pixels"):
        read_image(data, limits=Limits(max_pixels=4000))
    (tmp_path / "b.png").write_bytes(data)
    assert np.array_equal(read_image(io.BytesIO(data)), read_image(tmp_path / "b.png"))
    with pytest.raises(VideoTooLarge, match="bytes, more than 10"):
        read_image(tmp_path / "b.png", limits=Limits(max_bytes=10))


@pytest.mark.parametrize("kernel", ["swscale_bilinear", "swscale_fast_bilinear", "opencv_bilinear", "pil_bilinear"])
def test_a_single_pixel_fills_the_frame(kernel: Any) -> None:
    one = encoded(np.full((1, 1, 3), 77, np.uint8))
    shown = read_image(one, Resize(height=12, width=16, kernel=kernel))
    assert shown.shape == (12, 16, 3)
    assert np.abs(shown.astype(int) - 77).max() <= 1
    assert read_image(encoded(np.full((1, 9, 3), 77, np.uint8)), Resize(mode="short_edge", short_edge=6)).shape == (
        6,
        54,
        3,
    )


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_is_an_error_of_ours_or_a_picture(data: st.DataObject) -> None:
    good = bytearray(encoded(blocks(12, 16), data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TenclipError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's, about damaged metadata
        pixels = read_image(bytes(good), limits=Limits(max_pixels=1_000_000))
        assert (str(pixels.dtype), pixels.shape[2]) == ("uint8", 3)


def test_an_image_as_clips(tmp_path: Path) -> None:
    spec = ClipSpec(num_frames=4, resize=RESIZE, crop=16, fully_convolutional_crop=24, color_order="bgr")
    path = tmp_path / "a.png"
    path.write_bytes(encoded(blocks()))
    clips = read_image_clips(path, spec, PROTOCOLS["ten-clip"])
    assert clips.clips.shape == (1, 4, 16, 16, 3)
    assert np.array_equal(clips.clips[0, 0], clips.clips[0, 3])
    assert tuple(clips.clips[0, 0, 2, 2]) == (10, 10, 250)  # red in BGR
    three = next(p for p in PROTOCOLS.values() if p.views == 3)
    assert len(read_image_clips(path, spec, three).clips) == 3


def test_a_long_and_thin_picture_is_not_scaled_to_gigabytes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 30000, 3), np.uint8)).save(tmp_path / "strip.png")
    with pytest.raises(VideoTooLarge, match=r"strip\.png: 30000x1 pixels would be scaled to 1920000x64"):
        read_image(tmp_path / "strip.png", Resize(mode="short_edge", short_edge=64))


def test_an_image_is_no_clip_of_flow() -> None:
    spec = ClipSpec(num_frames=2, modality="flow", resize=Resize(height=32, width=32), crop=32)
    with pytest.raises(InvalidRequest, match="an image does not move"):
        read_image_clips(encoded(blocks()), spec)
