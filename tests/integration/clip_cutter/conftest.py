"""A cutter with real programs, VODs to cut, and a look at what is left behind after each test."""

import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import uuid4

import psutil
import pytest
from prometheus_client import CollectorRegistry
from pydantic import AnyHttpUrl, SecretStr

from clip_cutter.announcements import receipt_of
from clip_cutter.cutter import Cutter, FinishedClip
from clip_cutter.domain.plan import ModeChoice
from clip_cutter.domain.policy import Policy, Skipped, Window, place_window
from clip_cutter.ffmpeg.process import ProcessLimits
from clip_cutter.ffmpeg.run import Ffmpeg, FfmpegPrograms
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Job, Scratch
from clip_cutter.settings import SourceProfile
from clip_cutter.vods.index_cache import IndexCache
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.remuxed import open_remuxed
from clip_cutter.vods.source import LocalFile, Source
from clip_cutter.vods.source_storage import SourceStorage
from clip_shared.contracts.events import CutReceipt, SourceObject
from local_stack.processes.ffmpeg import find_tools
from local_stack.servers.servers import Addresses
from tests.integration.clip_cutter.media import DecodedFile, h264, record, remux
from tests.integration.clip_cutter.remote import RemoteFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MEBIBYTE = 1024 * 1024
LIMITS = ProcessLimits(
    deadline_seconds=60, cpu_seconds=120, memory_bytes=4096 * MEBIBYTE, file_bytes=256 * MEBIBYTE
)
PATIENCE_SECONDS = 5.0
POLICY = Policy(min_seconds=1, max_seconds=180, max_clips_per_vod=None)

# Servers have children of their own, which come and go as they like.
PROGRAMS = ("ffmpeg", "ffprobe")

Cutting = Callable[..., Awaitable[FinishedClip]]


@pytest.fixture(scope="session")
def programs() -> FfmpegPrograms:
    """The programs that the local stack uses."""
    tools = find_tools()
    return FfmpegPrograms(tools.ffmpeg, tools.ffprobe)


@pytest.fixture
def metrics_registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(metrics_registry: CollectorRegistry) -> CutterMetrics:
    return CutterMetrics(metrics_registry)


@pytest.fixture
def scratch(tmp_path: Path, metrics: CutterMetrics) -> Iterator[Scratch]:
    """A scratch disk; afterwards no job may have left anything, nor any process that worked there."""
    before = running(*PROGRAMS)
    scratch = Scratch(tmp_path / "scratch", metrics)
    with scratch.opened():
        yield scratch
        assert list((tmp_path / "scratch").glob("*/job-*")) == []
    # Indexes outlive a worker.
    assert {path.name for path in (tmp_path / "scratch").iterdir()} <= {"lock", "indexes"}
    assert running(*PROGRAMS) - before == set()


def running(*names: str) -> set[int]:
    """The children of this process whose names begin with one of ``names``, or all of them, by pid."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if not names or child.name().startswith(names):
                found.add(child.pid)
    return found


@pytest.fixture
def job(scratch: Scratch) -> Iterator[Job]:
    """A job's place on it."""
    with scratch.job(PATIENCE_SECONDS) as job:
        yield job


@pytest.fixture
def make_ffmpeg(programs: FfmpegPrograms, metrics: CutterMetrics) -> Callable[..., Ffmpeg]:
    """The programs within any limits."""

    def make(limits: ProcessLimits = LIMITS) -> Ffmpeg:
        return Ffmpeg(programs, limits=limits, threads=2, on_pulled=metrics.pulled)

    return make


@pytest.fixture
def make_cutter(make_ffmpeg: Callable[..., Ffmpeg]) -> Callable[..., Cutter]:
    """Cutters of any mode and limits."""

    def make(mode: str = "auto", limits: ProcessLimits = LIMITS, *, encodes_video: bool = True) -> Cutter:
        return Cutter(
            make_ffmpeg(limits),
            mode=ModeChoice(mode),
            min_seconds=POLICY.min_seconds,
            max_bytes=limits.file_bytes,
            encodes_video=encodes_video,
        )

    return make


@pytest.fixture
def vods(make_ffmpeg: Callable[..., Ffmpeg], scratch: Scratch, metrics: CutterMetrics) -> Iterator[VodOpener]:
    """What opens VODs."""
    indexes = IndexCache(scratch)
    yield VodOpener(make_ffmpeg(), indexes, metrics)
    indexes.discard()  # the disk may be taken away


@pytest.fixture
def cut_source(
    make_cutter: Callable[..., Cutter], vods: VodOpener, job: Job
) -> Callable[..., Awaitable[FinishedClip]]:
    """Cut a window out of a VOD, wherever it lies."""

    async def cut_window(source: Source, start: float, end: float, mode: str = "auto") -> FinishedClip:
        vod = await vods.open(source, job)
        window = place_window(start, end, vod.seconds, POLICY)
        return await make_cutter(mode).make(await vod.excerpt(source, window, job), window, job)

    return cut_window


