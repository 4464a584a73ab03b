"""Highlights to clips, on a real S3 server and a real ffmpeg; only the bus is a list."""

import asyncio
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from pydantic.networks import AnyHttpUrl

from clip_cutter.cutter import Cutter
from clip_cutter.domain.policy import Skipped
from clip_cutter.handlers import CutterHandlers, Lane
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Scratch
from clip_cutter.settings import SourceProfile
from clip_cutter.skip_limit import SkipLimit
from clip_cutter.storage import ClipStorage, UnconfiguredClipStorage
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.source_storage import SourceStorage, StoredVod
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.contracts.events import (
    ClipCreated,
    ClipSkipped,
    CutMode,
    Event,
    HighlightDetected,
    HighlightKind,
    SkipReason,
    SourceObject,
    clip_id_for,
)
from clip_shared.errors import HeldBack, PermanentError, TransientError
from clip_shared.storage import s3_client
from local_stack.servers.servers import Addresses
from tests.integration.clip_cutter.conftest import POLICY
from tests.integration.clip_cutter.media import DecodedFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Vod = Callable[[str], DecodedFile]
TITLE = 'Größter Clutch aller Zeiten 🎯 «日本» \\ "quoted"'
MISSING = "The VOD is no longer in storage, so no clip can be cut from it."


@dataclass
class RunningHandlers:
    """The cutter's handlers, and what they published."""

    handlers: CutterHandlers
    published: list[Event[Any]]
    s3: "S3Client"
    profiles: dict[str, SourceProfile]

    def put(self, content: bytes | Path) -> str:
        """Put a VOD into the source bucket; returns its key."""
        key = f"{uuid4()}.mp4"
        self.s3.put_object(
            Bucket="vods", Key=key, Body=content.read_bytes() if isinstance(content, Path) else content
        )
        return key

    async def handle(self, event: Event[HighlightDetected]) -> Event[Any]:
        """What is published for a highlight."""
        self.published.clear()
        await self.handlers.highlight_detected(event)
        (answer,) = self.published
        return answer

    async def skip(self, event: Event[HighlightDetected]) -> ClipSkipped:
        """Why there is no clip."""
        answer = await self.handle(event)
        assert isinstance(answer.data, ClipSkipped)
        assert answer.data.highlight_event_id == event.id
        return answer.data


def profile(addresses: Addresses, **changes: Any) -> SourceProfile:
    return SourceProfile(
        endpoint=changes.get("endpoint", AnyHttpUrl(addresses.s3_endpoint_url)),
        access_key=changes.get("access_key", addresses.s3_access_key),
        secret_key=SecretStr(changes.get("secret_key", addresses.s3_secret_key)),
        buckets=frozenset({"vods"}),
    )


@pytest.fixture
def profiles(addresses: Addresses) -> dict[str, SourceProfile]:
    """One that works, and two that do not."""
    return {
        "archive": profile(addresses),
        "revoked": profile(addresses, secret_key="wrong"),
        "down": profile(addresses, endpoint=AnyHttpUrl("http://127.0.0.1:9")),
    }


@pytest.fixture
def running(  # noqa: PLR0917 - what a service is made of
    s3: "S3Client",
    profiles: dict[str, SourceProfile],
    make_cutter: Callable[..., Cutter],
    vods: VodOpener,
    scratch: Scratch,
    metrics: CutterMetrics,
) -> RunningHandlers:
    published: list[Event[Any]] = []

    async def publish(event: Event[Any]) -> None:
        published.append(event)

    sources = SourceStorage(profiles, url_seconds=120, on_pulled=metrics.pulled)
    lane = Lane(make_cutter(), 60)
    handlers = CutterHandlers(
        policy=POLICY,
        sources=sources,
        vods=vods,
        clips=ClipStorage(s3, "clips", prober=s3),
        scratch=scratch,
        publish=publish,
        metrics=metrics,
        skips=SkipLimit(DeadLetterLimit(1000, 600)),
        copies=lane,
        encodings=lane,
    )
    return RunningHandlers(handlers, published, s3, profiles)


def highlight(key: str, **changes: Any) -> Event[HighlightDetected]:
    fields: dict[str, Any] = {
        "stream_highlight_id": f"h-{uuid4().hex}",
        "twitch_account_id": "4711",
        "source_vod_id": "v1",
        "source": SourceObject(profile="archive", bucket="vods", key=key),
        "start_seconds": 5.3,
        "end_seconds": 8.3,
        "kind": HighlightKind.REFINED,
        "title": TITLE,
        "score": 0.25,
    }
    data = HighlightDetected(**{**fields, **changes})
    return Event[HighlightDetected].new(
        data, source="detector", time=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    )


