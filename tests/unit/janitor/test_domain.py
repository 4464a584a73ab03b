"""What may be deleted, and when failures mean an outage."""

import pytest

from clip_shared.events import clip_id_for
from janitor.domain import (
    Failure,
    Refusal,
    follow_up,
    is_clip_object,
    is_outage,
    is_too_much,
    plan_deletion,
)
from tests.unit.janitor.fakes import a_release, a_tick

BUSY = Failure("SlowDown", "please")
DENIED = Failure("AccessDenied", "locked")


def test_releases_of_one_object_are_one_deletion() -> None:
    once, again, other = a_release("a/1"), a_release("a/1"), a_release("a/2")
    plan = plan_deletion([once, other, again], "clips")
    assert plan.by_key == {"a/1": [once, again], "a/2": [other]}
    assert plan.refused == []


@pytest.mark.parametrize("bucket", ["vods", "clips2", "clip"])
def test_no_other_bucket_is_touched(bucket: str) -> None:
    foreign = a_release("a/1", bucket)
    plan = plan_deletion([foreign, a_release("a/1")], "clips")
    assert list(plan.by_key) == ["a/1"]
    assert plan.refused == [(foreign, Refusal.FOREIGN_BUCKET)]


@pytest.mark.parametrize("key", ["../vods/precious.mp4", "a/../../vods/x", "a/", "/a", "a//b", ".", "a/./b"])
def test_keys_that_a_server_may_take_for_something_else_are_refused(key: str) -> None:
    release = a_release(key)
    plan = plan_deletion([release], "clips")
    assert plan.by_key == {}
    assert plan.refused == [(release, Refusal.UNSAFE_KEY)]


@pytest.mark.parametrize("key", ["a", "clips/ann/1/e.mp4", "..a/b..", "x y/ü 日本.mp4", "a.b/c...d"])
def test_ordinary_keys_are_not(key: str) -> None:
    assert list(plan_deletion([a_release(key)], "clips").by_key) == [key]


@pytest.mark.parametrize(
    ("asked", "failures", "outage"),
    [
        (0, {}, False),
        (2, {}, False),
        (2, {"a": BUSY}, False),
        (2, {"a": BUSY, "b": BUSY}, True),
        (2, {"a": BUSY, "b": DENIED}, False),
        (1, {"a": DENIED}, False),
        (1, {"a": BUSY}, True),
    ],
)
def test_an_outage_is_when_nothing_goes_and_the_server_blames_itself(
    asked: int, failures: dict[str, Failure], *, outage: bool
) -> None:
    assert is_outage(asked, failures) is outage


def test_a_follow_up_counts_on_and_keeps_its_id_when_told_twice() -> None:
    tick = a_tick()
    first, again = follow_up(tick), follow_up(tick)
    assert first.data.continuation == 1
    assert first.id == again.id != tick.id
    second = follow_up(first)
    assert second.data.continuation == 2
    assert second.id not in {tick.id, first.id}


CLIP = f"clips/ann/{clip_id_for('hl-1')}"


@pytest.mark.parametrize("key", [f"{CLIP}/event-1.mp4", f"{CLIP}/event_1.jpg"])
def test_what_the_cutter_writes_may_be_swept(key: str) -> None:
    assert is_clip_object(key)


@pytest.mark.parametrize(
    "key",
    [
        "README.md",
        "clips/README.md",
        "clips/ann/clip-1/event-1.mp4",
        f"{CLIP}/event-1.mov",
        f"{CLIP}/event-1.mp4.bak",
        f"{CLIP}/event-1.mp4\n",
        f"{CLIP}/more/event-1.mp4",
        f"backup/{CLIP}/event-1.mp4",
        f"{CLIP}/../event-1.mp4",
        CLIP.upper() + "/event-1.mp4",
    ],
)
def test_nothing_else_is(key: str) -> None:
    assert not is_clip_object(key)


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
def test_more_than_half_is_too_much(orphans: int, examined: int, *, too_much: bool) -> None:
    assert is_too_much(orphans, examined) is too_much
