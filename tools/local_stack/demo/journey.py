"""The steps of the demo on a running stack."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from clip_shared.contracts.events import (
    DailyTick,
    Event,
    HighlightDetected,
    HighlightKind,
    SourceObject,
    clip_id_for,
)
from clip_shared.contracts.registry_api import ClipStatus
from local_stack.client import SOURCE, Client
from local_stack.demo.frames import (
    SIMILAR,
    SMALL,
    FrameMatch,
    ProbedVod,
    VodFrame,
    find,
    first_frame,
    probe,
    shown_at,
)
from local_stack.demo.terminal import StepPrinter
from local_stack.demo.vod import read_frame_number
from local_stack.demo.windows import DemoWindow

STREAMER, STRANGER = "streamer-1", "streamer-2"
_LENGTH_TOLERANCE_SECONDS = 0.2
_CUT_SECONDS = 600
_PURGE_SECONDS = 30
_POLL_SECONDS = 0.1
_RANGE_BYTES = 1000


class StepFailed(Exception):
    """A step of the demo had another result than expected. The message has the result."""


@dataclass(frozen=True)
class DemoVod:
    """A VOD and two windows of it. ``numbered``: each frame shows its number."""

    file: Path
    probed: ProbedVod
    windows: tuple[DemoWindow, DemoWindow]
    numbered: bool


@dataclass
class DemoClip:
    """A clip that the demo follows. ``source_frames``: the VOD's frames around the start of the window."""

    title: str
    window: DemoWindow
    source_frames: list[VodFrame]
    highlight_id: str
    seconds_to_available: float = 0.0
    object_key: str = ""
    content: bytes = b""

    @property
    def id(self) -> str:
        """The clip's id, which follows from the highlight's id."""
        return str(clip_id_for(self.highlight_id))


