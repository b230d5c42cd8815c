"""Videos that a request names by URI, from where its caller could perhaps not read them himself.

Every hop of a redirect is judged anew by `uri_policy`: its scheme, its host, and the address that the host resolves to.
http and https go through aiohttp itself (`fetch_http`): fsspec's file system would resolve names, and follow redirects,
by its own rules. s3 goes through s3fs (`fetch_s3`), whose endpoint, credentials and proxy are the operator's, as those
of any AWS tool (AWS_ENDPOINT_URL, AWS_PROFILE, a role, HTTPS_PROXY); a URI names no more than a bucket and a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit

from tenclip_api.errors import DeadlineExceeded, InvalidRequest, UriNotAllowed
from tenclip_api.uris import without_secrets
from tenclip_serving.intake.fetch_http import Connections, fetch_http, fetch_http_part
from tenclip_serving.intake.fetch_s3 import Buckets, fetch_s3
from tenclip_serving.intake.parts import FileStamp, Part
from tenclip_serving.intake.uri_policy import UriPolicy
from tenclip_serving.requests import Upload
from tenclip_serving.thread_pools import Pool


@asynccontextmanager
async def fetch(uri: str, policy: UriPolicy, *, names: Pool | None = None) -> AsyncIterator[Upload]:
    """The chunks of the file that a URI names, to be read within.

    names: threads that ask DNS; asyncio's own by default. (For s3 these in any case: its name is the operator's.)
    Raises UriNotAllowed, InvalidRequest, VideoNotFound, VideoNotReadable, FetchFailed and DeadlineExceeded, reading the
    pieces as well.
    """
    name, scheme = _checked_scheme(uri, policy)
    try:
        async with asyncio.timeout(policy.max_seconds):
            fetched = fetch_s3(uri, name, policy) if scheme == "s3" else fetch_http(uri, name, policy, names)
            async with fetched as upload:
                yield upload
    except TimeoutError as err:
        raise DeadlineExceeded(f"{name}: not fetched in {policy.max_seconds:g} seconds (max_fetch_seconds)") from err


class PartFetcher:
    """Fetches parts of files by the same rules, over connections that are kept. An asynchronous context manager.

    What waits is bounded by `idle_seconds` of the policy; its `max_seconds` is the caller's to keep.
    """

    def __init__(self, policy: UriPolicy) -> None:
        self._policy = policy
        self._connections = Connections(policy, keep=True)
        self._buckets = Buckets(policy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)
        await self._buckets.__aexit__(*error)

    async def look(self, uri: str) -> tuple[FileStamp, bool]:
        """(the state of a file now, whether its store sends parts). Raises what `fetch` does."""
        name, scheme = _checked_scheme(uri, self._policy)
        if scheme == "s3":
            return await self._buckets.stamp(uri, name), True
        # Not by HEAD, which a signed URL is not valid for.
        async with fetch_http_part(uri, name, self._connections, 0, 1) as part:
            return part.stamp, part.is_part

    @asynccontextmanager
    async def part(self, uri: str, first: int, num_bytes: int) -> AsyncIterator[Part]:
        """`num_bytes` bytes from `first` on, or all of the file from a store that sends no parts.

        Raises what `fetch` does, reading the pieces as well.
        """
        name, scheme = _checked_scheme(uri, self._policy)
        if scheme == "s3":
            fetched = self._buckets.part(uri, name, first, num_bytes)
        else:
            fetched = fetch_http_part(uri, name, self._connections, first, num_bytes)
        async with fetched as part:
            yield part

    @asynccontextmanager
    async def whole(self, uri: str) -> AsyncIterator[Part]:
        """All of a file of http and https. Raises what `fetch` does, reading the pieces as well."""
        name, _ = _checked_scheme(uri, self._policy)
        async with fetch_http_part(uri, name, self._connections, 0, None) as part:
            yield part


def _checked_scheme(uri: str, policy: UriPolicy) -> tuple[str, str]:
    """(the URI in messages, its scheme). Raises InvalidRequest, UriNotAllowed."""
    name = without_secrets(uri)
    try:
        scheme = urlsplit(uri).scheme
    except ValueError:
        raise InvalidRequest(f"{name}: is no URI that can be read") from None
    if scheme not in policy.schemes:
        allowed = ", ".join(f"{s}:" for s in ("file", *policy.schemes))
        raise UriNotAllowed(
            f"{name}: this server fetches {allowed} and nothing else (allow_schemes); or send the video itself"
        )
    return name, scheme
