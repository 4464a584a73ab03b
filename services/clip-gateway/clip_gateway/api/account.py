"""What an account has: its usage, its VODs, its feed."""

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends

from clip_gateway.api.models import FeedView, UsageView, VodDetailView, VodList, VodView
from clip_gateway.api.private_routes import private_router
from clip_gateway.auth import Caller
from clip_gateway.domain import Refusal, Refused
from clip_gateway.parts import GatewayParts
from clip_shared.http.openapi import errors

_VOD_ID = re.compile("[A-Za-z0-9_-]{1,64}")


def create_usage_router(parts: GatewayParts) -> APIRouter:
    """How much there is."""
    router = private_router("/v1/usage", "usage")

    @router.get("")
    async def usage(caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> UsageView:
        """How many clips the caller has and how large they are, the limit, and what expires next."""
        return UsageView.of(await parts.registry.usage_of(caller.account_id), parts.addresses)

    return router


def create_vods_router(parts: GatewayParts) -> APIRouter:
    """What became of highlights."""
    router = private_router("/v1/vods", "vods")

    @router.get("")
    async def list_vods(caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> VodList:
        """The caller's VODs that have highlights, the latest first."""
        page = await parts.registry.vods_of(caller.account_id)
        return VodList(items=[VodView.of(each) for each in page.items])

    @router.get("/{vod_id}", responses=errors(HTTPStatus.NOT_FOUND))
    async def get_vod(vod_id: str, caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> VodDetailView:
        """What became of the highlights of one of the caller's VODs."""
        if not _VOD_ID.fullmatch(vod_id):
            raise Refused(Refusal.UNKNOWN)
        return VodDetailView.of_detail(await parts.registry.vod_of(caller.account_id, vod_id))

    return router


def create_feed_router(parts: GatewayParts) -> APIRouter:
    """The feed of what is published."""
    router = private_router("/v1/feed", "feed")

    @router.get("", responses=errors(HTTPStatus.NOT_FOUND))
    async def get_feed(caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> FeedView:
        """Where the caller's published clips can be followed; 404 while that is switched off."""
        feed = await parts.registry.feed_of(caller.account_id)
        if feed is None:
            raise Refused(Refusal.UNKNOWN)
        return FeedView.of(feed, parts.addresses)

    @router.put("", responses=errors(HTTPStatus.FORBIDDEN))
    async def open_feed(caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> FeedView:
        """Switch the feed on. One that is on stays where it is."""
        return FeedView.of(await parts.registry.open_feed(caller.account_id), parts.addresses)

    @router.delete("", status_code=HTTPStatus.NO_CONTENT, responses=errors(HTTPStatus.FORBIDDEN))
    async def close_feed(caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> None:
        """Switch the feed off. Its addresses are dead for good."""
        await parts.registry.close_feed(caller.account_id)

    return router
