"""`tenclip serve` with a leak put in on purpose: the control of `memory`. Only proofs start it.

Every message that arrives is kept for ever, as a cache without an end would.
"""

from __future__ import annotations

from typing import Any

from tenclip_serving.__main__ import main
from tenclip_serving.api import interceptor

KEPT: list[bytes] = []


def leak() -> None:
    original = interceptor._parse

    def keep(raw: bytes, rpc: interceptor._Rpc) -> Any:
        KEPT.append(bytes(bytearray(raw)))  # a copy of its own, as parsing makes one
        return original(raw, rpc)

    interceptor._parse = keep


if __name__ == "__main__":
    leak()
    main()
