"""The contenders: the cutter's whole job, bare ffmpeg, and MoviePy."""

import asyncio
import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from clip_cutter.domain.policy import Window
from clip_shared.bus.envelope import from_record, to_record
from clip_shared.contracts.events import (
    ClipCreated,
    ClipSkipped,
    CutMode,
    Event,
    HighlightDetected,
    HighlightKind,
    SourceObject,
)
from local_stack.processes.ffmpeg import find_tools
from local_stack.processes.workspace import Workspace
from local_stack.servers.servers import Addresses
from local_stack.stack import CLIPS_BUCKET, SOURCE_BUCKET, LocalStack
from tests.bench import traced
from tests.bench.bare import BareFfmpeg
from tests.bench.report import CutRun
from tests.bench.usage import cores, cpu_seconds, own_cpu_seconds, peak_rss_bytes, reset_peak

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DIRECT, COUNTED = "direct", "counted"
# The cutter remembers VODs by profile: under each of these profiles, it reads every VOD for the first time.
NEW = tuple(f"new-{number}" for number in range(10))
FAR = tuple(f"far-{number}" for number in range(10))
URL_SECONDS = 3600
PATIENCE_SECONDS = 600
# "auto" copies the VODs of the benchmark, and is production's mode.
CUT_MODES = {CutMode.COPY: "auto", CutMode.EXACT: "exact"}


@dataclass(frozen=True)
class ClipToCut:
    """A window of an object in the source bucket, and the mode of the cut."""

    key: str
    window: Window
    mode: CutMode


class NoClip(Exception):
    """The cutter made no clip, or cut it in another mode than the benchmark measures."""


class CutterProcess:
    """The clip-cutter as a process behind Kafka."""

    def __init__(self, stack: LocalStack) -> None:
        self._service = stack.cutter
        self._brokers = stack.environment["KAFKA_BOOTSTRAP_SERVERS"]
        self._http = httpx.AsyncClient(base_url=stack.cutter.operations_url, trust_env=False)
        self._producer = AIOKafkaProducer(bootstrap_servers=self._brokers, acks="all")
        self._outcomes = AIOKafkaConsumer(
            ClipCreated.TOPIC, ClipSkipped.TOPIC, bootstrap_servers=self._brokers
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, addresses: Addresses, counted: str, far: str, mode: CutMode, *, trace: Path | None = None
    ) -> AsyncIterator[Self]:
        """Run a cutter on running servers.

        ``counted`` and ``far`` are the source storage's endpoints behind proxies. ``trace``: where to note
        what each job did; that costs some time.
        """
        settings = {
            "CUT_MODE": CUT_MODES[mode],
            "SOURCE_STORAGE_PROFILES": _profiles(addresses, counted, far),
            **({traced.FILE: str(trace)} if trace else {}),
        }
        with Workspace() as workspace:
            runner = traced.__name__ if trace else None
            stack = LocalStack(
                workspace, addresses=addresses, settings={"clip-cutter": settings}, runner=runner
            )
            workspace.save()
            with stack.cutter:
                cutter = cls(stack)
                async with cutter._http, cutter._producer, cutter._listening():
                    yield cutter

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        await self._outcomes.start()
        try:
            await self._outcomes.seek_to_end()
            for partition in self._outcomes.assignment():
                await self._outcomes.position(partition)
            yield
        finally:
            await self._outcomes.stop()

    async def cut(self, clip: ClipToCut, *, profile: str = DIRECT) -> tuple[CutRun, int]:
        """Publish a highlight and wait for its clip; return the run, and the stored bytes.

        Times are the service's own: from the event's arrival, or its time, to the acknowledged clip-created.

        Raises:
            NoClip: the highlight became no clip, or was cut in another mode.
        """
        pid = self._service.pid
        assert pid is not None
        before = await self._timers()
        reset_peak(pid)
        cpu = cpu_seconds(pid)
        event = Event[HighlightDetected].new(_highlight(clip, profile), source="bench")
        record = to_record(event)
        await self._producer.send_and_wait(record.topic, record.value, record.key, headers=record.headers)
        created = await self._outcome_of(event.data.stream_highlight_id)
        if created.cut_receipt.mode is not clip.mode or created.cut_receipt.fallback_reason:
            raise NoClip(f"not cut by {clip.mode}: {created.cut_receipt}")
        cpu = cpu_seconds(pid) - cpu
        after = await self._settled(before)
        published, consumed = (now - then for now, then in zip(after, before, strict=True))
        return CutRun(consumed, cpu, published, peak_rss_bytes(pid)), created.object.size_bytes

    async def _outcome_of(self, highlight_id: str) -> ClipCreated:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for record in self._outcomes:
                if record.key == highlight_id.encode():
                    if record.topic == ClipSkipped.TOPIC:
                        raise NoClip(str(record.value))
                    return from_record(ClipCreated, record).data
        raise NoClip("the consumer was stopped")

    async def _settled(self, before: tuple[float, float]) -> tuple[float, float]:
        """Return both timers after they have counted the job that was announced."""
        while True:
            after = await self._timers()
            if after[0] > before[0] and after[1] > before[1]:
                return after
            await asyncio.sleep(0.02)

    async def _timers(self) -> tuple[float, float]:
        """Return the seconds of all jobs so far: from publishing, and from consuming."""
        text = (await self._http.get("/metrics")).raise_for_status().text
        found = {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("topic", HighlightDetected.TOPIC) == HighlightDetected.TOPIC
        }
        return found["clips_highlight_to_created_seconds_sum"], found.get("clips_event_seconds_sum", 0.0)


