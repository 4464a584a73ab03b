"""The usage of an account, as a bar with one part for every status. Pure."""

from dataclasses import dataclass
from typing import Self

from clip_gateway.domain import days_left, is_expired
from clip_shared.contracts.registry_api import AccountUsage, ClipStatus, StatusUsage

_ORDER = (ClipStatus.PUBLISHED, ClipStatus.KEPT, ClipStatus.AVAILABLE)
_NONE = StatusUsage(clips=0, bytes=0)


@dataclass(frozen=True)
class UsagePart:
    """The clips of one status, with the start and the length of their part of the bar in percent."""

    status: ClipStatus
    clips: int
    start: float
    share: float


@dataclass(frozen=True)
class UsageBar:
    """An account's clips that are not deleted, by status. The lengths in the bar are by bytes.

    ``next_title`` is the title of the clip that expires first, in ``next_days``; None: no clip expires.
    """

    clips: int
    bytes: int
    clip_limit: int | None
    parts: tuple[UsagePart, ...]
    next_title: str | None = None
    next_days: int | None = None

    @classmethod
    def of(cls, usage: AccountUsage) -> Self:
        """Return the bar for an account's usage."""
        counted = [(status, usage.by_status.get(status, _NONE)) for status in _ORDER]
        total = sum(each.bytes for _, each in counted)
        parts, start = [], 0.0
        for status, each in counted:
            share = round(100 * each.bytes / total, 2) if total else 0.0
            parts.append(UsagePart(status, each.clips, round(start, 2), share))
            start += share
        living = [clip for clip in usage.next_to_expire if not is_expired(clip)]
        return cls(
            clips=sum(each.clips for _, each in counted),
            bytes=total,
            clip_limit=usage.clip_limit,
            parts=tuple(parts),
            next_title=living[0].title if living else None,
            next_days=days_left(living[0].expires_in_seconds) if living else None,
        )
