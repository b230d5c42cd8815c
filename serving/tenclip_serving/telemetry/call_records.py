"""The log line and the metrics of every call, over gRPC and over HTTP alike."""

from __future__ import annotations

import logging
import time
from typing import Any, Literal

from tenclip_api.errors import TenclipError
from tenclip_serving.telemetry.logs import log
from tenclip_serving.telemetry.metrics import Metrics

Transport = Literal["grpc", "http"]
# Lines a second about calls that were refused before they were read; metrics count all.
_MAX_REFUSALS_LOGGED_A_SECOND = 10
# A caller that waits no longer hangs up so long before the server's own clock of the same deadline has run out: it
# began when the call arrived.
_CLOCK_SECONDS = 0.1


def why_cancelled(seconds_left: float | None) -> str:
    """Name of the gRPC status of a call whose caller has hung up, seconds_left before its deadline; None for none."""
    return "DEADLINE_EXCEEDED" if seconds_left is not None and seconds_left <= _CLOCK_SECONDS else "CANCELLED"


class CallRecords:
    """Records the calls of one transport: `method` is the RPC, or the one that an HTTP request stands for."""

    def __init__(self, metrics: Metrics, transport: Transport) -> None:
        self._metrics, self._transport = metrics, transport
        self._word = "rpc" if transport == "grpc" else transport
        self._refusals = _Sampled(_MAX_REFUSALS_LOGGED_A_SECOND)

    def answered(
        self, method: str, code: str, error: TenclipError | None, seconds: float, num_bytes: int, **more: Any
    ) -> None:
        """One call has ended. code: name of the gRPC status. more: further fields of the log line."""
        self._metrics.requests.labels(method, code, self._transport).inc()
        self._metrics.request_seconds.labels(method, self._transport).observe(seconds)
        fields: dict[str, Any] = {"method": method, "code": code, "seconds": round(seconds, 4), "bytes": num_bytes}
        if error is not None:
            fields |= {"reason": error.reason, "error": error.message}
        log(logging.INFO, self._word, **fields, **more)

    def refused(self, method: str, error: TenclipError) -> None:
        """One call was refused before it was read. A rush is mostly this: it is kept short, and logged in samples."""
        self._metrics.requests.labels(method, error.grpc_status, self._transport).inc()
        self._metrics.request_seconds.labels(method, self._transport).observe(0.0)
        if (left_out := self._refusals.take()) is None:
            return
        fields: dict[str, Any] = {"not_logged_before": left_out} if left_out else {}
        log(
            logging.INFO, self._word, method=method, code=error.grpc_status, reason=error.reason, error=error.message,
            **fields,
        )  # fmt: skip


class _Sampled:
    """Limits log lines a second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._logged = self._left_out = 0

    def take(self) -> int | None:
        """None where there is to be no line; else the number of lines that were left out before it."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged == self._per_second:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._logged += 1
        return left_out
