"""What every HTTP request gets: an id, the check of its token, the gate, a status, a log line and metrics.

The counterpart of `tenclip_serving.api.interceptor` and `security.auth`, whose rules it takes by the names of RPCs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DeadlineExceeded, ServerError, TenclipError
from tenclip_api.host_names import HostNames
from tenclip_api.wire import REQUEST_ID_KEY
from tenclip_serving.config import ReflectionAccess
from tenclip_serving.http.call import JSON, Call, Send
from tenclip_serving.http.problems import PROBLEM_TYPE, Refused, encode, headers_of, problem, status_of
from tenclip_serving.intake.admission import Admission
from tenclip_serving.security.auth import Tokens, permission_of
from tenclip_serving.telemetry.call_records import CallRecords, why_cancelled
from tenclip_serving.telemetry.logs import CLIENT, REQUEST_ID, TRACE_ID, log, new_request_id, trace_id_of
from tenclip_serving.telemetry.tracing import Tracing

Handler = Callable[[Call], Awaitable[None]]
_HOW = 'send the header "Authorization: Bearer TOKEN"'


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What endpoints of one server share.

    working: entered by every request, see `Interceptor.in_flight`. models: the folder of the bundles, whose place on
    this machine is told to nobody over HTTP. host_names: by which browsers may call the server.
    """

    records: CallRecords
    admission: Admission
    tokens: Tokens | None
    reflection: ReflectionAccess
    working: Callable[[], AbstractContextManager[None]]
    write_seconds: float
    models: Path
    host_names: HostNames
    tracing: Tracing | None = None


class Endpoint:
    """An ASGI application for one route.

    rpc: `/package.Service/Method` that it stands for, whose permission it needs; its last part is the method of the
    metrics. route: for traces. gated: a video may come with it, so admission is asked before any of it is read.
    quiet: neither logged nor counted, as probes are not over gRPC. v2: problems are plain JSON, see `problem`.
    """

    def __init__(
        self,
        handler: Handler,
        surroundings: Surroundings,
        *,
        rpc: str,
        gated: bool = False,
        quiet: bool = False,
        v2: bool = False,
        route: str = "",
    ) -> None:
        self._handler, self._surroundings, self._rpc = handler, surroundings, rpc
        self._gated, self._quiet, self._v2, self._route = gated, quiet, v2, route
        self._permission = permission_of(rpc, surroundings.reflection)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        call = Call(scope, receive, send, write_seconds=self._surroundings.write_seconds)
        work = asyncio.create_task(self._traced(call))
        call.body.on_disconnect = work.cancel
        watch = asyncio.create_task(_watch(call, work))
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:  # the server stops, and its grace is over
            log(logging.WARNING, "ended by the end of the server", request_id=call.request_id)
        watch.cancel()
        work.cancel()
        await asyncio.wait([work, watch])
        if not call.complete:
            call.hang_up()
            await call.body.disconnected()

    async def _traced(self, call: Call) -> None:
        tracing = None if self._quiet else self._surroundings.tracing
        if tracing is None:
            await self._observed(call)
            return
        with tracing.http_request(call.method, self._route, call.headers, lambda: (call.code, call.status)):
            await self._observed(call)

    async def _observed(self, call: Call) -> None:
        _start(call)
        call.method_name = self._rpc.rpartition("/")[2]
        try:
            self._admit(call)
        except (Refused, TenclipError) as err:
            refusal = _refusal(err)
            call.code = refusal.error.grpc_status
            self._surroundings.records.refused(call.method_name, refusal.error)
            await self._refuse(call, refusal)
            return
        if (failure := await self._handled(call)) is not None:
            await self._refuse(call, failure)

    def _admit(self, call: Call) -> None:
        """Raises for a request that is refused before its body is read."""
        call.check(self._surroundings.host_names)
        tokens = self._surroundings.tokens
        if tokens is not None and self._permission is not None:
            authorization = call.headers.get("authorization")
            CLIENT.set(tokens.check(authorization, self._permission, call.method_name, how=_HOW).name)
        if self._gated:
            self._surroundings.admission.check_arrival(call.time_remaining())

    async def _handled(self, call: Call) -> Refused | None:
        """Run the handler and record how it went. The failure to answer with, None where the answer is given."""
        started = time.perf_counter()
        error: TenclipError | None = None
        try:
            with self._surroundings.working():
                await self._handler(call)
            return None
        except (Refused, TenclipError) as err:
            failure = _refusal(err)
            call.code, error = failure.error.grpc_status, failure.error
        except asyncio.CancelledError:
            call.code = why_cancelled(call.time_remaining())
            raise
        except Exception:
            call.code = "INTERNAL"
            failure = Refused(500, ServerError(f"internal error, request id {call.request_id}"))
            log(logging.ERROR, "internal error", exc_info=True, method=call.method_name)
        finally:
            if not self._quiet:
                seconds = time.perf_counter() - started
                self._surroundings.records.answered(call.method_name, call.code, error, seconds, call.body.num_read)
        return failure

    async def _refuse(self, call: Call, refusal: Refused) -> None:
        if call.started:
            return  # the rest of an answer that has begun cannot be had: the caller sees that it ends early
        error, status = refusal.error, refusal.status
        members = problem(error, call.request_id, models=self._surroundings.models, status=status, v2=self._v2)
        headers = {**headers_of(error, status), **refusal.headers}
        media_type = JSON if self._v2 else PROBLEM_TYPE
        with contextlib.suppress(DeadlineExceeded):
            await call.answer(encode(members), media_type, status=status, headers=headers)


def _refusal(error: Refused | TenclipError) -> Refused:
    return error if isinstance(error, Refused) else Refused(status_of(error), error)


def _start(call: Call) -> None:
    """The id of the request, which its log lines have from now on, with that of its trace."""
    call.request_id = new_request_id(call.headers.get(REQUEST_ID_KEY) or call.headers.get("x-request-id"))
    REQUEST_ID.set(call.request_id)
    TRACE_ID.set(TRACE_ID.get() or trace_id_of(call.headers.get("traceparent")))


async def _watch(call: Call, work: asyncio.Task[None]) -> None:
    """Cancels the work of a caller who hangs up while it waits for its answer."""
    await call.body.ended.wait()
    await call.body.disconnected()
    if not call.complete:
        work.cancel()
