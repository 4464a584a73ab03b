"""The queries of the internal HTTP API. Models: :mod:`clip_shared.contracts.registry_api`."""

import re
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query

from clip_registry.api.responses import refusals
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
SLUG = re.compile("[A-Za-z0-9_-]{1,64}")

Answer = TypeVar("Answer")

REFUSED = refusals(HTTPStatus.UNPROCESSABLE_ENTITY)
REFUSED_OR_UNKNOWN = refusals(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND)

AccountId = Annotated[Identifier, Path()]
VodId = Annotated[Identifier, Path()]


def add_queries(router: APIRouter, queries: AccountQueries) -> None:
    """What the gateway asks about an account's clips."""

    @router.get("/accounts/{account_id}/clips", responses=REFUSED)
    async def list_clips(
        account_id: AccountId,
        *,
        status: Annotated[list[ClipStatus] | None, Query(description="Default: all but deleted.")] = None,
        kind: Annotated[list[HighlightKind] | None, Query(description="Default: all.")] = None,
        vod: Annotated[Identifier | None, Query(description="Clips of this VOD alone.")] = None,
        title: Annotated[
            str | None, Query(min_length=1, max_length=MAX_TITLE, description="A part of it, in any case.")
        ] = None,
        order: Annotated[ClipOrder, Query()] = ClipOrder.NEWEST,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE,
        cursor: Annotated[
            str | None, Query(max_length=200, description="A page's `next_cursor`, with the same order.")
        ] = None,
    ) -> ClipPage:
        """An account's clips, also those that have expired and are not yet purged."""
        wanted = ClipFilter(statuses=_listed(status), kinds=frozenset(kind or ()), vod_id=vod, title=title)
        after = _place(cursor, order) if cursor is not None else None
        clips = await queries.clips_of(account_id, wanted, order, limit=limit + 1, after=after)
        page = clips[:limit]
        next_cursor = cursor_after(page[-1], order) if len(clips) > limit else None
        return ClipPage(items=tuple(page), next_cursor=next_cursor)

    @router.get("/accounts/{account_id}/usage", responses=REFUSED)
    async def usage(account_id: AccountId) -> AccountUsage:
        """How many clips and bytes an account has, and what expires first."""
        return await queries.usage_of(account_id)

    @router.get("/accounts/{account_id}/vods", responses=REFUSED)
    async def list_vods(account_id: AccountId) -> VodPage:
        """The VODs that an account has highlights of, the latest first; at most 100."""
        return await queries.vods_of(account_id)

    @router.get("/accounts/{account_id}/vods/{vod_id}", responses=REFUSED_OR_UNKNOWN)
    async def get_vod(account_id: AccountId, vod_id: VodId) -> VodDetail:
        """What became of a VOD's highlights."""
        return _found(await queries.vod_of(account_id, vod_id), "The account has no highlight of this VOD.")


def add_feeds(router: APIRouter, feeds: Feeds) -> None:
    """Feeds of published clips: their owner's switch, and what they show."""

    @router.get("/accounts/{account_id}/feed", responses=REFUSED_OR_UNKNOWN)
    async def get_feed(account_id: AccountId) -> Feed:
        """Where an account's published clips can be followed."""
        return _found(await feeds.of(account_id), "The account's feed is switched off.")

    @router.put("/accounts/{account_id}/feed", responses=REFUSED)
    async def open_feed(account_id: AccountId) -> Feed:
        """Switch an account's feed on. One that is on stays where it is."""
        return await feeds.open(account_id)

    @router.delete("/accounts/{account_id}/feed", status_code=HTTPStatus.NO_CONTENT, responses=REFUSED)
    async def close_feed(account_id: AccountId) -> None:
        """Switch an account's feed off: its address is dead for good. Again is fine."""
        await feeds.close(account_id)

    @router.get("/feeds/{slug}", responses=refusals(HTTPStatus.NOT_FOUND))
    async def show_feed(slug: str) -> FeedPage:
        """What a feed shows."""
        page = await feeds.page(slug) if SLUG.fullmatch(slug) else None
        return _found(page, "There is no such feed.")


def _listed(statuses: list[ClipStatus] | None) -> frozenset[ClipStatus]:
    if statuses and ClipStatus.PURGED in statuses:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Purged clips are not listed.")
    return frozenset(statuses or VISIBLE)


def _place(cursor: str, order: ClipOrder) -> ListPosition:
    try:
        return position_of(cursor, order)
    except BadCursor as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


def _found(answer: Answer | None, otherwise: str) -> Answer:
    if answer is None:
        raise Problem(HTTPStatus.NOT_FOUND, otherwise)
    return answer
