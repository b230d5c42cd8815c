"""From a name in a list to the file that it means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.scan import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Suffixes that are tried for a name without one, in this order, in both cases.
_TRIED = (".mp4", ".mkv", ".webm", ".avi", ".mov")
STEM_SUFFIXES = (*_TRIED, *(s.upper() for s in _TRIED))
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def resolve(root: Path, name: str) -> Path:
    """Find the file that `name` means: relative to `root`, with environment variables and `~` replaced.

    A file that is there under the very name is that file, whatever signs are in it. Where none is, what leads to a file
    is tried: slashes for backslashes, the other Unicode forms of the name, and `root` for a variable that is not set.
    Raises DatasetError for such a variable otherwise.
    """
    path = root / name
    if (name.isascii() and not any(sign in name for sign in "$~\\")) or os.path.lexists(path):
        return path
    expanded = os.path.expandvars(os.path.expanduser(name))
    unset = _VARIABLE.match(expanded)
    rest = expanded[unset.end() :].lstrip("/\\") if unset else expanded
    slashed = rest.replace("\\", "/")
    for spelling in (rest, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))):
        if os.path.lexists(root / spelling):
            return root / spelling
    if unset:
        variable = unset[1].strip("{}")
        raise DatasetError(
            f"{name!r} begins with ${variable}, and no environment variable of this name is set; set it, or give the "
            "folder that it stands for as the folder of the videos"
        )
    return root / expanded


def is_video_name(name: str) -> bool:
    """True for a name that ends in a suffix of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_image_name(name: str) -> bool:
    """True for a name that ends in a suffix of a still image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def find_video(root: Path, stem: str, folders: Iterable[str] = ("",)) -> Path | None:
    """Find the first of `root/folder/stem.mp4` and the like that is a file; None where none is."""
    for folder in dict.fromkeys(folders):
        for suffix in STEM_SUFFIXES:
            path = root / folder / f"{stem}{suffix}"
            if os.path.isfile(path):
                return path
    return None


def locate(root: Path, name: str) -> Path:
    """Like `resolve`; where there is no file of this name, a name without a suffix means the video of that stem."""
    path = resolve(root, name)
    if is_video_name(name) or os.path.isfile(path):
        return path
    return find_video(path.parent, path.name) or path


def name_below(root: Path, path: Path) -> str:
    """The path as seen from `root`, with slashes."""
    return path.relative_to(root).as_posix()