@pytest.mark.parametrize("name", ["b-frames.mp4", "b-frames.mkv", "b-frames.flv", "b-frames.ts"])
async def test_a_highlight_becomes_a_clip_in_the_bucket(
    running: RunningHandlers, vod: Vod, tmp_path: Path, name: str
) -> None:
    source = vod(name)
    event = highlight(running.put(source.path))
    answer = await running.handle(event)
    created = answer.data
    assert isinstance(created, ClipCreated)
    clip_id = clip_id_for(event.data.stream_highlight_id)
    assert created.clip_id == clip_id
    assert created.object.key == f"clips/4711/{clip_id}/{event.id}.mp4"
    assert (created.title, created.score, created.kind) == (TITLE, 0.25, HighlightKind.REFINED)
    assert (created.highlight_event_id, created.highlight_detected_at) == (event.id, event.time)
    receipt = created.cut_receipt
    assert (receipt.mode, receipt.requested_start_seconds, receipt.requested_end_seconds) == (
        CutMode.COPY,
        5.3,
        8.3,
    )
    assert receipt.actual_end_seconds - receipt.actual_start_seconds == pytest.approx(
        created.duration_seconds
    )

    stored = running.s3.get_object(Bucket="clips", Key=created.object.key)
    video = tmp_path / "video.mp4"
    video.write_bytes(stored["Body"].read())
    assert (stored["ContentType"], stored["ContentLength"]) == ("video/mp4", created.object.size_bytes)
    assert DecodedFile(video).hashes == [frame.hash for frame in source.from_to(5.3, 8.3)]
    assert created.poster is not None
    poster = running.s3.get_object(Bucket="clips", Key=created.poster.key)
    assert created.poster.key == f"clips/4711/{clip_id}/{event.id}.jpg"
    assert poster["ContentType"] == "image/jpeg"
    assert poster["Body"].read(3) == b"\xff\xd8\xff"


async def test_a_redelivery_says_the_same_without_a_second_cut(
    running: RunningHandlers, vod: Vod, metrics_registry: CollectorRegistry
) -> None:
    key = running.put(vod("b-frames.mp4").path)
    event = highlight(key)
    first = await running.handle(event)
    running.s3.delete_object(Bucket="vods", Key=key)
    second = await running.handle(event)
    assert second == first
    assert metrics_registry.get_sample_value("clips_repeated_highlights_total") == 1
    assert metrics_registry.get_sample_value("clips_cut_seconds_count", {"mode": "copy"}) == 1


async def test_a_new_event_for_the_same_highlight_gets_a_new_object(
    running: RunningHandlers, vod: Vod
) -> None:
    event = highlight(running.put(vod("b-frames.mp4").path))
    again = Event[HighlightDetected].new(event.data, source="detector")
    first, second = await running.handle(event), await running.handle(again)
    assert first.data.clip_id == second.data.clip_id
    assert first.data.object.key != second.data.object.key
    assert first.id != second.id


async def test_a_video_without_a_note_is_cut_again(running: RunningHandlers, vod: Vod) -> None:
    event = highlight(running.put(vod("b-frames.mp4").path))
    key = f"clips/4711/{clip_id_for(event.data.stream_highlight_id)}/{event.id}.mp4"
    running.s3.put_object(Bucket="clips", Key=key, Body=b"not ours")
    created = (await running.handle(event)).data
    assert created.object.size_bytes > 10_000


async def test_a_vod_that_is_not_there_is_said_to_be_missing(running: RunningHandlers) -> None:
    skip = await running.skip(highlight("nothing.mp4"))
    assert (skip.reason, skip.message) == (SkipReason.SOURCE_MISSING, MISSING)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"hello\n" * 500, "the file is damaged, or not a video at all"),
        (b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n", "the file is damaged, or not a video at all"),
    ],
)
async def test_a_file_that_is_no_video_is_said_to_be_unreadable(
    running: RunningHandlers, content: bytes, why: str
) -> None:
    skip = await running.skip(highlight(running.put(content)))
    assert skip.reason is SkipReason.SOURCE_UNREADABLE
    assert skip.message == f"The VOD cannot be read as a video: {why}. Please check that it plays."


async def test_what_policy_refuses_is_not_even_looked_for(running: RunningHandlers) -> None:
    capped = replace(running, handlers=replace(running.handlers, policy=replace(POLICY, max_clips_per_vod=2)))
    assert (await capped.skip(highlight("x", is_clipable=False))).reason is SkipReason.NOT_CLIPABLE
    assert (await capped.skip(highlight("x", rank=3))).reason is SkipReason.FAN_OUT_CAPPED
    assert (await capped.skip(highlight("x", rank=2))).reason is SkipReason.SOURCE_MISSING


