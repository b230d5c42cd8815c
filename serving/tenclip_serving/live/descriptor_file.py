"""A descriptor as a file that FFmpeg reads: a socket, a pipe, or a file that may still grow."""

from __future__ import annotations

import os
import select
import socket
import stat
import time

# A file that grows tells nobody: it is looked at so often.
_LOOK_SECONDS = 0.05
_DATAGRAM_BYTES = 1 << 16


class DescriptorFile:
    """Reads what there is, and waits for what is not there yet. Owns the descriptor.

    follow: where a file ends, wait for more of it. idle_seconds: then it is over; `timed_out` says so.
    head: the first bytes that were read. num_bytes: all of them.
    """

    def __init__(self, descriptor: int, *, follow: bool, idle_seconds: float) -> None:
        self.timed_out = False
        self.head = b""
        self.num_bytes = 0
        self._descriptor, self._follow, self._idle = descriptor, follow, idle_seconds
        mode = os.fstat(descriptor).st_mode
        self._is_file = stat.S_ISREG(mode)
        self._socket = socket.socket(fileno=descriptor) if stat.S_ISSOCK(mode) else None
        self._is_datagram = self._socket is not None and self._socket.type == socket.SOCK_DGRAM
        self._left = b""  # of a datagram
        if self._socket is not None:  # of standard input that would be the terminal's as well
            os.set_blocking(descriptor, False)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, at least one; none at the end."""
        data = self._left[:size]
        self._left = self._left[size:]
        data = data or self._wait_for(size)
        self.num_bytes += len(data)
        if len(self.head) < 64:
            self.head += data[: 64 - len(self.head)]
        return data

    def _wait_for(self, size: int) -> bytes:
        if self.timed_out:  # FFmpeg asks again at the end
            return b""
        until = time.monotonic() + self._idle
        while (left := until - time.monotonic()) > 0:
            if not self._is_file and not select.select([self._descriptor], [], [], left)[0]:
                break
            try:
                if self._is_datagram:
                    datagram = os.read(self._descriptor, _DATAGRAM_BYTES)
                    if datagram:
                        self._left = datagram[size:]
                        return datagram[:size]
                    continue
                data = os.read(self._descriptor, size)
            except BlockingIOError:
                continue
            except OSError:  # reset by its other end
                return b""
            if data or not (self._is_file and self._follow):
                return data
            time.sleep(_LOOK_SECONDS)
        self.timed_out = True
        return b""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)


class SeekableFile(DescriptorFile):
    """A file that does not grow: formats that keep their index at the end need to look there first."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)


def open_descriptor(descriptor: int, *, follow: bool, idle_seconds: float) -> DescriptorFile:
    """The file of a descriptor, which is the file's to close from now on."""
    is_whole = stat.S_ISREG(os.fstat(descriptor).st_mode) and not follow
    return (SeekableFile if is_whole else DescriptorFile)(descriptor, follow=follow, idle_seconds=idle_seconds)
