"""Mirrored and turned videos, held against what FFmpeg's player does with a display matrix ("autorotate")."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from tenclip_video.clips import read_clips
from tenclip_video.commands import inspect
from tenclip_video.orientation import Orientation, frame_orientation, orientation_of
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec, Resize, ResizeKernel
from tenclip_video.video import open_video
from tests.videos import Recipe, decode_all, frame_number, make_video, remux

# (a, b, c, d) shows the pixel (x, y) at (ax + cy, bx + dy): the eight ways to lay a picture, with how each is made.
EIGHT = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (90, False),
    (-1, 0, 0, -1): (180, False),
    (0, -1, 1, 0): (270, False),
    (-1, 0, 0, 1): (0, True),  # mirrored left to right
    (0, 1, 1, 0): (90, True),  # transposed
    (1, 0, 0, -1): (180, True),  # mirrored top to bottom
    (0, -1, -1, 0): (270, True),  # transposed across the other diagonal
}
WHOLE = Resize(mode="none")


def autorotated(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """RGB [H,W,3] as the ffmpeg command shows it, by the filters that it inserts for a display matrix."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    m = struct.unpack("=9i", bytes(data)) if data else (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    angle = math.degrees(math.atan2(m[1], m[0])) % 360  # clockwise
    filters: list[tuple[str, str | None]]
    if abs(angle - 90) < 1:
        filters = [("transpose", "cclock_flip" if m[3] > 0 else "clock")]
    elif abs(angle - 180) < 1:
        filters = [(name, None) for name, negative in (("hflip", m[0] < 0), ("vflip", m[4] < 0)) if negative]
    elif abs(angle - 270) < 1:
        filters = [("transpose", "clock_flip" if m[3] < 0 else "cclock")]
    else:
        filters = [("vflip", None)] * (m[4] < 0)
    graph = av.filter.Graph()
    rgb = frame.reformat(format="rgb24", threads=1)
    nodes = [graph.add(name, args) for name, args in filters]
    source = graph.add_buffer(width=rgb.width, height=rgb.height, format=rgb.format, time_base=frame.time_base)
    graph.link_nodes(source, *nodes, graph.add("buffersink"))
    graph.configure()
    graph.vpush(rgb)
    return np.asarray(graph.vpull().to_ndarray(format="rgb24"))


def frames_of(data: bytes | Path) -> list[NDArray[np.uint8]]:
    return [autorotated(frame) for frame in decode_all(data)]


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
@pytest.mark.parametrize("matrix", EIGHT)
def test_all_eight_are_shown_as_a_player_shows_them(
    matrix: tuple[int, int, int, int], container: str, tmp_path: Path
) -> None:
    data = make_video(Recipe(num_frames=4, width=80, height=48, container=container, display_matrix=matrix))
    path = tmp_path / "video"
    path.write_bytes(data)
    expected = np.stack(frames_of(data))
    with path.open("rb") as file:
        for source in (path, data, file, io.BytesIO(data)):
            with open_video(source) as video:
                info = video.info
                assert (info.rotation, info.mirrored) == EIGHT[matrix]
                assert (info.height, info.width) == expected.shape[1:3] == video.frame_size(WHOLE)
                np.testing.assert_array_equal(video.read_frames(range(4), WHOLE), expected)
                np.testing.assert_array_equal(np.stack(list(video.iter_frames(WHOLE))), expected)
                assert video.report.warnings == ()


