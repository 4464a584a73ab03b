"""Source storage: where VODs lie, in buckets that a profile allows. They are named, never addressed."""

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path

from clip_cutter.arguments import Input
from clip_cutter.domain.policy import Skipped, unreadable
from clip_cutter.settings import SourceProfile
from clip_shared.errors import PermanentError, TransientError
from clip_shared.events import SkipReason, SourceObject
from clip_shared.storage import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NOT_FOUND = 404
FORBIDDEN = 403
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


class SourceStorage:
    """Every source profile, each behind a blocking S3 client that this class calls from threads."""

    def __init__(self, profiles: Mapping[str, SourceProfile], *, url_seconds: float) -> None:
        self._buckets = {name: profile.buckets for name, profile in profiles.items()}
        self._clients = {name: _client(profile) for name, profile in profiles.items()}
        self._url_seconds = int(url_seconds)

    async def locate(self, source: SourceObject) -> Input:
        """A URL that reads a VOD for a while.

        Raises:
            PermanentError: the VOD's place is not one that this service may read.
            Skipped: ``source_missing``; ``source_unreadable`` where it is empty.
            TransientError: the storage is down, or refuses us.
        """
        client = self._allowed(source)
        if await asyncio.to_thread(_is_empty, client, source):
            raise unreadable("the file is empty")
        place = {"Bucket": source.bucket, "Key": source.key}
        url = client.generate_presigned_url("get_object", Params=place, ExpiresIn=self._url_seconds)
        return Input(url, ca_file=_authorities())

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
        endpoint=str(profile.endpoint),
        region=profile.region,
        access_key=profile.access_key,
        secret_key=profile.secret_key.get_secret_value(),
    )


def _is_empty(client: "S3Client", source: SourceObject) -> bool:
    try:
        return client.head_object(Bucket=source.bucket, Key=source.key)["ContentLength"] == 0
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


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _outcome(error: ClientError) -> Exception:
    """What an error answer means for the job.

    S3 says 403 for an object that is not there to whoever may not list the bucket.
    """
    code = error.response.get("Error", {}).get("Code", "unknown")
    if _status(error) == NOT_FOUND or (_status(error) == FORBIDDEN and code not in OUR_FAULT):
        return Skipped(SkipReason.SOURCE_MISSING, "The VOD is not in storage any more.")
    return TransientError(f"source storage refused: {code}")


def _unreachable(error: BotoCoreError) -> TransientError:
    return TransientError(f"source storage cannot be reached: {type(error).__name__}")
