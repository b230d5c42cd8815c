"""Readers of other projects, where they are installed: the named frames of a file, resized, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tenclip_video.spec import Resize
from tenclip_video.video import open_video

# (file, frames, height, width) -> an array or tensor whose first axis is the frames
Reader = Callable[[Path, Sequence[int], int, int], Any]


def ours(path: Path, frames: Sequence[int], height: int, width: int) -> Any:
    with open_video(path) as video:
        return video.read_frames(frames, Resize(height=height, width=width))


def load_reader(name: str) -> Reader | str:
    """The reader of a package, or why there is none."""
    try:
        return OTHERS[name]()
    except Exception as err:  # libraries that do not fit fail in many ways
        said = str(err).strip().splitlines()
        return f"{type(err).__name__}: {said[0] if said else 'no reason given'}"


def _decord() -> Reader:
    import decord  # type: ignore[import-not-found]

    def read(path: Path, frames: Sequence[int], height: int, width: int) -> Any:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), width=width, height=height, num_threads=1)
        return reader.get_batch(list(frames)).asnumpy()

    return read


def _torchcodec() -> Reader:
    from torch.nn import functional as F
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    def read(path: Path, frames: Sequence[int], height: int, width: int) -> Any:
        decoder = VideoDecoder(str(path), num_ffmpeg_threads=1)
        found = decoder.get_frames_at(indices=list(frames)).data  # [T,3,H,W]
        return F.interpolate(found, (height, width), mode="bilinear")

    return read


def _torchvision() -> Reader:
    from torch.nn import functional as F
    from torchvision.io import VideoReader  # type: ignore[import-not-found]  # gone from newer versions

    def read(path: Path, frames: Sequence[int], height: int, width: int) -> Any:
        import torch

        reader = VideoReader(str(path), "video", num_threads=1)
        found = [frame["data"] for _, frame in zip(range(frames[-1] + 1), reader, strict=False)]
        return F.interpolate(torch.stack(found[frames[0] :]), (height, width), mode="bilinear")

    return read


OTHERS: dict[str, Callable[[], Reader]] = {
    "decord": _decord,
    "torchcodec": _torchcodec,
    "torchvision": _torchvision,
}
