"""The public wire models. Where a clip's objects lie, and who did what to it, stays inside."""

from typing import Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from clip_gateway.domain import days_left
from clip_shared.events import HighlightKind
from clip_shared.registry_api import ClipRecord, ClipStatus


class ClipLinks(BaseModel):
    """Where to go on, relative to this host. POST to ``keep`` or ``publish`` does it, DELETE undoes it."""

    self_: str = Field(serialization_alias="self")
    watch: str
    download: str
    poster: str | None
    keep: str
    publish: str

    @classmethod
    def of(cls, clip: ClipRecord) -> Self:
        """The links of a clip."""
        path = f"/v1/clips/{clip.clip_id}"
        return cls(
            self_=path,
            watch=f"{path}/watch",
            download=f"{path}/download",
            poster=f"{path}/poster" if clip.poster_key else None,
            keep=f"{path}/keep",
            publish=f"{path}/publish",
        )


class ClipView(BaseModel):
    """A clip, as its streamer sees it."""

    id: UUID
    title: str
    kind: HighlightKind
    status: ClipStatus
    score: float | None
    duration_seconds: float
    size_bytes: int
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = Field(description="Null once kept or published: it stays.")
    expires_in_days: int | None = Field(description="Days left, rounded up; null once kept or published.")
    links: ClipLinks

    @classmethod
    def of(cls, clip: ClipRecord) -> Self:
        """The view of a clip."""
        return cls(
            id=clip.clip_id,
            title=clip.title,
            kind=clip.kind,
            status=clip.status,
            score=clip.score,
            duration_seconds=clip.duration_seconds,
            size_bytes=clip.file_size_bytes,
            created_at=clip.created_at,
            expires_at=clip.expires_at,
            expires_in_days=days_left(clip.expires_in_seconds),
            links=ClipLinks.of(clip),
        )


class ClipList(BaseModel):
    """A page of clips, newest first; ``next_cursor`` asks for the next, and is null on the last."""

    items: list[ClipView]
    next_cursor: str | None
