"""The handlers: what reaches the store, and what is dead-lettered."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from clip_registry.clips.store import RecordedCut
from clip_registry.domain.clips import Skip
from clip_registry.domain.cuts import CutOutcome
from clip_registry.handlers import RegistryHandlers
from clip_registry.metrics import RegistryMetrics
from clip_registry.reports import ReportedCut, reported_cut
from clip_shared.contracts.events import (
    ClipCreated,
    ClipSkipped,
    Event,
    HighlightKind,
    PosterObject,
    SkipReason,
)
from clip_shared.errors import InvalidEvent, PermanentError, TransientError
from tests.unit.clip_registry.cuts import HOUR, NOON, a_clip, a_created_event, a_cut, a_skip


class FakeSkips:
    """Skips in memory."""

    def __init__(self) -> None:
        self.recorded: list[Skip] = []
        self.outage: Exception | None = None

    async def record(self, skip: Skip) -> None:
        if self.outage:
            raise self.outage
        self.recorded.append(skip)


class FakeStore:
    """Records in memory; refuses batches with a poisonous title, says 'foreign' of a stolen one."""

    def __init__(self) -> None:
        self.recorded: list[str] = []
        self.outage: Exception | None = None
        self.skips = FakeSkips()

    async def record(self, cuts: Sequence[ReportedCut]) -> list[RecordedCut]:
        if self.outage:
            raise self.outage
        if any(each.cut.title == "poison" for each in cuts):
            raise PermanentError("the database refused the data")
        self.recorded += [each.event_id for each in cuts]
        return [self._outcome_of(each) for each in cuts]

    @staticmethod
    def _outcome_of(reported: ReportedCut) -> RecordedCut:
        outcome = CutOutcome.FOREIGN if reported.cut.title == "stolen" else CutOutcome.CREATED
        return RecordedCut(outcome, a_clip(cut=reported.cut))


class HandlersUnderTest:
    """The handlers on a store in memory."""

    def __init__(self) -> None:
        self.store, self.registry = FakeStore(), CollectorRegistry()
        store: Any = self.store
        metrics = RegistryMetrics(self.registry)
        self.handlers = RegistryHandlers(store=store, metrics=metrics, bucket="clips")

    def counted(self, kind: str, outcome: str) -> float:
        labels = {"kind": kind, "outcome": outcome}
        return self.registry.get_sample_value("clips_transitions_total", labels) or 0.0


@pytest.fixture
def under_test() -> HandlersUnderTest:
    return HandlersUnderTest()


def _event(name: str, **changes: Any) -> Event[ClipCreated]:
    return a_created_event(a_cut(highlight=name), named=name, **changes)


async def test_a_batch_is_recorded_at_once(under_test: HandlersUnderTest) -> None:
    assert await under_test.handlers.clip_created([_event("a"), _event("b")]) == []
    assert under_test.store.recorded == ["a", "b"]
    assert under_test.counted("cut", "created") == 2


async def test_one_bad_event_does_not_take_the_others_with_it(under_test: HandlersUnderTest) -> None:
    bad = _event("bad", title="poison")
    rejected = await under_test.handlers.clip_created([_event("a"), bad, _event("b")])
    assert [each.event for each in rejected] == [bad]
    assert under_test.store.recorded == ["a", "b"]
    assert (under_test.counted("cut", "created"), under_test.counted("cut", "refused")) == (2, 1)


async def test_an_event_whose_parts_do_not_belong_together_is_rejected(under_test: HandlersUnderTest) -> None:
    bad = _event("bad", clip_id=uuid4())
    rejected = await under_test.handlers.clip_created([bad, _event("a")])
    assert [(each.event, type(each.error)) for each in rejected] == [(bad, InvalidEvent)]
    assert under_test.store.recorded == ["a"]


async def test_a_clip_of_another_account_is_rejected(under_test: HandlersUnderTest) -> None:
    rejected = await under_test.handlers.clip_created([_event("a", title="stolen"), _event("b")])
    assert [str(each.error)[-26:] for each in rejected] == ["belongs to another account"]


async def test_an_outage_rejects_nothing(under_test: HandlersUnderTest) -> None:
    under_test.store.outage = TransientError("the database is away")
    with pytest.raises(TransientError):
        await under_test.handlers.clip_created([_event("a")])


def _skipped() -> Event[ClipSkipped]:
    data = ClipSkipped(
        stream_highlight_id="hl-1",
        twitch_account_id="ann",
        source_vod_id="vod-1",
        kind=HighlightKind.REFINED,
        highlight_event_id="event-1",
        highlight_detected_at=NOON,
        reason=SkipReason.TOO_SHORT,
        message="The highlight is shorter than a second.",
    )
    return Event[ClipSkipped].new(data, source="clip-cutter", time=NOON + HOUR)


def _skips_counted(under_test: HandlersUnderTest) -> float | None:
    return under_test.registry.get_sample_value("clips_registry_skips_total", {"reason": "too_short"})


async def test_skips_are_remembered_and_counted_by_reason(under_test: HandlersUnderTest) -> None:
    await under_test.handlers.clip_skipped(_skipped())
    assert under_test.store.skips.recorded == [a_skip(highlight_event_id="event-1")]
    assert _skips_counted(under_test) == 1


async def test_a_skip_that_cannot_be_remembered_now_comes_again(under_test: HandlersUnderTest) -> None:
    under_test.store.skips.outage = TransientError("the database is away")
    with pytest.raises(TransientError):
        await under_test.handlers.clip_skipped(_skipped())
    assert _skips_counted(under_test) == 0


def test_an_offer_is_the_cut_that_the_event_tells_of() -> None:
    event = a_created_event(a_cut(), named="event-id", traceparent="trace")
    assert reported_cut(event) == ReportedCut(a_cut(), event_id="event-id", traceparent="trace")


def test_a_clip_may_have_no_poster_and_no_score() -> None:
    cut = a_cut(poster_key=None, score=None)
    assert reported_cut(a_created_event(cut)).cut == cut


def test_video_and_poster_share_a_bucket() -> None:
    with pytest.raises(InvalidEvent, match="different buckets"):
        reported_cut(_event("a", poster=PosterObject(bucket="elsewhere", key=a_cut("a").poster_key or "")))


FOREIGN_KEYS = [
    "vods/whole-evening.mp4",
    a_cut("hl-2").object_key,
    a_cut(account="bob").object_key,
    a_cut(event="event-6").object_key,
    a_cut().poster_key,
    a_cut().object_key + "/../x",
    "/" + a_cut().object_key,
]


@pytest.mark.parametrize("key", FOREIGN_KEYS)
async def test_an_object_under_any_key_but_its_own_is_no_clip(
    under_test: HandlersUnderTest, key: str
) -> None:
    bad = a_created_event(a_cut(object_key=key), named="bad")
    rejected = await under_test.handlers.clip_created([_event("a"), bad])
    assert [(each.event, type(each.error)) for each in rejected] == [(bad, InvalidEvent)]
    assert under_test.store.recorded == ["a"]


@pytest.mark.parametrize("key", ["vods/thumbnail.jpg", a_cut("hl-2").poster_key, a_cut().object_key])
async def test_an_object_under_any_key_but_its_own_is_no_poster(
    under_test: HandlersUnderTest, key: str
) -> None:
    bad = a_created_event(a_cut(poster_key=key), named="bad")
    rejected = await under_test.handlers.clip_created([bad])
    assert [type(each.error) for each in rejected] == [InvalidEvent]


async def test_an_object_in_another_bucket_is_no_clip(under_test: HandlersUnderTest) -> None:
    rejected = await under_test.handlers.clip_created(
        [a_created_event(a_cut(bucket="vods"), named="bad"), _event("a")]
    )
    assert [str(each.error) for each in rejected] == ["the video is in bucket vods; clips are in clips"]
    assert under_test.store.recorded == ["a"]


def test_where_the_bucket_is_not_known_any_will_do() -> None:
    assert reported_cut(a_created_event(a_cut(bucket="vods"))).cut.bucket == "vods"
