"""Whatever lies in a bucket has one defined outcome, and reaches nothing but itself."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from clip_cutter.cutter import Cutter, FinishedClip
from clip_cutter.domain.policy import Skipped, Window
from clip_cutter.ffmpeg import input as source_input
from clip_cutter.ffmpeg import run
from clip_cutter.ffmpeg.run import Ffmpeg, ToolLimited
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.remuxed import open_remuxed
from clip_cutter.vods.source import LocalFile
from clip_shared.contracts.events import CutMode, SkipReason
from clip_shared.errors import TransientError
from local_stack.processes.ffmpeg import FfmpegFailed
from tests.integration.clip_cutter.conftest import LIMITS, MEBIBYTE, Cutting
from tests.integration.clip_cutter.disk import small_disk
from tests.integration.clip_cutter.media import DecodedFile, h264, record
from tests.integration.clip_cutter.media import ffmpeg as run_ffmpeg
from tests.integration.clip_cutter.remote import RemoteFile
from tests.integration.clip_cutter.web import FaultyWebServer, running_web

Vod = Callable[[str], DecodedFile]
CANARY = "/canary.mp4"


@pytest.fixture
def ffmpeg(make_ffmpeg: Callable[..., Ffmpeg]) -> Ffmpeg:
    return make_ffmpeg()


@pytest.fixture(scope="module")
def web() -> Iterator[FaultyWebServer]:
    with running_web() as web:
        yield web


HLS = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{CANARY[1:]}\n#EXT-X-ENDLIST\n".encode()
CONCAT = f"ffconcat version 1.0\nfile '{CANARY[1:]}'\n".encode()
DASH = f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT10S"><Period>
 <AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{CANARY[1:]}</BaseURL>
 </Representation></AdaptationSet></Period></MPD>""".encode()
# A content type is as easily forged as a name.
PLAYLISTS = {
    "hls": (HLS, "application/x-mpegurl"),
    "concat": (CONCAT, "video/mp4"),
    "dash": (DASH, "video/mp4"),
}


@pytest.mark.parametrize("name", PLAYLISTS)
async def test_a_playlist_in_disguise_reaches_no_other_address(
    vod: Vod, cut: Cutting, web: FaultyWebServer, name: str
) -> None:
    web.serve(CANARY, vod("b-frames.mp4").path.read_bytes())
    url = web.serve("/vod.mp4", *PLAYLISTS[name])
    assert CANARY in requests_of(web, lambda: bare_ffmpeg(url)), "without the fences it is reached"
    web.requests.clear()
    with pytest.raises(Skipped) as skip:
        await cut(web.vod("/vod.mp4"), 1.0, 4.0)
    assert skip.value.reason is SkipReason.SOURCE_UNREADABLE
    assert CANARY not in web.requests


ANY = ("-protocol_whitelist", "file,http,tcp")
WITHOUT_FENCES = {
    "hls": (*ANY, "-allowed_extensions", "ALL", "-extension_picky", "0", "-f", "hls"),
    "concat": (*ANY, "-f", "concat", "-safe", "0"),
}


@pytest.mark.parametrize(
    "case", [f"{name}, {place}" for name in WITHOUT_FENCES for place in ("here", "afar")]
)
async def test_a_playlist_in_disguise_reaches_no_other_file(
    vod: Vod, cut: Cutting, web: FaultyWebServer, tmp_path: Path, case: str
) -> None:
    name, place = case.split(", ")
    canary = tmp_path / CANARY[1:]
    canary.write_bytes(vod("b-frames.mp4").path.read_bytes())
    playlist, content_type = PLAYLISTS[name]
    if place == "afar":
        playlist = playlist.replace(CANARY[1:].encode(), f"file://{canary}".encode())
        location = web.serve("/vod.mp4", playlist, content_type)
        source: Path | RemoteFile = web.vod("/vod.mp4")
    else:
        source = tmp_path / "vod.mp4"
        source.write_bytes(playlist)
        location = str(source)
    was_read(canary)
    bare_ffmpeg(location, *WITHOUT_FENCES[name])
    assert was_read(canary), "without the fences it is reached"
    with pytest.raises(Skipped) as skip:
        await cut(source, 1.0, 4.0)
    assert skip.value.reason is SkipReason.SOURCE_UNREADABLE
    assert not was_read(canary)


def requests_of(web: FaultyWebServer, act: Callable[[], object]) -> list[str]:
    """What was asked of the server meanwhile."""
    web.requests.clear()
    act()
    return list(web.requests)


def bare_ffmpeg(location: str, *options: str) -> None:
    """What ffmpeg does when left alone."""
    try:
        run_ffmpeg(*options, "-i", location, "-t", "0.1", "-f", "null", "-")
    except FfmpegFailed:
        return


def was_read(path: Path) -> bool:
    """Whether a file was read since the last call: an access time in the past is renewed by a read."""
    read = path.stat().st_atime > 0
    os.utime(path, (0, time.time()))
    return read


