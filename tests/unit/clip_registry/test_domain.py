"""The rules, each of their cases, and what must hold whatever the order of events."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_registry.domain.actions import ActionOutcome, outcome_of_action
from clip_registry.domain.clips import Clip, Cut, StoredKey, is_due
from clip_registry.domain.cuts import CutOutcome, cut_offer, outcome_of_cut, released_by_cut
from clip_shared.contracts.events import ClipOrigin, PurgeReason
from clip_shared.contracts.registry_api import ClipAction, ClipStatus, CutOffer
from tests.unit.clip_registry.cuts import HOUR, NOON, OPTIONS, a_clip, a_cut, an_action

VISIBLE_STATUSES = [ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED]
DECIDED = [ClipStatus.KEPT, ClipStatus.PUBLISHED, ClipStatus.DELETED]

# The clip's own cut is event-5, detected at noon; a purged clip was purged at noon plus four hours.
OFFERED = {
    "the clip's own event": a_cut(),
    "the clip's own event, with a later time": a_cut(at=NOON + 9 * HOUR),
    "detected earlier": a_cut(event="event-9", at=NOON - HOUR),
    "detected at the same moment, lesser id": a_cut(event="event-4"),
    "detected at the same moment, greater id": a_cut(event="event-6"),
    "detected later": a_cut(event="event-1", at=NOON + HOUR),
    "of another kind, detected later": a_cut(event="event-1", at=NOON + HOUR, kind="refined"),
    "detected at the moment of the purge": a_cut(event="event-1", at=NOON + 4 * HOUR),
    "detected after the purge": a_cut(event="event-1", at=NOON + 4 * HOUR + timedelta(microseconds=1)),
    "for another account": a_cut(event="event-1", at=NOON + 9 * HOUR, account="bob"),
}
REPEATED, STALE, FOREIGN = CutOutcome.REPEATED, CutOutcome.STALE, CutOutcome.FOREIGN


def by_detector(newer: CutOutcome) -> dict[str, CutOutcome]:
    """The outcomes on a clip that is not purged, given the one on what is newer than its video."""
    return dict(zip(OFFERED, [REPEATED, REPEATED, STALE, STALE, *[newer] * 5, FOREIGN], strict=True))


OUTCOMES_ON_PURGED = dict(
    zip(OFFERED, [REPEATED, REPEATED, *[STALE] * 6, CutOutcome.RECUT, FOREIGN], strict=True)
)


@pytest.mark.parametrize("offered", OFFERED)
def test_a_highlights_first_cut_becomes_its_clip(offered: str) -> None:
    assert outcome_of_cut(None, OFFERED[offered]) is CutOutcome.CREATED


@pytest.mark.parametrize("offered", OFFERED)
def test_only_a_newer_cut_replaces_an_available_clip(offered: str) -> None:
    assert outcome_of_cut(a_clip(), OFFERED[offered]) is by_detector(CutOutcome.REPLACED)[offered]


@pytest.mark.parametrize(("status", "offered"), list(product(DECIDED, OFFERED)))
def test_a_detector_only_offers_a_newer_cut_of_what_its_owner_decided_about(
    status: ClipStatus, offered: str
) -> None:
    assert outcome_of_cut(a_clip(status), OFFERED[offered]) is by_detector(CutOutcome.OFFERED)[offered]


def owners(cut: Cut) -> Cut:
    return replace(cut, origin=ClipOrigin.OWNER)


@pytest.mark.parametrize(
    ("status", "offered"), list(product([*VISIBLE_STATUSES, ClipStatus.DELETED], OFFERED))
)
def test_an_owners_cut_outranks_a_detectors_whenever_it_was_asked_for(
    status: ClipStatus, offered: str
) -> None:
    expected = by_detector(CutOutcome.REPLACED) | dict.fromkeys(list(OFFERED)[2:4], CutOutcome.REPLACED)
    assert outcome_of_cut(a_clip(status), owners(OFFERED[offered])) is expected[offered]


@pytest.mark.parametrize(("status", "offered"), list(product(VISIBLE_STATUSES, OFFERED)))
def test_among_cuts_of_the_owner_the_newer_one_counts(status: ClipStatus, offered: str) -> None:
    clip = a_clip(status, cut=owners(a_cut()))
    assert outcome_of_cut(clip, owners(OFFERED[offered])) is by_detector(CutOutcome.REPLACED)[offered]


@pytest.mark.parametrize("offered", OFFERED)
def test_no_detector_replaces_an_owners_cut(offered: str) -> None:
    assert outcome_of_cut(a_clip(cut=owners(a_cut())), OFFERED[offered]) is by_detector(STALE)[offered]


def test_what_was_refused_once_stays_refused() -> None:
    """A kept clip refused a cut, whose objects were released. Then its owner let the clip go."""
    refused = a_cut(event="event-7", at=NOON + HOUR)
    clip = a_clip(detector_cut_at=refused.highlight_detected_at, detector_cut_id="event-7")
    assert outcome_of_cut(clip, refused) is STALE
    assert outcome_of_cut(clip, a_cut(event="event-8", at=NOON + HOUR)) is CutOutcome.REPLACED


@pytest.mark.parametrize("offered", OFFERED)
def test_only_a_highlight_newer_than_the_purge_revives_a_clip(offered: str) -> None:
    assert outcome_of_cut(a_clip(ClipStatus.PURGED), OFFERED[offered]) is OUTCOMES_ON_PURGED[offered]


@pytest.mark.parametrize("offered", OFFERED)
def test_an_owners_own_cut_revives_what_nobody_kept(offered: str) -> None:
    known = {each for each, outcome in OUTCOMES_ON_PURGED.items() if outcome in {REPEATED, FOREIGN}}
    expected = OUTCOMES_ON_PURGED[offered] if offered in known else CutOutcome.RECUT
    assert outcome_of_cut(a_clip(ClipStatus.PURGED), owners(OFFERED[offered])) is expected


@pytest.mark.parametrize("offered", OFFERED)
def test_what_its_owner_deleted_comes_back_only_by_a_later_request_of_theirs(offered: str) -> None:
    clip = a_clip(ClipStatus.PURGED, purge_reason=PurgeReason.DELETED)
    by_anybody = outcome_of_cut(clip, OFFERED[offered])
    assert not by_anybody.changes_clip
    assert outcome_of_cut(clip, owners(OFFERED[offered])) is OUTCOMES_ON_PURGED[offered]


def test_an_offer_is_what_the_wire_says() -> None:
    offer = CutOffer.model_validate(cut_offer(a_cut(event="event-7", at=NOON + HOUR)))
    assert (offer.highlight_event_id, offer.highlight_detected_at) == ("event-7", NOON + HOUR)
    assert (offer.start_seconds, offer.end_seconds) == (1, 3)


def test_a_replaced_clip_releases_its_old_video_and_poster() -> None:
    before, cut = a_clip(), a_cut(event="event-6")
    assert released_by_cut(before, cut, a_clip(cut=cut)) == before.objects


def test_a_repeated_event_releases_nothing_of_a_living_clip() -> None:
    assert released_by_cut(a_clip(), a_cut(), a_clip()) == frozenset()


def test_a_stale_cut_releases_its_own_objects_only() -> None:
    stale = a_cut(event="event-4")
    assert released_by_cut(a_clip(), stale, a_clip()) == stale.objects


def test_an_object_that_old_and_new_share_is_not_released() -> None:
    cut = a_cut(event="event-6", poster_key=a_cut().poster_key)
    assert released_by_cut(a_clip(), cut, a_clip(cut=cut)) == {StoredKey("clips", a_cut().object_key)}


def test_the_same_key_in_another_bucket_is_another_object() -> None:
    cut = a_cut(event="event-6", bucket="new-clips", object_key=a_cut().object_key, poster_key=None)
    assert released_by_cut(a_clip(), cut, a_clip(cut=cut)) == a_clip().objects


@pytest.mark.parametrize("event", ["event-4", "event-5"])
def test_whatever_is_offered_in_vain_to_a_purged_clip_is_released(event: str) -> None:
    purged = a_clip(ClipStatus.PURGED)
    assert released_by_cut(purged, a_cut(event=event), purged) == a_cut(event=event).objects


def test_a_recut_does_not_release_again_what_the_purge_released() -> None:
    cut = a_cut(event="event-6", at=NOON + 9 * HOUR)
    assert released_by_cut(a_clip(ClipStatus.PURGED), cut, a_clip(cut=cut)) == frozenset()


EVENTS = {
    f"event-{number}": NOON + HOUR * hours for number, hours in enumerate([0, 0, 1, 1, 2, 3, 5, 8], start=1)
}


ORIGINS = {
    event: ClipOrigin.OWNER if event in {"event-2", "event-6"} else ClipOrigin.DETECTOR for event in EVENTS
}


# Enough that a refused cut is met again after its clip was let go of.
@settings(max_examples=1000)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(sorted(EVENTS)),
            st.integers(min_value=0, max_value=9),
            st.sampled_from([ClipStatus.AVAILABLE, *DECIDED]),
        ),
        min_size=5,
        max_size=30,
    )
)
def test_in_any_order_nothing_released_comes_back_and_nothing_is_lost(
    steps: list[str | int | ClipStatus],
) -> None:
    """Steps: deliveries of events (again and again, in any order), purges at an hour, owners' decisions."""
    clip: Clip | None = None
    released: set[StoredKey] = set()
    delivered: list[Cut] = []
    for step in steps:
        if isinstance(step, int):
            clip = _purge(clip, NOON + HOUR * step, released)
            continue
        if isinstance(step, ClipStatus):
            clip = _decide(clip, step)
            continue
        cut = a_cut(event=step, at=EVENTS[step], origin=ORIGINS[step])
        before = clip
        clip = _offer(clip, cut)
        delivered.append(cut)
        released |= released_by_cut(before, cut, clip)
        assert not released & clip.owned_objects
        assert released | clip.owned_objects == {each for cut in delivered for each in cut.objects}
        if set(steps) <= EVENTS.keys():
            assert clip.position == max(delivered, key=lambda each: (each.is_owners, each.position)).position


