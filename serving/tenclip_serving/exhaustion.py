"""What the whole server runs out of, and nobody's video is to blame for."""

from __future__ import annotations

import errno

from tenclip_api.errors import Overloaded

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def raise_if_out_of_descriptors(err: BaseException, name: str) -> None:
    """Raises Overloaded where an error says that no file descriptor was left, in this process or on its machine.

    name: of the video, for the message.
    """
    if isinstance(err, OSError) and err.errno in _NO_DESCRIPTORS:
        raise Overloaded(f"{name}: the server is out of file descriptors; try again") from err
