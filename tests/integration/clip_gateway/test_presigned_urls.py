"""The gateway's presigned URLs on a real S3 server."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clip_gateway.app import build
from clip_gateway.domain import Presentation
from clip_gateway.presign import Presigner
from clip_registry.reports import ReportedCut
from clip_shared.storage import s3_client
from local_stack.servers.servers import Addresses
from tests.integration.clip_gateway.conftest import RealRegistrySetup, gateway_settings, serving
from tests.unit.clip_gateway.tokens import hs256
from tests.unit.clip_registry.cuts import a_cut

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TITLE = 'Größter "Moment" / 日本 🎉'
VIDEO = bytes(range(256)) * 40
POSTER = b"\xff\xd8 a poster"


@pytest.fixture(scope="module")
async def gateway(addresses: Addresses, real_registry: RealRegistrySetup) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway, signed in as ann; the gateway is as it is deployed."""
    app = build(
        gateway_settings(
            registry_url=real_registry.url,
            free_storage_endpoint="http://only-inside:8333",
            free_storage_public_endpoint=addresses.s3_endpoint_url.replace("127.0.0.1", "localhost"),
            free_storage_access_key=addresses.s3_access_key,
            free_storage_secret_key=addresses.s3_secret_key,
        )
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app.state.api),
            mounts={"all://operations": httpx.ASGITransport(app)},
            base_url="http://clips.example",
            headers={"Authorization": f"Bearer {hs256()}"},
        ) as client,
    ):
        yield client


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    """A client without any credentials."""
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def clip_id(real_registry: RealRegistrySetup, s3: "S3Client") -> UUID:
    """A clip of ann's whose objects are in the bucket."""
    name = f"hl-{uuid4().hex}"
    cut = a_cut(name, title=TITLE, file_size_bytes=len(VIDEO))
    assert cut.poster_key is not None
    # Stored without a content type: what the browser is told comes with the URL.
    await asyncio.to_thread(s3.put_object, Bucket="clips", Key=cut.object_key, Body=VIDEO)
    await asyncio.to_thread(s3.put_object, Bucket="clips", Key=cut.poster_key, Body=POSTER)
    await real_registry.store.record([ReportedCut(cut, event_id=name)])
    return cut.clip_id


async def url_of(gateway: httpx.AsyncClient, clip_id: UUID, view: str) -> str:
    answer = await gateway.get(f"/v1/clips/{clip_id}/{view}")
    assert answer.status_code == 302
    return answer.headers["location"]


async def test_the_gateway_is_ready(gateway: httpx.AsyncClient) -> None:
    answer = await gateway.get("http://operations/healthz/ready")
    assert answer.json() == {"status": "ready", "checks": {"registry": {"status": "ready"}}}


async def test_watching_reads_the_ranges_that_a_player_asks_for(
    gateway: httpx.AsyncClient, browser: httpx.AsyncClient, clip_id: UUID
) -> None:
    url = await url_of(gateway, clip_id, "watch")
    whole = await browser.get(url)
    assert whole.status_code == 200
    assert whole.content == VIDEO
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-disposition"] == "inline"
    part = await browser.get(url, headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == VIDEO[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(VIDEO)}"


async def test_head_leads_to_a_url_that_is_good_for_head(
    gateway: httpx.AsyncClient, browser: httpx.AsyncClient, clip_id: UUID
) -> None:
    answer = await gateway.head(f"/v1/clips/{clip_id}/watch")
    assert (answer.status_code, answer.content) == (302, b"")
    found = await browser.head(answer.headers["location"])
    assert found.status_code == 200
    assert found.headers["content-length"] == str(len(VIDEO))
    assert found.headers["content-type"] == "video/mp4"


async def test_a_download_has_the_titles_name(
    gateway: httpx.AsyncClient, browser: httpx.AsyncClient, clip_id: UUID
) -> None:
    answer = await browser.get(await url_of(gateway, clip_id, "download"))
    assert answer.content == VIDEO
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="Groter Moment .mp4"; ')
    assert unquote(disposition.rpartition("UTF-8''")[2]) == "Größter Moment 日本 🎉.mp4"


async def test_a_poster_is_an_image(
    gateway: httpx.AsyncClient, browser: httpx.AsyncClient, clip_id: UUID
) -> None:
    answer = await browser.get(await url_of(gateway, clip_id, "poster"))
    assert answer.content == POSTER
    assert answer.headers["content-type"] == "image/jpeg"


async def test_urls_open_what_they_were_signed_for_and_nothing_else(
    gateway: httpx.AsyncClient, browser: httpx.AsyncClient, clip_id: UUID
) -> None:
    url = await url_of(gateway, clip_id, "watch")
    parts = urlsplit(url)
    changed = {
        "no signature": parts._replace(query="").geturl(),
        "another signature": url.replace("X-Amz-Signature=", "X-Amz-Signature=0"),
        "another object": url.replace("event-5.mp4", "event-5.jpg"),
        "another bucket": url.replace("/clips/clips/", "/vods/clips/"),
        "a longer life": url.replace("X-Amz-Expires=900", "X-Amz-Expires=90000"),
        "another type": url.replace("video%2Fmp4", "text%2Fhtml"),
    }
    assert url not in changed.values()
    codes = {name: (await browser.get(each)).status_code for name, each in changed.items()}
    assert codes == dict.fromkeys(changed, 403)
    assert (await browser.put(url, content=b"x")).status_code == 403


async def test_a_url_with_another_path_is_refused_by_the_storage(
    addresses: Addresses, browser: httpx.AsyncClient, s3: "S3Client"
) -> None:
    """The signature covers the path: so the settings refuse a path that the S3 server does not have."""
    await asyncio.to_thread(s3.put_object, Bucket="clips", Key="clips/plain", Body=VIDEO)

    async def strip(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = request.url.path.removeprefix("/media")
        url = f"{addresses.s3_endpoint_url}{path}?{request.url.query}"
        found = await browser.get(url, headers={"Host": request.headers["host"]})
        await Response(found.content, found.status_code)(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with serving(strip, listener):
            endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
            plain = await browser.get(_presigned(addresses, endpoint))
            prefixed = await browser.get(_presigned(addresses, f"{endpoint}/media"))
    assert (plain.status_code, plain.content) == (200, VIDEO)
    assert prefixed.status_code == 403


def _presigned(addresses: Addresses, endpoint: str) -> str:
    client = s3_client(
        endpoint=endpoint,
        region=addresses.s3_region,
        access_key=addresses.s3_access_key,
        secret_key=addresses.s3_secret_key,
    )
    what = Presentation("clips", "clips/plain", "video/mp4", "inline")
    return Presigner(client, "clips", longest_seconds=60).url(what, seconds_left=None)


async def test_a_url_expires_with_its_clip(
    gateway: httpx.AsyncClient, browser: httpx.AsyncClient, real_registry: RealRegistrySetup, clip_id: UUID
) -> None:
    await real_registry.database.expire(clip_id, seconds_ago=-3)
    url = await url_of(gateway, clip_id, "watch")
    assert "X-Amz-Expires=2&" in url
    assert (await browser.get(url)).status_code == 200
    await asyncio.sleep(3.1)
    assert (await browser.get(url)).status_code == 403
    assert (await gateway.get(f"/v1/clips/{clip_id}/watch")).status_code == 404
    kept = await gateway.post(f"/v1/clips/{clip_id}/keep")
    assert kept.json()["status"] == "kept"
    assert (await browser.get(await url_of(gateway, clip_id, "watch"))).status_code == 200
