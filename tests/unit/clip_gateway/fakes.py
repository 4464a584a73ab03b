"""A registry in memory that passes the contract test of the real one, and clips for it."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clip_gateway.domain import ClipQuery, Refusal, Refused
from clip_shared.contracts.events import ClipOrigin, CutMode, CutReceipt, HighlightKind, PurgeReason
from clip_shared.contracts.registry_api import (
    AccountUsage,
    Actor,
    BatchOutcome,
    BatchRequest,
    BatchResult,
    BatchResults,
    ClipAction,
    ClipOrder,
    ClipPage,
    ClipRecord,
    ClipStatus,
    Feed,
    FeedPage,
    Publication,
    PublishRequest,
    RenameRequest,
    SkippedHighlight,
    StatusUsage,
    VodDetail,
    VodPage,
    VodSummary,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 24 * 60 * 60.0
RECEIPT = CutReceipt(
    mode=CutMode.COPY,
    requested_start_seconds=1,
    requested_end_seconds=3,
    actual_start_seconds=0.5,
    actual_end_seconds=3,
)
PUBLICATION = Publication(revision=1, until=None, embed=True, downloadable=False, indexable=False)


def a_clip(
    account: str = "ann",
    *,
    status: ClipStatus = ClipStatus.AVAILABLE,
    seconds_left: float = 7 * DAY,
    **changes: Any,
) -> ClipRecord:
    """Return a clip whose fields agree with its status."""
    clip_id = changes.pop("clip_id", uuid.uuid4())
    ephemeral = status in {ClipStatus.AVAILABLE, ClipStatus.DELETED, ClipStatus.PURGED}
    published = status is ClipStatus.PUBLISHED
    values: dict[str, Any] = {
        "clip_id": clip_id,
        "stream_highlight_id": f"hl-{clip_id}",
        "twitch_account_id": account,
        "source_vod_id": "vod-1",
        "kind": HighlightKind.HEURISTIC,
        "origin": ClipOrigin.DETECTOR,
        "title": "A fine moment",
        "score": 0.5,
        "status": status,
        "bucket": "clips",
        "object_key": f"clips/{account}/{clip_id}/event-1.mp4",
        "poster_key": f"clips/{account}/{clip_id}/event-1.jpg",
        "content_type": "video/mp4",
        "file_size_bytes": 1000,
        "duration_seconds": 2.0,
        "cut_receipt": RECEIPT,
        "revision": 1,
        "expires_at": NOON + timedelta(seconds=seconds_left) if ephemeral else None,
        "expires_in_seconds": seconds_left if ephemeral else None,
        "kept_at": None if ephemeral else NOON,
        "kept_by": None if ephemeral else account,
        "published_at": NOON if published else None,
        "share_slug": f"slug-{clip_id}" if published else None,
        "publication": PUBLICATION if published else None,
        "deleted_at": NOON if status is ClipStatus.DELETED else None,
        "purged_at": NOON if status is ClipStatus.PURGED else None,
        "purge_reason": PurgeReason.EXPIRED if status is ClipStatus.PURGED else None,
        "offer": None,
        "highlight_event_id": "event-1",
        "highlight_detected_at": NOON,
        "version": 1,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return ClipRecord(**{**values, **changes})


_FROM: dict[ClipAction, set[ClipStatus]] = {
    ClipAction.KEEP: {ClipStatus.AVAILABLE},
    ClipAction.UNKEEP: {ClipStatus.KEPT},
    ClipAction.PUBLISH: {ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED},
    ClipAction.UNPUBLISH: {ClipStatus.PUBLISHED},
    ClipAction.DELETE: {ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED},
    ClipAction.RESTORE: {ClipStatus.DELETED},
    ClipAction.RENAME: {ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED},
}
_TO = {
    ClipAction.KEEP: ClipStatus.KEPT,
    ClipAction.UNKEEP: ClipStatus.AVAILABLE,
    ClipAction.PUBLISH: ClipStatus.PUBLISHED,
    ClipAction.UNPUBLISH: ClipStatus.KEPT,
    ClipAction.DELETE: ClipStatus.DELETED,
}
_SATISFIED_IN: dict[ClipAction, set[ClipStatus]] = {
    ClipAction.KEEP: {ClipStatus.KEPT, ClipStatus.PUBLISHED},
    ClipAction.UNKEEP: {ClipStatus.AVAILABLE},
    ClipAction.UNPUBLISH: {ClipStatus.AVAILABLE, ClipStatus.KEPT},
    ClipAction.DELETE: {ClipStatus.DELETED},
    ClipAction.RESTORE: {ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED},
}
_LIVING = (ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED)
_BY_ORDER: dict[ClipOrder, Callable[[ClipRecord], tuple[float, str]]] = {
    ClipOrder.NEWEST: lambda clip: (-clip.created_at.timestamp(), str(clip.clip_id)),
    ClipOrder.OLDEST: lambda clip: (clip.created_at.timestamp(), str(clip.clip_id)),
    ClipOrder.EXPIRING: lambda clip: (
        clip.expires_at.timestamp() if clip.expires_at else float("inf"),
        str(clip.clip_id),
    ),
    ClipOrder.LONGEST: lambda clip: (-clip.duration_seconds, str(clip.clip_id)),
    ClipOrder.SHORTEST: lambda clip: (clip.duration_seconds, str(clip.clip_id)),
    ClipOrder.BEST: lambda clip: (
        -clip.score if clip.score is not None else float("inf"),
        str(clip.clip_id),
    ),
}


class InMemoryRegistry:
    """Clips by id. Set ``outage`` to have every call fail with it."""

    def __init__(self, *clips: ClipRecord) -> None:
        self.clips: dict[UUID, ClipRecord] = {}
        self.skips: dict[str, list[SkippedHighlight]] = {}
        self.feeds: dict[str, Feed] = {}
        self.dead_slugs: set[str] = set()
        self.outage: Exception | None = None
        self._before_delete: dict[UUID, ClipRecord] = {}
        for clip in clips:
            self.put(clip)

    def put(self, clip: ClipRecord) -> ClipRecord:
        self.clips[clip.clip_id] = clip
        return clip

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        self._answer()
        return self.clips.get(clip_id)

    async def clips_of(self, account_id: str, query: ClipQuery) -> ClipPage:
        self._answer()
        found = sorted(
            (clip for clip in self._of(account_id) if _matches(clip, query)), key=_BY_ORDER[query.order]
        )
        start = self._start(found, query.cursor)
        page = found[start : start + query.limit]
        more = len(found) > start + query.limit
        return ClipPage(items=tuple(page), next_cursor=str(page[-1].clip_id) if more else None)

    @staticmethod
    def _start(clips: list[ClipRecord], cursor: str | None) -> int:
        if cursor is None:
            return 0
        ids = [str(clip.clip_id) for clip in clips]
        if cursor not in ids:
            raise Refused(Refusal.BAD_CURSOR)
        return ids.index(cursor) + 1

    async def act(self, action: ClipAction, clip_id: UUID, request: Actor) -> ClipRecord:
        self._answer()
        clip = self.clips.get(clip_id)
        if clip is None or clip.status is ClipStatus.PURGED:
            raise Refused(Refusal.UNKNOWN)
        if clip.twitch_account_id != request.account_id:
            raise Refused(Refusal.NOT_OWNER)
        if isinstance(request, PublishRequest) and request.until and request.until <= datetime.now(UTC):
            raise Refused(Refusal.TOO_LATE)
        if clip.status in _FROM[action]:
            return self.put(self._changed(action, clip, request))
        if clip.status in _SATISFIED_IN.get(action, set()):
            return clip
        raise Refused(Refusal.NOT_ALLOWED)

    def _changed(self, action: ClipAction, clip: ClipRecord, request: Actor) -> ClipRecord:
        if action is ClipAction.RENAME:
            assert isinstance(request, RenameRequest)
            return clip.model_copy(update={"title": request.title})
        if action is ClipAction.RESTORE:
            return self._before_delete.pop(clip.clip_id, _moved(clip, ClipStatus.AVAILABLE))
        if action is ClipAction.DELETE:
            self._before_delete[clip.clip_id] = clip
        if clip.share_slug and action is ClipAction.UNPUBLISH:
            self.dead_slugs.add(clip.share_slug)
        changed = _moved(clip, _TO[action])
        if isinstance(request, PublishRequest):
            publication = Publication(revision=clip.revision, **request.model_dump(exclude={"account_id"}))
            slug = clip.share_slug or f"slug-{uuid.uuid4().hex}"
            changed = changed.model_copy(update={"publication": publication, "share_slug": slug})
        return changed

    async def act_on_many(self, request: BatchRequest) -> BatchResults:
        results = [await self._outcome(request, clip_id) for clip_id in request.clip_ids]
        return BatchResults(results=tuple(results))

    async def _outcome(self, request: BatchRequest, clip_id: UUID) -> BatchResult:
        before = self.clips.get(clip_id)
        actor = Actor(account_id=request.account_id)
        if request.action is ClipAction.PUBLISH:
            actor = PublishRequest(account_id=request.account_id)
        try:
            clip = await self.act(request.action, clip_id, actor)
        except Refused as refused:
            outcome = BatchOutcome(refused.reason.value)
            shown = before if outcome is BatchOutcome.NOT_ALLOWED else None
            return BatchResult(clip_id=clip_id, outcome=outcome, clip=shown)
        outcome = BatchOutcome.UNCHANGED if clip == before else BatchOutcome.DONE
        return BatchResult(clip_id=clip_id, outcome=outcome, clip=clip)

    async def usage_of(self, account_id: str) -> AccountUsage:
        self._answer()
        mine = self._of(account_id)
        by_status = {}
        for status in (*_LIVING, ClipStatus.DELETED):
            sizes = [clip.file_size_bytes for clip in mine if clip.status is status]
            by_status[status] = StatusUsage(clips=len(sizes), bytes=sum(sizes))
        available = [clip for clip in mine if clip.status is ClipStatus.AVAILABLE]
        first = sorted(available, key=_BY_ORDER[ClipOrder.EXPIRING])[:3]
        return AccountUsage(by_status=by_status, clip_limit=None, next_to_expire=tuple(first))

    async def vods_of(self, account_id: str) -> VodPage:
        self._answer()
        vods = {clip.source_vod_id for clip in self._of(account_id)} | set(self.skips)
        summaries = [self._summary(account_id, vod) for vod in sorted(vods)]
        return VodPage(items=tuple(sorted(summaries, key=lambda each: each.latest_at, reverse=True)))

    async def vod_of(self, account_id: str, vod_id: str) -> VodDetail:
        self._answer()
        summary = self._summary(account_id, vod_id)
        if summary.highlights == 0:
            raise Refused(Refusal.UNKNOWN)
        return VodDetail(summary=summary, skips=tuple(self.skips.get(vod_id, ())))

    def _summary(self, account_id: str, vod_id: str) -> VodSummary:
        clips = [clip for clip in self._of(account_id) if clip.source_vod_id == vod_id]
        skips = self.skips.get(vod_id, [])
        return VodSummary(
            source_vod_id=vod_id,
            highlights=len(clips) + len(skips),
            clips=sum(clip.status in _LIVING for clip in clips),
            skipped=len(skips),
            latest_at=max([clip.highlight_detected_at for clip in clips], default=NOON),
        )

    async def shared(self, slug: str) -> ClipRecord:
        self._answer()
        for clip in self.clips.values():
            if clip.share_slug == slug and clip.status is ClipStatus.PUBLISHED:
                return clip
        gone = slug in self.dead_slugs or any(
            each.share_slug == slug for each in self._before_delete.values()
        )
        raise Refused(Refusal.UNPUBLISHED if gone else Refusal.UNKNOWN)

    async def feed_of(self, account_id: str) -> Feed | None:
        self._answer()
        return self.feeds.get(account_id)

    async def open_feed(self, account_id: str) -> Feed:
        self._answer()
        new = Feed(slug=f"feed-{uuid.uuid4().hex}", created_at=NOON)
        return self.feeds.setdefault(account_id, new)

    async def close_feed(self, account_id: str) -> None:
        self._answer()
        self.feeds.pop(account_id, None)

    async def feed(self, slug: str) -> FeedPage:
        self._answer()
        for account_id, feed in self.feeds.items():
            if feed.slug == slug:
                shown = [c for c in self._of(account_id) if c.status is ClipStatus.PUBLISHED]
                return FeedPage(items=tuple(shown), updated_at=NOON)
        raise Refused(Refusal.UNKNOWN)

    def _of(self, account_id: str) -> list[ClipRecord]:
        return [clip for clip in self.clips.values() if clip.twitch_account_id == account_id]

    def _answer(self) -> None:
        if self.outage is not None:
            raise self.outage


def _matches(clip: ClipRecord, query: ClipQuery) -> bool:
    return (
        clip.status in (query.statuses or _LIVING)
        and (not query.kinds or clip.kind in query.kinds)
        and query.vod_id in {None, clip.source_vod_id}
        and (query.title is None or query.title.casefold() in clip.title.casefold())
    )


def _moved(clip: ClipRecord, status: ClipStatus) -> ClipRecord:
    again = a_clip(clip.twitch_account_id, status=status, clip_id=clip.clip_id)
    fields = (
        "status",
        "expires_at",
        "expires_in_seconds",
        "kept_at",
        "kept_by",
        "published_at",
        "share_slug",
        "publication",
        "deleted_at",
    )
    return clip.model_copy(update={name: getattr(again, name) for name in fields})
