"""Videos in folders of the page: known to browsers by number, never by path."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import FileResponse

from tenclip_api.errors import VideoNotFound
from tenclip_data.scan import VIDEO_SUFFIXES, printable_name, scan_folder

_LOG = logging.getLogger("tenclip_ui")
_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".mkv": "video/webm",
    ".ogv": "video/ogg",
}  # fmt: skip
_MOST = 200
_MOST_PLAYABLE = 10_000


@dataclass(frozen=True, kw_only=True)
class Media:
    """A file to play or to predict. id: what a browser calls it. name: its own, without folders."""

    id: str
    name: str
    path: Path


class MediaFolder:
    """The videos of a folder, listed anew each time: 200 at most. The log says once of each part that cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list(self) -> list[Media]:
        scan = scan_folder(self._folder)
        for problem in scan.problems:
            _warn_once(str(problem))
        return [Media(id=_id(path), name=printable_name(path.name), path=path) for path in scan.videos[:_MOST]]

    def response(self, id: str) -> FileResponse:
        """The file, or the part that a Range header asks for. Raises VideoNotFound."""
        for media in self.list():
            if media.id == id:
                return play(media.path, media.name)
        raise VideoNotFound("there is no such video any more")


class PlayableVideos:
    """Videos that an index names, of which those in one of the folders can be played.

    A number is random, and told only to those who may ask the server: it stands for the permission, since browsers
    send no token with what they play.
    """

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = tuple(folder.resolve() for folder in folders)
        self._paths: OrderedDict[str, Path] = OrderedDict()
        self._ids: dict[Path, str] = {}

    def id_of(self, video: str) -> str | None:
        """The number of a video as an index names it; None for what is in none of the folders."""
        path = self._find(video)
        if path is None:
            return None
        if path not in self._ids:
            self._ids[path] = secrets.token_urlsafe(16)
            self._paths[self._ids[path]] = path
            if len(self._paths) > _MOST_PLAYABLE:
                _, oldest = self._paths.popitem(last=False)
                del self._ids[oldest]
        return self._ids[path]

    def response(self, id: str) -> FileResponse:
        """The file, or the part that a Range header asks for. Raises VideoNotFound."""
        path = self._paths.get(id)
        if path is None or self._find(str(path)) is None:
            raise VideoNotFound("there is no such video any more")
        return play(path, printable_name(path.name))

    def _find(self, video: str) -> Path | None:
        """The file itself, behind all links: of an absolute path where it lies in a folder, of others from each."""
        for folder in self._folders:
            try:
                path = (folder / video).resolve()
                if path.is_relative_to(folder) and path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                    return path
            except (OSError, ValueError, RuntimeError):  # loops of links, names that no system takes
                continue
        return None


def play(path: Path, name: str) -> FileResponse:
    """A file as a browser plays it. Raises VideoNotFound."""
    try:
        status = os.stat(path)
    except OSError:
        raise VideoNotFound(f"{name}: there is no such video any more") from None
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, stat_result=status, headers={"Content-Disposition": "inline"})


_warn_once = functools.cache(_LOG.warning)


def _id(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
