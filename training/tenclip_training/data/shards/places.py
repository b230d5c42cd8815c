"""Where shards lie: a folder, or a URL that fsspec reads (http, https, s3, ...)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tenclip_api.errors import MissingDependency
from tenclip_api.uris import without_secrets
from tenclip_training.data.shards.index import INDEX_NAME

# pathlib makes one slash of two, so "s3:/bucket" is meant as a URL; a single letter is a drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
# A server that stands still is given up after this; whole transfers may take as long as they need.
_CONNECT_SECONDS, _IDLE_SECONDS = 30.0, 60.0


def as_url(source: str | os.PathLike[str]) -> str | None:
    """The URL that `source` is; None where it is a path, `file:` URLs included (see `as_path`)."""
    found = _URL.fullmatch(os.fspath(source))
    if found is None or found[1].lower() == "file":
        return None
    return f"{found[1].lower()}://{found[2]}"


def as_path(source: str | os.PathLike[str]) -> Path:
    """A path, or what a `file:` URL names, as a path."""
    found = _URL.fullmatch(os.fspath(source))
    return Path(source) if found is None else Path("/" + unquote(found[2]))


def find_index(source: str | os.PathLike[str]) -> Path | str | None:
    """The index that `source` names: a file, or a URL; None where `source` holds no shards with an index.

    A URL is taken to lead to shards, or to the index itself.
    """
    url = as_url(source)
    if url is not None:
        return url if url.endswith(".parquet") else f"{url.rstrip('/')}/{INDEX_NAME}"
    path = as_path(source)
    if path.name == INDEX_NAME and path.is_file():
        return path
    return path / INDEX_NAME if (path / INDEX_NAME).is_file() else None


def shown(place: Path | str) -> str:
    """A folder or URL for messages, without passwords."""
    return without_secrets(place) if isinstance(place, str) else str(place)


def open_file_system(url: str) -> tuple[Any, str]:
    """(fsspec file system, path in it) for a URL. Raises MissingDependency where a package for it is not installed."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(url, **_options(urlsplit(url).scheme))  # type: ignore[no-any-return]
    except ImportError as err:
        raise MissingDependency(
            f"{without_secrets(url)}: reading it needs a package that is not installed ({err}); "
            "pip install 'tenclip[uri]' brings those for http, https and s3"
        ) from err
    except ValueError as err:  # a protocol that fsspec does not know
        raise MissingDependency(f"{without_secrets(url)}: {err}") from err


def _options(scheme: str) -> dict[str, Any]:
    if scheme in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_IDLE_SECONDS)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    if scheme == "s3":
        return {"config_kwargs": {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _IDLE_SECONDS}}
    return {}