async def test_a_playlist_that_claims_to_be_probed_is_not_cut_either(
    vod: Vod, ffmpeg: Ffmpeg, web: FaultyWebServer, job: Job
) -> None:
    canary = vod("b-frames.mkv")
    opened = await open_remuxed(LocalFile.of(canary.path), ffmpeg)
    web.serve(CANARY, canary.path.read_bytes())
    web.serve("/swapped.mp4", *PLAYLISTS["hls"])
    web.requests.clear()
    with pytest.raises(Skipped):
        await opened.excerpt(web.vod("/swapped.mp4"), Window(1, 4), job)
    assert CANARY not in web.requests


def cover_art(vod: Vod, path: Path) -> bytes:
    cover = path.with_suffix(".jpg")
    run_ffmpeg("-i", str(vod("b-frames.mp4").path), "-frames:v", "1", str(cover))
    attached = ("-map", "0:a", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic")
    run_ffmpeg("-i", str(vod("b-frames.mp4").path), "-i", str(cover), *attached, str(path))
    return path.read_bytes()


def sound_only(vod: Vod, path: Path) -> bytes:
    run_ffmpeg("-i", str(vod("b-frames.mp4").path), "-vn", "-c", "copy", str(path))
    return path.read_bytes()


UNREADABLE: dict[str, Callable[[Vod, Path], bytes]] = {
    "empty": lambda *_: b"",
    "one byte": lambda *_: b"\0",
    "text": lambda *_: b"This is not a video.\n" * 1000,
    "noise": lambda *_: bytes(range(256)) * 400,
    "a picture": lambda vod, path: cover_art(vod, path) and path.with_suffix(".jpg").read_bytes(),
    "sound only": sound_only,
    "cover art": cover_art,
    "no index": lambda vod, _: vod("b-frames.mp4").path.read_bytes()[:100_000],
    "header only": lambda vod, _: vod("b-frames.mkv").path.read_bytes()[:2_000],
}


NO_VIDEO = ("The VOD cannot be read as a video: ", "The VOD has no video between ")


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_is_no_video_is_skipped_with_a_sentence(
    vod: Vod, cut: Cutting, web: FaultyWebServer, tmp_path: Path, name: str
) -> None:
    web.serve("/bad.mp4", UNREADABLE[name](vod, tmp_path / "bad.mp4"))
    with pytest.raises(Skipped) as skip:
        await cut(web.vod("/bad.mp4"), 5.3, 8.3)
    assert skip.value.reason is SkipReason.SOURCE_UNREADABLE
    assert str(skip.value).startswith(NO_VIDEO)
    assert "127.0.0.1" not in str(skip.value)


@pytest.mark.parametrize("name", ["b-frames.ts", "b-frames.mkv", "b-frames.flv"])
async def test_a_vod_that_breaks_off_gives_clips_up_to_there(
    vod: Vod, cut: Cutting, web: FaultyWebServer, name: str
) -> None:
    source = vod(name)
    content = source.path.read_bytes()
    web.serve("/half.mp4", content[: len(content) // 2])
    clip = await cut(web.vod("/half.mp4"), 1.0, 4.0)
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in source.from_to(1.0, 4.0)]
    with pytest.raises(Skipped) as skip:
        await cut(web.vod("/half.mp4"), 8.0, 11.0)
    assert skip.value.reason in {SkipReason.SOURCE_UNREADABLE, SkipReason.WINDOW_OUTSIDE_SOURCE}


async def test_flipped_bits_do_not_keep_a_clip_from_being_cut(
    vod: Vod, cut: Cutting, web: FaultyWebServer
) -> None:
    content = bytearray(vod("b-frames.ts").path.read_bytes())
    content[1000::1777] = bytes(255 - each for each in content[1000::1777])
    web.serve("/flipped.ts", bytes(content))
    clip = await cut(web.vod("/flipped.ts"), 5.3, 8.3)
    assert DecodedFile(clip.video).seconds == pytest.approx(3, abs=0.2)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that stalls, or breaks off again and again, is given up soon."""
    monkeypatch.setattr(source_input, "STALL_SECONDS", 1)
    monkeypatch.setattr(run, "MAX_OUTAGES", 2)


@pytest.mark.parametrize("status", ["500", "503", "429", "403", "404"])
async def test_a_server_that_is_out_is_an_outage(ffmpeg: Ffmpeg, web: FaultyWebServer, status: str) -> None:
    with pytest.raises(TransientError) as outage:
        await open_remuxed(RemoteFile(web.url("/vod.mkv", status), 1), ffmpeg)
    assert "secret" not in str(outage.value)


@pytest.mark.parametrize("behaviour", ["short", "reset"])
async def test_a_connection_that_breaks_is_resumed(  # noqa: PLR0917
    vod: Vod,
    ffmpeg: Ffmpeg,
    make_cutter: Callable[..., Cutter],
    web: FaultyWebServer,
    job: Job,
    behaviour: str,
) -> None:
    source, window = vod("b-frames.mkv"), Window(7.3, 11.3)
    web.serve("/v.mkv", source.path.read_bytes())
    opened = await open_remuxed(web.vod("/v.mkv"), ffmpeg)
    web.breaks_left = 2
    excerpt = await opened.excerpt(web.vod("/v.mkv", behaviour), window, job)
    clip = await make_cutter().make(excerpt, window, job)
    assert web.breaks_left < 0
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in source.from_to(7.3, 11.3)]


BREAKS = ["500", "503", "short", "reset", "stall"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("behaviour", BREAKS)
async def test_a_server_that_breaks_during_the_cut_is_an_outage(
    vod: Vod, ffmpeg: Ffmpeg, web: FaultyWebServer, job: Job, behaviour: str
) -> None:
    web.serve("/v.mkv", vod("b-frames.mkv").path.read_bytes())
    opened = await open_remuxed(web.vod("/v.mkv"), ffmpeg)
    web.breaks_left = 1000
    with pytest.raises(TransientError) as outage:
        await opened.excerpt(web.vod("/v.mkv", behaviour), Window(5, 11), job)
    assert "secret" not in str(outage.value)


async def test_a_closed_port_is_an_outage(ffmpeg: Ffmpeg) -> None:
    with pytest.raises(TransientError, match="Connection refused"):
        await open_remuxed(RemoteFile("http://127.0.0.1:9/vod.mkv", 1), ffmpeg)


async def test_only_the_window_is_read(
    cut: Cutting, web: FaultyWebServer, tmp_path: Path, metrics_registry: CollectorRegistry
) -> None:
    path = record(tmp_path / "long.mkv", *h264(), seconds=60)
    web.serve("/long.mkv", path.read_bytes())
    clip = await cut(web.vod("/long.mkv"), 30, 36)
    pulled = metrics_registry.get_sample_value("clips_pulled_bytes_total")
    assert clip.mode is CutMode.COPY
    assert pulled is not None
    assert 0 < pulled < 0.5 * path.stat().st_size


async def test_a_cancelled_job_leaves_nothing_running(cut: Cutting, tmp_path: Path, job: Job) -> None:
    path = record(tmp_path / "long.mp4", *h264(), seconds=40)
    task = asyncio.ensure_future(cut(path, 0, 40, "exact"))
    async with asyncio.timeout(20):
        while not (job.folder / "encoded.mp4").exists():
            await asyncio.sleep(0.01)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 2


@pytest.fixture
def cut_within(
    make_cutter: Callable[..., Cutter], vods: VodOpener, job: Job
) -> Callable[..., Awaitable[FinishedClip]]:
    """Re-encode a window of a file within other limits."""

    async def cut(path: Path, window: Window, **limits: int) -> FinishedClip:
        source = LocalFile.of(path)
        excerpt = await (await vods.open(source, job)).excerpt(source, window, job)
        cutter = make_cutter("exact", limits=replace(LIMITS, **limits))
        return await cutter.make(excerpt, window, job)

    return cut


async def test_a_file_that_would_be_too_large_is_our_limit(
    vod: Vod, cut_within: Callable[..., Awaitable[FinishedClip]]
) -> None:
    with pytest.raises(ToolLimited):
        await cut_within(vod("b-frames.mp4").path, Window(1, 9), file_bytes=16 * 1024)


async def test_a_picture_that_would_fill_the_memory_is_our_limit(
    cut_within: Callable[..., Awaitable[FinishedClip]], tmp_path: Path
) -> None:
    path = tmp_path / "huge.mp4"
    picture = ("-f", "lavfi", "-i", "color=size=7680x4320:rate=5:duration=2")
    run_ffmpeg(*picture, "-c:v", "libx264", "-preset", "ultrafast", str(path))
    with pytest.raises(ToolLimited):
        await cut_within(path, Window(0, 2), memory_bytes=400 * MEBIBYTE)


async def test_what_only_a_rare_decoder_reads_is_skipped(vod: Vod, cut: Cutting, tmp_path: Path) -> None:
    path = tmp_path / "vod.mkv"
    run_ffmpeg("-i", str(vod("b-frames.mp4").path), "-c:v", "ffv1", "-an", str(path))
    with pytest.raises(Skipped) as skip:
        await cut(path, 5.3, 8.3)
    assert skip.value.reason is SkipReason.SOURCE_UNREADABLE


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that no clip fits on."""
    with small_disk(tmp_path / "disk", "64k") as disk:
        yield disk


async def test_a_disk_that_ffmpeg_fills_is_an_outage_of_ours(
    vod: Vod, ffmpeg: Ffmpeg, full_disk: Path
) -> None:
    source = LocalFile.of(vod("b-frames.mkv").path)
    opened = await open_remuxed(source, ffmpeg)
    with pytest.raises(TransientError, match="scratch disk is full"):
        await ffmpeg.remux(source.input, opened.media, 0, 10, full_disk / "remuxed.mp4")


def test_a_disk_that_we_fill_is_an_outage_of_ours(full_disk: Path, metrics: CutterMetrics) -> None:
    scratch = Scratch(full_disk, metrics)
    with (
        scratch.opened(),
        pytest.raises(TransientError, match="scratch disk is full"),
        scratch.job(0) as job,
    ):
        (job.folder / "clip.mp4").write_bytes(bytes(100_000))