@pytest.fixture
def cut_by_ffmpeg(
    make_ffmpeg: Callable[..., Ffmpeg], make_cutter: Callable[..., Cutter], job: Job
) -> Cutting:
    """Cut a window out of a VOD that ffmpeg reads, whether or not one of our readers knows it."""

    async def cut_window(source: Source, start: float, end: float) -> FinishedClip:
        vod = await open_remuxed(source, make_ffmpeg())
        window = place_window(start, end, vod.seconds, POLICY)
        return await make_cutter().make(await vod.excerpt(source, window, job), window, job)

    return cut_window


@pytest.fixture
def cut(cut_source: Callable[..., Awaitable[FinishedClip]]) -> Cutting:
    """Cut a window out of a file, as the command line does; or out of what an address of the tests serves."""

    async def cut_window(
        source: Path | RemoteFile, start: float, end: float, mode: str = "auto"
    ) -> FinishedClip:
        vod = LocalFile.of(source) if isinstance(source, Path) else source
        return await cut_source(vod, start, end, mode)

    return cut_window


@pytest.fixture
def source_profile(addresses: Addresses) -> SourceProfile:
    """The bucket ``vods`` of the tests' server."""
    return SourceProfile(
        endpoint=AnyHttpUrl(addresses.s3_endpoint_url),
        access_key=addresses.s3_access_key,
        secret_key=SecretStr(addresses.s3_secret_key),
        buckets=frozenset({"vods"}),
    )


@pytest.fixture
def sources(source_profile: SourceProfile, metrics: CutterMetrics) -> SourceStorage:
    """Source storage of which the service reads."""
    return SourceStorage({"archive": source_profile}, url_seconds=120, on_pulled=metrics.pulled)


@pytest.fixture
def cut_stored(
    cut_source: Callable[..., Awaitable[FinishedClip]], sources: SourceStorage, s3: "S3Client"
) -> Cutting:
    """Cut a window out of a file that lies in source storage, as the service does."""

    async def cut_window(source: Path, start: float, end: float, mode: str = "auto") -> FinishedClip:
        key = uuid4().hex
        s3.upload_file(str(source), "vods", key)
        stored = await sources.locate(SourceObject(profile="archive", bucket="vods", key=key))
        return await cut_source(stored, start, end, mode)

    return cut_window


class WindowOutcome(NamedTuple):
    """What came of a window: a finished clip, or why there is none."""

    clip: FinishedClip | None
    receipt: CutReceipt | None
    skipped: Skipped | None


WAYS = ("command line", "service")


class CutBy(Protocol):
    """Cuts a window in one of the two ways, or remembers what came of it."""

    async def __call__(self, way: str, source: Path, start: float, end: float) -> WindowOutcome: ...


@pytest.fixture(scope="session")
def results() -> dict[tuple[str, Path, float, float], WindowOutcome]:
    """What was cut in this run by :func:`cut_by`."""
    return {}


@pytest.fixture
def cut_by(
    cut: Cutting,
    cut_stored: Cutting,
    results: dict[tuple[str, Path, float, float], WindowOutcome],
    tmp_path_factory: pytest.TempPathFactory,
) -> CutBy:
    """Each window is cut once in each way, whichever test asks first."""
    ways = dict(zip(WAYS, (cut, cut_stored), strict=True))

    async def cut_once(way: str, source: Path, start: float, end: float) -> WindowOutcome:
        key = way, source, start, end
        if key not in results:
            try:
                clip = await ways[way](source, start, end)
            except Skipped as skipped:
                results[key] = WindowOutcome(None, None, skipped)
            else:
                kept = tmp_path_factory.mktemp("clip")
                video, poster = (Path(shutil.move(each, kept)) for each in (clip.video, clip.poster))
                receipt = receipt_of(clip, Window(start, end))
                results[key] = WindowOutcome(replace(clip, video=video, poster=poster), receipt, None)
        return results[key]

    return cut_once


@pytest.fixture(scope="session")
def vod(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], DecodedFile]:
    """VODs by name, each made once (see ``RECIPES``)."""
    folder = tmp_path_factory.mktemp("vods")

    @cache
    def make(name: str) -> DecodedFile:
        return DecodedFile(RECIPES[name](make, folder / name))

    return make


Maker = Callable[[str], DecodedFile]


def without_parameter_sets(path: Path) -> Path:
    """An MP4 whose index says nothing of how its H.264 is coded: that stands before each keyframe."""
    data = bytearray(path.read_bytes())
    record = data.index(b"avcC") + 4
    data[record + 5 : record + 7] = b"\xe0\0"  # no SPS, no PPS (ISO/IEC 14496-15 §5.3.3.1)
    path.write_bytes(data)
    return path


