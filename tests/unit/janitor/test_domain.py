"""What may be deleted, and when failures mean an outage."""

import pytest

from janitor.domain import (
    DeletionFailure,
    DeletionRefusal,
    PurgeLimit,
    are_stuck,
    are_too_many_orphans,
    follow_up_tick,
    is_bulk_refused,
    is_outage,
    is_question_refused,
    plan_deletion,
)
from tests.unit.janitor.fakes import a_key, a_release, a_tick

BUSY = DeletionFailure("SlowDown", "please")
DENIED = DeletionFailure("AccessDenied", "no")
LOCKED = DeletionFailure("InvalidRequest", "Object is WORM protected")


def test_releases_of_one_object_are_one_deletion() -> None:
    once, again, other = a_release(a_key("1")), a_release(a_key("1")), a_release(a_key("1", "jpg"))
    plan = plan_deletion([once, other, again], "clips")
    assert plan.by_key == {a_key("1"): [once, again], a_key("1", "jpg"): [other]}
    assert plan.refused == []


@pytest.mark.parametrize("bucket", ["vods", "clips2", "clip"])
def test_no_other_bucket_is_touched(bucket: str) -> None:
    foreign = a_release(a_key("1"), bucket)
    plan = plan_deletion([foreign, a_release(a_key("2"))], "clips")
    assert list(plan.by_key) == [a_key("2")]
    assert plan.refused == [(foreign, DeletionRefusal.FOREIGN_BUCKET)]


@pytest.mark.parametrize(
    "key", ["vods/ann/recording.mp4", "clips/ann/1/e.mp4", f"../vods/{a_key('1')}", "a/"]
)
def test_nothing_but_clips_is_touched(key: str) -> None:
    release = a_release(key)
    plan = plan_deletion([release], "clips")
    assert plan.by_key == {}
    assert plan.refused == [(release, DeletionRefusal.NOT_A_CLIP)]


@pytest.mark.parametrize(
    ("failures", "outage", "stuck"),
    [
        ({"a": BUSY}, False, False),
        ({"a": BUSY, "b": BUSY}, True, False),
        ({"a": BUSY, "b": DENIED}, False, False),
        ({"a": DENIED}, False, False),
        ({"a": DENIED, "b": DENIED}, False, False),
        ({"a": LOCKED}, False, True),
        ({"a": LOCKED, "b": LOCKED}, False, False),
        ({"a": DeletionFailure("404", "Not Found"), "b": DeletionFailure("unknown", "")}, True, False),
    ],
)
def test_a_failure_is_a_fact_only_where_its_code_speaks_of_an_object(
    failures: dict[str, DeletionFailure], *, outage: bool, stuck: bool
) -> None:
    assert is_outage(2, failures) is outage
    assert are_stuck(2, failures) is stuck


@pytest.mark.parametrize(
    ("status", "code", "bulk", "question"),
    [
        (501, "NotImplemented", True, True),
        (501, "VersioningNotConfigured", True, True),
        (405, "405", True, True),
        (400, "MissingContentMD5", True, True),
        (400, "400", True, False),
        (400, "ExpiredToken", False, False),
        (400, "RequestTimeout", False, False),
        (403, "AccessDenied", False, True),
        (403, "SignatureDoesNotMatch", False, False),
        (403, "403", False, False),
        (404, "NoSuchBucket", False, False),
        (404, "404", False, False),
        (503, "SlowDown", False, False),
    ],
)
def test_what_a_server_does_not_know_is_told_from_an_outage(
    status: int, code: str, *, bulk: bool, question: bool
) -> None:
    assert is_bulk_refused(status, code) is bulk
    assert is_question_refused(status, code) is question


def test_a_follow_up_counts_on_and_keeps_its_id_when_told_twice() -> None:
    tick = a_tick()
    first, again = follow_up_tick(tick), follow_up_tick(tick)
    assert first.data.continuation == 1
    assert first.id == again.id != tick.id
    second = follow_up_tick(first)
    assert second.data.continuation == 2
    assert second.id not in {tick.id, first.id}


@pytest.mark.parametrize(
    ("orphans", "examined", "too_much"),
    [
        (0, 0, False),
        (0, 1, False),
        (1, 1, True),
        (1, 2, False),
        (2, 3, True),
        (50, 100, False),
        (51, 100, True),
    ],
)
def test_more_than_half_are_too_many_orphans_of_a_limit_of_half(
    orphans: int, examined: int, *, too_much: bool
) -> None:
    assert are_too_many_orphans(orphans, examined, 50) is too_much


@pytest.mark.parametrize(
    ("orphans", "examined", "too_much"), [(1, 50, False), (1, 49, True), (20, 1000, False), (21, 1000, True)]
)
def test_two_percent(orphans: int, examined: int, *, too_much: bool) -> None:
    assert are_too_many_orphans(orphans, examined, 2) is too_much


@pytest.mark.parametrize(
    ("due", "ephemeral", "forbidden"),
    [
        (0, 0, False),
        (1000, 1000, False),  # few enough, whatever their share
        (1001, 1001, True),
        (1001, 3336, True),
        (1001, 3337, False),  # no more than 30 %
        (300_000, 1_000_000, False),
        (300_001, 1_000_000, True),
    ],
)
def test_a_purge_is_forbidden_by_number_and_share(due: int, ephemeral: int, *, forbidden: bool) -> None:
    assert PurgeLimit(clips=1000, percent=30).forbids(due, ephemeral) is forbidden


def test_a_limit_of_nothing_forbids_any_purge_and_one_of_everything_none() -> None:
    assert PurgeLimit(clips=0, percent=0).forbids(1, 1_000_000)
    assert not PurgeLimit(clips=0, percent=100).forbids(1_000_000, 1_000_000)
