"""How windows of stored VODs are read: what is known once, then the samples, whatever happens meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from pydantic import AnyHttpUrl, SecretStr

from clip_cutter.containers.mp4.boxes import Box, walk
from clip_cutter.cutter import Cutter, FinishedClip
from clip_cutter.domain.policy import Skipped, Window, place_window
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Job, Scratch
from clip_cutter.settings import SourceProfile
from clip_cutter.vods import source_storage
from clip_cutter.vods.opener import KEPT, VodOpener
from clip_cutter.vods.source_storage import SourceStorage, StoredVod
from clip_shared.contracts.events import CutMode, SourceObject
from clip_shared.errors import TransientError
from tests.integration.clip_cutter.conftest import POLICY
from tests.integration.clip_cutter.media import DecodedFile, h264, record, remux
from tests.integration.clip_cutter.web import FaultyWebServer, running_web

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Vod = Callable[[str], DecodedFile]
START, END = 5.3, 8.3


class StoredVodCutter:
    """A worker's view of the archive."""

    def __init__(
        self, sources: SourceStorage, vods: VodOpener, cutter: Cutter, job: Job, registry: CollectorRegistry
    ) -> None:
        self.sources, self.vods, self.cutter = sources, vods, cutter
        self.job, self.registry = job, registry

    async def locate(self, key: str) -> StoredVod:
        return await self.sources.locate(SourceObject(profile="archive", bucket="vods", key=key))

    async def cut(
        self, key: str, start: float = START, end: float = END, job: Job | None = None
    ) -> FinishedClip:
        source, job = await self.locate(key), job or self.job
        vod = await self.vods.open(source, job)
        window = place_window(start, end, vod.seconds, POLICY)
        return await self.cutter.make(await vod.excerpt(source, window, job), window, job)

    def opened(self, how: str) -> float | None:
        """How many VODs were opened in a way."""
        return self.registry.get_sample_value("clips_recordings_opened_total", {"how": how})

    def pulled(self) -> float:
        """How many bytes were read so far."""
        return self.registry.get_sample_value("clips_pulled_bytes_total") or 0


@pytest.fixture
def make_vod_cutter(
    vods: VodOpener, make_cutter: Callable[..., Cutter], job: Job, metrics_registry: CollectorRegistry
) -> Callable[[SourceStorage], StoredVodCutter]:
    return lambda sources: StoredVodCutter(sources, vods, make_cutter(), job, metrics_registry)


@pytest.fixture
def vod_cutter(
    make_vod_cutter: Callable[[SourceStorage], StoredVodCutter], sources: SourceStorage
) -> StoredVodCutter:
    return make_vod_cutter(sources)


@pytest.fixture
def put(s3: "S3Client") -> Callable[[Path], str]:
    """Archive a file; returns its key."""

    def put_file(path: Path) -> str:
        key = uuid4().hex
        s3.upload_file(str(path), "vods", key)
        return key

    return put_file


def moov_of(path: Path) -> Box:
    content = path.read_bytes()
    found = walk(lambda at, size: content[at:][:size], 0, len(content))
    return next(box for box in found if box.kind == b"moov")


