"""Videos of s3: URIs, by s3fs."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Self

from tenclip_api.errors import FetchFailed, InvalidRequest, UriNotAllowed, VideoNotFound, VideoNotReadable
from tenclip_serving.intake.parts import FileStamp, Part
from tenclip_serving.intake.uri_policy import CONNECT_SECONDS, UriPolicy, host_allowed
from tenclip_serving.requests import Upload

# Each part is a request of its own.
_PART_BYTES = 8 << 20
_PIECE_BYTES = 1 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@asynccontextmanager
async def fetch_s3(uri: str, name: str, policy: UriPolicy) -> AsyncIterator[Upload]:
    """The parts of an object. See `fetch` for what it raises; `name` stands for the URI in messages."""
    bucket, key = _object(uri, name, policy)
    async with Buckets(policy) as buckets:
        stamp = await buckets.stamp(uri, name)
        files = await buckets.files(name, bucket)
        yield Upload(chunks=_parts(files, f"{bucket}/{key}", name, stamp.size), num_bytes=stamp.size)


class Buckets:
    """s3fs with its connections, for any number of requests. An asynchronous context manager."""

    def __init__(self, policy: UriPolicy) -> None:
        self._policy = policy
        self._files: Any = None
        self._session: Any = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def files(self, name: str, bucket: str) -> Any:
        """The file system."""
        import s3fs

        async with self._starting:
            if self._session is None:
                self._files = s3fs.S3FileSystem(
                    asynchronous=True,
                    skip_instance_cache=True,
                    # An object may have been changed since it was looked at.
                    use_listings_cache=False,
                    config_kwargs={"connect_timeout": CONNECT_SECONDS, "read_timeout": self._policy.idle_seconds},
                )
                async with _s3_failures(name, bucket):
                    self._session = await self._files.set_session()
        return self._files

    async def stamp(self, uri: str, name: str) -> FileStamp:
        """Of an object as it is now. See `fetch` for what it raises."""
        bucket, key = _object(uri, name, self._policy)
        files = await self.files(name, bucket)
        async with _s3_failures(name, bucket):
            info = await files._info(f"{bucket}/{key}")
        if info["type"] != "file":
            raise VideoNotFound(f"{name}: is no object, only the beginning of the keys of some", source=name)
        return _stamp(int(info["size"]), info)

    @asynccontextmanager
    async def part(self, uri: str, name: str, first: int, num_bytes: int) -> AsyncIterator[Part]:
        """Some bytes of an object. See `fetch` for what it raises."""
        bucket, key = _object(uri, name, self._policy)
        files = await self.files(name, bucket)
        asked = f"bytes={first}-{first + num_bytes - 1}"
        async with _s3_failures(name, bucket):
            answer = await files._call_s3("get_object", Bucket=bucket, Key=key, Range=asked)
        total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        body = answer["Body"]
        try:
            size = int(total) if total.isdecimal() else 0
            yield Part(chunks=_body(body, name, bucket), is_part=True, stamp=_stamp(size, answer))
        finally:
            body.close()


def _object(uri: str, name: str, policy: UriPolicy) -> tuple[str, str]:
    """(bucket, key). Raises InvalidRequest, UriNotAllowed."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket) or not key:
        raise InvalidRequest(f"{name}: write s3://BUCKET/KEY")
    if not host_allowed(bucket, 0, 0, policy.hosts):
        raise UriNotAllowed(f"{name}: this server does not fetch from the bucket {bucket} (allow_hosts)")
    return bucket, key


def _stamp(size: int, answer: Mapping[str, Any]) -> FileStamp:
    modified = answer.get("LastModified")
    modified_ns = int(modified.timestamp()) * 1_000_000_000 if isinstance(modified, datetime) else 0
    return FileStamp(size=size, tag=str(answer.get("ETag", "")), modified_ns=modified_ns)


async def _body(body: Any, name: str, bucket: str) -> AsyncIterator[bytes]:
    while True:
        async with _s3_failures(name, bucket):
            piece = await body.read(_PIECE_BYTES)
        if not piece:
            return
        yield piece


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
