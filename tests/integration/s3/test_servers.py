"""The services' use of S3, on every kind of server."""

from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from clip_shared.contracts.clip_keys import poster_key, video_key
from clip_shared.contracts.events import clip_id_for
from clip_shared.errors import TransientError
from local_stack.servers.seaweedfs import DOMAIN
from local_stack.servers.servers import Addresses
from tests.integration.s3.conftest import IS_FOREIGN, METADATA, Services, use


@pytest.fixture
def virtual_seaweedfs(monkeypatch: pytest.MonkeyPatch, seaweedfs: None, addresses: Addresses) -> None:  # noqa: ARG001 - its keys
    """The bucket is in the host name. The server is set as proxy, so that the name is not looked up."""
    if IS_FOREIGN:
        pytest.skip("this S3 server does not know the name")
    monkeypatch.setenv("HTTP_PROXY", addresses.s3_endpoint_url)
    use(monkeypatch, endpoint=f"http://{DOMAIN}", addressing="virtual")


@pytest.fixture(params=["seaweedfs", "virtual_seaweedfs", "s3proxy"])
def server(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue(request.param)
    return str(request.param)


@pytest.mark.usefixtures("server")
async def test_a_clip_is_uploaded_found_watched_and_deleted(services: Services, tmp_path: Path) -> None:
    name = uuid4().hex
    video, poster = video_key("ann", clip_id_for(name), name), poster_key("ann", clip_id_for(name), name)
    assert await services.cutter.find(video) is None
    stored = await services.upload(tmp_path, video, poster)
    assert await services.cutter.find(video) == stored
    assert stored.metadata == METADATA

    async with httpx.AsyncClient() as browser:
        watched = await browser.get(services.url(video), headers={"Range": "bytes=2-6"})
        assert (watched.status_code, watched.content) == (206, b"video")
        assert watched.headers["content-type"] == "video/mp4"
        forged = services.url(video).replace("X-Amz-Signature=", "X-Amz-Signature=0")
        assert (await browser.get(forged)).status_code == 403

        listed = [
            each.key
            async for page in services.janitor.pages(f"clips/ann/{clip_id_for(name)}/")
            for each in page
        ]
        assert listed == [poster, video]
        assert (
            await services.janitor.delete([video, poster, video_key("ann", clip_id_for("x"), "absent")]) == {}
        )
        assert (await browser.get(services.url(video))).status_code == 404
    assert await services.cutter.find(video) is None


async def test_the_bucket_stands_where_it_is_addressed(services: Services, server: str) -> None:
    host = httpx.URL(services.url("clips/a")).host
    assert host == ("clips.s3.test" if server == "virtual_seaweedfs" else "127.0.0.1")


@pytest.mark.usefixtures("server")
async def test_all_are_ready(services: Services) -> None:
    assert await services.readiness() == {"cutter": "ready", "janitor": "ready"}


@pytest.mark.usefixtures("server")
async def test_wrong_keys_are_an_outage(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, secret_key="wrong")
    for outage in (services.cutter.find("clips/a"), services.janitor.delete(["clips/a"])):
        with pytest.raises(TransientError):
            await outage
    assert await services.readiness() == {"cutter": "failing", "janitor": "failing"}
