"""Source storage: where VODs lie, in buckets that a profile allows. They are named, never addressed."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path

from clip_cutter.arguments import RECONNECT_SECONDS, STALL_SECONDS, Input
from clip_cutter.domain.media import ByteRange
from clip_cutter.domain.policy import Skipped, unreadable
from clip_cutter.settings import SourceProfile
from clip_shared.errors import PermanentError, TransientError
from clip_shared.events import SkipReason, SourceObject
from clip_shared.storage import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

PARTIAL_CONTENT = 206
FORBIDDEN = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 412
MAX_BREAKS = 5  # of one read, which goes on where it broke off
CHUNK_BYTES = 256 * 1024
# 403 answers that speak of us, not of the object.
OUR_FAULT = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)


@dataclass(frozen=True)
class Vod:
    """A VOD as it was found: with another ``etag``, it is another one. ``url`` reads it for a while."""

    place: SourceObject
    size_bytes: int
    etag: str
    url: Input


class SourceStorage:
    """Every source profile, each behind a blocking S3 client that this class calls from threads.

    ``on_pulled`` is told how many bytes were read.
    """

    def __init__(
        self, profiles: Mapping[str, SourceProfile], *, url_seconds: float, on_pulled: Callable[[int], None]
    ) -> None:
        self._buckets = {name: profile.buckets for name, profile in profiles.items()}
        self._clients = {name: _client(profile) for name, profile in profiles.items()}
        self._url_seconds = int(url_seconds)
        self._on_pulled = on_pulled

    async def locate(self, source: SourceObject) -> Vod:
        """Find a VOD.

        Raises:
            PermanentError: the VOD's place is not one that this service may read.
            Skipped: ``source_missing``; ``source_unreadable`` where it is empty.
            TransientError: the storage is down, or refuses us.
        """
        client = self._allowed(source)
        found = await asyncio.to_thread(_look, client, source)
        if found["ContentLength"] == 0:
            raise unreadable("the file is empty")
        place = {"Bucket": source.bucket, "Key": source.key}
        url = client.generate_presigned_url("get_object", Params=place, ExpiresIn=self._url_seconds)
        return Vod(source, found["ContentLength"], found["ETag"], Input(url, ca_file=_authorities()))

    async def peek(self, vod: Vod, wanted: ByteRange) -> bytes:
        """A few bytes of a VOD. Raises as :meth:`read`."""
        with BytesIO() as file:
            await self.read(vod, wanted, file)
            return file.getvalue()

    async def read(self, vod: Vod, wanted: ByteRange, file: IO[bytes]) -> None:
        """Append bytes of a VOD to a file. A connection that breaks is taken up where it was.

        Raises:
            Skipped: ``source_missing``: the VOD has gone meanwhile.
            TransientError: the storage is down or refuses us, or the VOD is another one now.
        """
        client = self._allowed(vod.place)
        # A thread cannot be cancelled. A cancelled job closes the file: the thread's next write fails.
        await asyncio.to_thread(_read, client, vod, wanted, file, self._on_pulled)

    async def confirm(self, source: SourceObject) -> None:
        """Look again at a VOD that could not be read: returns if that was not the storage's fault.

        Raises:
            Skipped: ``source_missing``: it has gone meanwhile.
            TransientError: the storage is down, or refuses us.
        """
        client = self._allowed(source)
        await asyncio.to_thread(_read_a_byte, client, source)

    def check(self) -> str | None:
        """What keeps this service from reading any VOD."""
        return None if self._clients else "no source profile is configured (SOURCE_STORAGE_PROFILES)"

    def _allowed(self, source: SourceObject) -> "S3Client":
        if source.profile not in self._clients:
            raise PermanentError(f"unknown source profile {source.profile!r}")
        if source.bucket not in self._buckets[source.profile]:
            raise PermanentError(f"source profile {source.profile!r} does not allow bucket {source.bucket!r}")
        # Some servers and clients resolve these, and end up in another bucket.
        if {".", ".."} & set(source.key.split("/")):
            raise PermanentError("the source key contains a relative path")
        return self._clients[source.profile]


def _authorities() -> str:
    """The certificates that boto3 trusts. ffmpeg and ffprobe differ in what they do when not told."""
    return os.environ.get("AWS_CA_BUNDLE") or str(get_cert_path(verify=True))


def _client(profile: SourceProfile) -> "S3Client":
    return s3_client(
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
        if _status(error) == FORBIDDEN:
            _read_a_byte(client, source)  # the answer to a HEAD has no body that says why
        raise _outcome(error) from error
    except BotoCoreError as error:
        raise _unreachable(error) from error


def _read_a_byte(client: "S3Client", source: SourceObject) -> None:
    try:
        client.get_object(Bucket=source.bucket, Key=source.key, Range="bytes=0-0")["Body"].read()
    except ClientError as error:
        raise _outcome(error) from error
    except BotoCoreError as error:
        raise _unreachable(error) from error


def _read(
    client: "S3Client", vod: Vod, wanted: ByteRange, file: IO[bytes], on_pulled: Callable[[int], None]
) -> None:
    position, breaks = wanted.start, 0
    while position < wanted.end:
        try:
            for chunk in _chunks(client, vod, ByteRange(position, wanted.end)):
                file.write(chunk)
                on_pulled(len(chunk))
                position += len(chunk)
        except ClientError as error:
            raise _outcome(error) from error
        except BotoCoreError as error:
            breaks += 1
            if breaks > MAX_BREAKS:
                raise _unreachable(error) from error
            time.sleep(min(0.1 * 2**breaks, RECONNECT_SECONDS))


def _chunks(client: "S3Client", vod: Vod, wanted: ByteRange) -> Iterator[bytes]:
    answer = client.get_object(
        Bucket=vod.place.bucket,
        Key=vod.place.key,
        Range=f"bytes={wanted.start}-{wanted.end - 1}",
        IfMatch=vod.etag,
    )
    if (
        answer["ResponseMetadata"]["HTTPStatusCode"] != PARTIAL_CONTENT
        or answer["ContentLength"] != wanted.size
    ):
        raise TransientError("source storage gave other bytes than those asked for")
    with closing(answer["Body"]) as body:
        yield from body.iter_chunks(CHUNK_BYTES)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _outcome(error: ClientError) -> Exception:
    """What an error answer means for the job.

    S3 says 403 for an object that is not there to whoever may not list the bucket.
    """
    code = error.response.get("Error", {}).get("Code", "unknown")
    if _status(error) == NOT_FOUND or (_status(error) == FORBIDDEN and code not in OUR_FAULT):
        return Skipped(SkipReason.SOURCE_MISSING, "The VOD is not in storage any more.")
    if _status(error) == PRECONDITION_FAILED:
        return TransientError("the VOD was replaced while it was read")
    return TransientError(f"source storage refused: {code}")


def _unreachable(error: BotoCoreError) -> TransientError:
    return TransientError(f"source storage cannot be reached: {type(error).__name__}")
