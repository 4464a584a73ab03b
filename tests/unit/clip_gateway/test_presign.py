"""Presigned URLs are the same as boto3's."""

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import botocore.auth
import pytest

from clip_gateway.domain import Presentation, Refusal, Refused, attachment
from clip_gateway.presign import Presigner
from clip_shared.storage import Addressing, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Method = Literal["get_object", "head_object"]

PLAIN = Presentation("clips", "clips/ann/1/2.mp4", "video/mp4", "inline")
NAMED = Presentation("clips", "clips/a_b-c/1/größe + 1~(2)&3.mp4", "video/mp4", attachment('"Größe" 🎉.mp4'))


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sign at the same time."""
    moment = datetime(2026, 11, 26, 12)  # noqa: DTZ001 - as botocore has it
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: moment)


def client_of(region: str, endpoint: str | None = None, addressing: Addressing = "path") -> "S3Client":
    return s3_client(
        region=region, endpoint=endpoint, addressing=addressing, access_key="key", secret_key="a secret/+"
    )


CLIENTS = {
    "path": client_of("us-east-1", "http://127.0.0.1:8333"),
    "under a path": client_of("us-east-1", "http://127.0.0.1:8333/storage"),
    "virtual": client_of("auto", "https://s3.example", "virtual"),
    "AWS": client_of("eu-central-1", addressing="virtual"),
    "AWS, path": client_of("us-east-1"),
}


def by_boto3(client: "S3Client", what: Presentation, method: Method, seconds: int) -> str:
    return client.generate_presigned_url(
        method,
        Params={
            "Bucket": what.bucket,
            "Key": what.key,
            "ResponseContentType": what.content_type,
            "ResponseContentDisposition": what.content_disposition,
        },
        ExpiresIn=seconds,
    )


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("what", [PLAIN, NAMED], ids=["plain", "named"])
def test_a_url_is_boto3s(name: str, what: Presentation) -> None:
    client = CLIENTS[name]
    presigner = Presigner(client, "clips", longest_seconds=900)
    assert presigner.url(what, seconds_left=None) == by_boto3(client, what, "get_object", 900)
    assert presigner.url(what, seconds_left=7.9, head=True) == by_boto3(client, what, "head_object", 7)


def test_a_url_by_passing_credentials_is_boto3s(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name in names:
        monkeypatch.setenv(name, f"the value of {name}")
    client = s3_client(region="us-east-1")
    url = Presigner(client, "clips", longest_seconds=900).url(PLAIN, seconds_left=None)
    assert "X-Amz-Security-Token=" in url
    assert url == by_boto3(client, PLAIN, "get_object", 900)


def test_another_bucket_is_refused() -> None:
    presigner = Presigner(CLIENTS["path"], "clips", longest_seconds=900)
    with pytest.raises(Refused) as refused:
        presigner.url(Presentation("vods", "clips/ann/1/2.mp4", "video/mp4", "inline"), seconds_left=None)
    assert refused.value.reason is Refusal.MISPLACED
