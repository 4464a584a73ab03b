"""What becomes of a cut that the cutter reports."""

from enum import StrEnum
from typing import Any

from clip_registry.domain.clips import Clip, Cut, StoredKey
from clip_shared.contracts.events import PurgeReason
from clip_shared.contracts.registry_api import ClipStatus


class CutOutcome(StrEnum):
    """What becomes of a cut."""

    CREATED = "created"  # the highlight's first clip
    REPLACED = "replaced"  # a newer video of a living clip
    RECUT = "recut"  # a new life after a purge
    OFFERED = "offered"  # newer than the video of a clip that its owner decided about: remembered only
    REPEATED = "repeated"  # the clip's own event once more
    STALE = "stale"  # older than the clip's video, than its purge, or than another that was refused
    FOREIGN = "foreign"  # names another account than the clip's: refused

    @property
    def changes_clip(self) -> bool:
        """Whether the cut is now the clip's."""
        return self in {CutOutcome.CREATED, CutOutcome.REPLACED, CutOutcome.RECUT}


def outcome_of_cut(clip: Clip | None, cut: Cut) -> CutOutcome:
    """Decide about a cut, given the highlight's clip if there is one.

    A refused cut stays refused, since a clip remembers the newest that it judged: its objects may go.
    An event's second delivery never revives a clip, because its objects were released with it.
    """
    if clip is None:
        return CutOutcome.CREATED
    if cut.twitch_account_id != clip.twitch_account_id:
        return CutOutcome.FOREIGN
    if cut.highlight_event_id == clip.highlight_event_id:
        return CutOutcome.REPEATED
    return CutOutcome.STALE if clip.has_judged(cut) else _judge_news(clip, cut)


def _judge_news(clip: Clip, cut: Cut) -> CutOutcome:
    if clip.status is ClipStatus.PURGED:
        return CutOutcome.RECUT if _revives(clip, cut) else CutOutcome.STALE
    if cut.is_owners:
        return CutOutcome.REPLACED
    if clip.status is ClipStatus.AVAILABLE:
        return CutOutcome.STALE if clip.is_owners else CutOutcome.REPLACED
    return CutOutcome.OFFERED if cut.position > clip.position else CutOutcome.STALE


def _revives(clip: Clip, cut: Cut) -> bool:
    """Whether a purged clip begins a new life.

    What its owner deleted comes back only when they ask after the purge; what nobody kept, also for a cut
    that its owner had asked for before.
    """
    is_later = clip.purged_at is not None and cut.highlight_detected_at > clip.purged_at
    if clip.purge_reason is PurgeReason.DELETED:
        return cut.is_owners and is_later
    return cut.is_owners or is_later


def cut_offer(cut: Cut) -> dict[str, Any]:
    """Return what a clip remembers of a newer cut that it did not take, in the shape of ``CutOffer``."""
    return {
        "kind": cut.kind,
        "title": cut.title,
        "score": cut.score,
        "start_seconds": cut.cut_receipt["requested_start_seconds"],
        "end_seconds": cut.cut_receipt["requested_end_seconds"],
        "highlight_event_id": cut.highlight_event_id,
        "highlight_detected_at": cut.highlight_detected_at.isoformat(),
    }


def released_by_cut(before: Clip | None, cut: Cut, after: Clip) -> frozenset[StoredKey]:
    """What the clip needs no more once a cut was judged: all that took part, but for what it owns now."""
    owned_before = before.owned_objects if before else frozenset()
    return (owned_before | cut.objects) - after.owned_objects