async def test_a_window_outside_the_vod_is_said_to_be_outside(running: RunningHandlers, vod: Vod) -> None:
    key = running.put(vod("b-frames.mp4").path)
    outside = await running.skip(highlight(key, start_seconds=3600, end_seconds=3630))
    assert outside.reason is SkipReason.WINDOW_OUTSIDE_SOURCE
    assert outside.message == (
        "This highlight lies between 1:00:00 and 1:00:30, but the VOD is only 0:00:12 long."
    )
    assert (
        await running.skip(highlight(key, start_seconds=11.5, end_seconds=30))
    ).reason is SkipReason.TOO_SHORT


async def test_without_storage_a_highlight_is_skipped_and_the_next_one_works_with_it(
    running: RunningHandlers, vod: Vod
) -> None:
    key = running.put(vod("b-frames.mp4").path)
    without = replace(running, handlers=replace(running.handlers, clips=UnconfiguredClipStorage()))
    assert (await without.skip(highlight(key))).reason is SkipReason.STORAGE_NOT_CONFIGURED
    assert isinstance((await running.handle(highlight(key))).data, ClipCreated)


@pytest.mark.parametrize(
    ("profile_name", "bucket", "key"),
    [("nobody", "vods", "x"), ("archive", "clips", "x"), ("archive", "vods", "../clips/x")],
)
async def test_a_place_that_nobody_may_read_is_refused_for_good(
    running: RunningHandlers, profile_name: str, bucket: str, key: str
) -> None:
    source = SourceObject(profile=profile_name, bucket=bucket, key=key)
    with pytest.raises(PermanentError):
        await running.handle(highlight("x", source=source))


@pytest.mark.parametrize("profile_name", ["revoked", "down"])
async def test_a_source_storage_that_is_out_or_refuses_us_is_an_outage(
    running: RunningHandlers, profile_name: str
) -> None:
    source = SourceObject(profile=profile_name, bucket="vods", key="x.mp4")
    with pytest.raises(TransientError):
        await running.handle(highlight("x", source=source))
    assert running.published == []


async def test_clip_storage_that_is_out_is_an_outage(
    running: RunningHandlers, vod: Vod, addresses: Addresses
) -> None:
    event = highlight(running.put(vod("b-frames.mp4").path))
    nowhere = s3_client(
        endpoint="http://127.0.0.1:9", region="us-east-1", access_key="a", secret_key="b", max_attempts=1
    )
    wrong = s3_client(
        endpoint=addresses.s3_endpoint_url, region="us-east-1", access_key="a", secret_key="b", max_attempts=1
    )
    for storage in (
        ClipStorage(nowhere, "clips", prober=nowhere),
        ClipStorage(wrong, "clips", prober=wrong),
    ):
        out = replace(running, handlers=replace(running.handlers, clips=storage))
        with pytest.raises(TransientError):
            await out.handle(event)
        with pytest.raises(TransientError):
            await storage.check()
    assert running.published == []


async def test_a_vod_that_goes_while_it_is_read_is_missing(running: RunningHandlers, vod: Vod) -> None:
    key = running.put(vod("b-frames.mp4").path)
    sources = running.handlers.sources
    place = SourceObject(profile="archive", bucket="vods", key=key)
    url = (await sources.locate(place)).input.location
    assert "secret" not in repr(await sources.locate(place))
    with urllib.request.urlopen(url) as answer:  # noqa: ASYNC210, S310 - a presigned URL of this test's server
        assert answer.status == 200
    await sources.confirm(place)
    running.s3.delete_object(Bucket="vods", Key=key)
    with pytest.raises(Exception, match="no longer in storage"):
        await sources.confirm(place)


async def test_a_vod_that_cannot_be_read_because_storage_went_out_is_no_bad_vod(
    running: RunningHandlers,
) -> None:
    class Failing(SourceStorage):
        async def confirm(self, source: SourceObject) -> None:
            raise TransientError(f"{source.profile} is out")

    key = running.put(b"hello")
    with pytest.raises(Skipped):
        await running.handlers._stored_clip(highlight(key), running.handlers.copies)
    out = Failing(running.profiles, url_seconds=60, on_pulled=running.handlers.metrics.pulled)
    with pytest.raises(TransientError):
        await replace(running.handlers, sources=out).highlight_detected(highlight(key))
    assert running.published == []


def limited(running: RunningHandlers, limit: int, window_seconds: float) -> RunningHandlers:
    skips = SkipLimit(DeadLetterLimit(limit, window_seconds))
    return replace(running, handlers=replace(running.handlers, skips=skips))


