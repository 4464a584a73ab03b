"""S3 clients for every service, the clips' bucket, and the command that creates buckets."""

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError
from prometheus_client import CollectorRegistry, Gauge
from pydantic import AnyHttpUrl, Field, SecretStr, model_validator

from clip_shared.errors import PermanentError, TransientError
from clip_shared.refused_connections import Cause, OnRefused, certificate_cause, uncounted
from clip_shared.settings import EnvironmentSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READ_TIMEOUT_SECONDS = 20.0

Addressing = Literal["path", "virtual"]
"""Place of the bucket's name in the URLs of an S3 server: in the path, or before the server's name."""


class FreeStorageSettings(EnvironmentSettings):
    """The platform's own bucket for clips. Without FREE_STORAGE_BUCKET, storage is not configured."""

    free_storage_endpoint: AnyHttpUrl | None = Field(
        default=None, description="S3 endpoint, as services reach it; unset: AWS."
    )
    free_storage_public_endpoint: AnyHttpUrl | None = Field(
        default=None, description="S3 endpoint, as browsers reach it; unset: the same."
    )
    free_storage_region: str = Field(
        default="us-east-1", min_length=1, description="S3 region for signatures."
    )
    free_storage_addressing: Addressing = Field(
        default="path",
        description="Place of the bucket's name in URLs: path (server/bucket) or virtual (bucket.server).",
    )
    free_storage_bucket: str | None = Field(
        default=None,
        min_length=3,
        max_length=63,
        description="The clips' bucket; unset: storage is not configured.",
    )
    free_storage_access_key: str | None = Field(
        default=None,
        min_length=1,
        description="S3 access key; unset: found as the AWS tools do (environment, profile, workload"
        " identity, instance metadata).",
    )
    free_storage_secret_key: SecretStr | None = Field(
        default=None, min_length=1, description="S3 secret key, together with the access key."
    )

    @model_validator(mode="after")
    def _whole_or_absent(self) -> Self:
        require_both_keys("FREE_STORAGE", self.free_storage_access_key, self.free_storage_secret_key)
        if self.free_storage_bucket is None and (
            self.free_storage_endpoint or self.free_storage_public_endpoint or self.free_storage_access_key
        ):
            raise ValueError("free storage is half configured: FREE_STORAGE_BUCKET is missing")
        return self


def require_both_keys(name: str, access_key: str | None, secret_key: SecretStr | None) -> None:
    """Raise ValueError when only the access key or only the secret key is given."""
    if (access_key is None) != (secret_key is None):
        raise ValueError(f"{name}: an access key and a secret key go together: set both, or neither")


class S3Waiting(TypedDict, total=False):
    """How long an S3 client waits to connect (3 s) and for an answer (20 s), and how often it tries (3)."""

    connect_timeout_seconds: float
    read_timeout_seconds: float
    max_attempts: int


