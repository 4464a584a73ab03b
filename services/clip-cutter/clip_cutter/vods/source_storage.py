"""Source storage: the S3 servers that VODs are read from.

A highlight names a source profile, a bucket and a key, never an address: only configured servers are reached.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO
from typing import IO, TYPE_CHECKING, TypeVar

import structlog
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.httpsession import get_cert_path
from botocore.parsers import ResponseParserError

from clip_cutter.containers.model import ByteRange
from clip_cutter.domain.policy import Skipped, unreadable
from clip_cutter.ffmpeg.input import RECONNECT_SECONDS, STALL_SECONDS, FfmpegInput
from clip_cutter.settings import SourceProfile
from clip_shared.backoff import backoff_seconds
from clip_shared.contracts.events import SkipReason, SourceObject
from clip_shared.errors import ClipsError, PermanentError, TransientError
from clip_shared.refused_connections import OnRefused, uncounted
from clip_shared.storage import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.2
MAX_BREAKS = 5  # of one read, which continues where the connection broke
CHUNK_BYTES = 256 * 1024
# A denied ListBucket is reported for this time; after the right is granted, no restart is needed.
DENIED_SECONDS = 3600.0
# Statuses that mean a problem of ours, of a proxy, or of the moment, and not a wrong request; and error codes
# that mean the same although their status is 400.
OUTAGES = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
OUTAGE_CODES = frozenset(
    {"AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "RequestTimeout", "TokenRefreshRequired"}
)
KEY_SERVICE = "KMS."  # error codes of the key service: no object can be decrypted

Answer = TypeVar("Answer")


class SourceRefused(ClipsError):
    """Source storage rejected the request itself; sending it again is unlikely to help."""


@dataclass(frozen=True)
class StoredVod:
    """A VOD in source storage. ``input`` is a presigned URL of it, valid for a limited time."""

    place: SourceObject
    size_bytes: int
    etag: str
    input: FfmpegInput
    storage: "SourceStorage" = field(repr=False)

    @property
    def identity(self) -> str:
        """The profile, bucket, key and ETag: a replaced object counts as another VOD."""
        return "/".join((self.place.profile, self.place.bucket, self.place.key, self.etag))

    async def peek(self, wanted: ByteRange) -> bytes:
        """See :class:`clip_cutter.vods.source.Source`."""
        with BytesIO() as file:
            await self.read(wanted, file)
            return file.getvalue()

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        """See :class:`clip_cutter.vods.source.Source`."""
        await self.storage.read(self, wanted, file)


class SourceStorage:
    """All source profiles, each with a blocking S3 client that this class calls from threads.

    ``on_pulled`` is called with the number of bytes after each chunk that was read.
    """

    def __init__(
        self,
        profiles: Mapping[str, SourceProfile],
        *,
        url_seconds: float,
        on_pulled: Callable[[int], None],
        on_refused: OnRefused = uncounted,
    ) -> None:
        self._buckets = {name: profile.buckets for name, profile in profiles.items()}
        self._clients = {name: _client(profile, on_refused) for name, profile in profiles.items()}
        self._url_seconds = int(url_seconds)
        self._on_pulled = on_pulled
        self._readable: dict[tuple[str, str], str] = {}  # the key that was read last, by profile and bucket
        self._denied: dict[tuple[str, str], float] = {}  # when ListBucket was denied, by profile and bucket

    async def locate(self, source: SourceObject) -> StoredVod:
        """Find a VOD: its size, its ETag, and a presigned URL.

        Raises:
            PermanentError: no profile allows this place, or no object can have this key.
            Skipped: with the reason ``source_missing``; or ``source_unreadable`` if the VOD is empty or
            archived.
            SourceRefused: the storage rejected the request itself.
            TransientError: the storage is down, or denies access.
        """
        found = await self._ask(source, lambda client: _look(client, source))
        if "ETag" not in found:
            raise TransientError("the answer is not one of S3, it has no ETag: check the profile's endpoint")
        if found["ContentLength"] == 0:
            raise unreadable("the file is empty")
        self._readable[source.profile, source.bucket] = source.key
        place = {"Bucket": source.bucket, "Key": source.key}
        url = self._allowed(source).generate_presigned_url(
            "get_object", Params=place, ExpiresIn=self._url_seconds
        )
        readable = FfmpegInput(url, ca_file=_authorities())
        return StoredVod(source, found["ContentLength"], found["ETag"], readable, self)

    async def read(self, vod: StoredVod, wanted: ByteRange, file: IO[bytes]) -> None:
        """Write the bytes of a range to a file. If the connection breaks, reading continues where it stopped.

        Raises:
            Skipped: the VOD is no longer in storage, or is archived.
            SourceRefused: the storage rejected the request itself.
            TransientError: the storage is down or denies access, or the VOD was replaced meanwhile.
        """
        # A thread cannot be cancelled. A cancelled job closes the file: the thread's next write fails.
        await self._ask(vod.place, lambda client: _read(client, vod, wanted, file, self._on_pulled))

    async def confirm(self, source: SourceObject) -> None:
        """Read one byte of a VOD that could not be read, to rule out that the storage was to blame.

        Raises as :meth:`read`.
        """
        await self._ask(source, lambda client: _read_a_byte(client, source))

    async def _ask(self, source: SourceObject, work: Callable[["S3Client"], Answer]) -> Answer:
        """Call ``work`` with the client of the VOD's profile, in a thread, and translate its errors."""
        client = self._allowed(source)
        try:
            return await asyncio.to_thread(work, client)
        except ClientError as error:
            raise await asyncio.to_thread(self._meaning, client, source, error) from error
        except ParamValidationError as error:
            raise PermanentError("the source key is not a valid name of an object") from error
        except BotoCoreError as error:
            raise TransientError(f"source storage cannot be reached: {type(error).__name__}") from error

    def _meaning(self, client: "S3Client", source: SourceObject, error: ClientError) -> Exception:
        """Return the error that a refusal means. A VOD is missing or archived only if the storage says so."""
        code, status = _code(error), _status(error)
        if code == "NoSuchKey":  # S3 answers this only if we may list the bucket
            self._denied.pop((source.profile, source.bucket), None)
        if code == "NoSuchKey" or (code == "AccessDenied" and self._is_missing(client, source)):
            return Skipped(
                SkipReason.SOURCE_MISSING, "The VOD is no longer in storage, so no clip can be cut from it."
            )
        if code == "InvalidObjectState":
            return Skipped(
                SkipReason.SOURCE_UNREADABLE,
                "The VOD is archived. It must be restored before clips can be cut from it.",
            )
        if code == "KeyTooLongError":
            return PermanentError(f"the source key is too long: {len(source.key)} characters")
        if status == HTTPStatus.PRECONDITION_FAILED:
            return TransientError("the VOD was replaced while it was read")
        is_outage = status in OUTAGES or code in OUTAGE_CODES or code.startswith(KEY_SERVICE)
        if _is_refusal(status) and not is_outage:
            return SourceRefused(f"source storage rejected the request: {code}")
        return TransientError(f"source storage refused: {code}")

    def _is_missing(self, client: "S3Client", source: SourceObject) -> bool:
        """Tell whether AccessDenied means a missing VOD: S3 answers so if we may not list the bucket.

        If we may list it, the list tells. Otherwise the VOD that this process read last is asked for: if that
        is denied too, we have lost our access, and nothing is known about the VOD.
        """
        bucket = (source.profile, source.bucket)
        try:
            listed = client.list_objects_v2(Bucket=source.bucket, Prefix=source.key, MaxKeys=1)
            if "IsTruncated" in listed:  # otherwise it is not a list, but an HTML page of a proxy
                self._denied.pop(bucket, None)
                return all(each["Key"] != source.key for each in listed.get("Contents", []))
        except ClientError as error:
            log.info("the source bucket cannot be listed", error=_code(error))
            if _code(error) == "AccessDenied":
                self._denied[bucket] = time.monotonic()
        except (BotoCoreError, ResponseParserError) as error:
            log.info("the source bucket cannot be listed", error=type(error).__name__)
        witness = self._readable.get(bucket, source.key)
        try:
            client.head_object(Bucket=source.bucket, Key=witness)
        except (BotoCoreError, ClientError):
            return False
        return witness != source.key

    def check(self) -> str | None:
        """Return what keeps this service from reading VODs, or from noticing a missing VOD; None: nothing."""
        if not self._clients:
            return "no source profile is configured (SOURCE_STORAGE_PROFILES)"
        oldest = time.monotonic() - DENIED_SECONDS
        denied = [bucket for bucket, at in sorted(self._denied.copy().items()) if at > oldest]
        return "; ".join(map(_unlisted, denied)) or None

    def _allowed(self, source: SourceObject) -> "S3Client":
        if source.profile not in self._clients:
            raise PermanentError(
                f"unknown source profile {source.profile!r}: add it to SOURCE_STORAGE_PROFILES"
            )
        if source.bucket not in self._buckets[source.profile]:
            raise PermanentError(f"source profile {source.profile!r} does not allow bucket {source.bucket!r}")
        # Some servers and clients resolve "..", and read from another bucket.
        if {".", ".."} & set(source.key.split("/")):
            raise PermanentError("the source key contains a relative path")
        return self._clients[source.profile]


