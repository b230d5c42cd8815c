"""URIs in messages and logs, for client and server."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_secrets(uri: str) -> str:
    """The URI without what may hold secrets (user, password, query, fragment), for messages and logs."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "<uri>"
    if parts.scheme not in ("", "file") and not parts.netloc:
        return f"{parts.scheme}:..."  # http:user:password@host, perhaps: who knows what is what
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
