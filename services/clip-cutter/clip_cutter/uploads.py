"""A file on its way into a bucket: sent from the moment it is written, and visible when it is finished.

A large file goes in parts, side by side, and the object appears with the request that puts them together. A
small one is one request, which waits until the file may be seen.
"""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from clip_shared.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

log = structlog.get_logger()

MEBIBYTE = 1024 * 1024
# Below, the two requests more that parts need cost more than what they save.
LARGE_BYTES = 8 * MEBIBYTE
PARTS_AT_ONCE = 4
# S3's limits: the smallest part that is not the last one, and the number of parts.
MIN_PART_BYTES = 5 * MEBIBYTE
MAX_PARTS = 10_000
NOT_S3 = "what took the upload is not S3"

Answer = TypeVar("Answer", bound=Mapping[str, Any])


@dataclass(frozen=True)
class UploadTarget:
    """Where an object goes. ``headers``: its metadata, as boto3 takes them."""

    client: "S3Client"
    bucket: str
    key: str
    headers: Mapping[str, Any]

    def ask(self, call: "Callable[..., Answer]", proof: str, **arguments: Any) -> Answer:
        """Send a request about the object. Blocks.

        Raises:
            TransientError: the storage is down, or refuses us, or what answers is not S3: it lacks ``proof``.
        """
        try:
            answer = call(Bucket=self.bucket, Key=self.key, **arguments)
        except (BotoCoreError, ClientError) as error:
            raise outage(self.bucket, error) from error
        except ResponseParserError as error:
            raise TransientError(f"bucket {self.bucket}: {NOT_S3}") from error
        if proof not in answer:  # a page of a proxy reads like success
            raise TransientError(f"bucket {self.bucket}: {NOT_S3}")
        return answer


def outage(bucket: str, error: BotoCoreError | ClientError) -> TransientError:
    """Whatever this bucket refuses, it must not refuse: the platform owns it. So the job waits."""
    return TransientError(f"bucket {bucket}: {error}")


class ObjectUpload(Protocol):
    """An upload that has begun."""

    async def finish(self) -> None:
        """Make the object visible, complete.

        Raises:
            TransientError: the storage is down, or refuses us.
        """
        ...

    async def abort(self) -> None:
        """Take back what was sent. Does nothing once :meth:`finish` has asked for the object."""
        ...


@asynccontextmanager
async def begin(target: UploadTarget, path: Path) -> AsyncIterator[ObjectUpload]:
    """Begin to upload a file; an object that nobody finished is given up in the end."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        transfer = (
            MultipartUpload(target, file, size) if size >= LARGE_BYTES else SingleRequestUpload(target, file)
        )
        try:
            yield transfer
        finally:
            await transfer.abort()


class SingleRequestUpload:
    """One atomic request: no parts that could be left behind, nothing to resume."""

    def __init__(self, target: UploadTarget, file: BinaryIO) -> None:
        self._target = target
        self._file = file

    async def finish(self) -> None:
        """See :class:`ObjectUpload`."""
        # A thread cannot be cancelled. A cancelled job closes the file: the thread's next read fails.
        await asyncio.to_thread(self._put)

    def _put(self) -> None:
        target = self._target
        target.ask(target.client.put_object, "ETag", Body=self._file, **target.headers)

    async def abort(self) -> None:
        """See :class:`ObjectUpload`."""


class MultipartUpload:
    """A multipart upload. Its parts are sent by threads, from now on."""

    def __init__(self, target: UploadTarget, file: BinaryIO, size_bytes: int) -> None:
        self._target = target
        self._file = file
        self._size_bytes = size_bytes
        self._part_bytes = max(MIN_PART_BYTES, -(-size_bytes // MAX_PARTS))
        self._upload_id: str | None = None
        self._is_settled = False
        self._sending = asyncio.create_task(asyncio.to_thread(self._send))

    async def finish(self) -> None:
        """See :class:`ObjectUpload`."""
        parts = await asyncio.shield(self._sending)
        self._is_settled = True
        await asyncio.to_thread(self._complete, parts)

    async def abort(self) -> None:
        """See :class:`ObjectUpload`."""
        self._file.close()  # the next read of each thread fails
        # A part that arrives after the others were removed would stay.
        await asyncio.wait([self._sending])
        if not self._sending.cancelled():
            self._sending.exception()  # finish has raised it, or nobody wants to know
        if not self._is_settled and self._upload_id is not None:
            await asyncio.to_thread(self._abort, self._upload_id)

    def _send(self) -> "list[CompletedPartTypeDef]":
        target = self._target
        created = target.ask(target.client.create_multipart_upload, "UploadId", **target.headers)
        self._upload_id = created["UploadId"]
        count = -(-self._size_bytes // self._part_bytes)
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="part") as threads:
            return list(threads.map(self._send_part, range(count)))

    def _send_part(self, index: int) -> "CompletedPartTypeDef":
        start, target = index * self._part_bytes, self._target
        part = FileSection(self._file, start, min(self._part_bytes, self._size_bytes - start))
        place = {"UploadId": self._upload_id, "PartNumber": index + 1}
        answer = target.ask(target.client.upload_part, "ETag", Body=part, **place)
        return {"PartNumber": index + 1, "ETag": answer["ETag"]}

    def _complete(self, parts: "list[CompletedPartTypeDef]") -> None:
        """Put the parts together.

        Where the storage does not say what it did, it may have done it, or do it later, and to remove the
        parts of an object damages it on some servers. So they stay, and the bucket's own rule removes them.
        """
        target, whole = self._target, {"UploadId": self._upload_id, "MultipartUpload": {"Parts": parts}}
        try:
            target.ask(target.client.complete_multipart_upload, "ETag", **whole)
        except TransientError as error:
            self._is_settled = not _is_refusal(error.__cause__)
            raise

    def _abort(self, upload_id: str) -> None:
        target = self._target
        try:
            target.client.abort_multipart_upload(Bucket=target.bucket, Key=target.key, UploadId=upload_id)
        except (BotoCoreError, ClientError) as error:
            log.warning("the parts of an upload are left behind", key=target.key, reason=str(error))


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the storage itself said that it did nothing."""
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR


class FileSection(io.RawIOBase):
    """A stretch of an open file, with a position of its own. When the file is closed, reading fails."""

    def __init__(self, file: IO[bytes], start: int, size_bytes: int) -> None:
        self._file = file
        self._start = start
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read again."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer, or as much of it as there are bytes left."""
        view = memoryview(buffer)
        wanted = min(len(view), self._size_bytes - self._position)
        found = os.preadv(self._file.fileno(), [view[:wanted]], self._start + self._position)
        self._position += found
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place."""
        self._file.fileno()  # a closed file is not sent again
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[
            whence
        ] + offset
        return self._position
