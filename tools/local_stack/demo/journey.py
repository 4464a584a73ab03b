"""What the demo does with a running stack, step by step."""

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
    DecodedFrame,
    FrameMatch,
    ProbedVod,
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
    """A step did not do what it should. The message says what it did."""


@dataclass(frozen=True)
class DemoVod:
    """A recording and two windows of it. ``numbered``: its frames tell their numbers."""

    file: Path
    recording: ProbedVod
    windows: tuple[DemoWindow, DemoWindow]
    numbered: bool


@dataclass
class DemoClip:
    """A clip as the demo follows it. ``source_frames`` are those around the start that was asked for."""

    title: str
    window: DemoWindow
    source_frames: list[DecodedFrame]
    highlight_id: str
    seconds_to_available: float = 0.0
    object_key: str = ""
    content: bytes = b""

    @property
    def id(self) -> str:
        """Its id, known before it exists."""
        return str(clip_id_for(self.highlight_id))


class Journey:
    """The steps that need a running stack. Each raises StepFailed, or what its tools raise, when it fails."""

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
        self._kept, self._let_go = clips
        self._streamer = client.gateway(STREAMER)

    def run(self) -> None:
        """All steps, in order."""
        source = self._upload()
        self._publish(source)
        expires_at = self._list()
        self._fetch()
        self._examine()
        self._refuse()
        self._keep()
        self._expire(expires_at)
        self._purge()
        self._play_again()

    def _upload(self) -> SourceObject:
        with self._steps.step("Putting the recording into the source bucket") as step:
            source = self._client.upload(self._vod.file)
            step.says = f"The recording is in the source bucket: {source.bucket}/{source.key}"
            return source

    def _publish(self, source: SourceObject) -> None:
        with self._steps.step("Publishing two highlights, waiting for two clips") as step:
            events = [self._highlight(clip, source) for clip in self._clips]
            asyncio.run(self._follow(events))
            step.says = "Two highlights published, two clips available"
            for clip in self._clips:
                step.add(
                    f"{clip.seconds_to_available:.1f} s after its highlight: {clip.title}, clip {clip.id}"
                )

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
        """Returns when the last of the two expires."""
        with self._steps.step("Listing the streamer's clips") as step:
            items = _expect(self._streamer.get("/v1/clips"), httpx.codes.OK).json()["items"]
            found = {item["id"]: item for item in items}
            if set(found) != {clip.id for clip in self._clips}:
                raise StepFailed(
                    f"the gateway lists {len(found)} clips, not the two."
                    " On a very slow machine they may have expired already: give them more --retention."
                )
            step.says = "The gateway lists both to their streamer"
            for item in items:
                step.add(
                    f"{item['title']}: {item['duration_seconds']:.2f} s, expires at {item['expires_at']}"
                )
            return max(datetime.fromisoformat(item["expires_at"]) for item in items)

    def _fetch(self) -> None:
        with self._steps.step("Fetching both by their watch URLs") as step:
            for clip in self._clips:
                clip.object_key, clip.content = self._watch(clip)
                step.add(
                    f"{clip.title}: 302 to a presigned URL, 206 for a range, {len(clip.content)} bytes in all"
                )
            step.says = "Both were fetched over HTTP by their watch URLs"

    def _watch(self, clip: DemoClip) -> tuple[str, bytes]:
        url = _expect(self._streamer.get(f"/v1/clips/{clip.id}/watch"), httpx.codes.FOUND).headers["location"]
        with httpx.Client(trust_env=False, timeout=60) as browser:
            part = browser.get(url, headers={"Range": f"bytes=0-{_RANGE_BYTES - 1}"})
            _expect(part, httpx.codes.PARTIAL_CONTENT)
            whole = _expect(browser.get(url), httpx.codes.OK)
        if part.content != whole.content[:_RANGE_BYTES]:
            raise StepFailed(f"the range of {clip.title} is not the beginning of the file")
        return unquote(urlsplit(url).path).split("/", 2)[2], whole.content

    def _examine(self) -> None:
        with self._steps.step("Comparing both with the recording") as step:
            for clip in self._clips:
                step.add(f"{clip.title}: {self._examined(clip)}")
            step.says = "Both are as long as asked for, and begin with the frame that was asked for"

    def _examined(self, clip: DemoClip) -> str:
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
                f"{clip.title} should begin with the frame at {clip.window.start:g} s of the recording."
                f" It begins with the one at {match.frame.seconds:.3f} s (difference {match.difference:.1f})."
            )
        skew = "" if found.skew_ms is None else f", sound {found.skew_ms:+.0f} ms"
        return f"{found.seconds:.3f} s{skew}; first frame {self._told(match)}"

    def _told(self, match: FrameMatch) -> str:
        how = "re-encoded from" if match.difference else "identical to"
        number = f", number {read_frame_number(match.frame.small, SMALL[0])}" if self._vod.numbered else ""
        return f"{how} the recording's at {match.frame.seconds:.3f} s{number}"

    def _refuse(self) -> None:
        path = f"/v1/clips/{self._kept.id}/watch"
        with self._steps.step("Trying to get in") as step, self._client.gateway(STRANGER) as stranger:
            _expect(stranger.get(path), httpx.codes.FORBIDDEN)
            with self._client.gateway() as guest:
                _expect(guest.get(path), httpx.codes.UNAUTHORIZED)
            step.says = "Another account is refused (403), a guest as well (401)"

    def _keep(self) -> None:
        with self._steps.step("Keeping one clip") as step:
            kept = _expect(self._streamer.post(f"/v1/clips/{self._kept.id}/keep"), httpx.codes.OK).json()
            if (kept["status"], kept["expires_at"]) != (ClipStatus.KEPT, None):
                raise StepFailed(f"the kept clip is {kept['status']} and expires at {kept['expires_at']}")
            step.says = f"{self._kept.title} is kept: it does not expire any more"

    def _expire(self, expires_at: datetime) -> None:
        with self._steps.step("Letting the time of both run out") as step:
            # A little later, because no request is on time to the millisecond.
            time.sleep(max(0.0, (expires_at - datetime.now(UTC)).total_seconds()) + 0.2)
            _expect(self._streamer.get(f"/v1/clips/{self._let_go.id}/watch"), httpx.codes.NOT_FOUND)
            _expect(self._streamer.get(f"/v1/clips/{self._kept.id}/watch"), httpx.codes.FOUND)
            step.says = "The time of both is up: the one that is not kept cannot be watched any more (404)"

    def _purge(self) -> None:
        with self._steps.step("Sending the daily tick, waiting for the purge") as step:
            if self._client.stored_bytes(self._bucket, self._let_go.object_key) is None:
                raise StepFailed("the clip's object is gone before the tick")
            asyncio.run(self._client.publish(Event.new(DailyTick(), source=SOURCE)))
            self._wait_until(lambda: self._status(self._let_go) == ClipStatus.PURGED, "purged")
            self._wait_until(lambda: self._is_deleted(self._let_go), "deleted from the bucket")
            _expect(self._streamer.get(f"/v1/clips/{self._let_go.id}"), httpx.codes.NOT_FOUND)
            step.says = f"{self._let_go.title} is purged: 404 from the gateway, its object is gone"

    def _play_again(self) -> None:
        with self._steps.step("Playing the kept clip again") as step:
            if self._watch(self._kept) != (self._kept.object_key, self._kept.content):
                raise StepFailed("the kept clip is not what it was")
            step.says = f"{self._kept.title} still plays, byte for byte"

    @property
    def _bucket(self) -> str:
        return self._client.environment["FREE_STORAGE_BUCKET"]

    def _status(self, clip: DemoClip) -> str:
        """As the registry has it: to the streamer, an expired clip looks like a purged one."""
        environment = self._client.environment
        answer = httpx.get(
            f"{environment['REGISTRY_URL']}/v1/clips/{clip.id}",
            headers={"Authorization": f"Bearer {environment['REGISTRY_TOKEN']}"},
            trust_env=False,
        )
        return str(_expect(answer, httpx.codes.OK).json()["status"])

    def _is_deleted(self, clip: DemoClip) -> bool:
        return self._client.stored_bytes(self._bucket, clip.object_key) is None

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PURGE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise StepFailed(f"{self._let_go.title} is not {what} {_PURGE_SECONDS} s after the tick")
            time.sleep(_POLL_SECONDS)


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    if answer.status_code != status:
        # Without its query: a presigned URL is a secret.
        asked = f"{answer.request.method} {answer.request.url.copy_with(query=None)}"
        raise StepFailed(
            f"{asked} answered {answer.status_code} instead of {int(status)}: {answer.text[:300]}"
        )
    return answer
