from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tenclip_serving.decoding.worker_pictures import check_thumbnails, jpeg_size, most_picture_bytes
from tenclip_video.filmstrip import MAX_PICTURE_BYTES, Thumbnail


def jpeg(width: int = 32, height: int = 24, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 60)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def picture(seconds: float = 1.0, data: bytes | None = None) -> Thumbnail:
    return Thumbnail(seconds=seconds, jpeg=jpeg() if data is None else data, width=32, height=24)


def test_honest_pictures() -> None:
    pictures = (picture(0.0), picture(1.5))
    assert check_thumbnails(pictures, 2) == pictures
    assert check_thumbnails([], 5) == ()


BAD = {
    "more than asked for": (picture(0.0), picture(1.0), picture(2.0)),
    "out of order": (picture(2.0), picture(1.0)),
    "twice": (picture(1.0), picture(1.0)),
    "no time": (picture(float("nan")),),
    "endless": (picture(float("inf")),),
    "no width": (replace(picture(), width=0),),
    "wide": (replace(picture(), width=257),),
    "high": (replace(picture(), height=73),),
    "another size": (picture(data=jpeg(31, 24)),),
    "a size of gigabytes": (picture(data=jpeg().replace(bytes([0, 24, 0, 32]), b"\xff\xff\xff\xff")),),
    "long": (picture(data=jpeg() + bytes(MAX_PICTURE_BYTES) + b"\xff\xd9"),),
    "a script": (picture(data=b"<script>alert(1)</script>"),),
    "nothing": (picture(data=b""),),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_picture(what: str) -> None:
    with pytest.raises(ValueError, match="picture"):
        check_thumbnails(BAD[what], 2)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"quality": 10}])
def test_size_of_jpeg_files(options: dict[str, object]) -> None:
    assert jpeg_size(jpeg(200, 17, **options)) == (200, 17)


def test_a_file_of_two_sizes_has_none() -> None:
    data = jpeg()
    start = data.index(b"\xff\xc0")
    length = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    assert jpeg_size(data[: start + length] + data[start:]) is None


@given(st.binary(max_size=200))
def test_any_bytes_have_a_size_or_none(data: bytes) -> None:
    framed = b"\xff\xd8" + data + b"\xff\xd9"
    assert jpeg_size(data) is None or data.startswith(b"\xff\xd8")
    jpeg_size(framed)


def test_most_bytes_hold_the_longest_picture() -> None:
    assert most_picture_bytes(3) >= 3 * MAX_PICTURE_BYTES
    assert most_picture_bytes(0) == 0
