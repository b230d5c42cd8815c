"""Still images: one file -> upright RGB, scaled with the kernels that frames of videos are scaled with.

Pillow reads them, for it says what is wrong with a file where others give half a picture. What is done with each kind:

- turned and mirrored as its EXIF orientation says, as every viewer does;
- CMYK, palettes, grey and 16 bits become 8-bit RGB (16 bits by their range, not by cutting);
- what is transparent lies on white;
- of an animated one, the first frame;
- JPEGs much larger than what is wanted are decoded at half, a quarter or an eighth of their size.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tenclip_api.errors import (
    EmptyVideo,
    NotAFile,
    NotAnImage,
    TenclipError,
    UndecodableImage,
    VideoNotFound,
    VideoNotReadable,
    VideoTooLarge,
)
from tenclip_video.resize import FrameScaler
from tenclip_video.source import Limits, check_pixels
from tenclip_video.spec import Resize

# What is read; a file's content decides which it is, not its suffix. Others of Pillow's formats run programs (EPS) or
# are no pictures of the world. AVIF is left out where Pillow was built without it.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
# A JPEG is decoded at a fraction of its size where that still has this many times the wanted pixels on each side.
_DRAFT_MARGIN = 2
_TOP = {"I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I;16N": 65535.0, "I": 65535.0, "F": 255.0}

ImageSource = str | os.PathLike[str] | bytes | BinaryIO

_EXIF_ORIENTATION = 0x0112
_TRANSPOSED = (5, 6, 7, 8)


def read_image(
    source: ImageSource,
    resize: Resize | None = None,
    *,
    name: str | None = None,
    limits: Limits | None = None,
) -> NDArray[np.uint8]:
    """The image as uint8 RGB [H,W,3], upright, scaled by `resize`.

    Raises VideoNotFound, NotAFile, VideoNotReadable, EmptyVideo, VideoTooLarge; NotAnImage for a file that is none,
    UndecodableImage for one that is damaged or cut off. Each names the file.
    """
    pixels = read_pixels(source, draft=resize, name=name, limits=limits)
    return pixels if resize is None else scale_image(pixels, resize, name=name or _name(source))


def read_pixels(
    source: ImageSource,
    *,
    draft: Resize | None = None,
    name: str | None = None,
    limits: Limits | None = None,
) -> NDArray[np.uint8]:
    """The image as uint8 RGB [H,W,3], upright, not scaled yet. Raises as `read_image`.

    draft: how it is going to be scaled; a large JPEG may come out at a fraction of its size, at least twice what is
    wanted on each side.
    """
    limits = limits or Limits()
    name = name or _name(source)
    data = _read(source, name, limits)
    with _typed_errors(name), Image.open(io.BytesIO(data), formats=_formats()) as image:
        width, height = image.size
        check_pixels(width, height, name, limits)
        if image.format in ("JPEG", "MPO") and draft is not None:
            _draft(image, draft)
        return _to_rgb(ImageOps.exif_transpose(image))


def scale_image(pixels: NDArray[np.uint8], resize: Resize, *, name: str = "<bytes>") -> NDArray[np.uint8]:
    """uint8 RGB [H,W,3] -> the same scaled by `resize`, with its kernel.

    Raises VideoTooLarge for a picture so long and thin that it would be scaled to more than the default pixels.
    """
    height, width = resize.target(*pixels.shape[:2])
    if pixels.shape[:2] == (height, width):
        return pixels
    allowed = Limits().max_pixels
    if allowed is not None and height * width > allowed:
        raise VideoTooLarge(
            f"{name}: {pixels.shape[1]}x{pixels.shape[0]} pixels would be scaled to {width}x{height}, and at most "
            f"{allowed} pixels are allowed",
            source=name,
        )
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return np.ascontiguousarray(FrameScaler(resize, frame).scaled(frame))


def _name(source: ImageSource) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "<bytes>"


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(f for f in FORMATS if f in Image.OPEN)


def _read(source: ImageSource, name: str, limits: Limits) -> bytes:
    if not isinstance(source, str | os.PathLike):
        data = source if isinstance(source, bytes) else source.read()
        if limits.max_bytes is not None and len(data) > limits.max_bytes:
            raise VideoTooLarge(f"{name}: {len(data)} bytes, more than {limits.max_bytes}", source=name)
    else:
        path = Path(source)
        try:
            size = path.stat().st_size
            if not path.is_file():
                raise NotAFile(f"{name}: is a folder or a device, not an image", source=name)
            if limits.max_bytes is not None and size > limits.max_bytes:
                raise VideoTooLarge(f"{name}: {size} bytes, more than {limits.max_bytes}", source=name)
            data = path.read_bytes()
        except FileNotFoundError as err:
            raise VideoNotFound(f"{name}: no such file", source=name) from err
        except OSError as err:
            raise VideoNotReadable(f"{name}: cannot be read: {err.strerror or err}", source=name) from err
    if not data:
        raise EmptyVideo(f"{name}: the file is empty (0 bytes)", source=name)
    return data


def _draft(image: Image.Image, resize: Resize) -> None:
    """Let libjpeg decode at a fraction of the size, where that is still large enough."""
    width, height = image.size
    if image.getexif().get(_EXIF_ORIENTATION) in _TRANSPOSED:
        wanted_width, wanted_height = resize.target(width, height)
    else:
        wanted_height, wanted_width = resize.target(height, width)
    image.draft(None, (_DRAFT_MARGIN * wanted_width, _DRAFT_MARGIN * wanted_height))


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _TOP:
        # Pillow cuts what is above 255. 32-bit integers are 16-bit PNGs of older encoders.
        grey = np.asarray(image, np.float64)
        levels = np.clip(np.rint(np.nan_to_num(grey) * (255 / _TOP[image.mode])), 0, 255).astype(np.uint8)
        return np.repeat(levels[..., None], 3, axis=2)
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(opaque, image.convert("RGBA"))
    return np.array(image.convert("RGB"), np.uint8)


@contextmanager
def _typed_errors(name: str) -> Iterator[None]:
    """Pillow's errors as ours. Its readers raise whatever they trip over in a damaged file."""
    try:
        yield
    except TenclipError:
        raise
    except UnidentifiedImageError as err:
        raise NotAnImage(
            f"{name}: no image in a format that tenclip reads ({', '.join(FORMATS)})", source=name
        ) from err
    except Image.DecompressionBombError as err:
        raise VideoTooLarge(f"{name}: {err}", source=name) from err
    except MemoryError as err:
        raise VideoTooLarge(f"{name}: there is not enough memory to decode it", source=name) from err
    except Exception as err:
        raise UndecodableImage(f"{name}: the image is damaged or cut off: {err}", source=name) from err
