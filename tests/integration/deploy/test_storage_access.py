"""SeaweedFS as docker-compose.yml starts it, and the permissions of each service's keys."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.support.deployment import ENVIRONMENT, ROOT, command_of, environment_of, services

from clip_shared.storage import s3_client
from local_stack.processes.ports import LOOPBACK, TWIN_OFFSET
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A bucket for VODs with another name than the default.
CONTAINERS = services(ENVIRONMENT | {"SOURCE_STORAGE_BUCKET": "recordings"})
PROGRAMS = Path(sys.executable).parent
CLIP, POSTER, VOD = "clips/account/clip/event.mp4", "clips/account/clip/event.jpg", "vods/account/vod.mp4"
FREE = ("clip-cutter", "clip-gateway", "janitor")


def keys_of(user: str) -> tuple[str, str]:
    """Return an identity's keys from the environment of the container that uses them."""
    container = environment_of(CONTAINERS[{"admin": "buckets", "sources": "clip-cutter"}.get(user, user)])
    if user == "sources":
        (profile,) = json.loads(container["SOURCE_STORAGE_PROFILES"]).values()
        return profile["access_key"], profile["secret_key"]
    return container["FREE_STORAGE_ACCESS_KEY"], container["FREE_STORAGE_SECRET_KEY"]