@pytest.mark.parametrize("kernel", get_args(ResizeKernel))
@pytest.mark.parametrize("matrix", EIGHT)
def test_every_kernel_lays_the_picture_so(matrix: tuple[int, int, int, int], kernel: ResizeKernel) -> None:
    """A marked corner and a gradient, scaled: the upright video, laid by hand, is what each kernel gives."""

    def corner(number: int, height: int, width: int) -> NDArray[np.uint8]:
        frame = np.broadcast_to(np.linspace(60, 180, width)[None, :, None], (height, width, 3)).copy()
        frame[: height // 3, : width // 3] = 255
        return frame.astype(np.uint8)

    def read(matrix: tuple[int, int, int, int] | None, height: int, width: int) -> NDArray[np.int16]:
        recipe = Recipe(num_frames=1, width=96, height=64, display_matrix=matrix)
        with open_video(make_video(recipe, paint=corner)) as video:
            resize = Resize(height=height, width=width, kernel=kernel)
            return np.asarray(video.read_frames([0], resize)[0], np.int16)

    a, b, c, _ = matrix
    upright = read(None, *((40, 30) if a else (30, 40)))
    laid = upright if a else upright.transpose(1, 0, 2)
    laid = laid[:, ::-1] if a + c < 0 else laid
    laid = laid[::-1] if b + matrix[3] < 0 else laid
    assert np.abs(read(matrix, 40, 30) - laid).max() <= 8


def test_crops_are_taken_from_the_mirrored_picture() -> None:
    data = make_video(Recipe(num_frames=20, width=128, height=64, mirrored=True))
    spec = ClipSpec(num_frames=2, resize=Resize(mode="short_edge", short_edge=64), crop=64, fully_convolutional_crop=64)
    protocol = Protocol(selection=ClipSelection(num_clips=1), crop="three")
    views = read_clips(data, spec, protocol).clips[:, 0]
    as_coded = make_video(Recipe(num_frames=20, width=128, height=64))
    plain = read_clips(as_coded, spec, protocol).clips[:, 0]
    left, right, middle = range(3)
    np.testing.assert_array_equal(views[left], plain[right][:, ::-1])
    np.testing.assert_array_equal(views[right], plain[left][:, ::-1])
    np.testing.assert_array_equal(views[middle], plain[middle][:, ::-1])


@pytest.mark.parametrize(("file", "expected"), [("mx_hflip", (0, True)), ("mx_transpose", (90, True))])
def test_real_mirrored_files(data_dir: Path, file: str, expected: tuple[int, bool]) -> None:
    path = data_dir / "faults" / f"{file}.mp4"
    frames = frames_of(path)
    with open_video(path) as video:
        assert (video.info.rotation, video.info.mirrored) == expected
        np.testing.assert_array_equal(video.read_frames([0, 50, 99], WHOLE), np.stack([frames[i] for i in (0, 50, 99)]))


def test_exif_mirrors_of_motion_jpeg() -> None:
    """PyAV cannot list the side data of such frames: it does not know the type EXIF."""
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = 2  # mirrored left to right
    jpeg = io.BytesIO()
    marks = np.zeros((48, 80, 3), np.uint8)
    marks[:, :40] = 255
    image.fromarray(marks).save(jpeg, "jpeg", exif=exif)
    plain = make_video(Recipe(codec="mjpeg", container="mov", num_frames=3, width=80, height=48))
    with open_video(remux(plain, "mov", payload=lambda number, packet: jpeg.getvalue())) as video:
        assert (video.info.rotation, video.info.mirrored) == (0, True)
        frame = video.read_frames([1], WHOLE)[0]
        assert frame[:, :30].max() < 20
        assert frame[:, 50:].min() > 235


@pytest.mark.parametrize(
    ("matrix", "orientation", "asks_for"),
    [
        ((0.7071, 0.7071, -0.7071, 0.7071), (0, False), "turning by 45 degrees"),
        ((0.5, 0.866, -0.866, 0.5), (90, False), "turning by 60 degrees"),
        ((-2, 0, 0, 2), (0, True), "scaling by 2 x 2"),
        ((0, 1, -0.5, 0), (90, False), "scaling by 0.5 x 1"),
        ((1, 0.5, 0, 1), (0, False), "shearing and scaling by 1 x 1.12"),
    ],
)
def test_other_matrices_are_named(
    matrix: tuple[float, float, float, float], orientation: tuple[int, bool], asks_for: str
) -> None:
    with open_video(make_video(Recipe(num_frames=2, display_matrix=matrix))) as video:
        assert (video.info.rotation, video.info.mirrored) == orientation
        (warning,) = video.report.warnings
        applied = {(0, False): "left as coded", (90, False): "turned 90 degrees clockwise", (0, True): "mirrored"}
        asked = f"its display matrix asks for {asks_for}"
        assert warning == f"{asked}, which is not applied; frames are {applied[orientation]}"
        shown = video.read_frames([1], WHOLE)[0]
        assert frame_number(np.rot90(shown[:, ::-1] if orientation[1] else shown, orientation[0] // 90)) == 1


def test_a_singular_matrix_leaves_frames_as_they_are() -> None:
    with open_video(make_video(Recipe(num_frames=2, display_matrix=(0, 0, 0, 0)))) as video:
        assert video.report.warnings == ("its display matrix (0, 0, 0, 0) is singular; frames are left as coded",)
        assert frame_number(video.read_frames([1], WHOLE)[0]) == 1


@given(st.sampled_from(sorted(EIGHT)), st.floats(-0.9, 0.9))
def test_matrices_that_are_nearly_one_of_the_eight(matrix: tuple[int, int, int, int], degrees: float) -> None:
    a, b, c, d = matrix
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = (a * cos - b * sin, a * sin + b * cos, c * cos - d * sin, c * sin + d * cos)
    assert orientation_of(*turned) == Orientation(*EIGHT[matrix])


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 4), st.booleans())
def test_any_matrix_gives_an_orientation(matrix: tuple[float, float, float, float], perspective: bool) -> None:
    orientation = orientation_of(*matrix, perspective=perspective)
    assert orientation.rotation in (0, 90, 180, 270)
    assert orientation.warning or not perspective


@given(st.sampled_from([0, 90, 180, 270]), st.booleans())
def test_applying_an_orientation_is_a_view(rotation: int, mirrored: bool) -> None:
    picture = np.arange(24).reshape(2, 4, 3)
    laid = Orientation(rotation, mirrored).apply(picture)
    assert np.shares_memory(laid, picture)
    assert laid.shape == ((4, 2, 3) if rotation % 180 else (2, 4, 3))


def test_frames_without_a_matrix_are_upright(mp4: bytes) -> None:
    assert frame_orientation(next(decode_all(mp4))) == Orientation()


def test_inspect_says_mirrored(tmp_path: Path) -> None:
    path = tmp_path / "selfie.mp4"
    path.write_bytes(make_video(Recipe(num_frames=20, width=80, height=48, rotation=90, mirrored=True)))
    app = typer.Typer()
    app.command()(inspect)
    output = CliRunner().invoke(app, [str(path)], catch_exceptions=False).output
    assert "48x80, turned 90 degrees clockwise, mirrored left to right" in " ".join(output.split())
