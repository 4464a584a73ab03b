"""Free storage: the bucket for clips. A clip's poster is stored first, then its video.

So a video that is in the bucket is complete. The content of the announcement is stored as the video's
metadata: if the highlight is redelivered, the stored clip is found and announced again with the same content.
"""

import asyncio
import base64
import binascii
import zlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import AwareDatetime, Field, ValidationError

from clip_cutter.domain.policy import Skipped
from clip_cutter.uploads import ObjectUpload, UploadTarget, begin, outage
from clip_shared.contracts.events import (
    Contract,
    CutReceipt,
    HighlightKind,
    Identifier,
    PositiveSeconds,
    Score,
    SkipReason,
    Title,
)
from clip_shared.http.operations import CHECK_TIMEOUT_SECONDS
from clip_shared.storage import FreeStorage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

VIDEO_TYPE = "video/mp4"
POSTER_TYPE = "image/jpeg"
# Objects never change. How long they can be reached is a matter of their presigned URLs.
CACHE_CONTROL = "private, max-age=604800, immutable"
METADATA_NAME = "clip-created"
MAX_METADATA_BYTES = (
    2048 - len("x-amz-meta-") - len(METADATA_NAME)
)  # S3's limit for all of an object's metadata
MAX_REASON = 150  # characters of each text of a receipt: all of them, and the longest title, fit
MAX_UNPACKED_BYTES = 64 * 1024
FORBIDDEN, NOT_FOUND = 403, 404
# Never written. Readiness reads this key, because the cutter needs no permission to ask about the bucket.
PROBE_KEY = "clips/.readiness"


class ClipMetadata(Contract):
    """The content of a clip's announcement that does not follow from its keys, stored with the video."""

    source_vod_id: Identifier
    kind: HighlightKind
    title: Title
    score: Score | None
    highlight_detected_at: AwareDatetime
    duration_seconds: PositiveSeconds
    cut_receipt: CutReceipt
    created_at: AwareDatetime

    def packed(self) -> str:
        """Return the metadata as ASCII, which S3 demands: compressed JSON in base64."""
        return base64.urlsafe_b64encode(zlib.compress(self.model_dump_json().encode(), 9)).decode()

    @classmethod
    def unpacked(cls, text: str) -> Self:
        """Read what :meth:`packed` returned.

        Raises:
            ValueError: the text is not packed metadata.
        """
        try:
            data = zlib.decompressobj().decompress(base64.urlsafe_b64decode(text), MAX_UNPACKED_BYTES)
        except (binascii.Error, zlib.error) as error:
            raise ValueError("not the metadata of a clip") from error
        return cls.model_validate_json(data)


class StoredClip(Contract):
    """A clip in the free bucket."""

    bucket: str
    size_bytes: Annotated[int, Field(gt=0)]
    content_type: str
    metadata: ClipMetadata

    @classmethod
    def of(cls, bucket: str, video: Path, metadata: ClipMetadata) -> Self:
        """Describe the clip that a file will be when it is stored."""
        return cls(bucket=bucket, size_bytes=video.stat().st_size, content_type=VIDEO_TYPE, metadata=metadata)