class Journey:
    """The steps that need a running stack. A step that fails raises StepFailed or its client's error."""

    def __init__(
        self,
        steps: StepPrinter,
        client: Client,
        vod: DemoVod,
        clips: tuple[DemoClip, DemoClip],
        folder: Path,
    ) -> None:
        self._steps = steps
        self._folder = folder
        self._client = client
        self._vod = vod
        self._clips = clips
        self._kept, self._expiring = clips
        self._streamer = client.gateway(STREAMER)

    def run(self) -> None:
        """Run all steps, in order."""
        source = self._upload()
        self._publish(source)
        expires_at = self._list()
        self._fetch()
        self._compare()
        self._refuse()
        self._keep()
        self._expire(expires_at)
        self._purge()
        self._play_again()

    def _upload(self) -> SourceObject:
        with self._steps.step("Uploading the VOD to the source bucket") as step:
            source = self._client.upload(self._vod.file)
            step.result = f"The VOD is in the source bucket: {source.bucket}/{source.key}"
            return source

    def _publish(self, source: SourceObject) -> None:
        with self._steps.step("Publishing two highlights, waiting for the clips") as step:
            events = [self._highlight(clip, source) for clip in self._clips]
            asyncio.run(self._follow(events))
            step.result = "Two highlights published, two clips available"
            for clip in self._clips:
                step.add(f"{clip.seconds_to_available:.1f} s after the highlight: {clip.title}, id {clip.id}")

    def _highlight(self, clip: DemoClip, source: SourceObject) -> Event[HighlightDetected]:
        data = HighlightDetected(
            stream_highlight_id=clip.highlight_id,
            twitch_account_id=STREAMER,
            source_vod_id="demo",
            source=source,
            start_seconds=clip.window.start,
            end_seconds=clip.window.end,
            kind=HighlightKind.REFINED,
            title=clip.title,
        )
        return Event.new(data, source=SOURCE)

    async def _follow(self, events: Sequence[Event[HighlightDetected]]) -> None:
        waiting = {clip.highlight_id: clip for clip in self._clips}
        async with self._client.outcomes() as outcomes:
            published = time.monotonic()
            await self._client.publish(*events)
            try:
                async with asyncio.timeout(_CUT_SECONDS):
                    while waiting:
                        outcome = await anext(outcomes)
                        clip = waiting.pop(outcome.stream_highlight_id, None)
                        if clip and outcome.reason:
                            raise StepFailed(f"{clip.title} ({clip.window}) was not cut: {outcome.reason}")
                        if clip:
                            clip.seconds_to_available = time.monotonic() - published
            except TimeoutError as error:
                raise StepFailed(f"no clip within {_CUT_SECONDS} s") from error

    def _list(self) -> datetime:
        """List the clips; return the time at which both have expired."""
        with self._steps.step("Listing the streamer's clips") as step:
            items = _expect(self._streamer.get("/v1/clips"), httpx.codes.OK).json()["items"]
            found = {item["id"]: item for item in items}
            if set(found) != {clip.id for clip in self._clips}:
                raise StepFailed(
                    f"the gateway lists {len(found)} clips in place of the two of the demo."
                    " On a slow machine they may have expired already: run the demo with --retention 60."
                )
            step.result = "The gateway lists both clips to their streamer"
            for item in items:
                step.add(
                    f"{item['title']}: {item['duration_seconds']:.2f} s, expires at {item['expires_at']}"
                )
            return max(datetime.fromisoformat(item["expires_at"]) for item in items)

    def _fetch(self) -> None:
        with self._steps.step("Downloading both clips through their watch URLs") as step:
            for clip in self._clips:
                clip.object_key, clip.content = self._watch(clip)
                step.add(
                    f"{clip.title}: 302 to a presigned URL, 206 for a range,"
                    f" 200 for all {len(clip.content)} bytes"
                )
            step.result = "Both clips were downloaded through their watch URLs"

    def _watch(self, clip: DemoClip) -> tuple[str, bytes]:
        url = _expect(self._streamer.get(f"/v1/clips/{clip.id}/watch"), httpx.codes.FOUND).headers["location"]
        with httpx.Client(trust_env=False, timeout=60) as browser:
            part = browser.get(url, headers={"Range": f"bytes=0-{_RANGE_BYTES - 1}"})
            _expect(part, httpx.codes.PARTIAL_CONTENT)
            whole = _expect(browser.get(url), httpx.codes.OK)
        if part.content != whole.content[:_RANGE_BYTES]:
            raise StepFailed(
                f"{clip.title}: the first {_RANGE_BYTES} bytes differ from the range that was read"
            )
        return unquote(urlsplit(url).path).split("/", 2)[2], whole.content

    def _compare(self) -> None:
        with self._steps.step("Comparing both clips with the VOD") as step:
            for clip in self._clips:
                step.add(f"{clip.title}: {self._check_clip(clip)}")
            step.result = "Both clips have the length and the first frame that were asked for"

    def _check_clip(self, clip: DemoClip) -> str:
        file = self._folder / "clip.mp4"
        file.write_bytes(clip.content)
        found = probe(file)
        if abs(found.seconds - clip.window.seconds) > _LENGTH_TOLERANCE_SECONDS:
            raise StepFailed(
                f"{clip.title} lasts {found.seconds:.3f} s instead of {clip.window.seconds:.3f} s"
            )
        match = find(first_frame(file), clip.source_frames, clip.window.start)
        if match.difference > SIMILAR or match.frame not in shown_at(clip.source_frames, clip.window.start):
            raise StepFailed(
                f"{clip.title} begins with the VOD's frame at {match.frame.seconds:.3f} s"
                f" (difference {match.difference:.1f}) in place of the frame at {clip.window.start:g} s"
            )
        skew = "" if found.skew_ms is None else f", audio {found.skew_ms:+.0f} ms"
        return f"{found.seconds:.3f} s{skew}; first frame {self._describe_match(match)}"

    def _describe_match(self, match: FrameMatch) -> str:
        how = "re-encoded from" if match.difference else "identical to"
        number = f", number {read_frame_number(match.frame.small, SMALL[0])}" if self._vod.numbered else ""
        return f"{how} the VOD's at {match.frame.seconds:.3f} s{number}"

    def _refuse(self) -> None:
        path = f"/v1/clips/{self._kept.id}/watch"
        with (
            self._steps.step("Trying to watch as another account, and as a guest") as step,
            self._client.gateway(STRANGER) as stranger,
        ):
            _expect(stranger.get(path), httpx.codes.FORBIDDEN)
            with self._client.gateway() as guest:
                _expect(guest.get(path), httpx.codes.UNAUTHORIZED)
            step.result = "Another account is refused (403), and a guest is refused (401)"

    def _keep(self) -> None:
        with self._steps.step("Keeping a clip") as step:
            kept = _expect(self._streamer.post(f"/v1/clips/{self._kept.id}/keep"), httpx.codes.OK).json()
            if (kept["status"], kept["expires_at"]) != (ClipStatus.KEPT, None):
                raise StepFailed(f"the kept clip is {kept['status']} and expires at {kept['expires_at']}")
            step.result = f"{self._kept.title} is kept: it never expires"

    def _expire(self, expires_at: datetime) -> None:
        with self._steps.step("Waiting until the retention is over") as step:
            # 0.2 s later, because the clocks of the processes are read at different times.
            time.sleep(max(0.0, (expires_at - datetime.now(UTC)).total_seconds()) + 0.2)
            _expect(self._streamer.get(f"/v1/clips/{self._expiring.id}/watch"), httpx.codes.NOT_FOUND)
            _expect(self._streamer.get(f"/v1/clips/{self._kept.id}/watch"), httpx.codes.FOUND)
            step.result = (
                f"{self._expiring.title} has expired: it cannot be watched (404); the kept clip can (302)"
            )

    def _purge(self) -> None:
        with self._steps.step("Sending the daily tick, waiting for the purge") as step:
            if self._client.stored_bytes(self._bucket, self._expiring.object_key) is None:
                raise StepFailed(f"the object of {self._expiring.title} was deleted before the tick")
            asyncio.run(self._client.publish(Event.new(DailyTick(), source=SOURCE)))
            self._wait_until(lambda: self._status(self._expiring) == ClipStatus.PURGED, "purged")
            self._wait_until(lambda: self._is_deleted(self._expiring), "deleted from the bucket")
            _expect(self._streamer.get(f"/v1/clips/{self._expiring.id}"), httpx.codes.NOT_FOUND)
            step.result = f"{self._expiring.title} is purged: its object is deleted, the gateway answers 404"

    def _play_again(self) -> None:
        with self._steps.step("Playing the kept clip again") as step:
            if self._watch(self._kept) != (self._kept.object_key, self._kept.content):
                raise StepFailed(f"the object or the bytes of {self._kept.title} have changed")
            step.result = f"{self._kept.title} still plays, with the same bytes"

    @property
    def _bucket(self) -> str:
        return self._client.environment["FREE_STORAGE_BUCKET"]

    def _status(self, clip: DemoClip) -> str:
        """Return the status from the registry: the gateway answers 404 for expired and purged clips alike."""
        environment = self._client.environment
        answer = httpx.get(
            f"{environment['REGISTRY_URL']}/v1/clips/{clip.id}",
            headers={"Authorization": f"Bearer {environment['REGISTRY_TOKEN']}"},
            trust_env=False,
        )
        return str(_expect(answer, httpx.codes.OK).json()["status"])

    def _is_deleted(self, clip: DemoClip) -> bool:
        return self._client.stored_bytes(self._bucket, clip.object_key) is None

    def _wait_until(self, condition: Callable[[], bool], state: str) -> None:
        deadline = time.monotonic() + _PURGE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"{self._expiring.title} was not {state} within {_PURGE_SECONDS} s of the tick"
                )
            time.sleep(_POLL_SECONDS)


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    if answer.status_code != status:
        # Without its query: a presigned URL is a secret.
        asked = f"{answer.request.method} {answer.request.url.copy_with(query=None)}"
        raise StepFailed(
            f"{asked} answered {answer.status_code} instead of {int(status)}: {answer.text[:300]}"
        )
    return answer
