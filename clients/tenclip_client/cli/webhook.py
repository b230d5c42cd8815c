"""Events as HTTP POSTs: from a bounded queue, on a thread of its own, tried again when they fail.

A receiver that is down or slow never holds up the stream: what does not fit is dropped, the oldest first, and counted.
Redirects are not followed: urllib would repeat the POST as a GET without the event.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from tenclip_api.errors import InvalidRequest
from tenclip_api.uris import without_secrets

MAX_WAITING = 256
# Seconds between attempts for one event; then it has failed.
PAUSES = (0.5, 2.0, 8.0)
_TIMEOUT_SECONDS = 10.0
# Statuses that another attempt may change.
_PASSING = frozenset({408, 425, 429, *range(500, 600)})


class Webhook:
    """Sends JSON objects to a URL, in their order. sent, failed, dropped: how many. last_error: "" without one.

    pauses: seconds between attempts. Raises InvalidRequest for what is no http or https URL in ASCII.
    """

    def __init__(self, url: str, *, pauses: tuple[float, ...] = PAUSES, max_waiting: int = MAX_WAITING) -> None:
        _check_url(url)
        self.sent = self.failed = self.dropped = 0
        self.last_error = ""
        self._url, self._pauses, self._max_waiting = url, pauses, max_waiting
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._give_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def send(self, value: Mapping[str, Any]) -> None:
        """Send it soon; waits for nothing."""
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(json.dumps(value).encode())
            self._changed.notify_all()

    def close(self, seconds: float = 15.0) -> None:
        """Wait so long for what is still to be sent; what is left then has failed."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds)
        self._give_up.set()
        with self._changed:
            self.failed += len(self._waiting)
            self._waiting.clear()

    def describe(self) -> str:
        """For people: what became of the events."""
        text = f"webhook: {self.sent} sent, {self.failed} failed, {self.dropped} dropped"
        return f"{text}; last error: {self.last_error}" if self.last_error else text

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                body = self._waiting.popleft()
            ok = self._deliver(body)
            with self._changed:
                self.sent += ok
                self.failed += not ok

    def _deliver(self, body: bytes) -> bool:
        for pause in (*self._pauses, None):
            started = time.monotonic()
            try:
                request = urllib.request.Request(
                    self._url, body, {"Content-Type": "application/json", "User-Agent": "tenclip"}, method="POST"
                )
                with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                    response.read(1 << 16)
                return True
            except urllib.error.HTTPError as err:
                err.close()
                self.last_error = f"status {err.code}{_moved_to(self._url, err)}"
                if err.code not in _PASSING:
                    return False
            except (OSError, http.client.HTTPException, ValueError) as err:
                self.last_error = str(getattr(err, "reason", None) or err) or type(err).__name__
            if pause is None or self._give_up.wait(max(0.0, pause - (time.monotonic() - started))):
                return False
        return False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error with its status."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _moved_to(url: str, err: urllib.error.HTTPError) -> str:
    """For messages: where a redirect leads; "" for other answers."""
    location = err.headers.get("Location") if 300 <= err.code < 400 else None
    if not location:
        return ""
    try:
        place = urljoin(url, location)
    except ValueError:
        place = location
    shown = "".join(c if c.isprintable() else "?" for c in without_secrets(place))
    return f": it has moved to {shown}, and events are not sent after it; name that place"


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(f"webhook {without_secrets(url)}: write http://HOST/PATH or https://HOST/PATH")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest(
            f"webhook {without_secrets(url)}: a URL is of ASCII characters without spaces; write others as %XX, and "
            "names of hosts as xn--..."
        )
    if "@" in parts.netloc:
        raise InvalidRequest(
            f"webhook {without_secrets(url)}: a user and a password in the URL cannot be sent; leave them out"
        )
