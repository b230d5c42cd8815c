"""Authentication and permissions: bearer tokens from a file, checked before a request is read.

The file is TOML, one table for each caller, and is read again when it changes::

    [batch]
    token = "a long random string"          # or sha256 = "64 hex digits" of one
    permissions = ["predict"]                # of predict, manage, metrics
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import grpc

from tenclip_api.errors import InvalidRequest, PermissionDenied, TenclipError, Unauthenticated
from tenclip_api.wire import REASON_KEY, REQUEST_ID_KEY
from tenclip_serving.api.interceptor import OURS
from tenclip_serving.api.message_limits import request_type
from tenclip_serving.config import ReflectionAccess
from tenclip_serving.security.reloading import Watched
from tenclip_serving.telemetry.logs import CLIENT, log, new_request_id
from tenclip_serving.telemetry.metrics import Metrics

Permission = Literal["predict", "manage", "metrics"]
# What guesses at a million a second would need ages for.
MIN_TOKEN_LENGTH = 16
_MAX_FILE_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_HOW = "send the metadata `authorization: Bearer TOKEN`, in Python Client(token=...), on the command line --token-file"

# Methods of the Open Inference Protocol that ask and infer. The others load, unload and set, or are new to us.
# What a change is looked at with, before and after; clients of models look there, too.
_LISTS, _LOOK = {"ListModels", "GetModel", "ListIndexes"}, "predict or manage"
_V2_OPEN = {"ServerLive", "ServerReady", "ModelReady"}
_V2_PREDICT = {"ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelInfer", "ModelStreamInfer"}

MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One table of the file. `digest`: SHA-256 of the token; the token itself is kept nowhere."""

    name: str
    digest: bytes
    permissions: frozenset[str]