async def test_too_many_missing_vods_of_a_profile_hold_its_highlights_back(
    running: RunningHandlers, vod: Vod
) -> None:
    careful = limited(running, 2, window_seconds=600)
    events = [highlight("gone.mp4"), highlight(running.put(b"hello")), highlight("also-gone.mp4")]
    assert (await careful.skip(events[0])).reason is SkipReason.SOURCE_MISSING
    for _ in range(3):  # a redelivery counts once
        assert (await careful.skip(events[1])).reason is SkipReason.SOURCE_UNREADABLE
    careful.published.clear()
    with pytest.raises(HeldBack, match="'archive' had 2 missing or unreadable VODs"):
        await careful.handlers.highlight_detected(events[2])
    assert careful.published == []
    assert (await careful.skip(events[0])).reason is SkipReason.SOURCE_MISSING  # it was announced before
    # What says nothing of the storage goes on, and so does what works.
    assert (await careful.skip(highlight("x", is_clipable=False))).reason is SkipReason.NOT_CLIPABLE
    event = highlight(running.put(vod("b-frames.mp4").path))
    assert isinstance((await careful.handle(event)).data, ClipCreated)


async def test_a_missing_vod_counts_once_and_an_unreadable_one_for_each_highlight(
    running: RunningHandlers,
) -> None:
    careful = limited(running, 2, window_seconds=600)
    for _ in range(5):
        assert (await careful.skip(highlight("gone.mp4"))).reason is SkipReason.SOURCE_MISSING
    key = running.put(b"hello")
    assert (await careful.skip(highlight(key))).reason is SkipReason.SOURCE_UNREADABLE
    with pytest.raises(HeldBack, match="cannot be read"):
        await careful.handlers.highlight_detected(highlight(key))
    # Of a VOD that is known to be missing, it is said even now.
    assert (await careful.skip(highlight("gone.mp4"))).reason is SkipReason.SOURCE_MISSING


async def test_what_was_held_back_is_not_tried_again_while_the_limit_is_reached(
    running: RunningHandlers,
) -> None:
    class Counting(SourceStorage):
        asked = 0

        async def locate(self, source: SourceObject) -> StoredVod:
            self.asked += 1
            return await super().locate(source)

    sources = Counting(running.profiles, url_seconds=60, on_pulled=running.handlers.metrics.pulled)
    careful = limited(running, 1, window_seconds=1.5)
    handlers = replace(careful.handlers, sources=sources)
    event = highlight("also-gone.mp4")
    await handlers.highlight_detected(highlight("gone.mp4"))
    for _ in range(3):
        with pytest.raises(HeldBack, match="no longer in storage"):
            await handlers.highlight_detected(event)
    assert sources.asked == 2
    await asyncio.sleep(1.6)
    await handlers.highlight_detected(event)
    assert sources.asked == 3


async def test_what_was_held_back_goes_on_after_the_window(running: RunningHandlers) -> None:
    careful = limited(running, 1, window_seconds=0.5)
    await careful.skip(highlight("gone.mp4"))
    event = highlight("also-gone.mp4")
    with pytest.raises(HeldBack):
        await careful.handlers.highlight_detected(event)
    await asyncio.sleep(0.6)
    assert (await careful.skip(event)).reason is SkipReason.SOURCE_MISSING


async def test_a_skip_that_was_not_announced_does_not_count(running: RunningHandlers) -> None:
    async def refuse(event: Event[Any]) -> None:
        raise TransientError(f"the bus does not take {event.id}")

    careful = limited(running, 1, window_seconds=600)
    refusing = replace(careful.handlers, publish=refuse)
    event = highlight("gone.mp4")
    for _ in range(2):
        with pytest.raises(TransientError, match="the bus"):
            await refusing.highlight_detected(event)
    assert (await careful.skip(event)).reason is SkipReason.SOURCE_MISSING


FAR = 1e300  # the contract lets no such time through, and a skip must not depend on that


@pytest.mark.parametrize("name", ["b-frames.mp4", "b-frames.mkv", "b-frames.ts", "live.mp4"])
@pytest.mark.parametrize(("start", "end"), [(FAR, 2 * FAR), (-2 * FAR, -FAR)])
async def test_seconds_without_measure_have_an_outcome_at_once(
    running: RunningHandlers, vod: Vod, name: str, start: float, end: float
) -> None:
    event = highlight(running.put(vod(name).path))
    far = event.data.model_copy(update={"start_seconds": start, "end_seconds": end})
    skip = await running.skip(event.model_copy(update={"data": far}))
    assert skip.reason is SkipReason.WINDOW_OUTSIDE_SOURCE
    assert "9999:59:59" in skip.message


async def test_a_clip_that_the_disk_can_never_hold_is_skipped(
    running: RunningHandlers, vod: Vod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scratch, "_disk_bytes", lambda _: 100_000)
    for name in ("b-frames.mp4", "b-frames.mkv"):
        skip = await running.skip(highlight(running.put(vod(name).path)))
        assert skip.reason is SkipReason.SOURCE_UNREADABLE
        assert "more than this platform has" in skip.message