def _authorities() -> str:
    """Return the file of certificates that boto3 trusts, so that ffmpeg and ffprobe trust the same."""
    return os.environ.get("AWS_CA_BUNDLE") or str(get_cert_path(verify=True))


def _client(profile: SourceProfile, on_refused: OnRefused) -> "S3Client":
    return s3_client(
        on_refused=on_refused,
        endpoint=str(profile.endpoint) if profile.endpoint else None,
        region=profile.region,
        access_key=profile.access_key,
        secret_key=profile.secret_key.get_secret_value() if profile.secret_key else None,
        addressing=profile.addressing,
        read_timeout_seconds=STALL_SECONDS,
    )


def _look(client: "S3Client", source: SourceObject) -> "HeadObjectOutputTypeDef":
    try:
        return client.head_object(Bucket=source.bucket, Key=source.key)
    except ClientError as error:
        if _is_refusal(_status(error)):
            _read_a_byte(client, source)  # the answer to a HEAD has no body that says why
        raise


def _read_a_byte(client: "S3Client", source: SourceObject) -> None:
    client.get_object(Bucket=source.bucket, Key=source.key, Range="bytes=0-0")["Body"].read()


def _read(
    client: "S3Client", vod: StoredVod, wanted: ByteRange, file: IO[bytes], on_pulled: Callable[[int], None]
) -> None:
    position, breaks = wanted.start, 0
    while position < wanted.end:
        try:
            for chunk in _chunks(client, vod, ByteRange(position, wanted.end)):
                file.write(chunk)
                on_pulled(len(chunk))
                position += len(chunk)
        except BotoCoreError:
            breaks += 1
            if breaks > MAX_BREAKS:
                raise
            time.sleep(backoff_seconds(breaks, first=FIRST_PAUSE_SECONDS, longest=RECONNECT_SECONDS))


def _chunks(client: "S3Client", vod: StoredVod, wanted: ByteRange) -> Iterator[bytes]:
    answer = client.get_object(
        Bucket=vod.place.bucket,
        Key=vod.place.key,
        Range=f"bytes={wanted.start}-{wanted.end - 1}",
        IfMatch=vod.etag,
    )
    if (
        answer["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.PARTIAL_CONTENT
        or answer["ContentLength"] != wanted.size
    ):
        raise TransientError(
            f"source storage answered with status {answer['ResponseMetadata']['HTTPStatusCode']} and"
            f" {answer['ContentLength']} bytes instead of 206 and {wanted.size}"
        )
    with closing(answer["Body"]) as body:
        yield from body.iter_chunks(CHUNK_BYTES)


def _unlisted(bucket: tuple[str, str]) -> str:
    profile, name = bucket
    return f"profile {profile}: grant s3:ListBucket on {name}; without it, a missing VOD blocks its partition"


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "unknown")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_refusal(status: int) -> bool:
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
