"""The first page: a streamer's clips, and what happened to the highlights of a VOD."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from clip_gateway.auth import Caller
from clip_gateway.domain import ClipQuery, Refusal, Refused, split_owned
from clip_gateway.html.rendering import NO_STORE, Renderer
from clip_gateway.pages.cards import card_of
from clip_gateway.pages.filters import GalleryFilters
from clip_gateway.pages.notices import ActionNotice, CompletedAction
from clip_gateway.pages.usage_bar import UsageBar
from clip_gateway.parts import GatewayParts
from clip_gateway.registry import GatewayRegistry
from clip_shared.contracts.events import SkipReason
from clip_shared.contracts.registry_api import (
    MAX_BATCH,
    AccountUsage,
    ClipAction,
    ClipPage,
    ClipStatus,
    Feed,
    VodDetail,
    VodPage,
    VodSummary,
)

log = structlog.get_logger()

_TABS = (ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED, ClipStatus.DELETED)


def create_router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    """Create the route of the gallery."""
    router = APIRouter()

    @router.get("/")
    async def show(request: Request, caller: Annotated[Caller, Depends(parts.sign_in.reader)]) -> Response:
        """Show the caller's clips."""
        filters = GalleryFilters.of(request.query_params)
        done = CompletedAction.of(request.query_params.multi_items())
        try:
            shown = await _ask(parts.registry, caller.account_id, filters, done)
        except Refused as refused:
            if refused.reason is not Refusal.BAD_CURSOR:
                raise
            return RedirectResponse(filters.link(), HTTPStatus.SEE_OTHER, headers=NO_STORE)
        # The registry filters by account already: a defect in it does not show another account's clip.
        mine, foreign = split_owned(shown.page.items, caller.account_id)
        if foreign:
            log.error(
                "the registry listed clips of other accounts",
                clip_ids=[str(each.clip_id) for each in foreign],
            )
        return renderer.page(
            request,
            "gallery.html",
            account=caller.account_id,
            filters=filters,
            cards=[card_of(clip, parts) for clip in mine],
            next_cursor=shown.page.next_cursor,
            usage=UsageBar.of(shown.usage),
            tabs=_tabs(shown.usage),
            vods=shown.vods.items,
            vod=shown.vod,
            skips=shown.skips,
            feed=shown.feed,
            notice=shown.notice,
        )

    return router


@dataclass(frozen=True)
class StatusTab:
    """A status that can be chosen (None: all statuses), and the number of its clips."""

    status: ClipStatus | None
    clips: int


@dataclass(frozen=True)
class _GalleryData:
    """What the registry returns for one page of the gallery."""

    page: ClipPage
    usage: AccountUsage
    vods: VodPage
    detail: VodDetail | None
    feed: Feed | None
    notice: ActionNotice | None

    @property
    def vod(self) -> VodSummary | None:
        """The chosen VOD; without a choice, the latest."""
        if self.detail is not None:
            return self.detail.summary
        return self.vods.items[0] if self.vods.items else None

    @property
    def skips(self) -> list[tuple[SkipReason, int]]:
        """The reasons of the chosen VOD's skipped highlights, with counts, the most frequent first."""
        return Counter(skip.reason for skip in self.detail.skips).most_common() if self.detail else []


async def _ask(
    registry: GatewayRegistry, account_id: str, filters: GalleryFilters, done: CompletedAction | None
) -> _GalleryData:
    """Ask the registry for everything that the page shows, in parallel.

    Raises:
        Refused: BAD_CURSOR: the cursor in the address is not valid.
    """
    return _GalleryData(
        *await asyncio.gather(
            registry.clips_of(account_id, filters.query()),
            registry.usage_of(account_id),
            registry.vods_of(account_id),
            _vod(registry, account_id, filters.vod),
            _feed(registry, account_id, filters.status),
            _notice(registry, account_id, done),
        )
    )


async def _vod(registry: GatewayRegistry, account_id: str, vod_id: str | None) -> VodDetail | None:
    if vod_id is None:
        return None
    try:
        return await registry.vod_of(account_id, vod_id)
    except Refused:
        return None


async def _feed(registry: GatewayRegistry, account_id: str, status: ClipStatus | None) -> Feed | None:
    """Return the feed if the page shows it: only beside the published clips."""
    return await registry.feed_of(account_id) if status is ClipStatus.PUBLISHED else None


async def _notice(
    registry: GatewayRegistry, account_id: str, done: CompletedAction | None
) -> ActionNotice | None:
    """Return the notice for an action; after a delete, only with clips that can still be restored."""
    if done is None:
        return None
    if done.action is not ClipAction.DELETE:
        return ActionNotice(done.action, done.count, done.failed)
    query = ClipQuery(statuses=(ClipStatus.DELETED,), limit=MAX_BATCH)
    deleted = (await registry.clips_of(account_id, query)).items
    undoable = [clip for clip in deleted if clip.clip_id in done.clip_ids]
    if not undoable and not done.failed:
        return None
    return ActionNotice.of(done.action, undoable, done.failed)


def _tabs(usage: AccountUsage) -> list[StatusTab]:
    counts = {status: each.clips for status, each in usage.by_status.items()}
    living = sum(count for status, count in counts.items() if status is not ClipStatus.DELETED)
    return [StatusTab(None, living), *(StatusTab(status, counts.get(status, 0)) for status in _TABS)]