def _purge(clip: Clip | None, moment: datetime, released: set[StoredKey]) -> Clip | None:
    if clip is None or clip.status not in {ClipStatus.AVAILABLE, ClipStatus.DELETED}:
        return clip
    if moment < clip.updated_at:
        return clip
    released |= clip.objects
    reason = PurgeReason.DELETED if clip.status is ClipStatus.DELETED else PurgeReason.EXPIRED
    gone = a_clip(ClipStatus.PURGED, cut=_cut_of(clip), purge_reason=reason)
    return replace(gone, purged_at=moment, updated_at=moment, **_marks_of(clip))


def _decide(clip: Clip | None, status: ClipStatus) -> Clip | None:
    if clip is None or clip.status is ClipStatus.PURGED:
        return clip
    return replace(a_clip(status, cut=_cut_of(clip)), updated_at=clip.updated_at, **_marks_of(clip))


def _offer(clip: Clip | None, cut: Cut) -> Clip:
    outcome = outcome_of_cut(clip, cut)
    marks = _marks_of(clip) if clip else {}
    if clip is None or not clip.has_considered(cut):
        by = "owner" if cut.is_owners else "detector"
        marks |= {f"{by}_cut_at": cut.highlight_detected_at, f"{by}_cut_id": cut.highlight_event_id}
    if not outcome.changes_clip:
        assert clip is not None
        return replace(clip, **marks)
    status = clip.status if clip and outcome is CutOutcome.REPLACED else ClipStatus.AVAILABLE
    earliest = clip.updated_at if clip else NOON
    return replace(
        a_clip(status, cut=cut), **{**marks, "updated_at": max(earliest, cut.highlight_detected_at)}
    )


