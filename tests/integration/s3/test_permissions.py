"""The policies in deploy/s3/policies allow each service its work, and nothing else."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from clip_cutter.uploads import LARGE_BYTES, MultipartUpload
from clip_shared.contracts.clip_keys import poster_key, video_key
from clip_shared.contracts.events import clip_id_for
from clip_shared.storage import FreeStorage, FreeStorageSettings
from local_stack.servers.servers import Addresses
from tests.integration.s3.conftest import IS_FOREIGN, METADATA, Services, use

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[3]
POLICIES = ROOT / "deploy" / "s3" / "policies"
pytestmark = pytest.mark.skipif(IS_FOREIGN, reason="the users of this S3 server cannot be changed")
Become = Callable[..., None]


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch, addresses: Addresses, s3: "S3Client") -> Iterator[Become]:  # noqa: ARG001 - there are buckets
    """Let the services act as a user with the policy of one of them, without some permissions."""
    iam = boto3.client(
        "iam",
        endpoint_url=addresses.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=addresses.s3_access_key,
        aws_secret_access_key=addresses.s3_secret_key,
    )
    users: dict[str, str] = {}

    def act_as(service: str, *, without: str = "-") -> None:
        policy = json.loads((POLICIES / f"{service}.json").read_text())
        policy["Statement"] = [each for each in policy["Statement"] if without not in each["Action"]]
        user = f"{service}-{uuid4().hex[:8]}"
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="clips", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        users[user] = key["AccessKeyId"]
        use(
            monkeypatch,
            endpoint=addresses.s3_endpoint_url,
            access_key=key["AccessKeyId"],
            secret_key=key["SecretAccessKey"],
        )

    yield act_as
    for user, key_id in users.items():
        iam.delete_access_key(UserName=user, AccessKeyId=key_id)
        iam.delete_user_policy(UserName=user, PolicyName="clips")
        iam.delete_user(UserName=user)


@pytest.fixture
def keys() -> tuple[str, str]:
    name = uuid4().hex
    return video_key("ann", clip_id_for(name), name), poster_key("ann", clip_id_for(name), name)


def refused(call: str, **arguments: str) -> bool:
    """Return whether the present user is refused."""
    try:
        getattr(FreeStorage(FreeStorageSettings()).client(), call)(Bucket="clips", **arguments)
    except ClientError as error:
        return "AccessDenied" in str(error)
    return False


@pytest.mark.parametrize("without", ["-", "s3:ListBucket"])
async def test_the_cutter_uploads_and_finds_clips(  # noqa: PLR0917 - fixtures
    become: Become, services: Services, s3: "S3Client", keys: tuple[str, str], tmp_path: Path, without: str
) -> None:
    become("clip-cutter", without=without)
    video, poster = keys
    assert await services.cutter.find(video) is None
    stored = await services.upload(tmp_path, video, poster)
    assert await services.cutter.find(video) == stored
    assert await services.cutter.check() is None
    large = bytes(LARGE_BYTES)
    stored = await services.upload(tmp_path, video, poster, large)
    assert await services.cutter.find(video) == stored
    (tmp_path / "clip.mp4").write_bytes(large)
    async with services.cutter.upload(tmp_path / "clip.mp4", video, METADATA) as upload:
        assert isinstance(upload.transfer, MultipartUpload)
        await asyncio.shield(upload.transfer._sending)
    assert s3.list_multipart_uploads(Bucket="clips").get("Uploads", []) == []
    assert refused("delete_object", Key=video)
    assert refused("put_object", Key="vods/recording.mp4")
    assert refused("get_object", Key="vods/recording.mp4")


async def test_the_gateways_urls_open_clips(
    become: Become, services: Services, s3: "S3Client", keys: tuple[str, str]
) -> None:
    s3.put_object(Bucket="clips", Key=keys[0], Body=b"a video")
    s3.put_object(Bucket="clips", Key="vods/recording.mp4", Body=b"not a clip")
    become("clip-gateway")
    async with httpx.AsyncClient() as browser:
        assert (await browser.get(services.url(keys[0]))).content == b"a video"
        assert (await browser.get(services.url("vods/recording.mp4"))).status_code == 403
    assert refused("delete_object", Key=keys[0])
    assert refused("put_object", Key=keys[0])
    assert refused("list_objects_v2", Prefix="clips/")


@pytest.mark.parametrize("without", ["-", "s3:GetBucketVersioning"])
async def test_the_janitor_deletes_and_lists_clips(
    become: Become, services: Services, s3: "S3Client", keys: tuple[str, str], without: str
) -> None:
    for key in keys:
        s3.put_object(Bucket="clips", Key=key, Body=b"x")
    become("janitor", without=without)
    assert await services.janitor.check() is None
    assert [each.key async for page in services.janitor.pages(keys[0]) for each in page] == [keys[0]]
    assert await services.janitor.delete(keys) == {}
    assert refused("list_objects_v2")
    assert refused("delete_object", Key="vods/recording.mp4")
    assert refused("put_object", Key=keys[0])


def test_the_page_names_every_permission() -> None:
    page = (ROOT / "docs" / "storage.md").read_text()
    for file in (POLICIES / f"{name}.json" for name in ("clip-cutter", "clip-gateway", "janitor")):
        rows = re.findall(rf"^\| {file.stem} \|.*(?:\n\| \|.*)*", page, re.MULTILINE)
        actions = set(re.findall(r"s3:[A-Z]\w+", file.read_text()))
        assert actions <= set(re.findall(r"`(s3:\w+)`", "\n".join(rows)))
