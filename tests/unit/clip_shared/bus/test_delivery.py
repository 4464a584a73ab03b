"""The memory of what was delivered."""

from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState

from clip_shared.bus.delivery.crash_marks import CrashMark
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.bus.delivery.retries import Retries
from clip_shared.bus.partitions import Partitions
from clip_shared.failure_streak import SAME_STREAK_SECONDS, FailureStreak


def test_retries_of_partitions_that_are_not_ours_are_forgotten() -> None:
    retries = Retries()
    for position in (("a", 0, 5), ("a", 1, 5), ("b", 0, 5)):
        retries.count(position).is_held_back = True
    retries.count(("a", 1, 5))
    retries.keep("a", {TopicPartition("a", 1), TopicPartition("b", 7)})
    assert ("a", 0, 5) not in retries
    assert retries.attempts(("a", 1, 5)) == 2
    assert (retries.held_back("a"), retries.held_back("b")) == (1, 1)


def test_what_somebody_else_is_done_with_is_forgotten() -> None:
    retries = Retries()
    for position in (("a", 0, 5), ("a", 0, 7), ("a", 1, 5)):
        retries.count(position)
    retries.forget_before(("a", 0, 7))
    assert ("a", 0, 5) not in retries
    assert ("a", 0, 7) in retries
    assert ("a", 1, 5) in retries


def test_a_streak_is_failures_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("clip_shared.failure_streak.time.monotonic", lambda: now[0])
    streak = FailureStreak()
    assert streak.seconds() == 0
    for moment in (0.0, 50.0, 100.0):
        now[0] = moment
        streak.failed(OSError("away"))
    assert streak.seconds() == 100
    now[0] = 100 + SAME_STREAK_SECONDS + 1
    assert streak.seconds() == 0  # nothing was tried since: nobody knows
    streak.failed(OSError("away"))
    assert streak.seconds() == 0
    now[0] += 30
    assert streak.seconds() == 30
    streak.succeeded()
    assert streak.seconds() == 0


HOUR = 3600.0


class TestAloneSeconds:
    """For how long a message has failed while others of its topic succeeded."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [0.0]
        monkeypatch.setattr("clip_shared.bus.delivery.retries.time.monotonic", lambda: now[0])
        return now

    def test_it_grows_while_others_succeed(self, clock: list[float]) -> None:
        retry = Retries().count(("a", 0, 5))
        for others in range(11):
            retry.note_others(others, quiet_seconds=HOUR)
            clock[0] += 30
        assert retry.alone_seconds == 300

    def test_an_outage_stops_everybody_and_so_the_count(self, clock: list[float]) -> None:
        retry = Retries().count(("a", 0, 5))
        retry.note_others(7, quiet_seconds=HOUR)
        for _ in range(2000):
            clock[0] += 30
            retry.note_others(7, quiet_seconds=HOUR)
        assert retry.alone_seconds == 0

    def test_after_the_last_success_of_others_it_goes_on_for_an_hour_only(self, clock: list[float]) -> None:
        retry = Retries().count(("a", 0, 5))
        retry.note_others(7, quiet_seconds=HOUR)
        clock[0] += 30
        retry.note_others(8, quiet_seconds=HOUR)
        for _ in range(2000):
            clock[0] += 30
            retry.note_others(8, quiet_seconds=HOUR)
        assert retry.alone_seconds == pytest.approx(HOUR, abs=60)

    def test_a_long_time_without_an_attempt_counts_little(self, clock: list[float]) -> None:
        """Time without an attempt, because Kafka was out, does not count as failing."""
        retry = Retries().count(("a", 0, 5))
        retry.note_others(7, quiet_seconds=5)
        clock[0] += 60
        retry.note_others(8, quiet_seconds=5)
        assert retry.alone_seconds == 5

    def test_what_is_not_known_counts_as_no_success(self, clock: list[float]) -> None:
        retry = Retries().count(("a", 0, 5))
        for others in (7, None, 7, None):
            clock[0] += 30
            retry.note_others(others, quiet_seconds=HOUR)
        assert retry.alone_seconds == 0


async def test_what_waits_and_what_has_no_position_is_counted() -> None:
    state = SubscriptionState()
    first, second = TopicPartition("a", 0), TopicPartition("a", 1)
    state.assign_from_user({first, second})
    partitions = Partitions(SimpleNamespace(consumer=SimpleNamespace(_subscription=state)))
    assert (partitions.unplaced(), partitions.lag()) == (2, 0)
    state.seek(first, 5)
    state.subscription.assignment.state_value(first).highwater = 9
    assert (partitions.unplaced(), partitions.lag()) == (1, 4)


def test_the_limit_is_one_of_each_topic_and_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 4.0, 4.0, 9.9, 9.9, 10.0, 10.0, 13.9])
    monkeypatch.setattr("clip_shared.bus.delivery.dead_letter_limit.time.monotonic", lambda: next(clock))
    limit = DeadLetterLimit(2, window_seconds=10)
    for _ in range(2):
        assert limit.allows("a")
        limit.count("a")
    assert not limit.allows("a")
    assert limit.allows("b")
    assert limit.allows("a")
    limit.count("a")
    assert not limit.allows("a")


@pytest.mark.parametrize("mark", [CrashMark(), CrashMark(2), CrashMark(0, "p1"), CrashMark(3, "p1")])
def test_a_mark_survives_its_way_through_a_commit(mark: CrashMark) -> None:
    assert CrashMark.read(str(mark)) == mark


@pytest.mark.parametrize("metadata", ["", "somebody else's", "deaths=x process=y"])
def test_what_is_no_mark_counts_nothing(metadata: str) -> None:
    assert CrashMark.read(metadata) == CrashMark()
    assert str(CrashMark()) == ""


def test_ones_own_mark_is_no_crash() -> None:
    assert CrashMark(1, "p1").crashes_seen_by("p1") == 1
    assert CrashMark(1, "p1").crashes_seen_by("p2") == 2
    assert CrashMark(1).crashes_seen_by("p2") == 1