def _marks_of(clip: Clip) -> dict[str, Any]:
    return {
        f"{by}_cut_{part}": getattr(clip, f"{by}_cut_{part}")
        for by in ("detector", "owner")
        for part in ("at", "id")
    }


def _cut_of(clip: Clip) -> Cut:
    return Cut(**{name: getattr(clip, name) for name in vars(a_cut())})


DONE, UNCHANGED, NOT_ALLOWED, UNKNOWN = (
    ActionOutcome.DONE,
    ActionOutcome.UNCHANGED,
    ActionOutcome.NOT_ALLOWED,
    ActionOutcome.UNKNOWN,
)
ANSWERS = {
    #                   none     available  kept       published    deleted      purged
    ClipAction.KEEP: (UNKNOWN, DONE, UNCHANGED, UNCHANGED, NOT_ALLOWED, UNKNOWN),
    ClipAction.UNKEEP: (UNKNOWN, UNCHANGED, DONE, NOT_ALLOWED, NOT_ALLOWED, UNKNOWN),
    ClipAction.PUBLISH: (UNKNOWN, DONE, DONE, UNCHANGED, NOT_ALLOWED, UNKNOWN),
    ClipAction.UNPUBLISH: (UNKNOWN, UNCHANGED, UNCHANGED, DONE, NOT_ALLOWED, UNKNOWN),
    ClipAction.DELETE: (UNKNOWN, DONE, DONE, DONE, UNCHANGED, UNKNOWN),
    ClipAction.RESTORE: (UNKNOWN, UNCHANGED, UNCHANGED, UNCHANGED, DONE, UNKNOWN),
    ClipAction.RENAME: (UNKNOWN, DONE, DONE, DONE, NOT_ALLOWED, UNKNOWN),
}
CLIPS = (None, *map(a_clip, ClipStatus))