def read_tokens(path: Path) -> tuple[Caller, ...]:
    """Raises InvalidRequest, which names the file and the table, and never quotes a value: it may be a secret."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        tables = tomllib.loads(data.decode("utf-8"))
    except OSError as err:
        raise InvalidRequest(f"cannot read the tokens {path}: {err.strerror or err}") from None
    except tomllib.TOMLDecodeError as err:
        where = re.search(r"\(at [^)]*\)", str(err))
        raise InvalidRequest(f"{path} is not TOML {where[0] if where else ''}".rstrip()) from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not TOML: it is not UTF-8") from None
    if len(data) > _MAX_FILE_BYTES or not tables:
        raise InvalidRequest(f"{path} holds no tokens; write [NAME] with token = ... and permissions = [...]")
    callers = tuple(_caller(path, name, table) for name, table in tables.items())
    if len({c.digest for c in callers}) < len(callers):
        raise InvalidRequest(f"{path}: two callers have the same token")
    return callers


def _caller(path: Path, name: str, table: Any) -> Caller:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict) or not table.keys() <= {"token", "sha256", "permissions"}:
        raise InvalidRequest(f"{where}: must be a table of token or sha256, and permissions, and nothing else")
    permissions = table.get("permissions")
    known = get_args(Permission)
    if not isinstance(permissions, list) or not permissions or not all(p in known for p in permissions):
        raise InvalidRequest(
            f"{where}: permissions must be a list of one or more of {', '.join(known)}; {_got(permissions)}"
        )
    return Caller(name=name, digest=_digest(where, table), permissions=frozenset(permissions))


def _got(permissions: object) -> str:
    """A word for messages, masked where it is as long as a token: it may be one at the wrong place."""
    if permissions is None:
        return "there is none"
    if isinstance(permissions, list):
        unknown = [p for p in permissions if p not in get_args(Permission)]
        shown = ", ".join(_short(p) for p in unknown)
        return f"{shown} is no permission" if unknown else "the list is empty"
    return f"got {_short(permissions)}"


def _short(value: object) -> str:
    return repr(value) if len(str(value)) < MIN_TOKEN_LENGTH else f"a {type(value).__name__} too long to be one"


def _digest(where: str, table: Mapping[str, Any]) -> bytes:
    token, digest = table.get("token"), table.get("sha256")
    if (token is None) == (digest is None):
        raise InvalidRequest(f"{where}: must have either token or sha256")
    if digest is not None:
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise InvalidRequest(f"{where}: sha256 must be 64 hex digits")
        return bytes.fromhex(digest)
    if not isinstance(token, str) or len(token) < MIN_TOKEN_LENGTH or not (token.isascii() and token.isprintable()):
        raise InvalidRequest(f"{where}: token must be a string of {MIN_TOKEN_LENGTH} or more printable characters")
    return hashlib.sha256(token.encode()).digest()


class Tokens:
    """The callers in a file. Raises InvalidRequest for a file that cannot be used."""

    def __init__(self, path: Path) -> None:
        self._callers = Watched((path,), partial(read_tokens, path), what="tokens")

    def caller(self, authorization: str | None, *, how: str = _HOW) -> Caller:
        """The owner of the token. Raises Unauthenticated."""
        if not authorization:
            raise Unauthenticated(f"this server wants a token: {how}")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated(f"the authorization is of another kind: {how}")
        digest = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        found = None
        for caller in self._callers.get():
            # All of them, and each in constant time: how long it takes tells nothing about any.
            if hmac.compare_digest(caller.digest, digest):
                found = caller
        if found is None:
            raise Unauthenticated("the token is none that this server knows; it may have been replaced")
        return found

    def check(self, authorization: str | None, permission: str, what: str, *, how: str = _HOW) -> Caller:
        """The caller, if it may. Raises Unauthenticated, PermissionDenied.

        permission: "" is any caller, "a or b" one that has either. how: a token is sent, for those who sent none.
        """
        caller = self.caller(authorization, how=how)
        if permission and caller.permissions.isdisjoint(permission.split(" or ")):
            held = ", ".join(sorted(caller.permissions))
            raise PermissionDenied(f"{what} needs the permission {permission}; the token of {caller.name} has {held}")
        return caller


def permission_of(path: str, reflection: ReflectionAccess = "open") -> str | None:
    """The permission (or one of two) that `/package.Service/Method` needs: "" for any token, None for no token."""
    service, _, method = path.removeprefix("/").partition("/")
    if service == "grpc.health.v1.Health":
        return None
    if service.startswith("grpc.reflection."):
        return None if reflection == "open" else ""
    if service == "tenclip.v1.VideoRecognition":
        return _LOOK if method in _LISTS else "predict"
    if service == "inference.GRPCInferenceService":
        if method in _V2_OPEN:
            return None
        return "predict" if method in _V2_PREDICT else "manage"
    return "manage"


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Refuses before the request's message is read. A refusal looks like every other error of ours."""

    def __init__(self, tokens: Tokens, metrics: Metrics, *, reflection: ReflectionAccess = "open") -> None:
        self._tokens, self._metrics, self._reflection = tokens, metrics, reflection

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MethodHandler:
        path = str(handler_call_details.method)
        permission = permission_of(path, self._reflection)
        metadata = {k: v for k, v in handler_call_details.invocation_metadata or () if isinstance(v, str)}
        method = path.rpartition("/")[2]
        refusal, client = None, ""
        if permission is not None:
            try:
                client = self._tokens.check(metadata.get("authorization"), permission, method).name
            except TenclipError as err:
                refusal = self._refusal(err, method, new_request_id(metadata.get(REQUEST_ID_KEY)))
        if refusal is not None and path.startswith(OURS) and request_type(path) is not None:
            # `Interceptor` hears nothing of the call: it would wait for it as for one that is on its way.
            return refusal
        handler = await continuation(handler_call_details)
        if handler is None:  # nobody needs a token to hear that there is no such method
            return None
        if client:
            CLIENT.set(client)
        return refusal or handler

    def _refusal(self, error: TenclipError, method: str, request_id: str) -> MethodHandler:
        async def refuse(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            self._metrics.requests.labels(method, error.grpc_status, "grpc").inc()
            log(
                logging.INFO, "rpc", method=method, code=error.grpc_status, reason=error.reason, error=error.message,
                request_id=request_id, peer=context.peer(),
            )  # fmt: skip
            metadata = ((REASON_KEY, error.reason), (REQUEST_ID_KEY, request_id))
            await context.abort(grpc.StatusCode[error.grpc_status], error.message, metadata)

        # Streams on both sides, whatever the method is: gRPC reads the message of a unary one before it calls anything.
        return cast(MethodHandler, grpc.stream_stream_rpc_method_handler(refuse))
