"""Large clips are uploaded in parts while they are verified; an unfinished upload leaves no object."""

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from clip_cutter import uploads
from clip_cutter.storage import ClipStorage
from clip_cutter.uploads import MultipartUpload
from clip_shared.contracts.clip_keys import poster_key, video_key
from clip_shared.contracts.events import clip_id_for
from clip_shared.errors import TransientError
from clip_shared.storage import FreeStorage, FreeStorageSettings
from tests.integration.s3.conftest import METADATA, Services
from tests.integration.s3.odd_server import HTML, OddS3, odd_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE = random.Random(7).randbytes(2 * uploads.MIN_PART_BYTES + 12_345)  # noqa: S311 - a test's chance


@pytest.fixture(params=["seaweedfs", "s3proxy"])
def server(request: pytest.FixtureRequest) -> Iterator["S3Client"]:
    """A client of each server; checks in the end that no upload is unfinished."""
    request.getfixturevalue(request.param)
    client = FreeStorage(FreeStorageSettings()).client()
    yield client
    assert client.list_multipart_uploads(Bucket="clips").get("Uploads", []) == []


@pytest.fixture
def keys() -> tuple[str, str]:
    name = uuid4().hex
    return video_key("ann", clip_id_for(name), name), poster_key("ann", clip_id_for(name), name)


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, Path]:
    """A large video, and its poster."""
    video, poster = tmp_path / "clip.mp4", tmp_path / "clip.jpg"
    video.write_bytes(LARGE)
    poster.write_bytes(b"a poster")
    return video, poster


async def test_a_large_clip_is_sent_before_it_is_finished_and_seen_only_then(
    server: "S3Client", services: Services, keys: tuple[str, str], clip: tuple[Path, Path]
) -> None:
    storage = services.cutter
    async with storage.upload(clip[0], keys[0], METADATA) as upload:
        assert isinstance(upload.transfer, MultipartUpload)
        await asyncio.shield(upload.transfer._sending)
        assert await storage.find(keys[0]) is None
        assert server.list_objects_v2(Bucket="clips", Prefix=keys[0].rpartition("/")[0])["KeyCount"] == 0
        stored = await upload.finish(clip[1], keys[1])
    assert await storage.find(keys[0]) == stored
    assert (stored.size_bytes, stored.metadata) == (len(LARGE), METADATA)
    found = server.get_object(Bucket="clips", Key=keys[0])
    assert (found["ContentType"], found["CacheControl"]) == (
        "video/mp4",
        "private, max-age=604800, immutable",
    )
    assert found["Body"].read() == LARGE
    assert server.get_object(Bucket="clips", Key=keys[1])["Body"].read() == b"a poster"


@pytest.mark.parametrize("how", ["refused", "cancelled"])
@pytest.mark.parametrize("when", ["at once", "sent"])
async def test_an_unfinished_clip_leaves_no_object(  # noqa: PLR0917 - fixtures
    server: "S3Client",
    services: Services,
    keys: tuple[str, str],
    clip: tuple[Path, Path],
    how: str,
    when: str,
) -> None:
    reached = asyncio.Event()

    async def verify() -> None:
        async with services.cutter.upload(clip[0], keys[0], METADATA) as upload:
            assert isinstance(upload.transfer, MultipartUpload)
            if when == "sent":
                await asyncio.shield(upload.transfer._sending)
            reached.set()
            if how == "cancelled":
                await asyncio.sleep(60)
            raise ValueError("no clip")

    job = asyncio.create_task(verify())
    await reached.wait()
    if how == "cancelled":
        job.cancel()
    with pytest.raises(asyncio.CancelledError if how == "cancelled" else ValueError):
        await job
    assert await services.cutter.find(keys[0]) is None
    assert server.list_objects_v2(Bucket="clips", Prefix=keys[0].rpartition("/")[0])["KeyCount"] == 0


async def test_a_cancelled_upload_waits_for_the_part_on_its_way(
    server: "S3Client",  # noqa: ARG001 - its teardown looks for what is left
    services: Services,
    keys: tuple[str, str],
    clip: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_its_way, go_on = threading.Event(), threading.Event()
    send = MultipartUpload._send_part

    def slow(self: MultipartUpload, index: int) -> Any:
        if index == 0:
            answer = send(self, index)
            on_its_way.set()
            go_on.wait(10)
            return answer
        return send(self, index)

    monkeypatch.setattr(MultipartUpload, "_send_part", slow)

    async def verify() -> None:
        async with services.cutter.upload(clip[0], keys[0], METADATA):
            await asyncio.sleep(60)

    job = asyncio.create_task(verify())
    await asyncio.to_thread(on_its_way.wait, 10)
    job.cancel()
    done, _ = await asyncio.wait([job], timeout=0.3)
    assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await job


async def test_a_small_clip_is_sent_when_it_is_finished(
    server: "S3Client", services: Services, keys: tuple[str, str], tmp_path: Path
) -> None:
    stored = await services.upload(tmp_path, *keys)
    assert server.get_object(Bucket="clips", Key=keys[0])["Body"].read() == b"a video"
    assert await services.cutter.find(keys[0]) == stored
    (tmp_path / "clip.mp4").write_bytes(b"another")
    with pytest.raises(ValueError, match="no clip"):
        async with services.cutter.upload(tmp_path / "clip.mp4", keys[0], METADATA):
            raise ValueError("no clip")
    assert await services.cutter.find(keys[0]) == stored


@pytest.mark.parametrize("end", ["a poster that is not taken", "a part that is not taken"])
async def test_a_clip_without_all_its_pieces_is_not_seen(  # noqa: PLR0917 - fixtures
    server: "S3Client",
    services: Services,
    keys: tuple[str, str],
    clip: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    def refuse(*_: Any) -> Any:
        raise TransientError("no")

    async def refuse_soon(*_: Any) -> None:
        refuse()

    if end.startswith("a part"):
        monkeypatch.setattr(MultipartUpload, "_send_part", refuse)
    else:
        monkeypatch.setattr(ClipStorage, "put_poster", refuse_soon)
    with pytest.raises(TransientError, match="no"):
        async with services.cutter.upload(clip[0], keys[0], METADATA) as upload:
            await upload.finish(clip[1], keys[1])
    assert server.list_objects_v2(Bucket="clips", Prefix=keys[0])["KeyCount"] == 0


@pytest.mark.parametrize("page", ["<html><body><p>Not here</p></body></html>", "<html><br>Not here"])
async def test_a_page_with_200_has_not_taken_a_large_clip(
    services: Services, monkeypatch: pytest.MonkeyPatch, clip: tuple[Path, Path], page: str
) -> None:
    monkeypatch.setattr("tests.integration.s3.odd_server.PAGE", page)
    with odd_server(OddS3(everything=(200, HTML))) as odd:
        monkeypatch.setenv("FREE_STORAGE_BUCKET", "clips")
        monkeypatch.setenv("FREE_STORAGE_ENDPOINT", odd.url)
        monkeypatch.setenv("FREE_STORAGE_ACCESS_KEY", "a")
        monkeypatch.setenv("FREE_STORAGE_SECRET_KEY", "b")
        with pytest.raises(TransientError):
            async with services.cutter.upload(clip[0], "clips/a", METADATA) as upload:
                await upload.finish(clip[1], "clips/b")
