"""Videos of s3: URIs, by s3fs."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tenclip_api.errors import FetchFailed, InvalidRequest, UriNotAllowed, VideoNotFound, VideoNotReadable
from tenclip_serving.intake.uri_policy import CONNECT_SECONDS, UriPolicy, host_allowed
from tenclip_serving.requests import Upload

# Each part is a request of its own.
_PART_BYTES = 8 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@asynccontextmanager
async def fetch_s3(uri: str, name: str, policy: UriPolicy) -> AsyncIterator[Upload]:
    """The parts of an object. See `fetch` for what it raises; `name` stands for the URI in messages."""
    import s3fs

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket) or not key:
        raise InvalidRequest(f"{name}: write s3://BUCKET/KEY")
    if not host_allowed(bucket, 0, 0, policy.hosts):
        raise UriNotAllowed(f"{name}: this server does not fetch from the bucket {bucket} (allow_hosts)")
    files = s3fs.S3FileSystem(
        asynchronous=True,
        skip_instance_cache=True,
        config_kwargs={"connect_timeout": CONNECT_SECONDS, "read_timeout": policy.idle_seconds},
    )
    async with _s3_failures(name, bucket):
        session = await files.set_session()
    try:
        async with _s3_failures(name, bucket):
            info = await files._info(f"{bucket}/{key}")
        if info["type"] != "file":
            raise VideoNotFound(f"{name}: is no object, only the beginning of the keys of some", source=name)
        size = int(info["size"])
        yield Upload(chunks=_parts(files, f"{bucket}/{key}", name, size), num_bytes=size)
    finally:
        await session.close()


async def _parts(files: Any, path: str, name: str, size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, _PART_BYTES):
        async with _s3_failures(name, path.partition("/")[0]):
            part = await files._cat_file(path, start=start, end=min(start + _PART_BYTES, size))
        yield part


@asynccontextmanager
async def _s3_failures(name: str, bucket: str) -> AsyncIterator[None]:
    # As in `fetch_http`: texts of botocore name endpoints, files and profiles of the operator's.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except FileNotFoundError:
        raise VideoNotFound(f"{name}: the bucket {bucket} has no such object", source=name) from None
    except PermissionError:
        raise VideoNotReadable(f"{name}: the bucket {bucket} does not let us read it", source=name) from None
    except (BotoCoreError, ClientError, OSError) as err:
        raise FetchFailed(
            f"{name}: cannot be fetched from the bucket {bucket}: {_s3_reason(err)}", source=name
        ) from None


def _s3_reason(err: BaseException) -> str:
    """S3's own code, or the kind of error, by which the operator finds what it means."""
    from botocore.exceptions import ClientError

    # s3fs raises an OSError of its own in place of what S3 answered.
    told = err.__cause__ if isinstance(err, OSError) else err
    if isinstance(told, ClientError):
        return str(told.response.get("Error", {}).get("Code", "an error"))[:100]
    return os.strerror(err.errno) if isinstance(err, OSError) and err.errno else type(err).__name__
