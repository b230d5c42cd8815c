"""The way to the server: with the page's own token, or with that of a visitor."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Self

from tenclip_api.errors import InvalidRequest, TenclipError
from tenclip_client import AsyncClient

_NOBODY = "no-token"
_visitor: ContextVar[str] = ContextVar("visitor", default=_NOBODY)


class ServerLink:
    """Clients of one server. settings: the arguments of `AsyncClient`; its token is the page's own.

    Raises InvalidRequest for settings that cannot be used.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._own = AsyncClient(**settings)
        self._visitors: AsyncClient | None = None
        self._why_not: InvalidRequest | None = None
        try:
            self._visitors = AsyncClient(**{**settings, "token": _visitor.get})
        except InvalidRequest as err:  # tokens would go to another machine in plain text
            self._why_not = err
        target = str(settings.get("target", self._own.target))
        # Longest first: the address of a socket holds its path.
        self._names = sorted({target, self._own.target, target.removeprefix("unix:")}, key=len, reverse=True)

    def client(self, token: str | None) -> AsyncClient:
        """The client for a visitor with this token, None for one without. Raises InvalidRequest, Unauthenticated.

        What it is called for must run in the same task.
        """
        if token is None:
            return self._own
        if self._visitors is None:
            assert self._why_not is not None
            raise self._why_not
        _visitor.set(token)
        return self._visitors

    def without_address(self, error: TenclipError) -> TenclipError:
        """The error without the server's address, which may be a path, and is no visitor's business."""
        message = error.message
        for name in self._names:
            message = message.replace(name, "the server")
        error.args = (message, *error.args[1:])
        return error

    async def close(self) -> None:
        """Close the connections."""
        await self._own.close()
        if self._visitors is not None:
            await self._visitors.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