class ClipStorage:
    """The free bucket, behind blocking S3 clients that this class calls from threads.

    ``prober`` has short timeouts, because readiness waits for it.
    """

    def __init__(self, client: "S3Client", bucket: str, *, prober: "S3Client") -> None:
        self._client = client
        self._prober = prober
        self.bucket = bucket

    async def find(self, key: str) -> StoredClip | None:
        """Return the clip whose video has this key; None if it is not stored, or has no readable metadata.

        Raises:
            TransientError: the storage is down, or denies access.
        """
        return await asyncio.to_thread(self._find, key)

    def _find(self, key: str) -> StoredClip | None:
        try:
            answer = self._client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            # The answer to a HEAD has no body with the reason: a GET tells it.
            if status == NOT_FOUND or (status == FORBIDDEN and self._absence(self._client, key)):
                return None
            raise outage(self.bucket, error) from error
        except BotoCoreError as error:
            raise outage(self.bucket, error) from error
        try:
            return StoredClip(
                bucket=self.bucket,
                size_bytes=answer["ContentLength"],
                content_type=answer.get("ContentType", VIDEO_TYPE),
                metadata=ClipMetadata.unpacked(answer["Metadata"].get(METADATA_NAME, "")),
            )
        except (ValueError, ValidationError) as error:
            log.warning("replacing an object without readable metadata", key=key, reason=str(error))
            return None

    @asynccontextmanager
    async def upload(self, video: Path, key: str, metadata: ClipMetadata) -> AsyncIterator["ClipUpload"]:
        """Begin to upload a clip's video. If it is not finished when the context ends, it is aborted."""
        target = self._target(key, VIDEO_TYPE, {METADATA_NAME: metadata.packed()})
        async with begin(target, video) as transfer:
            yield ClipUpload(self, transfer, StoredClip.of(self.bucket, video, metadata))

    async def put_poster(self, poster: Path, key: str) -> None:
        """Store a poster.

        Raises:
            TransientError: the storage is down, or denies access.
        """
        async with begin(self._target(key, POSTER_TYPE, {}), poster) as transfer:
            await transfer.finish()

    def _target(self, key: str, content_type: str, metadata: dict[str, str]) -> UploadTarget:
        headers = {"ContentType": content_type, "CacheControl": CACHE_CONTROL, "Metadata": metadata}
        return UploadTarget(self._client, self.bucket, key, headers)

    async def check(self) -> str | None:
        """Return what is wrong with our permissions on the bucket, if anything; reads one key to find out.

        Raises:
            TransientError: the storage does not answer, or denies access.
        """
        missing = await asyncio.to_thread(self._absence, self._prober, PROBE_KEY)
        return _CANNOT_LIST if missing == "AccessDenied" else None

    def _absence(self, client: "S3Client", key: str) -> str | None:
        """Return the code with which S3 reports a missing object; None if the object exists.

        The code is AccessDenied instead of NoSuchKey if we may not list the bucket.

        Raises:
            TransientError: the storage is down, or refused for another reason.
        """
        try:
            client.get_object(Bucket=self.bucket, Key=key, Range="bytes=0-0")["Body"].close()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in {"NoSuchKey", "AccessDenied"}:
                return code
            raise outage(self.bucket, error) from error
        except BotoCoreError as error:
            raise outage(self.bucket, error) from error
        return None


_CANNOT_LIST = (
    "the clips' bucket answers AccessDenied for a missing object: grant s3:ListBucket, and check that"
    " s3:GetObject and s3:PutObject are granted"
)


class UnconfiguredClipStorage:
    """Stands in for the clips' bucket where FREE_STORAGE_BUCKET is unset: every highlight is skipped."""

    async def find(self, key: str) -> StoredClip | None:  # noqa: ARG002 - as ClipStorage has it
        """Skip the highlight.

        Raises:
            Skipped: always, with the reason STORAGE_NOT_CONFIGURED.
        """
        raise _not_configured()

    def upload(
        self,
        video: Path,  # noqa: ARG002 - as ClipStorage has it
        key: str,  # noqa: ARG002
        metadata: ClipMetadata,  # noqa: ARG002
    ) -> AbstractAsyncContextManager["ClipUpload"]:
        """Skip the highlight. Raises as :meth:`find` does."""
        raise _not_configured()

    async def check(self) -> str:
        """Tell readiness which setting is missing."""
        return (
            "free storage is not configured: set FREE_STORAGE_BUCKET; until then every highlight is skipped"
        )


def _not_configured() -> Skipped:
    return Skipped(
        SkipReason.STORAGE_NOT_CONFIGURED,
        "Clips are not available on this platform at the moment, because it has no storage for them."
        " Nothing is wrong with your VOD.",
    )


def clip_storage_of(free_storage: FreeStorage) -> ClipStorage | UnconfiguredClipStorage:
    """Return the storage for clips; its stand-in if FREE_STORAGE_BUCKET is not set."""
    if not free_storage.is_configured:
        return UnconfiguredClipStorage()
    prober = free_storage.client(
        connect_timeout_seconds=1, read_timeout_seconds=CHECK_TIMEOUT_SECONDS - 1, max_attempts=1
    )
    return ClipStorage(free_storage.client(), free_storage.bucket, prober=prober)


@dataclass(frozen=True)
class ClipUpload:
    """The upload of a clip that has begun."""

    storage: ClipStorage
    transfer: ObjectUpload
    clip: StoredClip

    async def finish(self, poster: Path, poster_key: str) -> StoredClip:
        """Store the poster and then make the video visible, so that a visible video always has its poster.

        Raises:
            TransientError: the storage is down, or denies access.
        """
        await self.storage.put_poster(poster, poster_key)
        await self.transfer.finish()
        return self.clip
