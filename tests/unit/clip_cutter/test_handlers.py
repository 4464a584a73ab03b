"""What becomes of a highlight in each lane, and in which order; storage, cutter and VODs are played."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from clip_cutter.containers.model import TrackKind
from clip_cutter.cutter import FinishedClip
from clip_cutter.domain.plan import BadClip, EncodingNeeded, TrackPlan
from clip_cutter.domain.policy import Policy, Skipped, unreadable
from clip_cutter.handlers import CutterHandlers, Lane
from clip_cutter.metrics import CutterMetrics
from clip_cutter.skip_limit import SkipLimit
from clip_cutter.storage import ClipMetadata, StoredClip, UnconfiguredClipStorage
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.bus.envelope import from_record, to_record
from clip_shared.contracts.events import (
    ClipCreated,
    ClipOrigin,
    ClipSkipped,
    CutMode,
    EncodingRequested,
    Event,
    HighlightDetected,
    HighlightKind,
    SkipReason,
    SourceObject,
    TrackFate,
)
from clip_shared.errors import TransientError
from tests.support.records import consumed

TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
OPEN_GOP = "it begins within an open group of pictures"


@dataclass
class FakeParts:
    """Plays everything that a highlight meets, and notes what is asked of it, in order."""

    needs_encoding: bool = False
    bad_clips: int = 0
    encodes_video: bool = True
    stored: StoredClip | None = None
    failure: Exception | None = None
    log: list[str] = field(default_factory=list)
    published: list[Event[Any]] = field(default_factory=list)

    # The clips' bucket.

    async def find(self, key: str) -> StoredClip | None:
        self.log.append("find")
        assert key.startswith("clips/4711/")
        return self.stored

    @asynccontextmanager
    async def upload(self, video: Path, key: str, metadata: ClipMetadata) -> AsyncIterator["FakeUpload"]:
        assert key.endswith(".mp4")
        self.log.append(f"upload {video}")
        upload = FakeUpload(
            self, StoredClip(bucket="clips", size_bytes=7, content_type="video/mp4", metadata=metadata)
        )
        try:
            yield upload
        finally:
            if not upload.is_finished:
                self.log.append("take back")

    # Source storage, a VOD, and scratch.

    async def locate(self, source: SourceObject) -> "FakeParts":
        self.log.append("locate")
        if source.key == "gone":
            raise Skipped(
                SkipReason.SOURCE_MISSING, "The VOD is no longer in storage, so no clip can be cut from it."
            )
        return self

    async def confirm(self, _source: SourceObject) -> None:
        self.log.append("confirm")

    async def open(self, _source: Any, _job: Any) -> "FakeParts":
        self.log.append("open")
        return self

    @property
    def seconds(self) -> float:
        return 60.0

    async def excerpt(self, _source: Any, window: Any, _job: Any) -> Any:
        self.log.append("excerpt")
        if self.failure is not None:
            raise self.failure
        return window

    @contextmanager
    def job(self, max_wait_seconds: float) -> Iterator[str]:
        assert max_wait_seconds == 30
        self.log.append("job")
        yield "job"

    # The cutter.

    async def cut(self, _excerpt: Any, window: Any, _job: Any) -> "FakeWrittenClip":
        if self.needs_encoding:
            self._encode(OPEN_GOP)
        self.log.append("cut")
        return FakeWrittenClip(window, Path("clip-1"))

    async def verify(self, cut: "FakeWrittenClip") -> FinishedClip:
        self.log.append(f"verify {cut.video}")
        if self.bad_clips:
            self.bad_clips -= 1
            raise BadClip("it lasts 3 s")
        return cut.finished

    async def re_encode(self, cut: "FakeWrittenClip", problem: BadClip, _job: Any) -> "FakeWrittenClip":
        if cut.why is not None:
            raise unreadable("damaged")
        self._encode(str(problem))
        return replace(cut, video=Path("clip-2"), why=str(problem))

    def _encode(self, why: str) -> None:
        if not self.encodes_video:
            raise EncodingNeeded(why)
        self.log.append("encode")

    # The bus.

    async def publish(self, event: Event[Any]) -> None:
        self.log.append(f"publish {event.data.TYPE}")
        self.published.append(event)


@dataclass
class FakeUpload:
    fake: FakeParts
    clip: StoredClip
    is_finished: bool = False

    async def finish(self, poster: Path, poster_key: str) -> StoredClip:
        assert poster_key.endswith(".jpg")
        self.fake.log.append(f"finish with {poster}")
        self.is_finished = True
        return self.clip


@dataclass(frozen=True)
class FakeWrittenClip:
    window: Any
    video: Path
    why: str | None = None

    @property
    def finished(self) -> FinishedClip:
        return FinishedClip(
            video=self.video,
            poster=Path("poster"),
            mode=CutMode.EXACT if self.why else CutMode.COPY,
            start=self.window.start,
            end=self.window.end,
            size_bytes=7,
            skew_ms=0.0,
            fallback_reason=self.why,
            tracks=(
                TrackPlan(TrackKind.VIDEO, TrackFate.COPIED),
                TrackPlan(TrackKind.AUDIO, TrackFate.LEFT_OUT, "muted"),
            ),
        )


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def handlers_of(registry: CollectorRegistry) -> Any:
    """Make handlers whose parts are all played by a fake."""
    metrics = CutterMetrics(registry)

    def make(fake: FakeParts, **changes: Any) -> CutterHandlers:
        actor: Any = fake
        parts: dict[str, Any] = {
            "policy": Policy(min_seconds=1, max_seconds=180, max_clips_per_vod=None),
            **dict.fromkeys(("sources", "clips", "vods", "scratch"), actor),
            "publish": fake.publish,
            "metrics": metrics,
            "skips": SkipLimit(DeadLetterLimit(20, 600)),
            "copies": Lane(actor, 60),
            "encodings": Lane(actor, 60),
        }
        return CutterHandlers(**{**parts, **changes})

    return make


def highlight(**changes: Any) -> Event[HighlightDetected]:
    fields: dict[str, Any] = {
        "stream_highlight_id": "h-1",
        "twitch_account_id": "4711",
        "source_vod_id": "v1",
        "source": SourceObject(profile="archive", bucket="vods", key="vod.mp4"),
        "start_seconds": 5,
        "end_seconds": 8,
        "kind": HighlightKind.REFINED,
        "title": "Größter Clutch",
    }
    data = HighlightDetected(**{**fields, **changes})
    return Event[HighlightDetected].new(data, source="detector", id="event-1", time=TIME, traceparent=None)


def on_the_bus(event: Event[EncodingRequested]) -> Event[EncodingRequested]:
    """An event as the other lane reads it."""
    record = to_record(event)
    return from_record(
        EncodingRequested,
        consumed(record.topic, value=record.value, headers=record.headers, timestamp=int(time.time() * 1000)),
    )


async def test_a_highlight_goes_one_way(handlers_of: Any) -> None:
    fake = FakeParts()
    await handlers_of(fake).highlight_detected(highlight())
    assert fake.log == [
        *("find", "job", "locate", "open", "excerpt", "cut"),
        *("upload clip-1", "verify clip-1", "finish with poster"),
        "publish clip.created.v1",
    ]
    (created,) = fake.published
    assert isinstance(created.data, ClipCreated)
    assert (created.data.source, created.data.origin) == (highlight().data.source, ClipOrigin.DETECTOR)
    receipt = created.data.cut_receipt
    assert (receipt.mode, receipt.actual_start_seconds, receipt.actual_end_seconds) == (CutMode.COPY, 5, 8)
    assert receipt.audio is not None
    assert (receipt.audio.fate, receipt.audio.reason) == (TrackFate.LEFT_OUT, "muted")


async def test_a_clip_that_is_stored_is_announced_again(handlers_of: Any) -> None:
    fake = FakeParts()
    await handlers_of(fake).highlight_detected(highlight())
    again = FakeParts(stored=await stored_by(fake))
    await handlers_of(again).highlight_detected(highlight())
    assert again.log == ["find", "publish clip.created.v1"]
    assert again.published == fake.published


async def stored_by(fake: FakeParts) -> StoredClip:
    data = fake.published[0].data
    metadata = ClipMetadata(
        **{name: getattr(data, name) for name in ClipMetadata.model_fields if name != "created_at"},
        created_at=fake.published[0].time,
    )
    return StoredClip(bucket="clips", size_bytes=7, content_type="video/mp4", metadata=metadata)


@pytest.mark.parametrize(
    ("fake", "why", "log"),
    [
        (FakeParts(needs_encoding=True, encodes_video=False), OPEN_GOP, []),
        (
            FakeParts(bad_clips=1, encodes_video=False),
            "it lasts 3 s",
            ["cut", "upload clip-1", "verify clip-1", "take back"],
        ),
    ],
)
async def test_what_has_to_be_re_encoded_is_passed_on(
    handlers_of: Any, registry: CollectorRegistry, fake: FakeParts, why: str, log: list[str]
) -> None:
    event = highlight()
    await handlers_of(fake).highlight_detected(event)
    (request,) = fake.published
    assert fake.log[5:-1] == log
    assert isinstance(request.data, EncodingRequested)
    assert (request.id, request.time, request.data.reason) == (event.id, event.time, why)
    assert request.data.key() == event.data.key()
    assert HighlightDetected(**request.data.model_dump()) == event.data
    assert registry.get_sample_value("clips_encodings_requested_total") == 1

    other = FakeParts(needs_encoding=why == OPEN_GOP, bad_clips=int(why != OPEN_GOP))
    await handlers_of(other).encoding_requested(on_the_bus(request))
    assert "encode" in other.log
    (created,) = other.published
    assert isinstance(created.data, ClipCreated)
    assert created.data.highlight_event_id == event.id
    assert created.data.object.key.endswith("/event-1.mp4")
    assert created.data.highlight_detected_at == TIME


async def test_a_copy_that_is_not_good_enough_is_re_encoded_once(
    handlers_of: Any, registry: CollectorRegistry
) -> None:
    fake = FakeParts(bad_clips=1)
    await handlers_of(fake).highlight_detected(highlight())
    assert fake.log[5:-1] == [
        *("cut", "upload clip-1", "verify clip-1", "take back"),
        *("encode", "upload clip-2", "verify clip-2", "finish with poster"),
    ]
    (created,) = fake.published
    assert created.data.cut_receipt.fallback_reason == "it lasts 3 s"
    assert registry.get_sample_value("clips_cut_fallbacks_total") == 1
    assert registry.get_sample_value("clips_cut_seconds_count", {"mode": "exact"}) == 1

    hopeless = FakeParts(bad_clips=2)
    await handlers_of(hopeless).highlight_detected(highlight())
    (skipped,) = hopeless.published
    assert isinstance(skipped.data, ClipSkipped)
    assert skipped.data.reason is SkipReason.SOURCE_UNREADABLE
    assert hopeless.log.count("take back") == 2


async def test_a_vod_that_cannot_be_read_is_asked_for_once_more(handlers_of: Any) -> None:
    fake = FakeParts(failure=unreadable("damaged"))
    await handlers_of(fake).highlight_detected(highlight())
    assert fake.log[4:] == ["excerpt", "confirm", "publish clip.skipped.v1"]
    missing = FakeParts()
    source = SourceObject(profile="archive", bucket="vods", key="gone")
    await handlers_of(missing).highlight_detected(highlight(source=source))
    assert "confirm" not in missing.log
    assert missing.published[0].data.reason is SkipReason.SOURCE_MISSING


async def test_an_outage_announces_nothing(handlers_of: Any) -> None:
    fake = FakeParts(failure=TransientError("out"))
    with pytest.raises(TransientError):
        await handlers_of(fake).highlight_detected(highlight())
    assert fake.published == []


async def test_what_policy_refuses_is_not_even_looked_for(handlers_of: Any) -> None:
    fake = FakeParts()
    await handlers_of(fake).highlight_detected(highlight(is_clipable=False))
    await handlers_of(fake, clips=UnconfiguredClipStorage()).highlight_detected(highlight())
    assert fake.log == ["publish clip.skipped.v1"] * 2
    assert [each.data.reason for each in fake.published] == [
        SkipReason.NOT_CLIPABLE,
        SkipReason.STORAGE_NOT_CONFIGURED,
    ]
