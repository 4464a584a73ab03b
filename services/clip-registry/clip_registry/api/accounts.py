"""Routes that show an account its clips, its usage, its VODs and its feed."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query

from clip_registry.api.parts import RegistryParts
from clip_registry.api.responses import INVALID, INVALID_OR_NOT_FOUND, SLUG, found, refusals
from clip_registry.domain.clips import VISIBLE
from clip_registry.queries.account_queries import AccountQueries
from clip_registry.queries.clip_lists import BadCursor, ClipFilter, ListPosition, cursor_after, position_of
from clip_registry.queries.feeds import Feeds
from clip_shared.contracts.events import HighlightKind, Identifier
from clip_shared.contracts.registry_api import (
    AccountUsage,
    ClipOrder,
    ClipPage,
    ClipStatus,
    Feed,
    FeedPage,
    VodDetail,
    VodPage,
)
from clip_shared.http.problems import Problem

MAX_PAGE = 200
DEFAULT_PAGE = 50
MAX_TITLE = 200

AccountId = Annotated[Identifier, Path()]
VodId = Annotated[Identifier, Path()]


def add_account_routes(router: APIRouter, parts: RegistryParts) -> None:
    """Add the routes that show an account what it has, and those of its feed."""
    _add_clips(router, parts.store.queries)
    _add_vods(router, parts.store.queries)
    _add_feeds(router, parts.store.feeds)


def _add_clips(router: APIRouter, queries: AccountQueries) -> None:
    @router.get("/v1/accounts/{account_id}/clips", responses=INVALID)
    async def list_clips(
        account_id: AccountId,
        *,
        status: Annotated[list[ClipStatus] | None, Query(description="Default: all but deleted.")] = None,
        kind: Annotated[list[HighlightKind] | None, Query(description="Default: all.")] = None,
        vod: Annotated[Identifier | None, Query(description="Only clips of this VOD.")] = None,
        title: Annotated[
            str | None,
            Query(
                min_length=1, max_length=MAX_TITLE, description="A part of the title, in upper or lower case."
            ),
        ] = None,
        order: Annotated[ClipOrder, Query()] = ClipOrder.NEWEST,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE,
        cursor: Annotated[
            str | None, Query(max_length=200, description="A page's `next_cursor`, with the same order.")
        ] = None,
    ) -> ClipPage:
        """List an account's clips, also those that have expired and are not yet purged."""
        wanted = ClipFilter(statuses=_listed(status), kinds=frozenset(kind or ()), vod_id=vod, title=title)
        after = _position(cursor, order) if cursor is not None else None
        clips = await queries.clips_of(account_id, wanted, order, limit=limit + 1, after=after)
        page = clips[:limit]
        next_cursor = cursor_after(page[-1], order) if len(clips) > limit else None
        return ClipPage(items=tuple(page), next_cursor=next_cursor)

    @router.get("/v1/accounts/{account_id}/usage", responses=INVALID)
    async def usage(account_id: AccountId) -> AccountUsage:
        """Return how many clips and bytes an account has, and the clips that expire first."""
        return await queries.usage_of(account_id)


def _add_vods(router: APIRouter, queries: AccountQueries) -> None:
    @router.get("/v1/accounts/{account_id}/vods", responses=INVALID)
    async def list_vods(account_id: AccountId) -> VodPage:
        """List the VODs that an account has highlights of, the latest first; at most 100."""
        return await queries.vods_of(account_id)

    @router.get("/v1/accounts/{account_id}/vods/{vod_id}", responses=INVALID_OR_NOT_FOUND)
    async def get_vod(account_id: AccountId, vod_id: VodId) -> VodDetail:
        """Return what became of the highlights of a VOD."""
        return found(await queries.vod_of(account_id, vod_id), "The account has no highlight of this VOD.")


def _add_feeds(router: APIRouter, feeds: Feeds) -> None:
    @router.get("/v1/accounts/{account_id}/feed", responses=INVALID_OR_NOT_FOUND)
    async def get_feed(account_id: AccountId) -> Feed:
        """Return the feed of an account's published clips."""
        return found(await feeds.of(account_id), "The account's feed is switched off.")

    @router.put("/v1/accounts/{account_id}/feed", responses=INVALID)
    async def open_feed(account_id: AccountId) -> Feed:
        """Switch an account's feed on. A feed that is on keeps its address."""
        return await feeds.open(account_id)

    @router.delete("/v1/accounts/{account_id}/feed", status_code=HTTPStatus.NO_CONTENT, responses=INVALID)
    async def close_feed(account_id: AccountId) -> None:
        """Switch an account's feed off: its address stops working for good. Safe to repeat."""
        await feeds.close(account_id)

    @router.get("/v1/feeds/{slug}", responses=refusals(HTTPStatus.NOT_FOUND))
    async def show_feed(slug: str) -> FeedPage:
        """Return the clips that a feed shows."""
        page = await feeds.page(slug) if SLUG.fullmatch(slug) else None
        return found(page, "There is no such feed.")


def _listed(statuses: list[ClipStatus] | None) -> frozenset[ClipStatus]:
    if statuses and ClipStatus.PURGED in statuses:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Purged clips are not listed.")
    return frozenset(statuses or VISIBLE)


def _position(cursor: str, order: ClipOrder) -> ListPosition:
    try:
        return position_of(cursor, order)
    except BadCursor as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
