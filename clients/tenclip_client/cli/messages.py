"""Errors as people read them."""

from __future__ import annotations

from tenclip_api.errors import ServerError


def one_line(err: BaseException) -> str:
    """An error as one line, with the file it is about, or what finds it in the server's log."""
    if isinstance(err, OSError):
        text = f"{err.filename}: {err.strerror}" if err.filename is not None else str(err)
    elif isinstance(err, ServerError) and err.request_id:
        text = f"{err} (request {err.request_id} in the server's log)"
    else:
        text = str(err)
    return " ".join(text.split()) or type(err).__name__
