"""Upload a file to S3 while it is verified; the object appears when the upload is finished.

A large file is uploaded in parts, several at a time, and appears with the request that completes the upload.
A small file is sent with one request, after it is verified.
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
# For smaller files, the two additional requests of a multipart upload take longer than they save.
LARGE_BYTES = 8 * MEBIBYTE
PARTS_AT_ONCE = 4
# S3's limits: the least size of each part but the last, and the most parts.
MIN_PART_BYTES = 5 * MEBIBYTE
MAX_PARTS = 10_000
NOT_S3 = "the answer is not one of S3: check FREE_STORAGE_ENDPOINT and the proxies before it"

Answer = TypeVar("Answer", bound=Mapping[str, Any])


@dataclass(frozen=True)
class UploadTarget:
    """The bucket and key of an object to upload. ``headers``: its headers and metadata, named as by boto3."""

    client: "S3Client"
    bucket: str
    key: str
    headers: Mapping[str, Any]

    def ask(self, call: "Callable[..., Answer]", proof: str, **arguments: Any) -> Answer:
        """Send a request about the object, and return the answer. Blocks.

        Raises:
            TransientError: the storage is down, denies access, or the answer lacks the field ``proof``, so
                that it does not come from S3.
        """
        try:
            answer = call(Bucket=self.bucket, Key=self.key, **arguments)
        except (BotoCoreError, ClientError) as error:
            raise outage(self.bucket, error) from error
        except ResponseParserError as error:
            raise TransientError(f"bucket {self.bucket}: {NOT_S3}") from error
        if proof not in answer:  # an HTML page of a proxy looks like success to boto3
            raise TransientError(f"bucket {self.bucket}: {NOT_S3}")
        return answer


def outage(bucket: str, error: BotoCoreError | ClientError) -> TransientError:
    """Return a refusal as an outage: the bucket is the platform's own, so a refusal is a fault to repair."""
    return TransientError(f"bucket {bucket}: {error}")


class ObjectUpload(Protocol):
    """An upload of one object that has begun."""

    async def finish(self) -> None:
        """Wait for the upload to end, and make the object visible.

        Raises:
            TransientError: the storage is down, or denies access.
        """
        ...

    async def abort(self) -> None:
        """Remove the parts that were sent. Does nothing after :meth:`finish` has made the object."""
        ...


@asynccontextmanager
async def begin(target: UploadTarget, path: Path) -> AsyncIterator[ObjectUpload]:
    """Begin to upload a file. An upload that is not finished at the end of the context is aborted."""
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
    """An upload with one PutObject request, which is sent when the upload is finished."""

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
    """A multipart upload. Threads send the parts from the moment it is created."""

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
        # Wait: a part that arrives after the upload was aborted would stay in the bucket.
        await asyncio.wait([self._sending])
        if not self._sending.cancelled():
            self._sending.exception()  # retrieved, so that asyncio does not log it
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
        """Complete the upload: S3 puts the parts together.

        If the storage does not answer, it may have made the object, or make it later, and to remove the parts
        of an object damages it on some servers. So the parts stay; a lifecycle rule of the bucket removes
        them.
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
            log.warning("an upload could not be aborted, its parts stay", key=target.key, reason=str(error))


def _is_refusal(error: BaseException | None) -> bool:
    """Tell whether the storage answered that it refused the request (4xx), so that it did nothing."""
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR


class FileSection(io.RawIOBase):
    """A part of an open file, with a position of its own. Reading fails after the file is closed."""

    def __init__(self, file: IO[bytes], start: int, size_bytes: int) -> None:
        self._file = file
        self._start = start
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        """See :class:`io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See :class:`io.RawIOBase`."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read up to ``len(buffer)`` bytes; fewer at the end of the part."""
        view = memoryview(buffer)
        wanted = min(len(view), self._size_bytes - self._position)
        found = os.preadv(self._file.fileno(), [view[:wanted]], self._start + self._position)
        self._position += found
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, relative to the start of the part."""
        self._file.fileno()  # raises if the file is closed: botocore must not send it again
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[
            whence
        ] + offset
        return self._position
