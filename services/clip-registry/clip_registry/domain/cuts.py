"""What becomes of a cut that the cutter reports."""

from enum import StrEnum
from typing import Any

from clip_registry.domain.clips import Clip, Cut, StoredKey
from clip_shared.contracts.events import PurgeReason
from clip_shared.contracts.registry_api import ClipStatus


class CutOutcome(StrEnum):
    """What becomes of a cut."""

    CREATED = "created"  # the first clip of the highlight
    REPLACED = "replaced"  # a new video of a clip that is not purged
    RECUT = "recut"  # a clip again after a purge
    OFFERED = "offered"  # remembered, not taken: newer than a video that the owner kept, published or deleted
    REPEATED = "repeated"  # the event of the clip's current video, delivered again
    STALE = "stale"  # older than the clip's video, its purge, or another cut that it refused
    FOREIGN = "foreign"  # of another account than the clip's: refused

    @property
    def changes_clip(self) -> bool:
        """Whether the cut is now the clip's video."""
        return self in {CutOutcome.CREATED, CutOutcome.REPLACED, CutOutcome.RECUT}


def outcome_of_cut(clip: Clip | None, cut: Cut) -> CutOutcome:
    """Decide about a cut, given the clip of its highlight (None: the highlight has no clip).

    A refused cut stays refused, because a clip remembers the newest cut that it considered: its objects may
    be released. A redelivered event never gives a purged clip a video, because its objects were released.
    """
    if clip is None:
        return CutOutcome.CREATED
    if cut.twitch_account_id != clip.twitch_account_id:
        return CutOutcome.FOREIGN
    if cut.highlight_event_id == clip.highlight_event_id:
        return CutOutcome.REPEATED
    return CutOutcome.STALE if clip.has_considered(cut) else _outcome_of_new_cut(clip, cut)


def _outcome_of_new_cut(clip: Clip, cut: Cut) -> CutOutcome:
    if clip.status is ClipStatus.PURGED:
        return CutOutcome.RECUT if _ends_purge(clip, cut) else CutOutcome.STALE
    if cut.is_owners:
        return CutOutcome.REPLACED
    if clip.status is ClipStatus.AVAILABLE:
        return CutOutcome.STALE if clip.is_owners else CutOutcome.REPLACED
    return CutOutcome.OFFERED if cut.position > clip.position else CutOutcome.STALE


def _ends_purge(clip: Clip, cut: Cut) -> bool:
    """Whether the cut makes a purged clip available again.

    A clip that its owner deleted needs a cut that the owner asked for after the purge. A clip that expired
    takes any cut from after the purge, and also an older one that its owner asked for.
    """
    is_later = clip.purged_at is not None and cut.highlight_detected_at > clip.purged_at
    if clip.purge_reason is PurgeReason.DELETED:
        return cut.is_owners and is_later
    return cut.is_owners or is_later


def cut_offer(cut: Cut) -> dict[str, Any]:
    """Return what a clip remembers of a newer cut that it did not take: the fields of ``CutOffer``."""
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
    """Return the objects of the clip and of the cut that the clip does not own after the decision."""
    owned_before = before.owned_objects if before else frozenset()
    return (owned_before | cut.objects) - after.owned_objects