LYING = "transpose=cclock,select='mod(n,7)'"
VARIABLE = (*h264(), "-fps_mode", "vfr")
RECIPES: dict[str, Callable[[Maker, Path], Path]] = {
    "b-frames.mp4": lambda _, path: record(path, *h264()),
    "b-frames.mkv": lambda vod, path: remux(vod("b-frames.mp4").path, path),
    "b-frames.flv": lambda vod, path: remux(vod("b-frames.mp4").path, path),
    "b-frames.ts": lambda vod, path: remux(vod("b-frames.mp4").path, path),
    "open-gop.mp4": lambda _, path: record(path, *h264(open_gop=True)),
    "open-gop.ts": lambda vod, path: remux(vod("open-gop.mp4").path, path),
    "from-an-hour.ts": lambda vod, path: remux(vod("b-frames.mp4").path, path, "-output_ts_offset", "3600"),
    "fragmented.mp4": lambda vod, path: remux(
        vod("b-frames.mp4").path, path, "-movflags", "frag_keyframe+delay_moov"
    ),
    # Without edit lists, its index is by decoding time: a seek lands on a keyframe that is shown too late.
    "live.mp4": lambda vod, path: remux(
        vod("silent.mp4").path, path, "-movflags", "frag_keyframe+empty_moov"
    ),
    "closed-60.mp4": lambda _, path: record(path, *h264(keyframe_every=120, b_frames=0), rate="60"),
    "closed-60.ts": lambda vod, path: remux(vod("closed-60.mp4").path, path),
    "film.mp4": lambda _, path: record(path, *h264(keyframe_every=48, b_frames=8), rate="24"),
    "film.ts": lambda vod, path: remux(vod("film.mp4").path, path),
    "pal.mkv": lambda _, path: record(path, *h264(keyframe_every=25), rate="25"),
    "ntsc.mp4": lambda _, path: record(path, *h264(), rate="30000/1001"),
    "ntsc.flv": lambda vod, path: remux(vod("ntsc.mp4").path, path),
    "silent.mp4": lambda _, path: record(path, *h264(), sound=False),
    "silent.ts": lambda vod, path: remux(vod("silent.mp4").path, path),
    "long-gop.ts": lambda _, path: record(path, *h264(keyframe_every=300), seconds=24),
    "far-keyframes.mp4": lambda _, path: record(path, *h264(keyframe_every=2000), seconds=20),
    "late-sound.mp4": lambda vod, path: remux(
        vod("silent.mp4").path, path, "-itsoffset", "1.5", "-i", str(vod("closed-60.mp4").path), "-map", "1:a"
    ),
    "late-sound.mkv": lambda vod, path: remux(vod("late-sound.mp4").path, path),
    "late-sound-fragmented.mp4": lambda vod, path: remux(
        vod("late-sound.mp4").path, path, "-movflags", "frag_keyframe+delay_moov"
    ),
    "screencast.mkv": lambda _, path: record(
        path, "-vf", "select='not(mod(n,5))+lt(mod(n,90),30)'", *VARIABLE
    ),
    "mp3.ts": lambda _, path: record(path, *h264(), "-c:a", "libmp3lame"),
    "opus.mkv": lambda _, path: record(path, *h264(), "-c:a", "libopus"),
    "mpeg2.ts": lambda _, path: record(path, "-c:v", "mpeg2video", "-q:v", "2", "-c:a", "mp2"),
    "hevc.mp4": lambda _, path: record(
        path, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=60"
    ),
    "vp9.mkv": lambda _, path: record(
        path, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"
    ),
    "ten-bit.mp4": lambda _, path: record(path, *h264(), "-pix_fmt", "yuv420p10le"),
    "index-first.mp4": lambda vod, path: remux(vod("b-frames.mp4").path, path, "-movflags", "+faststart"),
    "quicktime.mov": lambda vod, path: remux(vod("b-frames.mp4").path, path),
    "without-cues.mkv": lambda vod, path: remux(vod("b-frames.mp4").path, path, "-live", "1"),
    # What an editor leaves that cuts without encoding: an edit list hides a lead-in of both tracks.
    "trimmed.mp4": lambda vod, path: remux(vod("b-frames.mp4").path, path, before=("-ss", "2.7")),
    "surround.mp4": lambda _, path: record(path, *h264(), "-ac", "6"),
    "two-languages.mp4": lambda vod, path: remux(
        vod("silent.mp4").path,
        path,
        *("-i", str(vod("b-frames.mp4").path), "-i", str(vod("late-sound.mp4").path)),
        *("-map", "1:a", "-map", "2:a"),
    ),
    # A phone held upright films lying on its side, at whatever rate the light allows, and notes the turn.
    "portrait.mp4": lambda _, path: remux(
        record(path.with_name("lying.mp4"), "-vf", LYING, *VARIABLE, size=(108, 192)),
        path,
        before=("-display_rotation", "-90"),
    ),
    "avc3.mp4": lambda _, path: without_parameter_sets(
        record(path, *h264(), "-tag:v", "avc3", "-bsf:v", "dump_extra")
    ),
    "pal-4-3.ts": lambda _, path: record(
        path, "-vf", "setsar=16/15", *h264(keyframe_every=25), rate="25", size=(180, 144)
    ),
}
