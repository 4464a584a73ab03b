"""The rules, each of their cases, and what must hold whatever the order of events."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_registry.domain import (
    Action,
    Answer,
    Clip,
    Cut,
    StoredKey,
    Verdict,
    answer,
    is_due,
    judge,
    released_by_cut,
)
from clip_shared.registry_api import ClipStatus
from tests.unit.clip_registry.cuts import HOUR, NOON, a_clip, a_cut

LIVING = [ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED]

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
VERDICTS_ON_LIVING = dict(
    zip(
        OFFERED,
        [
            Verdict.REPEATED,
            Verdict.REPEATED,
            Verdict.STALE,
            Verdict.STALE,
            *[Verdict.REPLACED] * 5,
            Verdict.FOREIGN,
        ],
        strict=True,
    )
)
VERDICTS_ON_PURGED = dict(
    zip(
        OFFERED,
        [Verdict.REPEATED, Verdict.REPEATED, *[Verdict.STALE] * 6, Verdict.RECUT, Verdict.FOREIGN],
        strict=True,
    )
)


@pytest.mark.parametrize("offered", OFFERED)
def test_a_highlights_first_cut_becomes_its_clip(offered: str) -> None:
    assert judge(None, OFFERED[offered]) is Verdict.CREATED


@pytest.mark.parametrize(("status", "offered"), list(product(LIVING, OFFERED)))
def test_only_a_newer_cut_replaces_a_living_clip(status: ClipStatus, offered: str) -> None:
    assert judge(a_clip(status), OFFERED[offered]) is VERDICTS_ON_LIVING[offered]


@pytest.mark.parametrize("offered", OFFERED)
def test_only_a_highlight_newer_than_the_purge_revives_a_clip(offered: str) -> None:
    assert judge(a_clip(ClipStatus.PURGED), OFFERED[offered]) is VERDICTS_ON_PURGED[offered]


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


@given(
    st.lists(
        st.one_of(st.sampled_from(sorted(EVENTS)), st.integers(min_value=0, max_value=9)),
        max_size=30,
    )
)
def test_in_any_order_nothing_released_comes_back_and_nothing_is_lost(steps: list[str | int]) -> None:
    """Steps are deliveries of events (again and again, in any order) and purges at an hour."""
    clip: Clip | None = None
    released: set[StoredKey] = set()
    delivered: list[Cut] = []
    for step in steps:
        if isinstance(step, int):
            clip = _purge(clip, NOON + HOUR * step, released)
            continue
        cut = a_cut(event=step, at=EVENTS[step])
        before = clip
        clip = _offer(clip, cut)
        delivered.append(cut)
        released |= released_by_cut(before, cut, clip)
        assert not released & clip.owned_objects
        assert released | clip.owned_objects == {each for cut in delivered for each in cut.objects}
        if clip.status is not ClipStatus.PURGED and not any(isinstance(each, int) for each in steps):
            assert clip.revision == max(each.revision for each in delivered)


def _purge(clip: Clip | None, moment: datetime, released: set[StoredKey]) -> Clip | None:
    if clip is None or clip.status is ClipStatus.PURGED or moment < clip.updated_at:
        return clip
    released |= clip.objects
    return replace(a_clip(ClipStatus.PURGED, cut=_cut_of(clip)), purged_at=moment, updated_at=moment)


def _offer(clip: Clip | None, cut: Cut) -> Clip:
    if not judge(clip, cut).changes_clip:
        assert clip is not None
        return clip
    earliest = clip.updated_at if clip else NOON
    return replace(a_clip(cut=cut), updated_at=max(earliest, cut.highlight_detected_at))


def _cut_of(clip: Clip) -> Cut:
    return Cut(**{name: getattr(clip, name) for name in vars(a_cut())})


DONE, UNCHANGED, NOT_ALLOWED, UNKNOWN = Answer.DONE, Answer.UNCHANGED, Answer.NOT_ALLOWED, Answer.UNKNOWN
ANSWERS = {
    #                 none     available   kept       published    purged
    Action.KEEP: (UNKNOWN, DONE, UNCHANGED, UNCHANGED, UNKNOWN),
    Action.UNKEEP: (UNKNOWN, UNCHANGED, DONE, NOT_ALLOWED, UNKNOWN),
    Action.PUBLISH: (UNKNOWN, DONE, DONE, UNCHANGED, UNKNOWN),
    Action.UNPUBLISH: (UNKNOWN, UNCHANGED, UNCHANGED, DONE, UNKNOWN),
}
CLIPS = (None, *map(a_clip, ClipStatus))


@pytest.mark.parametrize("action", Action)
def test_an_owners_action(action: Action) -> None:
    assert tuple(answer(action, clip, "ann") for clip in CLIPS) == ANSWERS[action]


@pytest.mark.parametrize(("action", "status"), list(product(Action, LIVING)))
def test_nobody_else_may_act(action: Action, status: ClipStatus) -> None:
    assert answer(action, a_clip(status), "bob") is Answer.NOT_OWNER


@pytest.mark.parametrize("action", Action)
def test_nobody_learns_whose_a_purged_clip_was(action: Action) -> None:
    assert answer(action, a_clip(ClipStatus.PURGED), "bob") is Answer.UNKNOWN


@pytest.mark.parametrize("action", [Action.KEEP, Action.PUBLISH])
def test_an_expired_clip_can_still_be_kept(action: Action) -> None:
    expired = a_clip(expires_in_seconds=-1.0)
    assert answer(action, expired, "ann") is Answer.DONE


def test_only_an_available_clip_is_ever_due() -> None:
    late = NOON + 24 * HOUR
    assert [status for status in ClipStatus if is_due(a_clip(status), late)] == [ClipStatus.AVAILABLE]


def test_a_clip_is_due_from_the_moment_of_its_expiry() -> None:
    clip = a_clip(expires_at=NOON)
    assert is_due(clip, NOON)
    assert not is_due(clip, NOON - timedelta(microseconds=1))