def s3_client(
    *,
    region: str,
    endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    addressing: Addressing = "path",
    on_refused: OnRefused = uncounted,
    **waiting: Unpack[S3Waiting],
) -> "S3Client":
    """Return a client for any S3-compatible server. It blocks: call it from a thread (``asyncio.to_thread``).

    Without an ``endpoint`` the server is AWS. Without keys, boto3 looks for them in the environment, the
    profile, the workload identity and the instance metadata.

    Signatures are version 4 everywhere (by default, boto3 presigns us-east-1 with version 2). Checksums that
    other servers may not know are sent only where the API demands them; DeleteObjects carries Content-MD5,
    which every server knows. Outages are retried with exponential backoff and jitter, in botocore's standard
    mode. ``on_refused`` is called when the server refuses our keys, or its certificate is not good.

    Raises:
        PermanentError: no keys are given, and boto3 finds none.
    """
    client = _session(access_key).client(
        "s3",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        endpoint_url=endpoint.rstrip("/") if endpoint else None,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing},
            connect_timeout=waiting.get("connect_timeout_seconds", 3),
            read_timeout=waiting.get("read_timeout_seconds", READ_TIMEOUT_SECONDS),
            retries={"total_max_attempts": waiting.get("max_attempts", 3), "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register("before-call.s3.DeleteObjects", _check_by_md5)
    client.meta.events.register("after-call.s3", partial(_report_refusal, on_refused))
    client.meta.events.register("after-call-error.s3", partial(_report_failed_connection, on_refused))
    return client


@dataclass(frozen=True)
class FreeStorage:
    """The clips' bucket and its server. Made once in a service, from its settings.

    ``on_refused`` is called when the server refuses our keys, or its certificate is not good.
    """

    settings: FreeStorageSettings
    on_refused: OnRefused = uncounted

    @property
    def is_configured(self) -> bool:
        """Whether FREE_STORAGE_BUCKET is set."""
        return self.settings.free_storage_bucket is not None

    @property
    def bucket(self) -> str:
        """The name of the clips' bucket.

        Raises:
            PermanentError: FREE_STORAGE_BUCKET is not set.
        """
        if self.settings.free_storage_bucket is None:
            raise PermanentError("free storage is not configured: set FREE_STORAGE_BUCKET")
        return self.settings.free_storage_bucket

    def client(self, **waiting: Unpack[S3Waiting]) -> "S3Client":
        """Return a client of the server as services reach it. Raises as :func:`s3_client` does."""
        return self._client_of(self.settings.free_storage_endpoint, **waiting)

    def public_client(self) -> "S3Client":
        """Return a client of the server as browsers reach it, to presign URLs: a signature covers the host.

        Raises as :func:`s3_client` does.
        """
        settings = self.settings
        return self._client_of(settings.free_storage_public_endpoint or settings.free_storage_endpoint)

    def _client_of(self, endpoint: AnyHttpUrl | None, **waiting: Unpack[S3Waiting]) -> "S3Client":
        secret_key = self.settings.free_storage_secret_key
        return s3_client(
            endpoint=str(endpoint) if endpoint else None,
            region=self.settings.free_storage_region,
            access_key=self.settings.free_storage_access_key,
            secret_key=secret_key.get_secret_value() if secret_key else None,
            addressing=self.settings.free_storage_addressing,
            on_refused=self.on_refused,
            **waiting,
        )

    def show_configured(self, registry: CollectorRegistry) -> None:
        """Export whether the bucket is configured."""
        Gauge(
            "clips_storage_configured",
            "1 when this process has a bucket for clips (FREE_STORAGE_BUCKET is set), else 0: then every"
            " highlight is skipped.",
            registry=registry,
        ).set(self.is_configured)


def _session(access_key: str | None) -> boto3.Session:
    try:
        if access_key is not None:
            return _session_for_keys()
        session = boto3.Session()
        if session.get_credentials() is not None:
            return session
    except BotoCoreError as error:
        raise PermanentError(f"no S3 credentials: {error}") from error
    raise PermanentError("no S3 credentials: set both keys, or let boto3 find some")


@cache
def _session_for_keys() -> boto3.Session:
    """Return one session for all clients with keys: a new session reads the API's description for 0.2 s."""
    return boto3.Session()


def _check_by_md5(params: dict[str, Any], **_others: object) -> None:
    """Replace the CRC32 that boto3 sends: GCS, s3proxy and older MinIO refuse it in DeleteObjects."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
    params["context"].pop("checksum", None)


# S3 error codes that mean that a key or a token is not good.
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}


def _report_refusal(on_refused: OnRefused, *, parsed: dict[str, Any], model: Any, **_others: object) -> None:
    code = parsed.get("Error", {}).get("Code")
    # Without the permission to list, S3 answers AccessDenied for a missing object: a refused read says
    # nothing about the keys.
    is_denied_write = code == "AccessDenied" and model.http["method"] not in {"GET", "HEAD"}
    if code in _BAD_CREDENTIALS or is_denied_write:
        on_refused(Cause.CREDENTIALS)


def _report_failed_connection(on_refused: OnRefused, *, exception: Exception, **_others: object) -> None:
    lacks_keys = isinstance(exception, NoCredentialsError | CredentialRetrievalError)
    if (cause := Cause.CREDENTIALS if lacks_keys else certificate_cause(exception)) is not None:
        on_refused(cause)


async def ensure_buckets(storage: FreeStorage, also: Iterable[str]) -> dict[str, bool]:
    """Create the clips' bucket, and the buckets ``also`` on the same server, where they are missing.

    Returns:
        for the name of each bucket, whether it was created now.

    Raises:
        PermanentError: free storage is not configured, or boto3 finds no keys.
        TransientError: the server cannot be reached, or refused.
    """
    names, client = [storage.bucket, *also], storage.client()
    return {name: await asyncio.to_thread(_ensure_bucket, client, name) for name in names}


def _ensure_bucket(client: "S3Client", name: str) -> bool:
    try:
        if name in {each["Name"] for each in client.list_buckets()["Buckets"]}:
            return False
        client.create_bucket(Bucket=name)
    except (BotoCoreError, ClientError) as error:
        raise TransientError(f"cannot create the bucket {name}: {error}") from error
    return True