def _profiles(addresses: Addresses, counted: str, far: str) -> str:
    keys = {
        "region": addresses.s3_region,
        "access_key": addresses.s3_access_key,
        "secret_key": addresses.s3_secret_key,
        "buckets": [SOURCE_BUCKET],
    }
    near = dict.fromkeys((DIRECT, *NEW), addresses.s3_endpoint_url)
    endpoints = near | dict.fromkeys(FAR, far) | {COUNTED: counted}
    return json.dumps({name: {"endpoint": endpoint, **keys} for name, endpoint in endpoints.items()})


def _highlight(clip: ClipToCut, profile: str) -> HighlightDetected:
    return HighlightDetected(
        stream_highlight_id=uuid.uuid4().hex,
        twitch_account_id="streamer-1",
        source_vod_id="vod-1",
        source=SourceObject(profile=profile, bucket=SOURCE_BUCKET, key=clip.key),
        start_seconds=clip.window.start,
        end_seconds=clip.window.end,
        kind=HighlightKind.REFINED,
        title="What a save",
    )


class Rivals:
    """Contenders that only cut and upload. ``folder`` has their files."""

    def __init__(self, s3: "S3Client", folder: Path) -> None:
        self._s3 = s3
        self._output = folder / "clip.mp4"
        self._ffmpeg = BareFfmpeg(find_tools().ffmpeg, self._output, cores())

    def command(self, clip: ClipToCut) -> list[str]:
        """Return the command that cuts a clip through a presigned URL."""
        return self._ffmpeg.command(self._url(clip), Path(clip.key).suffix, clip.window, clip.mode)

    async def bare(self, command: list[str]) -> CutRun:
        """Run ffmpeg, and upload its output."""
        return await asyncio.to_thread(self._timed, lambda: _run_quietly(command))

    async def moviepy(self, clip: ClipToCut) -> CutRun:
        """Cut with MoviePy as its manual does, and upload its output. Its import is not timed."""
        return await asyncio.to_thread(self._timed, _moviepy_job(self._url(clip), clip.window, self._output))

    def _url(self, clip: ClipToCut) -> str:
        place = {"Bucket": SOURCE_BUCKET, "Key": clip.key}
        return self._s3.generate_presigned_url("get_object", Params=place, ExpiresIn=URL_SECONDS)

    def _timed(self, cut: Callable[[], None]) -> CutRun:
        cpu, started = own_cpu_seconds(), time.monotonic()
        cut()
        self._s3.upload_file(str(self._output), CLIPS_BUCKET, f"bench/{uuid.uuid4().hex}.mp4")
        run = CutRun(time.monotonic() - started, own_cpu_seconds() - cpu)
        self._output.unlink()
        return run


def _run_quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def _moviepy_job(url: str, window: Window, output: Path) -> Callable[[], None]:
    from moviepy import VideoFileClip  # noqa: PLC0415 - installed for this benchmark only

    def cut() -> None:
        with VideoFileClip(url) as vod:
            clip = vod.subclipped(window.start, window.end)
            clip.write_videofile(
                str(output),
                codec="libx264",
                audio_codec="aac",
                temp_audiofile_path=str(output.parent),
                logger=None,
            )

    return cut
