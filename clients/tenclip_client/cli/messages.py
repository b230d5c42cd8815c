"""Errors as people read them."""

from __future__ import annotations

import errno

from tenclip_api.errors import ServerError


def one_line(err: BaseException) -> str:
    """An error as one line, with the file it is about, or what finds it in the server's log."""
    if isinstance(err, OSError):
        text = f"{err.filename}: {err.strerror}" if err.filename is not None else _without_file(err)
    elif isinstance(err, ServerError) and err.request_id:
        text = f"{err} (request {err.request_id} in the server's log)"
    else:
        text = str(err)
    return " ".join(text.split()) or type(err).__name__


def _without_file(err: OSError) -> str:
    """Writing to a stream that is open fails without a name: standard output, or a file that is being written."""
    failed = err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
    return f"the output cannot be written: {err.strerror}" if failed else str(err)
