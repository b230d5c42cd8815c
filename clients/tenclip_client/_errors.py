"""gRPC status -> the exceptions of `tenclip_api.errors`.

The server names the exact one in the trailing metadata key `tenclip-reason`. Where that is absent (a proxy answered,
nobody answered, or the server is newer than this client and names one that we do not know) the status code decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import grpc

from tenclip_api import errors
from tenclip_api.errors import TenclipError, VideoError
from tenclip_api.proxies import Route
from tenclip_api.wire import REASON_KEY, REQUEST_ID_KEY, RETRY_AFTER_KEY

# Words in gRPC's details of a call whose connection ended before its answer came.
_BROKEN = ("Stream removed", "Socket closed", "Connection reset", "Broken pipe", "GOAWAY", "oing away", "ping timeout")

_DIRECTLY = "connect directly with proxy=False (--no-proxy), or name the host in no_proxy"

_BY_CODE: dict[str, type[TenclipError]] = {
    "CANCELLED": errors.Cancelled,
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "OUT_OF_RANGE": errors.InvalidRequest,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "RESOURCE_EXHAUSTED": errors.Overloaded,
    "FAILED_PRECONDITION": errors.ModelError,
    "UNAVAILABLE": errors.ServerUnavailable,
}


def from_rpc_error(
    err: grpc.RpcError, *, target: str, source: str, timeout: float | None, route: Route | None = None
) -> TenclipError:
    """The exception of `tenclip_api.errors` for one of gRPC.

    source: the video as the caller named it. timeout: the deadline that was set, in seconds. route: how the target was
    reached, for errors of connecting.
    """
    code, details = _code(err), _details(err)
    metadata = _trailing_metadata(err)
    cls = errors.error_classes().get(metadata.get(REASON_KEY, ""))
    if cls is None:
        cls, details = _by_code(code, details, target=target, timeout=timeout, route=route)
    error = cls(details, source=source) if issubclass(cls, VideoError) else cls(details)
    if isinstance(error, errors.Overloaded):
        error.retry_after_seconds = _seconds(metadata.get(RETRY_AFTER_KEY, ""))
    if isinstance(error, errors.ServerError):
        error.request_id = metadata.get(REQUEST_ID_KEY, "")
    return error


def _by_code(
    code: str, details: str, *, target: str, timeout: float | None, route: Route | None
) -> tuple[type[TenclipError], str]:
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
        # gRPC itself refuses it, before any code of the server runs: "Received message larger than max (A vs. B)".
        return (
            errors.MessageTooLarge,
            f"{target}: the video is beyond the server's message limit; raise that, or send a ServerPath ({details})",
        )
    if code == "DEADLINE_EXCEEDED":
        waited = "in time" if timeout is None else f"within {timeout:g} s"
        return errors.DeadlineExceeded, f"{target}: no answer {waited}{_through(route)}; allow more with timeout"
    if code == "UNAVAILABLE":
        return errors.ServerUnavailable, f"{target}: {_unavailable_reason(details, route)} ({details})"
    if code == "UNIMPLEMENTED":
        return errors.ServerError, f"{target}: is no tenclip server, or one too old for this call ({details})"
    cls = _BY_CODE.get(code, errors.ServerError)
    return cls, f"{target}: {details or code}"


def _unavailable_reason(details: str, route: Route | None) -> str:
    """The reason of a failed connection, and the remedy, from gRPC's details."""
    if "HTTP proxy returned" in details:
        return _proxy_refusal(details, route)
    if why := _tls_failure(details):
        return f"{why}{_through(route)}"
    if _was_connected(details):
        # Every call is idempotent.
        return (
            "the connection broke while the request ran: the server was ended or crashed (its log may say "
            f"why), or something between hung up; it is safe to send the request again{_through(route)}"
        )
    if route is not None and route.proxy is not None:
        return f"cannot be reached through the proxy {route.proxy}, which does not answer; {_DIRECTLY}"
    return f"no server answers there; `tenclip serve` starts one{_through(route)}"


def _proxy_refusal(details: str, route: Route | None) -> str:
    proxy = "the proxy" if route is None or route.proxy is None else f"the proxy {route.proxy}"
    if "response code 407" in details:
        return f"{proxy} wants a user and a password: write http://USER:PASSWORD@HOST:PORT"
    return f"{proxy} does not connect to it: no server answers there, or the proxy does not allow it; {_DIRECTLY}"


def _through(route: Route | None) -> str:
    """The part of a message about proxies; "" without one."""
    if route is None:
        return ""
    if route.proxy is not None:
        return f"; the proxy {route.proxy} is in between"
    return f"; connected directly: {route.note}" if route.note else ""


def _was_connected(details: str) -> bool:
    """Whether the connection had been made. gRPC reports failures before that as the "last error" of connecting."""
    if "last error" in details or "ailed to connect" in details:
        return False
    return any(word in details for word in _BROKEN)


def _tls_failure(details: str) -> str:
    """The reason of a failed TLS handshake; "" for other failures. gRPC reports both as UNAVAILABLE."""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "the server's TLS certificate is not trusted; name the authority that vouches for it with ca (--ca)"
    if "WRONG_VERSION_NUMBER" in details:
        return "the server there speaks no TLS; leave out tls (--tls) and what implies it"
    if "not in peer certificate" in details or "Hostname Verification" in details:
        return "the server's TLS certificate is for another name; name that with server_name (--server-name)"
    if "last error" in details and ("Socket closed" in details or "reset by peer" in details):
        return (
            "what answers there hangs up; it may want TLS (--tls), or a client's certificate (--certificate), or it is "
            "going down"
        )
    return "the TLS handshake failed" if "handshake" in details.lower() else ""


def is_unimplemented(err: object) -> bool:
    """The server does not know the method."""
    return isinstance(err, grpc.RpcError) and _code(err) == "UNIMPLEMENTED"


def _code(err: grpc.RpcError) -> str:
    # Every error that a call raises is a grpc.Call too (or its asyncio twin); the base class alone promises nothing.
    code = getattr(err, "code", None)
    return str(code().name) if callable(code) else "UNKNOWN"


def _details(err: grpc.RpcError) -> str:
    details = getattr(err, "details", None)
    return str(details() or "") if callable(details) else str(err)


def _trailing_metadata(err: grpc.RpcError) -> Mapping[str, str]:
    trailing = getattr(err, "trailing_metadata", None)
    pairs = (trailing() or ()) if callable(trailing) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
