"""How windows of MP4 recordings are read: the index once, then the samples, whatever happens meanwhile."""

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from pydantic import AnyHttpUrl, SecretStr

from clip_cutter import source_storage
from clip_cutter.boxes import Box, walk
from clip_cutter.cutter import Clip, Cutter
from clip_cutter.domain.media import NotPlain
from clip_cutter.domain.policy import Window
from clip_cutter.excerpt import excerpt_of
from clip_cutter.metrics import Metrics
from clip_cutter.mp4_index import Index
from clip_cutter.recordings import KEPT, Recordings
from clip_cutter.scratch import Scratch
from clip_cutter.settings import SourceProfile
from clip_cutter.source_storage import SourceStorage
from clip_shared.errors import TransientError
from clip_shared.events import CutMode, SourceObject
from tests.integration.clip_cutter.media import Seen, h264, record, remux
from tests.integration.clip_cutter.web import Web, running_web

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Vod = Callable[[str], Seen]
START, END = 5.3, 8.3


class Desk:
    """A worker's view of the archive."""

    def __init__(
        self,
        sources: SourceStorage,
        recordings: Recordings,
        cutter: Cutter,
        folder: Path,
        registry: CollectorRegistry,
    ) -> None:
        self.sources, self.recordings, self.cutter = sources, recordings, cutter
        self.folder, self.registry = folder, registry

    async def cut(self, key: str, start: float = START, end: float = END) -> Clip:
        vod = await self.sources.locate(SourceObject(profile="archive", bucket="vods", key=key))
        recording = await self.recordings.open(vod, patience_seconds=5)
        job = await self.recordings.stage(vod, recording, Window(start, end), self.folder, 5)
        return await self.cutter.cut(job)

    def opened(self, how: str) -> float | None:
        """How many VODs were opened in a way."""
        return self.registry.get_sample_value("clips_recordings_opened_total", {"how": how})

    def pulled(self) -> float:
        """How many bytes were read so far."""
        return self.registry.get_sample_value("clips_pulled_bytes_total") or 0


@pytest.fixture
def make_desk(
    make_recordings: Callable[[SourceStorage], Recordings],
    make_cutter: Callable[..., Cutter],
    folder: Path,
    metrics_registry: CollectorRegistry,
) -> Callable[[SourceStorage], Desk]:
    return lambda sources: Desk(sources, make_recordings(sources), make_cutter(), folder, metrics_registry)


