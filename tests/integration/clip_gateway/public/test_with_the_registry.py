"""A public link on the real registry, from publishing to unpublishing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest

from clip_gateway import asgi
from clip_gateway.addresses import PublicAddresses
from clip_gateway.presign import Presigner
from clip_gateway.registry import GatewayRegistry
from clip_shared.contracts.registry_api import Actor, ClipAction, PublishRequest
from tests.integration.clip_gateway.conftest import RealRegistrySetup
from tests.unit.clip_gateway.parts import gateway_parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOME = "http://clips.example"


@pytest.fixture
async def visitor(real_registry: RealRegistrySetup, s3: "S3Client") -> AsyncIterator[httpx.AsyncClient]:
    presigner = Presigner(s3, "clips", longest_seconds=900)
    public = PublicAddresses(
        public_url=HOME, media_origin=presigner.origin, embed_origins=("https://friends.example",)
    )
    app = asgi.create(gateway_parts(real_registry.registry, presigner, public))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOME) as client:
        yield client


async def publish(registry: GatewayRegistry, account: str, clip_id: UUID, **options: object) -> str:
    request = PublishRequest.model_validate({"account_id": account, **options})
    published = await registry.act(ClipAction.PUBLISH, clip_id, request)
    assert published.share_slug is not None
    return published.share_slug


async def statuses(visitor: httpx.AsyncClient, slug: str) -> list[int]:
    paths = (f"/s/{slug}", f"/e/{slug}", f"/m/{slug}/1.mp4", f"/oembed?url={HOME}/s/{slug}")
    return [(await visitor.get(path)).status_code for path in paths]


async def test_a_link_lives_from_publishing_to_unpublishing(
    real_registry: RealRegistrySetup, visitor: httpx.AsyncClient
) -> None:
    account = f"account-{uuid4().hex}"
    clip_id = await real_registry.add(account)
    slug = await publish(real_registry.registry, account, clip_id)
    assert await statuses(visitor, slug) == [200, 200, 302, 200]
    assert await publish(real_registry.registry, account, clip_id, embed=False) == slug
    assert await statuses(visitor, slug) == [200, 404, 302, 200]
    await real_registry.registry.act(ClipAction.UNPUBLISH, clip_id, Actor(account_id=account))
    assert await statuses(visitor, slug) == [410] * 4
    assert await statuses(visitor, "never-was") == [404] * 4
    again = await publish(real_registry.registry, account, clip_id)
    assert again != slug
    assert await statuses(visitor, again) == [200, 200, 302, 200]
    assert await statuses(visitor, slug) == [410] * 4


async def test_a_deleted_clip_is_gone_and_comes_back_where_it_was(
    real_registry: RealRegistrySetup, visitor: httpx.AsyncClient
) -> None:
    account = f"account-{uuid4().hex}"
    clip_id = await real_registry.add(account)
    slug = await publish(real_registry.registry, account, clip_id)
    await real_registry.registry.act(ClipAction.DELETE, clip_id, Actor(account_id=account))
    assert await statuses(visitor, slug) == [410] * 4
    await real_registry.registry.act(ClipAction.RESTORE, clip_id, Actor(account_id=account))
    assert await statuses(visitor, slug) == [200, 200, 302, 200]


async def test_a_feed_follows_what_is_published(
    real_registry: RealRegistrySetup, visitor: httpx.AsyncClient
) -> None:
    account = f"account-{uuid4().hex}"
    feed = (await real_registry.registry.open_feed(account)).slug
    clip_id = await real_registry.add(account)

    async def listed() -> list[str]:
        return [item["url"] for item in (await visitor.get(f"/f/{feed}.json")).json()["items"]]

    assert await listed() == []
    until = datetime.now(UTC) + timedelta(hours=1)
    slug = await publish(real_registry.registry, account, clip_id, until=until.isoformat())
    assert await listed() == [f"{HOME}/s/{slug}"]
    await real_registry.registry.act(ClipAction.UNPUBLISH, clip_id, Actor(account_id=account))
    assert await listed() == []
    await real_registry.registry.close_feed(account)
    assert (await visitor.get(f"/f/{feed}.json")).status_code == 404
