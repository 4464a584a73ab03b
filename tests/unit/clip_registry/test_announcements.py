"""What the bus is told."""

from datetime import datetime
from typing import Any

import pytest

from clip_registry import announcements
from clip_registry.domain.actions import TRANSITIONS
from clip_shared.contracts.events import ClipPurged, Event, ObjectReleased, PurgeReason, ReleaseReason
from clip_shared.contracts.registry_api import ClipAction, ClipStatus
from tests.unit.clip_registry.cuts import HOUR, NOON, a_clip, a_cut

LATER = NOON + 5 * HOUR
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_available_says_until_when_and_carries_the_trace_on() -> None:
    clip = a_clip()
    event = announcements.available(clip, TRACE)
    assert event.data.TYPE == "clip.available.v1"
    assert (event.data.version, event.data.expires_at) == (clip.version, clip.expires_at)
    assert (event.time, event.traceparent) == (clip.updated_at, TRACE)


def test_a_kept_clip_with_a_new_video_has_no_end() -> None:
    assert announcements.available(a_clip(ClipStatus.KEPT)).data.expires_at is None


@pytest.mark.parametrize("action", ClipAction)
def test_each_action_has_its_event(action: ClipAction) -> None:
    clip = a_clip(TRANSITIONS[action].target or ClipStatus.AVAILABLE)
    past = {"keep": "kept", "unkeep": "unkept", "publish": "published", "unpublish": "unpublished"}
    past |= {"delete": "deleted", "restore": "restored", "rename": "renamed"}
    event = announcements.done(action, clip)
    assert f"clip.{past[action]}.v1" == event.data.TYPE


def test_a_published_event_says_how_the_clip_is_public() -> None:
    data = announcements.done(ClipAction.PUBLISH, a_clip(ClipStatus.PUBLISHED, published_until=LATER)).data
    assert (data.revision, data.until) == (1, LATER)
    assert (data.embed, data.downloadable, data.indexable) == (True, False, False)


def test_nobody_is_told_to_watch_a_deleted_clip_that_has_a_new_video() -> None:
    told = [announcements.recut(a_clip(status)).data.TYPE for status in ClipStatus]
    available, deleted = "clip.available.v1", "clip.deleted.v1"
    assert told == [available, available, available, deleted, available]


@pytest.mark.parametrize("reason", PurgeReason)
def test_a_purge_says_why(reason: PurgeReason) -> None:
    farewell, *_ = announcements.purged(a_clip(ClipStatus.PURGED, purge_reason=reason), at=LATER)
    assert farewell.data.reason is reason


def test_a_purge_tells_of_the_clip_and_of_each_object() -> None:
    clip = a_clip(ClipStatus.PURGED)
    farewell, *releases = announcements.purged(clip, at=LATER)
    assert isinstance(farewell.data, ClipPurged)
    assert {each.data.object_key for each in releases} == {clip.object_key, clip.poster_key}
    assert {(each.data.reason, each.data.clip_id) for each in releases} == {
        (ReleaseReason.PURGED, clip.clip_id)
    }
    assert {each.time for each in releases} == {LATER}
    assert farewell.time == clip.updated_at


def test_a_clip_without_poster_releases_one_object() -> None:
    assert len(announcements.purged(a_clip(ClipStatus.PURGED, poster_key=None), at=LATER)) == 2


def test_ids_follow_from_their_cause() -> None:
    clip = a_clip(ClipStatus.PURGED)
    assert announcements.purged(clip, at=LATER) == announcements.purged(clip, at=LATER)
    assert announcements.available(a_clip(version=4)).id != announcements.available(a_clip(version=5)).id
    assert _release("cause-1") == _release("cause-1")
    assert _release("cause-1")[0].id != _release("cause-2")[0].id
    assert len({each.id for each in _release("cause-1")}) == 2


def test_releases_of_one_clip_stay_in_order() -> None:
    clip = a_clip()
    assert {each.data.key() for each in _release("cause")} == {str(clip.clip_id)}
    assert {each.time for each in _release("cause")} == {LATER}


@pytest.mark.parametrize(
    "key",
    [
        "vods/ann/whole-evening.mp4",
        f"clips/bob/{a_cut().clip_id}/event-5.mp4",
        f"clips/ann/{a_cut().clip_id}/../../../vods/event-5.mp4",
        f"clips/ann/{a_cut().clip_id}/event-5.mkv",
    ],
)
def test_what_is_no_object_of_the_accounts_clips_is_never_released(key: str) -> None:
    clip = a_clip(ClipStatus.PURGED, cut=a_cut(object_key=key, poster_key=None))
    assert len(announcements.purged(clip, at=LATER)) == 1


def _release(cause: str) -> list[Event[Any]]:
    clip = a_clip()
    events = announcements.released(clip, clip.objects, ReleaseReason.STALE, cause_id=cause, at=LATER)
    assert all(isinstance(each.data, ObjectReleased) for each in events)
    return events


def test_a_notice_keeps_its_id_for_an_account_and_a_day() -> None:
    def notice(account: str = "ann", end: datetime = NOON) -> str:
        return announcements.expiring(account, [a_cut().clip_id], clip_count=1, expires_before=end).id

    assert notice() == notice()
    assert len({notice(), notice("bob"), notice(end=NOON + 24 * HOUR)}) == 3
