"""URIs in messages and logs, on either side."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_secrets(uri: str) -> str:
    """A URI for messages and logs: its user, password, query and fragment may hold secrets."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "<uri>"
    if parts.scheme not in ("", "file") and not parts.netloc:
        return f"{parts.scheme}:..."  # http:user:password@host, perhaps: who knows what is what
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
