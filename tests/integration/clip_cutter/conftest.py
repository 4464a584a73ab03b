"""A cutter with real programs, recordings to cut, and a look at what is left behind after each test."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
import pytest
from prometheus_client import CollectorRegistry
from pydantic import AnyHttpUrl, SecretStr

from clip_cutter.arguments import Input
from clip_cutter.cutter import Clip, Cutter, Job
from clip_cutter.domain.cut import ModeChoice
from clip_cutter.domain.media import picture_end
from clip_cutter.domain.policy import Policy, place_window
from clip_cutter.ffmpeg import Ffmpeg, Programs
from clip_cutter.metrics import Metrics
from clip_cutter.process import Limits
from clip_cutter.recordings import Recordings
from clip_cutter.scratch import Scratch
from clip_cutter.settings import SourceProfile
from clip_cutter.source_storage import SourceStorage
from clip_shared.events import SourceObject
from local_stack.servers import Addresses
from local_stack.tools import find_tools
from tests.integration.clip_cutter.media import Seen, h264, record, remux

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MEBIBYTE = 1024 * 1024
LIMITS = Limits(deadline_seconds=60, cpu_seconds=120, memory_bytes=4096 * MEBIBYTE, file_bytes=256 * MEBIBYTE)
POLICY = Policy(min_seconds=1, max_seconds=180, max_clips_per_vod=None)

# Servers have children of their own, which come and go as they like.
PROGRAMS = ("ffmpeg", "ffprobe")

Cutting = Callable[..., Awaitable[Clip]]


@pytest.fixture(scope="session")
def programs() -> Programs:
    """The programs that the local stack uses."""
    tools = find_tools()
    return Programs(tools.ffmpeg, tools.ffprobe)


@pytest.fixture
def metrics_registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(metrics_registry: CollectorRegistry) -> Metrics:
    return Metrics(metrics_registry)


@pytest.fixture
def scratch(tmp_path: Path, metrics: Metrics) -> Iterator[Scratch]:
    """A scratch disk; afterwards nothing may be left on it, nor any process that worked there."""
    before = running(*PROGRAMS)
    scratch = Scratch(tmp_path / "scratch", metrics)
    with scratch.opened():
        yield scratch
        assert list((tmp_path / "scratch").glob("*/job-*")) == []
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["lock"]
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
def folder(scratch: Scratch) -> Iterator[Path]:
    """A job's folder."""
    with scratch.job() as folder:
        yield folder


@pytest.fixture
def make_cutter(programs: Programs, metrics: Metrics) -> Callable[..., Cutter]:
    """Cutters of any mode and limits."""

    def make(mode: str = "auto", limits: Limits = LIMITS) -> Cutter:
        ffmpeg = Ffmpeg(programs, limits=limits, threads=2, on_pulled=metrics.pulled)
        return Cutter(ffmpeg, mode=ModeChoice(mode), min_seconds=POLICY.min_seconds)

    return make


@pytest.fixture
def cut(make_cutter: Callable[..., Cutter], folder: Path) -> Cutting:
    """Cut a window out of a file or a URL, as a job does."""

    async def cut_window(source: Path | str, start: float, end: float, mode: str = "auto") -> Clip:
        cutter = make_cutter(mode)
        vod = Input.of_file(source) if isinstance(source, Path) else Input(source)
        media = await cutter.look(vod)
        window = place_window(start, end, picture_end(media), POLICY)
        return await cutter.cut(Job(vod, media, window, folder))

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
def make_recordings(
    make_cutter: Callable[..., Cutter], scratch: Scratch, metrics: Metrics
) -> Iterator[Callable[[SourceStorage], Recordings]]:
    """Recordings in a source storage."""
    made: list[Recordings] = []

    def make(sources: SourceStorage) -> Recordings:
        made.append(Recordings(sources, make_cutter(), scratch, metrics, max_excerpt_bytes=64 * MEBIBYTE))
        return made[-1]

    yield make
    for recordings in made:
        recordings.close()


@pytest.fixture
def sources(source_profile: SourceProfile, metrics: Metrics) -> SourceStorage:
    """Source storage of which the service reads."""
    return SourceStorage({"archive": source_profile}, url_seconds=120, on_pulled=metrics.pulled)


@pytest.fixture
def cut_stored(
    make_cutter: Callable[..., Cutter],
    make_recordings: Callable[[SourceStorage], Recordings],
    sources: SourceStorage,
    s3: "S3Client",
    folder: Path,
) -> Cutting:
    """Cut a window out of a file that lies in source storage, as the service does."""
    recordings = make_recordings(sources)

    async def cut_window(source: Path, start: float, end: float, mode: str = "auto") -> Clip:
        key = uuid4().hex
        s3.upload_file(str(source), "vods", key)
        vod = await sources.locate(SourceObject(profile="archive", bucket="vods", key=key))
        recording = await recordings.open(vod, patience_seconds=5)
        window = place_window(start, end, recording.seconds, POLICY)
        return await make_cutter(mode).cut(await recordings.stage(vod, recording, window, folder, 5))

    return cut_window


@pytest.fixture(scope="session")
def vod(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Seen]:
    """Recordings by name, each made once (see ``RECIPES``)."""
    folder = tmp_path_factory.mktemp("vods")

    @cache
    def make(name: str) -> Seen:
        return Seen(RECIPES[name](make, folder / name))

    return make


Maker = Callable[[str], Seen]
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
}
