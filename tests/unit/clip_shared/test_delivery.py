"""The memory of what was delivered."""

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from clip_shared.deaths import Mark
from clip_shared.delivery import DeadLetterLimit, Delivery, DeliveryMetrics
from clip_shared.envelope import Record


async def publish(_record: Record) -> None:
    return


def test_the_memory_of_a_partition_goes_with_it() -> None:
    delivery = Delivery("test", publish, DeliveryMetrics(CollectorRegistry()), DeadLetterLimit(1, 1))
    delivery.attempts = {("a", 0, 5): 3, ("a", 1, 5): 2, ("b", 0, 5): 1}
    delivery.surprises = {("a", 0, 5): 3, ("b", 0, 5): 1}
    delivery.held_back = {("a", 0, 5), ("b", 0, 5)}
    delivery.forget_partitions({TopicPartition("a", 0), TopicPartition("c", 0)})
    assert delivery.attempts == {("a", 1, 5): 2, ("b", 0, 5): 1}
    assert delivery.surprises == {("b", 0, 5): 1}
    assert delivery.held_back == {("b", 0, 5)}


def test_the_limit_is_one_of_each_topic_and_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 4.0, 4.0, 9.9, 9.9, 10.0, 10.0, 13.9])
    monkeypatch.setattr("clip_shared.delivery.time.monotonic", lambda: next(clock))
    limit = DeadLetterLimit(2, window_seconds=10)
    for _ in range(2):
        assert limit.allows("a")
        limit.count("a")
    assert not limit.allows("a")
    assert limit.allows("b")
    assert limit.allows("a")
    limit.count("a")
    assert not limit.allows("a")


@pytest.mark.parametrize("mark", [Mark(), Mark(2), Mark(0, "p1"), Mark(3, "p1")])
def test_a_mark_survives_its_way_through_a_commit(mark: Mark) -> None:
    assert Mark.read(str(mark)) == mark


@pytest.mark.parametrize("metadata", ["", "somebody else's", "deaths=x process=y"])
def test_what_is_no_mark_counts_nothing(metadata: str) -> None:
    assert Mark.read(metadata) == Mark()
    assert str(Mark()) == ""


def test_ones_own_mark_is_nobodys_death() -> None:
    assert Mark(1, "p1").deaths_seen_by("p1") == 1
    assert Mark(1, "p1").deaths_seen_by("p2") == 2
    assert Mark(1).deaths_seen_by("p2") == 1