def client(endpoint: str, user: str) -> "S3Client":
    access_key, secret_key = keys_of(user)
    return s3_client(
        endpoint=endpoint, region="us-east-1", access_key=access_key, secret_key=secret_key, max_attempts=1
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The S3 server of docker-compose.yml on a loopback port, after its job "buckets"."""
    container = CONTAINERS["seaweedfs"]
    script, _ = container["entrypoint"]
    with Workspace() as workspace:
        ports = {part: workspace.ports.claim_with_twin(part) for part in ("s3", "master", "volume", "filer")}
        workspace.state.note_outside(
            *(f"/tmp/seaweedfs-{part}-grpc-{port + TWIN_OFFSET}.sock" for part, port in ports.items()),  # noqa: S108 - fixed in SeaweedFS
            *(f"/tmp/seaweedfs-{part}-{ports[part]}.sock" for part in ("filer", "s3")),  # noqa: S108 - as above
        )
        url = f"http://{LOOPBACK}:{ports['s3']}"
        data = workspace.state.folder / "data"
        data.mkdir()
        server = Process(
            "SeaweedFS of docker-compose.yml",
            [
                *(f"{ROOT}{script}", PROGRAMS / "weed", "-logtostderr=true", *container["command"]),
                # Added by the image's program.
                *(f"-dir={data}", "-volume.max=0", "-master.volumeSizeLimitMB=1024"),
                f"-s3.ip.bind={LOOPBACK}",
                *(f"-{part}.port={port}" for part, port in ports.items()),
            ],
            log=workspace.state.log("seaweedfs"),
            environment=workspace.state.environment() | environment_of(container),
            readiness_error=lambda: service_error(client(url, "admin")),
        )
        try:
            server.start()
            create_buckets(url)
            yield url
        finally:
            server.kill()


def service_error(admin: "S3Client") -> str | None:
    try:
        admin.create_bucket(Bucket="ready")
        admin.put_object(Bucket="ready", Key="ready", Body=b"ready?")
    except (BotoCoreError, ClientError) as error:
        return str(error)
    return None


def create_buckets(endpoint: str) -> None:
    script, *arguments = command_of(CONTAINERS["buckets"])
    subprocess.run(
        [PROGRAMS / script, *arguments],
        env={"PATH": os.environ["PATH"]}
        | environment_of(CONTAINERS["buckets"])
        | {"FREE_STORAGE_ENDPOINT": endpoint},
        check=True,
        timeout=60,
    )


Operation = Callable[["S3Client"], Any]
POLICY = '{"Version": "2012-10-17", "Statement": []}'
# Actions, and the identities that may do them. The bucket "clips" also has a VOD here.
OPERATIONS: dict[str, tuple[Operation, set[str]]] = {
    "read a clip": (lambda s3: s3.get_object(Bucket="clips", Key=CLIP), {"clip-cutter", "clip-gateway"}),
    "look for a clip": (lambda s3: s3.head_object(Bucket="clips", Key=CLIP), {"clip-cutter", "clip-gateway"}),
    "write a clip": (lambda s3: s3.put_object(Bucket="clips", Key=CLIP, Body=b"new"), {"clip-cutter"}),
    "delete a clip": (lambda s3: s3.delete_object(Bucket="clips", Key=CLIP), {"janitor"}),
    "delete clips": (lambda s3: delete_many(s3, "clips", CLIP, POSTER), {"janitor"}),
    "list clips": (
        lambda s3: s3.list_objects_v2(Bucket="clips", Prefix="clips/"),
        {"clip-cutter", "janitor"},
    ),
    "list one account's": (
        lambda s3: s3.list_objects_v2(Bucket="clips", Prefix="clips/account/"),
        {"clip-cutter", "janitor"},
    ),
    # Without this permission, S3 answers 403 in place of 404 for a clip that does not exist yet.
    "list everything": (lambda s3: s3.list_objects_v2(Bucket="clips"), {"clip-cutter"}),
    "ask for versions": (lambda s3: s3.get_bucket_versioning(Bucket="clips"), {"janitor"}),
    "read a VOD": (lambda s3: s3.get_object(Bucket="clips", Key=VOD), set()),
    "write a VOD": (lambda s3: s3.put_object(Bucket="clips", Key=VOD, Body=b"new"), set()),
    "copy a VOD": (
        lambda s3: s3.copy_object(Bucket="clips", Key=CLIP, CopySource={"Bucket": "clips", "Key": VOD}),
        set(),
    ),
    "delete a VOD": (lambda s3: s3.delete_object(Bucket="clips", Key=VOD), set()),
    "delete VODs": (lambda s3: delete_many(s3, "clips", VOD), set()),
    "leave the prefix": (lambda s3: s3.get_object(Bucket="clips", Key=f"clips/../{VOD}"), set()),
    "read a source": (lambda s3: s3.get_object(Bucket="recordings", Key=VOD), {"sources"}),
    "list sources": (lambda s3: s3.list_objects_v2(Bucket="recordings"), {"sources"}),
    "write a source": (lambda s3: s3.put_object(Bucket="recordings", Key=VOD, Body=b"new"), set()),
    "delete a source": (lambda s3: s3.delete_object(Bucket="recordings", Key=VOD), set()),
    "make a bucket": (lambda s3: s3.create_bucket(Bucket="another"), set()),
    "delete a bucket": (lambda s3: s3.delete_bucket(Bucket="ready"), set()),
    "allow more": (lambda s3: s3.put_bucket_policy(Bucket="clips", Policy=POLICY), set()),
}


def delete_many(s3: "S3Client", bucket: str, *keys: str) -> None:
    """Delete in bulk; the answer has a refusal for each key."""
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    for error in answer.get("Errors", []):
        raise ClientError({"Error": {"Code": error["Code"]}}, "DeleteObjects")


@pytest.mark.parametrize("name", OPERATIONS)
def test_only_those_may_who_must(name: str, endpoint: str) -> None:
    operation, allowed = OPERATIONS[name]
    done = set()
    for user in (*FREE, "sources"):
        fill(client(endpoint, "admin"))
        if may(operation, client(endpoint, user)):
            done.add(user)
    assert done == allowed


def may(operation: Operation, s3: "S3Client") -> bool:
    try:
        operation(s3)
    except ClientError as error:
        # 403: the answer to a HEAD has no body with a code. A key with ".." is refused as a request.
        if error.response["Error"]["Code"] not in {"AccessDenied", "403", "InvalidRequest"}:
            raise
        return False
    return True


def fill(admin: "S3Client") -> None:
    for bucket, key in (("clips", CLIP), ("clips", POSTER), ("clips", VOD), ("recordings", VOD)):
        admin.put_object(Bucket=bucket, Key=key, Body=b"content")


@pytest.mark.parametrize(("key", "status"), [(CLIP, 200), (VOD, 403)])
def test_a_presigned_url_opens_clips_only(key: str, status: int, endpoint: str) -> None:
    fill(client(endpoint, "admin"))
    place = {"Bucket": "clips", "Key": key}
    url = client(endpoint, "clip-gateway").generate_presigned_url("get_object", Params=place)
    assert httpx.get(url).status_code == status


def test_the_cutter_gets_404_for_a_missing_clip(endpoint: str) -> None:
    with pytest.raises(ClientError) as caught:
        client(endpoint, "clip-cutter").head_object(Bucket="clips", Key="clips/account/clip/other.mp4")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == httpx.codes.NOT_FOUND


def test_unsigned_requests_are_refused(endpoint: str) -> None:
    assert httpx.get(f"{endpoint}/clips/{CLIP}").status_code == httpx.codes.FORBIDDEN
