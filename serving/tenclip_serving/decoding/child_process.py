"""A process that reads what strangers send: started in its sandbox, talked to over a socket, killed at will."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

from tenclip_serving.decoding.child import Channel
from tenclip_serving.decoding.sandbox import SandboxLimits

# How long a process may take to start.
START_SECONDS = 60.0
# Time for a process to end by itself before it is killed: it owns nothing that needs cleaning up.
STOP_SECONDS = 5.0
# The longest error or traceback, besides the name of the video that it repeats.
MAX_TEXT_BYTES = 1 << 20


class ProtocolViolation(Exception):
    """A worker says what no worker of ours would: the file that it decodes may have taken it over."""


class ChildProcess:
    """`python -m MODULE FD ...`, which ends when its end of the socket FD closes. Its methods block, but for `kill`.

    module: the program. sandbox: what the process may use.
    """

    def __init__(self, module: str, sandbox: SandboxLimits | None = None) -> None:
        ours, theirs = socket.socketpair()
        limits = (sandbox or SandboxLimits()).to_arguments()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), *limits],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # stdout is the server's own, for one line
                env=_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._sock = ours
        self._channel = Channel(ours)
        self._killed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The process runs and was not told to end."""
        return not self._killed and not self.ended

    @property
    def killed(self) -> bool:
        """It was told to end: it took too long, broke the protocol, or nobody needs it any more."""
        return self._killed

    @property
    def ended(self) -> bool:
        """The process has ended, for whatever reason."""
        return self._process.poll() is not None

    def set_timeout(self, seconds: float | None) -> None:
        """How long it may say nothing; None: for ever."""
        self._sock.settimeout(seconds)

    def kill(self) -> None:
        """Tell the process to end now, and wait for nothing; who waits for its answer gets ChannelClosed."""
        self._killed = True
        self._process.kill()
        # A process that hangs in the kernel (a network file system that is gone) dies when that lets go of it.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> bool:
        """Let go of the process, which ends by itself when its socket closes, and make sure that it does.

        False when it still has not ended: only the kernel can end it then. Takes at most twice `STOP_SECONDS`.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if not self._wait():
            self.kill()
            self._wait()
        self._sock.close()
        return self.ended

    def _end(self) -> str:
        """How the process ended: its exit code or signal, in words."""
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it had closed its socket"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _wait(self) -> bool:
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True


# What a process that reads files of strangers must not know: it lets anyone run code on a cluster.
_SECRETS = frozenset({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"})


def _environment() -> dict[str, str]:
    """The server's, with its import path (`-P` keeps the working directory off it) and one thread a library."""
    return {
        **{name: value for name, value in os.environ.items() if name not in _SECRETS},
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