@pytest.mark.parametrize("action", ClipAction)
def test_an_owners_action(action: ClipAction) -> None:
    assert tuple(outcome_of_action(an_action(action), clip) for clip in CLIPS) == ANSWERS[action]


@pytest.mark.parametrize(
    ("action", "status"), list(product(ClipAction, [*VISIBLE_STATUSES, ClipStatus.DELETED]))
)
def test_nobody_else_may_act(action: ClipAction, status: ClipStatus) -> None:
    assert outcome_of_action(an_action(action, "bob"), a_clip(status)) is ActionOutcome.NOT_OWNER


@pytest.mark.parametrize("action", ClipAction)
def test_nobody_learns_whose_a_purged_clip_was(action: ClipAction) -> None:
    assert outcome_of_action(an_action(action, "bob"), a_clip(ClipStatus.PURGED)) is ActionOutcome.UNKNOWN


@pytest.mark.parametrize("action", [ClipAction.KEEP, ClipAction.PUBLISH, ClipAction.DELETE])
def test_an_expired_clip_can_still_be_kept_or_deleted(action: ClipAction) -> None:
    expired = a_clip(expires_in_seconds=-1.0)
    assert outcome_of_action(an_action(action), expired) is ActionOutcome.DONE


@pytest.mark.parametrize(
    "change", [{"until": NOON}, {"embed": False}, {"downloadable": True}, {"indexable": True}]
)
def test_a_published_clip_changes_how_it_is_public(change: dict[str, Any]) -> None:
    request = an_action(ClipAction.PUBLISH, options=replace(OPTIONS, **change))
    assert outcome_of_action(request, a_clip(ClipStatus.PUBLISHED)) is ActionOutcome.DONE
    assert (
        outcome_of_action(replace(request, republishes=False), a_clip(ClipStatus.PUBLISHED))
        is ActionOutcome.UNCHANGED
    )
    assert (
        outcome_of_action(replace(request, republishes=False), a_clip(ClipStatus.KEPT)) is ActionOutcome.DONE
    )


def test_a_clip_is_not_renamed_to_its_own_title() -> None:
    assert (
        outcome_of_action(an_action(ClipAction.RENAME, title=a_clip().title), a_clip())
        is ActionOutcome.UNCHANGED
    )


@pytest.mark.parametrize("was", VISIBLE_STATUSES)
def test_at_the_cap_only_what_would_be_ephemeral_stays_deleted(was: ClipStatus) -> None:
    expected = ActionOutcome.FULL if was is ClipStatus.AVAILABLE else ActionOutcome.DONE
    deleted = a_clip(ClipStatus.DELETED, deleted_from=was)
    assert outcome_of_action(an_action(ClipAction.RESTORE), deleted, full=True) is expected


def test_at_the_cap_a_clip_that_stays_ephemeral_can_be_changed() -> None:
    assert outcome_of_action(an_action(ClipAction.RENAME), a_clip(), full=True) is ActionOutcome.DONE


def test_only_what_is_available_or_deleted_is_ever_due() -> None:
    late = NOON + 24 * HOUR
    assert [status for status in ClipStatus if is_due(a_clip(status), late)] == [
        ClipStatus.AVAILABLE,
        ClipStatus.DELETED,
    ]


def test_a_clip_is_due_from_the_moment_of_its_expiry() -> None:
    clip = a_clip(expires_at=NOON)
    assert is_due(clip, NOON)
    assert not is_due(clip, NOON - timedelta(microseconds=1))