@pytest.fixture
def desk(make_desk: Callable[[SourceStorage], Desk], sources: SourceStorage) -> Desk:
    return make_desk(sources)


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
    desk: Desk, put: Callable[[Path], str], vod: Vod, tmp_path: Path, layout: str
) -> None:
    source = Seen(remux(vod("closed-60.mp4").path, tmp_path / "vod.mp4", *LAYOUTS[layout]))
    moov = moov_of(source.path)
    key = put(source.path)
    first = await desk.cut(key)
    for_the_first = desk.pulled()
    # What two or three peeks at box heads read, and the samples at the edges that the clip leaves out.
    assert for_the_first < first.size_bytes + moov.end - moov.head + 3 * 4096 + 16 * 1024
    second = await desk.cut(key, 1.0, 4.0)
    assert desk.pulled() - for_the_first < 1.1 * second.size_bytes
    assert Seen(second.video).hashes == [frame.hash for frame in source.from_to(1.0, 4.0)]
    assert (desk.opened("index"), desk.opened("known"), desk.opened("probe")) == (1, 1, 0)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute at the bit rate of a stream."""
    rate = ("-preset", "ultrafast", "-b:v", "4M", "-maxrate", "4M", "-bufsize", "4M")
    path = tmp_path_factory.mktemp("noisy") / "vod.mp4"
    return record(path, "-vf", "noise=alls=60:allf=t,scale=320:-2:flags=neighbor", *h264(), *rate, seconds=60)


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".flv", ".mkv"])
async def test_hardly_more_is_read_than_the_clip_has(
    desk: Desk, put: Callable[[Path], str], noisy: Path, tmp_path: Path, suffix: str
) -> None:
    key = put(remux(noisy, tmp_path / f"vod{suffix}"))
    await desk.cut(key, 1.0, 2.0)  # opens the VOD
    before = desk.pulled()
    clip = await desk.cut(key, 31.3, 51.3)
    assert clip.mode is CutMode.COPY
    assert desk.pulled() - before < 1.15 * clip.size_bytes


async def test_what_is_no_plain_mp4_is_probed_once(desk: Desk, put: Callable[[Path], str], vod: Vod) -> None:
    key = put(vod("b-frames.ts").path)
    for start in (5.3, 1.0):
        clip = await desk.cut(key, start, start + 3)
        wanted = vod("b-frames.ts").from_to(start, start + 3)
        assert Seen(clip.video).hashes == [frame.hash for frame in wanted]
    assert (desk.opened("index"), desk.opened("known"), desk.opened("probe")) == (0, 1, 1)


async def test_only_the_latest_vods_are_remembered(desk: Desk, put: Callable[[Path], str], vod: Vod) -> None:
    keys = [put(vod("closed-60.mp4").path) for _ in range(KEPT + 1)]
    for key in keys:
        await desk.cut(key)
    await desk.cut(keys[-1])
    await desk.cut(keys[0])
    assert (desk.opened("index"), desk.opened("known")) == (KEPT + 2, 1)


async def test_indexes_are_given_up_before_a_job_waits_for_their_room(
    desk: Desk, put: Callable[[Path], str], vod: Vod, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put(vod("closed-60.mp4").path)
    await desk.cut(key)
    await desk.recordings.wait_for_room(1, 0)
    await desk.cut(key)
    assert (desk.opened("index"), desk.opened("known")) == (1, 1)
    # As if the index were all that fills the disk.
    monkeypatch.setattr(scratch, "_free_bytes", lambda: 0 if desk.recordings._kept else 100)
    await desk.recordings.wait_for_room(100, patience_seconds=0)


async def test_a_vod_that_was_replaced_is_opened_anew(
    desk: Desk, put: Callable[[Path], str], s3: "S3Client", vod: Vod
) -> None:
    key = put(vod("closed-60.mp4").path)
    await desk.cut(key)
    s3.upload_file(str(vod("film.mp4").path), "vods", key)
    clip = await desk.cut(key)
    assert Seen(clip.video).hashes == [frame.hash for frame in vod("film.mp4").from_to(START, END)]


async def test_a_vod_that_is_replaced_while_it_is_read_is_an_outage(
    desk: Desk, put: Callable[[Path], str], s3: "S3Client", vod: Vod
) -> None:
    key = put(vod("closed-60.mp4").path)
    place = await desk.sources.locate(SourceObject(profile="archive", bucket="vods", key=key))
    recording = await desk.recordings.open(place, 5)
    s3.upload_file(str(vod("film.mp4").path), "vods", key)
    with pytest.raises(TransientError, match="replaced"):
        await desk.recordings.stage(place, recording, Window(START, END), desk.folder, 5)


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as web:
        yield web


@pytest.fixture
def web_desk(
    make_desk: Callable[[SourceStorage], Desk], web: Web, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """An archive on a server that breaks, and a worker that soon calls that a stall."""
    monkeypatch.setattr(source_storage, "STALL_SECONDS", 1)
    monkeypatch.setattr(source_storage, "RECONNECT_SECONDS", 0.01)
    profile = SourceProfile(
        endpoint=AnyHttpUrl(web.url("/").split("/?")[0]),
        access_key="any",
        secret_key=SecretStr("any"),
        buckets=frozenset({"vods"}),
    )
    return make_desk(SourceStorage({"archive": profile}, url_seconds=60, on_pulled=metrics.pulled))


@pytest.mark.parametrize("behaviour", ["short", "reset"])
async def test_a_read_that_breaks_off_goes_on_where_it_was(
    web_desk: Desk, web: Web, vod: Vod, behaviour: str
) -> None:
    source = vod("closed-60.mp4")
    web.serve("/vods/v.mp4", source.path.read_bytes())
    web.behaviour, web.breaks_left, web.sent_before_breaking = behaviour, 4, 20_000
    clip = await web_desk.cut("v.mp4")
    assert web.breaks_left < 0
    assert Seen(clip.video).hashes == [frame.hash for frame in source.from_to(START, END)]


@pytest.mark.parametrize("behaviour", ["short", "reset", "stall", "500", "503"])
async def test_a_server_that_breaks_again_and_again_is_an_outage(
    web_desk: Desk, web: Web, vod: Vod, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setattr(source_storage, "MAX_BREAKS", 1)
    web.serve("/vods/v.mp4", vod("closed-60.mp4").path.read_bytes())
    place = await web_desk.sources.locate(SourceObject(profile="archive", bucket="vods", key="v.mp4"))
    recording = await web_desk.recordings.open(place, 5)
    web.behaviour = behaviour
    with pytest.raises(TransientError) as outage:
        await web_desk.recordings.stage(place, recording, Window(START, END), web_desk.folder, 5)
    assert "127.0.0.1" not in str(outage.value)


async def test_an_index_that_points_outside_the_file_is_left_to_ffmpeg(
    desk: Desk, put: Callable[[Path], str], vod: Vod, tmp_path: Path
) -> None:
    whole = remux(vod("closed-60.mp4").path, tmp_path / "whole.mp4", "-movflags", "+faststart")
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    key = put(half)
    clip = await desk.cut(key, 1.0, 4.0)
    assert Seen(clip.video).hashes == [frame.hash for frame in vod("closed-60.mp4").from_to(1.0, 4.0)]
    assert (desk.opened("index"), desk.opened("probe")) == (1, 0)
    with pytest.raises(Exception, match="cannot be read as a video"):
        await desk.cut(key, 10.0, 11.5)
    assert desk.opened("probe") == 1


class Damaged:
    """The index of a recording, to be damaged."""

    def __init__(self, path: Path) -> None:
        moov = moov_of(path)
        self.file_type = path.read_bytes()[:32]
        self.content = path.read_bytes()[moov.head : moov.end]

    def outcome(self, path: Path, content: bytes) -> str:
        """What becomes of it: an excerpt of some size, or why there is none."""
        path.write_bytes(content)
        with path.open("rb") as file:
            try:
                index = Index.read(file)
                parts, _ = index.select(START, END)
                start = min(part.start for part in parts)
                return f"{excerpt_of(self.file_type, parts, start).size_bytes} bytes"
            except NotPlain as error:
                return str(error)


@pytest.mark.parametrize("name", ["b-frames.mp4", "late-sound.mp4"])
def test_a_damaged_index_is_an_excerpt_or_none_and_never_anything_else(
    vod: Vod, tmp_path: Path, name: str
) -> None:
    damaged, dice = Damaged(vod(name).path), random.Random(4)  # noqa: S311
    outcomes: list[str] = []
    for _ in range(600):
        content = bytearray(damaged.content)
        for _ in range(dice.choice([1, 1, 4, 40])):
            at = dice.randrange(len(content))
            content[at : at + 4] = dice.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", dice.randbytes(4)])
        del content[len(damaged.content) :]
        outcomes.append(damaged.outcome(tmp_path / "moov", bytes(content)))
    refusals = {each for each in outcomes if not each.endswith(" bytes")}
    assert len(refusals) > 10
    assert sum(each not in refusals for each in outcomes) > 10


@pytest.mark.parametrize("size", [0, 7, 8, 100, 1000, -1])
def test_an_index_that_is_cut_off_is_left_to_ffmpeg(vod: Vod, tmp_path: Path, size: int) -> None:
    damaged = Damaged(vod("b-frames.mp4").path)
    assert not damaged.outcome(tmp_path / "moov", damaged.content[:size]).endswith(" bytes")


def replaced(content: bytes, kind: bytes, at: int, value: int) -> bytes:
    """The content with another number in the first box of a kind, so many bytes after its kind."""
    offset = content.index(kind) + 4 + at
    return content[:offset] + struct.pack(">I", value) + content[offset + 4 :]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((b"stts", 4, 2**32 - 1), "cut off"),
        ((b"stts", 8, 2**32 - 1), "do not agree"),
        ((b"stts", 12, 2**32 - 1), "backwards"),
        ((b"stsz", 8, 2**32 - 1), "cut off"),
        ((b"stsc", 16, 2), "changes its format"),
        ((b"stsd", 4, 2), "changes its format"),
        ((b"dref", 12 + 4, 0), "in another file"),
        ((b"elst", 4, 3), "cut off"),
        ((b"mdhd", 12, 0), "damaged"),
        ((b"elst", 16, 0x20000), "an edit list"),
    ],
)
def test_what_is_unusual_about_an_index_is_named(
    vod: Vod, tmp_path: Path, change: tuple[bytes, int, int], why: str
) -> None:
    damaged = Damaged(vod("b-frames.mp4").path)
    assert why in damaged.outcome(tmp_path / "moov", replaced(damaged.content, *change))


async def test_a_window_without_a_keyframe_of_its_own_gets_a_poster_all_the_same(
    desk: Desk, put: Callable[[Path], str], tmp_path: Path
) -> None:
    path = record(tmp_path / "v.mp4", *h264(keyframe_every=300), seconds=12)
    clip = await desk.cut(put(path), 2.0, 4.0)
    assert clip.poster.read_bytes()[:3] == b"\xff\xd8\xff"
