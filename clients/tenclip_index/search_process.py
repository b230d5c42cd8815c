"""The process that searches an index: `python -m tenclip_index.search_process FD INDEX THREADS`.

It talks to the one that started it over the socket FD, and ends when the other end closes, however that ended. Messages
are JSON, and features are raw float32 behind them (see `send` and `receive`). It first says what the index is; then, to
each request, it answers with neighbours or with an error. `IndexProcess` is the other end.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import traceback
from dataclasses import asdict
from typing import Any

from tenclip_api.errors import TenclipError

# Bytes of the JSON, bytes of the features.
_HEADER = struct.Struct("!II")
MAX_BYTES = 1 << 30


class Closed(Exception):
    """The other end has gone."""


def send(sock: socket.socket, message: dict[str, Any], payload: bytes = b"") -> None:
    """Raises OSError."""
    text = json.dumps(message).encode()
    sock.sendall(_HEADER.pack(len(text), len(payload)) + text)
    if payload:
        sock.sendall(payload)


def receive(sock: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Raises Closed, OSError, ValueError for what is no message."""
    text_bytes, payload_bytes = _HEADER.unpack(_exactly(sock, _HEADER.size))
    if max(text_bytes, payload_bytes) > MAX_BYTES:
        raise ValueError("a message that is too long")
    message = json.loads(_exactly(sock, text_bytes))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message, _exactly(sock, payload_bytes)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise Closed
        data += part
    return bytes(data)


def main(arguments: list[str]) -> int:
    """Serve one index until the other end closes."""
    # Here and not above: the other end imports this module, and must not load faiss.
    from tenclip_index.index import Index

    descriptor, folder, threads = arguments
    with socket.socket(fileno=int(descriptor)) as sock:
        try:
            index = Index.open(folder, threads=int(threads))
            send(sock, {"info": index.info.to_dict()})
            while True:
                request, payload = receive(sock)
                send(sock, _answer(index, request, payload))
        except (Closed, ConnectionError):
            return 0
        except TenclipError as err:
            send(sock, _error(err))
            return 1


def _answer(index: Any, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
    import numpy as np

    from tenclip_index.results import Filters

    try:
        features = np.frombuffer(payload, np.float32).reshape(-1, index.info.dimension)
        filters = Filters(**{name: tuple(values) for name, values in request["filters"].items()})
        found = index.neighbours(features, k=request["k"], by_video=request["by_video"], filters=filters)
        return {"neighbours": [asdict(n) for n in found]}
    except TenclipError as err:
        return _error(err)
    except Exception as err:
        traceback.print_exc()
        return {"fault": type(err).__name__}


def _error(err: TenclipError) -> dict[str, Any]:
    return {"error": err.reason, "message": err.message}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
