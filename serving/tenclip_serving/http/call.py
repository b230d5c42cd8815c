"""One HTTP request and its answer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from tenclip_api.errors import DeadlineExceeded, InvalidRequest, PermissionDenied
from tenclip_api.host_names import HostNames
from tenclip_api.wire import REQUEST_ID_KEY
from tenclip_serving.http.body import Body
from tenclip_serving.http.problems import Refused

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON, NDJSON, NPY = "application/json", "application/x-ndjson", "application/x-npy"
TIMEOUT_HEADER = "request-timeout"
# h11 has such a limit for what comes in pieces only.
MAX_HEADERS, MAX_HEADER_BYTES = 100, 16 << 10
_MAX_QUERY_BYTES = 8 << 10
# An answer goes out in such pieces, so that a caller who does not read is noticed, and holds no more than one.
_PIECE_BYTES = 256 << 10
# What is still sent after an answer that came early is read so long and dropped, or the caller might lose the answer:
# to close a connection on which something arrives resets it.
_LINGER_SECONDS, _LINGER_BYTES = 1.0, 4 << 20


class Call:
    """What an endpoint sees. Made before anything of the body is read.

    method_name: of the RPC that the request stands for, in log and metrics. code, status: of gRPC and of HTTP, as far
    as they are known.
    headers: by lower-case name, the last one of a name. options: of the query. path: parameters of the route.
    write_seconds: the longest that a caller may leave an answer unread.
    """

    def __init__(self, scope: MutableMapping[str, Any], receive: Any, send: Send, *, write_seconds: float) -> None:
        self.scope = scope
        self.path: Mapping[str, str] = scope.get("path_params", {})
        self.pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        self.headers = dict(self.pairs)
        self.body = Body(receive, num_bytes=_num_bytes(self.headers))
        self.request_id = self.method_name = ""
        self.started = self.complete = self.unread = False
        self.code, self.status = "OK", 0
        self._send, self._write_seconds = send, write_seconds
        self._arrived = time.monotonic()
        self._timeout: float | None = None

    def check(self, host_names: HostNames) -> None:
        """Raises InvalidRequest, PermissionDenied and Refused for headers that cannot be, or must not.

        host_names: by which browsers may call this server.
        """
        names = [name for name, _ in self.pairs]
        if len(names) > MAX_HEADERS:
            raise Refused(431, InvalidRequest(f"the request has {len(names)} headers; at most {MAX_HEADERS} may be"))
        size = sum(len(name) + len(value) + 4 for name, value in self.pairs)
        if size > MAX_HEADER_BYTES:
            raise Refused(431, InvalidRequest(f"the headers have {size} bytes; at most {MAX_HEADER_BYTES} may be"))
        for name in ("authorization", "content-type", "content-length", TIMEOUT_HEADER):
            if names.count(name) > 1:
                raise InvalidRequest(f"the header {name} is there {names.count(name)} times; send it once")
        if "transfer-encoding" in names and "content-length" in names:
            # Whoever stands in front may have believed the other one.
            raise InvalidRequest("the request has Content-Length and Transfer-Encoding; send one of them")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, InvalidRequest("Content-Encoding is not taken; send the body as it is"))
        if not host_names.accepts_browser(self.headers):
            host = self.headers.get("host", "")[:100]
            raise PermissionDenied(f"browsers are not to call this server as {host!r}; --browser-name allows a name")
        if self.method == "POST" and self._is_of_another_site():
            raise PermissionDenied("requests of other sites' pages are not taken")
        if (text := self.headers.get(TIMEOUT_HEADER)) is not None:
            self._timeout = _seconds(text)

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, None for none: as a context of gRPC says it."""
        return None if self._timeout is None else self._timeout - (time.monotonic() - self._arrived)

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def options(self) -> list[tuple[str, str]]:
        """Of the query, decoded. Raises InvalidRequest."""
        query = self.scope.get("query_string", b"")
        if len(query) > _MAX_QUERY_BYTES:
            raise InvalidRequest(f"the query has {len(query)} bytes; at most {_MAX_QUERY_BYTES} may be")
        try:
            return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
        except ValueError as err:
            raise InvalidRequest("the query is not name=value&name=value in percent-encoded UTF-8") from err

    def accepts(self, media_type: str) -> bool:
        """Whether the caller asks for this type by its name."""
        kinds = (part.partition(";")[0].strip().lower() for part in self.headers.get("accept", "").split(","))
        return media_type in kinds

    async def answer(
        self, body: bytes, media_type: str = JSON, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """All of the answer. Raises DeadlineExceeded when the caller does not read it."""
        early = not self.body.ended.is_set()
        more = {"connection": "close"} if early else {}
        await self.begin(
            media_type, status=status, headers={**(headers or {}), "content-length": str(len(body)), **more}
        )
        view = memoryview(body)
        for start in range(0, len(body), _PIECE_BYTES):
            await self.write(bytes(view[start : start + _PIECE_BYTES]))
        if early and self.headers.get("expect", "").lower() != "100-continue":
            await self._linger()
        await self.end()

    async def begin(self, media_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Status and headers; `write` and `end` follow."""
        self.started, self.status = True, status
        found = {
            "date": formatdate(usegmt=True),
            REQUEST_ID_KEY: self.request_id,
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            **({"content-type": media_type} if media_type else {}),
            **(headers or {}),
        }
        encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in found.items()]
        await self._sent({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, piece: bytes) -> None:
        """A piece of the answer. Raises DeadlineExceeded when the caller does not read what came before it."""
        await self._sent({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """The end of the answer. Raises DeadlineExceeded as `write` does; the answer is not complete then."""
        await self._sent({"type": "http.response.body", "body": b"", "more_body": False})
        self.complete = True

    def hang_up(self) -> None:
        """End the connection, whatever is still on its way."""
        hang_up: Callable[[], None] = self.scope["state"]["hang_up"]
        hang_up()

    def _is_of_another_site(self) -> bool:
        """A browser says so, and nobody else: its user, who may be let in, did not mean to ask."""
        site, origin = self.headers.get("sec-fetch-site"), self.headers.get("origin")
        if site is not None:
            return site not in ("same-origin", "none")
        return origin is not None and origin.partition("://")[2] != self.headers.get("host")

    async def _sent(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                await self._send(message)
        except TimeoutError as err:
            self.unread = True
            raise DeadlineExceeded(f"the caller has not read its answers for {self._write_seconds:g} seconds") from err

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                await self.body.drop(most=_LINGER_BYTES)
        except TimeoutError:
            return


def _num_bytes(headers: Mapping[str, str]) -> int | None:
    if "transfer-encoding" in headers:
        return None
    return int(headers.get("content-length", "0"))  # h11 has checked that it is a number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InvalidRequest(f"the header Request-Timeout must be a number of seconds, as 2.5; got {text[:40]!r}")
    return seconds
