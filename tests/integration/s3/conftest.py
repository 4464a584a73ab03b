"""S3 servers of several kinds, and the services with each of them in their environment."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clip_cutter.storage import ClipMetadata, ClipStorage, StoredClip
from clip_gateway.domain import Presentation
from clip_gateway.presign import Presigner
from clip_shared.contracts.events import CutMode, CutReceipt, HighlightKind
from clip_shared.errors import TransientError
from clip_shared.storage import FreeStorage, FreeStorageSettings
from janitor.settings import JanitorSettings
from janitor.storage import ClipBucket
from local_stack.processes.workspace import Workspace
from local_stack.servers.servers import Addresses
from tests.support.s3proxy import S3Proxy

# Only the local stack's S3 server accepts the bucket in the host name, and changes of its users.
IS_FOREIGN = "TEST_CONTAINERS" in os.environ or "TEST_S3_ENDPOINT_URL" in os.environ
EVERYBODY = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "REGISTRY_URL": "http://127.0.0.1:9",
    "REGISTRY_TOKEN": "a-token-for-tests-only",
}
NOW = datetime(2026, 11, 22, 19, 3, 7, tzinfo=UTC)
METADATA = ClipMetadata(
    source_vod_id="v1",
    kind=HighlightKind.HEURISTIC,
    title="Größter Clutch / 日本 🎉",
    score=0.5,
    highlight_detected_at=NOW,
    duration_seconds=30,
    cut_receipt=CutReceipt(
        mode=CutMode.EXACT,
        requested_start_seconds=1,
        requested_end_seconds=31,
        actual_start_seconds=1,
        actual_end_seconds=31,
        audio_video_skew_ms=0,
    ),
    created_at=NOW,
)


@pytest.fixture(autouse=True)
def no_other_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """boto3's chain of credentials finds only the credentials of the test."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@dataclass(frozen=True)
class Services:
    """The storage clients that the three services build from the environment."""

    @property
    def cutter(self) -> ClipStorage:
        client = FreeStorage(FreeStorageSettings()).client()
        return ClipStorage(client, "clips", prober=client)

    @property
    def janitor(self) -> ClipBucket:
        return ClipBucket(FreeStorage(JanitorSettings()).client(), "clips")

    def url(self, key: str) -> str:
        """Return the gateway's presigned URL of an object."""
        presigner = Presigner(FreeStorage(FreeStorageSettings()).client(), "clips", longest_seconds=60)
        return presigner.url(Presentation("clips", key, "video/mp4", "inline"), seconds_left=None)

    async def upload(
        self, folder: Path, video_key: str, poster_key: str, content: bytes = b"a video"
    ) -> StoredClip:
        """Upload a clip as the cutter does."""
        video, poster = folder / "clip.mp4", folder / "clip.jpg"
        video.write_bytes(content)
        poster.write_bytes(b"a poster")
        async with self.cutter.upload(video, video_key, METADATA) as upload:
            return await upload.finish(poster, poster_key)

    async def readiness(self) -> dict[str, str]:
        """Return the results of the storage checks of cutter and janitor: ready, failing, or the warning."""
        return {"cutter": await _say(self.cutter), "janitor": await _say(self.janitor)}


async def _say(storage: ClipStorage | ClipBucket) -> str:
    try:
        return await storage.check() or "ready"
    except TransientError:
        return "failing"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    for name, value in EVERYBODY.items():
        monkeypatch.setenv(name, value)
    return Services()


def use(monkeypatch: pytest.MonkeyPatch, **free_storage: str) -> None:
    """Set the variables FREE_STORAGE_*."""
    for name, value in {"bucket": "clips", **free_storage}.items():
        monkeypatch.setenv(f"FREE_STORAGE_{name.upper()}", value)


@pytest.fixture
def seaweedfs(monkeypatch: pytest.MonkeyPatch, addresses: Addresses) -> None:
    """The services use SeaweedFS."""
    use(
        monkeypatch,
        endpoint=addresses.s3_endpoint_url,
        access_key=addresses.s3_access_key,
        secret_key=addresses.s3_secret_key,
    )


@pytest.fixture(scope="session")
def running_s3proxy() -> Iterator[S3Proxy]:
    with Workspace() as workspace, S3Proxy(workspace) as server:
        yield server


@pytest.fixture
def s3proxy(monkeypatch: pytest.MonkeyPatch, running_s3proxy: S3Proxy) -> None:
    """The services use s3proxy."""
    use(
        monkeypatch,
        endpoint=running_s3proxy.endpoint_url,
        access_key=running_s3proxy.access_key,
        secret_key=running_s3proxy.secret_key,
    )
    client = FreeStorage(FreeStorageSettings()).client()
    if not client.list_buckets()["Buckets"]:
        client.create_bucket(Bucket="clips")
