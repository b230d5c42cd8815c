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
from urllib.parse import urlsplit

from tenclip_api.errors import DeadlineExceeded, InvalidRequest, UriNotAllowed
from tenclip_api.uris import without_secrets
from tenclip_serving.intake.fetch_http import fetch_http
from tenclip_serving.intake.fetch_s3 import fetch_s3
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
    try:
        async with asyncio.timeout(policy.max_seconds):
            fetched = fetch_s3(uri, name, policy) if scheme == "s3" else fetch_http(uri, name, policy, names)
            async with fetched as upload:
                yield upload
    except TimeoutError as err:
        raise DeadlineExceeded(f"{name}: not fetched in {policy.max_seconds:g} seconds (max_fetch_seconds)") from err
