"""The gallery on the real registry, its API and its database."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from clip_gateway.app import build
from clip_shared.contracts.registry_api import ClipStatus
from tests.integration.clip_gateway.conftest import RealRegistrySetup, gateway_settings
from tests.unit.clip_gateway.tokens import hs256

ADDRESS = "http://clips.example"


@pytest.fixture
def account() -> str:
    """An account that no other test knows."""
    return f"account-{uuid4().hex}"


@pytest.fixture
async def window(real_registry: RealRegistrySetup, account: str) -> AsyncIterator[httpx.AsyncClient]:
    """The account's browser."""
    app = build(gateway_settings(registry_url=real_registry.url, public_url=ADDRESS))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app.state.api),
            base_url=ADDRESS,
            cookies={"clips_session": hs256(sub=account)},
            headers={"Sec-Fetch-Site": "same-origin"},
        ) as client,
    ):
        yield client


async def test_a_clip_is_kept_deleted_and_brought_back(
    window: httpx.AsyncClient, real_registry: RealRegistrySetup, account: str
) -> None:
    assert "Your clips will appear here" in (await window.get("/")).text
    clip_id = await real_registry.add(account)
    assert f'id="clip-{clip_id}"' in (await window.get("/?order=expiring")).text

    for action, status in (
        ("keep", ClipStatus.KEPT),
        ("delete", ClipStatus.DELETED),
        ("restore", ClipStatus.KEPT),
        ("unkeep", ClipStatus.AVAILABLE),
    ):
        answer = await window.post(f"/clips/{clip_id}/{action}", data={"back": "/"})
        assert answer.status_code == 303
        clip = await real_registry.registry.get(clip_id)
        assert clip is not None
        assert clip.status is status
        if status is ClipStatus.DELETED:
            text = (await window.get(answer.headers["location"])).text
            assert "is deleted." in text
            assert f'name="ids" value="{clip_id}"' in text


async def test_many_are_kept_and_counted(
    window: httpx.AsyncClient, real_registry: RealRegistrySetup, account: str
) -> None:
    ids = [str(await real_registry.add(account)) for _ in range(30)]
    first = (await window.get("/")).text
    assert first.count('<li class="card') == 24
    following = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
    assert (await window.get(following.replace("&amp;", "&"))).text.count('<li class="card') == 6

    answer = await window.post("/clips/batch", data={"action": "keep", "ids": ids})
    assert answer.headers["location"] == "/?done=keep&count=30"
    kept = (await window.get("/?status=kept")).text
    assert "30 kept" in kept
    assert kept.count('<li class="card') == 24


async def test_the_feed_is_switched(
    window: httpx.AsyncClient, real_registry: RealRegistrySetup, account: str
) -> None:
    await window.post("/feed", data={"feed": "on"})
    feed = await real_registry.registry.feed_of(account)
    assert feed is not None
    assert f"{ADDRESS}/f/{feed.slug}.atom" in (await window.get("/?status=published")).text
    await window.post("/feed", data={"feed": "off"})
    assert await real_registry.registry.feed_of(account) is None


async def test_a_cursor_of_another_order_leads_to_the_first_page(window: httpx.AsyncClient) -> None:
    answer = await window.get("/?cursor=nonsense")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
