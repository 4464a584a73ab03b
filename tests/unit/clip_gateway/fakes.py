"""A registry in memory that passes the real one's contract test, and clips to put into it."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clip_gateway.domain import Action, Refusal, Refused
from clip_shared.events import CutMode, CutReceipt, HighlightKind
from clip_shared.registry_api import ClipPage, ClipRecord, ClipStatus

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 24 * 60 * 60.0
RECEIPT = CutReceipt(
    mode=CutMode.COPY,
    requested_start_seconds=1,
    requested_end_seconds=3,
    actual_start_seconds=0.5,
    actual_end_seconds=3,
)


def a_clip(
    account: str = "ann",
    *,
    status: ClipStatus = ClipStatus.AVAILABLE,
    seconds_left: float = 7 * DAY,
    **changes: Any,
) -> ClipRecord:
    """A clip whose fields are what its status implies."""
    clip_id = changes.pop("clip_id", uuid.uuid4())
    ephemeral = status in {ClipStatus.AVAILABLE, ClipStatus.PURGED}
    values: dict[str, Any] = {
        "clip_id": clip_id,
        "stream_highlight_id": f"hl-{clip_id}",
        "twitch_account_id": account,
        "source_vod_id": "vod-1",
        "kind": HighlightKind.HEURISTIC,
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
        "expires_at": NOON + timedelta(seconds=seconds_left) if ephemeral else None,
        "expires_in_seconds": seconds_left if ephemeral else None,
        "kept_at": None if ephemeral else NOON,
        "kept_by": None if ephemeral else account,
        "published_at": NOON if status is ClipStatus.PUBLISHED else None,
        "share_slug": "slug" if status is ClipStatus.PUBLISHED else None,
        "purged_at": NOON if status is ClipStatus.PURGED else None,
        "highlight_event_id": "event-1",
        "highlight_detected_at": NOON,
        "version": 1,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return ClipRecord(**{**values, **changes})


_FROM: dict[Action, set[ClipStatus]] = {
    Action.KEEP: {ClipStatus.AVAILABLE},
    Action.UNKEEP: {ClipStatus.KEPT},
    Action.PUBLISH: {ClipStatus.AVAILABLE, ClipStatus.KEPT},
    Action.UNPUBLISH: {ClipStatus.PUBLISHED},
}
_TO = {
    Action.KEEP: ClipStatus.KEPT,
    Action.UNKEEP: ClipStatus.AVAILABLE,
    Action.PUBLISH: ClipStatus.PUBLISHED,
    Action.UNPUBLISH: ClipStatus.KEPT,
}


class FakeRegistry:
    """Clips by id. Set ``outage`` to have every call fail with it."""

    def __init__(self, *clips: ClipRecord) -> None:
        self.clips: dict[UUID, ClipRecord] = {}
        self.outage: Exception | None = None
        for clip in clips:
            self.put(clip)

    def put(self, clip: ClipRecord) -> ClipRecord:
        self.clips[clip.clip_id] = clip
        return clip

    async def get(self, clip_id: UUID) -> ClipRecord | None:
        self._answer()
        return self.clips.get(clip_id)

    async def clips_of(
        self, account_id: str, *, statuses: Iterable[ClipStatus], limit: int, cursor: str | None
    ) -> ClipPage:
        self._answer()
        wanted = set(statuses) or set(ClipStatus) - {ClipStatus.PURGED}
        mine = [
            clip
            for clip in self.clips.values()
            if clip.twitch_account_id == account_id
            and clip.status in wanted
            and (clip.expires_in_seconds is None or clip.expires_in_seconds > 0)
        ]
        mine.sort(key=lambda clip: (clip.created_at, clip.clip_id), reverse=True)
        start = self._start(mine, cursor)
        page = mine[start : start + limit]
        more = len(mine) > start + limit
        return ClipPage(items=tuple(page), next_cursor=str(page[-1].clip_id) if more else None)

    @staticmethod
    def _start(clips: list[ClipRecord], cursor: str | None) -> int:
        if cursor is None:
            return 0
        ids = [str(clip.clip_id) for clip in clips]
        if cursor not in ids:
            raise Refused(Refusal.BAD_CURSOR)
        return ids.index(cursor) + 1

    async def act(self, action: Action, clip_id: UUID, account_id: str) -> ClipRecord:
        self._answer()
        clip = self.clips.get(clip_id)
        if clip is None or clip.status is ClipStatus.PURGED:
            raise Refused(Refusal.UNKNOWN)
        if clip.twitch_account_id != account_id:
            raise Refused(Refusal.NOT_OWNER)
        if clip.status in _FROM[action]:
            return self.put(_moved(clip, _TO[action]))
        if action is Action.UNKEEP and clip.status is ClipStatus.PUBLISHED:
            raise Refused(Refusal.NOT_ALLOWED)
        return clip

    def _answer(self) -> None:
        if self.outage is not None:
            raise self.outage


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
    )
    return clip.model_copy(update={name: getattr(again, name) for name in fields})
