"""Videos of the page's own folders: known to browsers by number, never by path."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import FileResponse

from tenclip_api.errors import VideoNotFound
from tenclip_data.scan import printable_name, scan_folder

_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".mkv": "video/webm",
    ".ogv": "video/ogg",
}  # fmt: skip
_MOST = 200


@dataclass(frozen=True, kw_only=True)
class Media:
    """A file to play or to predict. id: what a browser calls it. name: its own, without folders."""

    id: str
    name: str
    path: Path


class MediaFolder:
    """The videos of a folder, listed anew each time: 200 at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list(self) -> list[Media]:
        videos = scan_folder(self._folder).videos[:_MOST]
        return [Media(id=_id(path), name=printable_name(path.name), path=path) for path in videos]

    def response(self, id: str) -> FileResponse:
        """The file, or the part that a Range header asks for. Raises VideoNotFound."""
        for media in self.list():
            if media.id == id:
                return play(media.path, media.name)
        raise VideoNotFound("there is no such video any more")


def play(path: Path, name: str) -> FileResponse:
    """A file as a browser plays it. Raises VideoNotFound."""
    try:
        status = os.stat(path)
    except OSError:
        raise VideoNotFound(f"{name}: there is no such video any more") from None
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, stat_result=status, headers={"Content-Disposition": "inline"})


def _id(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