LAYOUTS = {"index last": (), "index first": ("-movflags", "+faststart")}


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_the_index_is_read_once_and_of_each_window_just_the_samples(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], vod: Vod, tmp_path: Path, layout: str
) -> None:
    source = DecodedFile(remux(vod("closed-60.mp4").path, tmp_path / "vod.mp4", *LAYOUTS[layout]))
    moov = moov_of(source.path)
    key = put(source.path)
    first = await vod_cutter.cut(key)
    for_the_first = vod_cutter.pulled()
    # What two or three peeks at box heads read, and the samples at the edges that the clip leaves out.
    assert for_the_first < first.size_bytes + moov.end - moov.head + 3 * 4096 + 16 * 1024
    second = await vod_cutter.cut(key, 1.0, 4.0)
    assert vod_cutter.pulled() - for_the_first < 1.1 * second.size_bytes
    assert DecodedFile(second.video).hashes == [frame.hash for frame in source.from_to(1.0, 4.0)]
    assert (vod_cutter.opened("indexed"), vod_cutter.opened("known")) == (1, 1)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute at the bit rate of a stream."""
    rate = ("-preset", "ultrafast", "-b:v", "4M", "-maxrate", "4M", "-bufsize", "4M")
    path = tmp_path_factory.mktemp("noisy") / "vod.mp4"
    return record(path, "-vf", "noise=alls=60:allf=t,scale=320:-2:flags=neighbor", *h264(), *rate, seconds=60)


READS_ALL_BEFORE = pytest.mark.xfail(
    reason="set-up is looked for in all of the first 256 MiB before a window, once"
)


@pytest.mark.parametrize(
    ("suffix", "most"),
    # A packet of MPEG-TS has 4 bytes of 188 for itself, and the last one of a picture is filled up.
    [(".mp4", 1.15), (".ts", 1.25), pytest.param(".flv", 1.25, marks=READS_ALL_BEFORE), (".mkv", 1.15)],
)
async def test_hardly_more_is_read_than_the_clip_has(  # noqa: PLR0917 - fixtures
    vod_cutter: StoredVodCutter,
    put: Callable[[Path], str],
    noisy: Path,
    tmp_path: Path,
    suffix: str,
    most: float,
) -> None:
    key = put(remux(noisy, tmp_path / f"vod{suffix}"))
    await vod_cutter.cut(key, 1.0, 2.0)  # opens the VOD
    before = vod_cutter.pulled()
    clip = await vod_cutter.cut(key, 31.3, 51.3)
    assert clip.mode is CutMode.COPY
    assert vod_cutter.pulled() - before < most * clip.size_bytes


async def test_a_stream_is_opened_once(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], vod: Vod
) -> None:
    key = put(vod("b-frames.ts").path)
    for start in (5.3, 1.0):
        clip = await vod_cutter.cut(key, start, start + 3)
        wanted = vod("b-frames.ts").from_to(start, start + 3)
        assert DecodedFile(clip.video).hashes == [frame.hash for frame in wanted]
    assert (vod_cutter.opened("streamed"), vod_cutter.opened("known")) == (1, 1)


async def test_only_the_latest_vods_are_remembered(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], vod: Vod
) -> None:
    keys = [put(vod("closed-60.mp4").path) for _ in range(KEPT + 1)]
    for key in keys:
        await vod_cutter.cut(key)
    await vod_cutter.cut(keys[-1])
    await vod_cutter.cut(keys[0])
    assert (vod_cutter.opened("indexed"), vod_cutter.opened("known")) == (KEPT + 2, 1)


async def test_indexes_are_given_up_before_a_job_waits_for_their_room(
    vod_cutter: StoredVodCutter,
    put: Callable[[Path], str],
    vod: Vod,
    scratch: Scratch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, indexes = put(vod("closed-60.mp4").path), scratch.root / "indexes"
    await vod_cutter.cut(key)
    before = vod_cutter.pulled()
    with scratch.job(0) as job:
        # As if the indexes were all that fills the disk.
        monkeypatch.setattr(scratch, "_free_bytes", lambda _: 0 if any(indexes.iterdir()) else 100)
        await job.reserve(100)
    monkeypatch.undo()
    clip = await vod_cutter.cut(key)
    assert DecodedFile(clip.video).hashes == [
        frame.hash for frame in vod("closed-60.mp4").from_to(START, END)
    ]
    index = moov_of(vod("closed-60.mp4").path)
    assert vod_cutter.pulled() - before > clip.size_bytes + index.end - index.head


async def test_a_vod_that_was_replaced_is_opened_again(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], s3: "S3Client", vod: Vod
) -> None:
    key = put(vod("closed-60.mp4").path)
    await vod_cutter.cut(key)
    s3.upload_file(str(vod("film.mp4").path), "vods", key)
    clip = await vod_cutter.cut(key)
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in vod("film.mp4").from_to(START, END)]


async def test_a_vod_that_is_replaced_while_it_is_read_is_an_outage(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], s3: "S3Client", vod: Vod
) -> None:
    key = put(vod("closed-60.mp4").path)
    source = await vod_cutter.locate(key)
    opened = await vod_cutter.vods.open(source, vod_cutter.job)
    s3.upload_file(str(vod("film.mp4").path), "vods", key)
    with pytest.raises(TransientError, match="replaced"):
        await opened.excerpt(source, Window(START, END), vod_cutter.job)


@pytest.fixture
def web() -> Iterator[FaultyWebServer]:
    with running_web() as web:
        yield web


@pytest.fixture
def web_desk(
    make_vod_cutter: Callable[[SourceStorage], StoredVodCutter],
    web: FaultyWebServer,
    metrics: CutterMetrics,
    monkeypatch: pytest.MonkeyPatch,
) -> StoredVodCutter:
    """An archive on a server that breaks, and a worker that soon calls that a stall."""
    monkeypatch.setattr(source_storage, "STALL_SECONDS", 1)
    monkeypatch.setattr(source_storage, "RECONNECT_SECONDS", 0.01)
    profile = SourceProfile(
        endpoint=AnyHttpUrl(web.url("/").split("/?")[0]),
        access_key="any",
        secret_key=SecretStr("any"),
        buckets=frozenset({"vods"}),
    )
    return make_vod_cutter(SourceStorage({"archive": profile}, url_seconds=60, on_pulled=metrics.pulled))


@pytest.mark.parametrize("behaviour", ["short", "reset"])
async def test_a_read_that_breaks_off_goes_on_where_it_was(
    web_desk: StoredVodCutter, web: FaultyWebServer, vod: Vod, behaviour: str
) -> None:
    source = vod("closed-60.mp4")
    web.serve("/vods/v.mp4", source.path.read_bytes())
    web.behaviour, web.breaks_left, web.sent_before_breaking = behaviour, 4, 20_000
    clip = await web_desk.cut("v.mp4")
    assert web.breaks_left < 0
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in source.from_to(START, END)]


@pytest.mark.parametrize("behaviour", ["short", "reset", "stall", "500", "503"])
async def test_a_server_that_breaks_again_and_again_is_an_outage(
    web_desk: StoredVodCutter, web: FaultyWebServer, vod: Vod, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setattr(source_storage, "MAX_BREAKS", 1)
    web.serve("/vods/v.mp4", vod("closed-60.mp4").path.read_bytes())
    source = await web_desk.locate("v.mp4")
    opened = await web_desk.vods.open(source, web_desk.job)
    web.behaviour = behaviour
    with pytest.raises(TransientError) as outage:
        await opened.excerpt(source, Window(START, END), web_desk.job)
    assert "127.0.0.1" not in str(outage.value)


async def test_a_vod_that_is_cut_off_gives_what_is_there(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], vod: Vod, tmp_path: Path
) -> None:
    whole = remux(vod("closed-60.mp4").path, tmp_path / "whole.mp4", "-movflags", "+faststart")
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    key = put(half)
    clip = await vod_cutter.cut(key, 1.0, 4.0)
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in vod("closed-60.mp4").from_to(1.0, 4.0)]
    assert clip.remark is not None
    assert "cut off" in clip.remark
    with pytest.raises(Skipped):
        await vod_cutter.cut(key, 10.0, 11.5)


async def test_two_lanes_read_one_vod_at_the_same_time(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], vod: Vod, scratch: Scratch
) -> None:
    key = put(vod("b-frames.mp4").path)
    with scratch.job(5) as one, scratch.job(5) as other:
        windows = ((one, 1.0, 4.0), (other, START, END))
        clips = await asyncio.gather(*(vod_cutter.cut(key, start, end, job) for job, start, end in windows))
        for clip, (_, start, end) in zip(clips, windows, strict=True):
            wanted = vod("b-frames.mp4").from_to(start, end)
            assert DecodedFile(clip.video).hashes == [frame.hash for frame in wanted]


async def test_a_window_without_a_keyframe_of_its_own_gets_a_poster_all_the_same(
    vod_cutter: StoredVodCutter, put: Callable[[Path], str], tmp_path: Path
) -> None:
    path = record(tmp_path / "v.mp4", *h264(keyframe_every=300), seconds=12)
    clip = await vod_cutter.cut(put(path), 2.0, 4.0)
    assert clip.poster.read_bytes()[:3] == b"\xff\xd8\xff"
