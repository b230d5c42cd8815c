"""What `tenclip live` and the RPC `Live` may be given: an address, a webcam, a file, standard input."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tenclip_api.errors import InvalidRequest, NotAFile, UriNotAllowed, VideoNotFound, VideoNotReadable
from tenclip_api.uris import without_secrets
from tenclip_serving.config import LIVE_SCHEMES

Kind = Literal["rtsp", "http", "tcp", "udp", "webcam", "file", "stdin"]
# Schemes of addresses, with what their default port is; an MPEG transport stream has none.
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "tcp": 0, "udp": 0}
assert tuple(DEFAULT_PORTS) == LIVE_SCHEMES
_KINDS: dict[str, Kind] = {
    "rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http", "tcp": "tcp", "udp": "udp"
}  # fmt: skip
_WEBCAM = re.compile(r"/dev/video[0-9]+")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


@dataclass(frozen=True, kw_only=True)
class LiveSource:
    """A stream to read. text: as the caller wrote it, with its secrets. name: what messages call it.

    follow: of a file: it grows, and is read on.
    """

    kind: Kind
    text: str
    name: str
    follow: bool = False

    @property
    def is_live(self) -> bool:
        """It has no end: where it ends, it was interrupted."""
        return self.kind not in ("file", "stdin")


def parse_address(text: str) -> LiveSource:
    """An address. Raises InvalidRequest for what is none, UriNotAllowed for a scheme that nothing here reads."""
    name = without_secrets(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest(f"{name}: is no URI with a host and a port that can be read") from None
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise UriNotAllowed(f"{name}: no live streams are read by {scheme or 'this'}:, only by {_schemes()}")
    if not host:
        raise InvalidRequest(f"{name}: names no host")
    if scheme in ("tcp", "udp") and port is None:
        raise InvalidRequest(f"{name}: names no port; write {scheme}://HOST:PORT")
    return LiveSource(kind=_KINDS[scheme], text=text, name=name)


def parse_source(text: str, *, follow: bool = False) -> LiveSource:
    """An address, `-` for standard input, `/dev/videoN` for a webcam, or a file of this machine.

    follow: the file is still being written. Raises as `parse_address`; VideoNotFound, NotAFile, VideoNotReadable.
    """
    if text == "-":
        return LiveSource(kind="stdin", text=text, name="<stdin>")
    scheme = _SCHEME.match(text)
    if scheme is not None and not Path(text).exists() and "://" in text:
        return parse_address(text)
    if _WEBCAM.fullmatch(text):
        return LiveSource(kind="webcam", text=text, name=text)
    try:
        mode = Path(text).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise VideoNotFound(
            f"{text}: no such file; an address begins with one of {_schemes()}, - is standard input", source=text
        ) from None
    except (OSError, ValueError) as err:
        raise VideoNotReadable(f"{text!r}: {err}", source=text) from None
    if stat.S_ISDIR(mode):
        raise NotAFile(f"{text}: is a directory; name a video file in it", source=text)
    if not stat.S_ISREG(mode):
        raise NotAFile(f"{text}: is no file and no webcam (/dev/videoN); a pipe can be standard input (-)", source=text)
    if not os.access(text, os.R_OK):
        raise VideoNotReadable(f"{text}: permission denied", source=text)
    return LiveSource(kind="file", text=text, name=text, follow=follow)


def _schemes() -> str:
    return ", ".join(f"{s}://" for s in LIVE_SCHEMES)
