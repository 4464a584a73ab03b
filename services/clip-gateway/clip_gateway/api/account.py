"""Routes of what an account has: its usage, its VODs, its feed."""

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
    """Create the route of an account's usage."""
    router = private_router("usage")

    @router.get("/v1/usage")
    async def usage(caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> UsageView:
        """Return the number and size of the caller's clips, the limit, and the clips that expire next."""
        return UsageView.of(await parts.registry.usage_of(caller.account_id), parts.addresses)

    return router


def create_vods_router(parts: GatewayParts) -> APIRouter:
    """Create the routes of an account's VODs and their highlights."""
    router = private_router("vods")

    @router.get("/v1/vods")
    async def list_vods(caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> VodList:
        """List the caller's VODs that have highlights, the latest first."""
        page = await parts.registry.vods_of(caller.account_id)
        return VodList(items=[VodView.of(each) for each in page.items])

    @router.get("/v1/vods/{vod_id}", responses=errors(HTTPStatus.NOT_FOUND))
    async def get_vod(vod_id: str, caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> VodDetailView:
        """Return what happened to the highlights of one of the caller's VODs."""
        if not _VOD_ID.fullmatch(vod_id):
            raise Refused(Refusal.UNKNOWN)
        return VodDetailView.of_detail(await parts.registry.vod_of(caller.account_id, vod_id))

    return router


def create_feed_router(parts: GatewayParts) -> APIRouter:
    """Create the routes that read the feed's addresses, and switch the feed on and off."""
    router = private_router("feed")

    @router.get("/v1/feed", responses=errors(HTTPStatus.NOT_FOUND))
    async def get_feed(caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> FeedView:
        """Return the addresses of the feed of the caller's published clips; 404 while the feed is off."""
        feed = await parts.registry.feed_of(caller.account_id)
        if feed is None:
            raise Refused(Refusal.UNKNOWN)
        return FeedView.of(feed, parts.addresses)

    @router.put("/v1/feed", responses=errors(HTTPStatus.FORBIDDEN))
    async def open_feed(caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> FeedView:
        """Switch the feed on. A feed that is on keeps its addresses."""
        return FeedView.of(await parts.registry.open_feed(caller.account_id), parts.addresses)

    @router.delete("/v1/feed", status_code=HTTPStatus.NO_CONTENT, responses=errors(HTTPStatus.FORBIDDEN))
    async def close_feed(caller: Annotated[Caller, Depends(parts.sign_in.writer)]) -> None:
        """Switch the feed off. Its addresses never work again; switching it on later makes new ones."""
        await parts.registry.close_feed(caller.account_id)

    return router
