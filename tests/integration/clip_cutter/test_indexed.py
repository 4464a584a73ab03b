"""MP4s that ffmpeg wrote: our reader gives the packets that ffprobe gives, at the same times.

What a window of one holds is judged by decoding it.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from clip_cutter.containers.model import Track, UnsupportedMedia
from clip_cutter.containers.mp4.index import Movie, open_movie
from clip_cutter.containers.mp4.writer import write
from clip_cutter.domain.policy import Window
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods.index_cache import IndexCache
from clip_cutter.vods.indexed import IndexedMp4, open_indexed
from clip_cutter.vods.source import LocalFile
from local_stack.processes.ffmpeg import find_tools, run_tool
from tests.integration.clip_cutter.long_vod import LOOP_SECONDS, LongVod, record_loop
from tests.integration.clip_cutter.media import DecodedFile, cut_out, ffmpeg, h264, record, remux
from tests.unit.clip_cutter.vods.sources import MemorySource

Vod = Callable[[str], DecodedFile]
TICK = 2e-5
MEBIBYTE = 1024 * 1024


class ProbedSample(NamedTuple):
    seconds: float
    size: int
    offset: int
    is_keyframe: bool


def packets(path: Path, stream: str) -> list[ProbedSample]:
    """What ffprobe gives, in decoding order."""
    shown = ["-show_packets", "-show_format", "-of", "json"]
    arguments = ["-v", "error", "-select_streams", stream, *shown, str(path)]
    answer: dict[str, Any] = json.loads(run_tool(find_tools().ffprobe, arguments))
    start = float(answer["format"]["start_time"])
    return [
        ProbedSample(
            float(each["pts_time"]) - start, int(each["size"]), int(each["pos"]), "K" in each["flags"]
        )
        for each in answer["packets"]
    ]


def packets_of(track: Track) -> list[ProbedSample]:
    return [
        ProbedSample(track.seconds(each.shown), each.size, each.offset, each.is_keyframe)
        for each in track.samples
    ]


def assert_same(found: list[ProbedSample], wanted: list[ProbedSample]) -> None:
    assert [each[1:] for each in found] == [each[1:] for each in wanted]
    assert [each.seconds for each in found] == pytest.approx([each.seconds for each in wanted], abs=TICK)


OTHERS: dict[str, Callable[[Vod, Path], Path]] = {
    "open gop": lambda _, path: record(path, *h264(open_gop=True)),
    "59.94": lambda _, path: record(path, *h264(), rate="60000/1001"),
    "index first": lambda vod, path: remux(vod("b-frames.mp4").path, path, "-movflags", "+faststart"),
    "negative shifts": lambda vod, path: remux(
        vod("b-frames.mp4").path, path, "-movflags", "+negative_cts_offsets"
    ),
    "quicktime": lambda vod, path: remux(vod("b-frames.mp4").path, path.with_suffix(".mov")),
    "pauses": lambda _, path: record(
        path, "-vf", "select='not(mod(n,5))+lt(mod(n,90),30)'", "-fps_mode", "vfr", *h264(b_frames=0)
    ),
    "cut in copy": lambda vod, path: remux(vod("b-frames.mp4").path, path, "-ss", "3.3", "-t", "4"),
}
NAMES = ["b-frames.mp4", "closed-60.mp4", "ntsc.mp4", "silent.mp4", "late-sound.mp4", "hevc.mp4", *OTHERS]


@pytest.fixture
def path_of(vod: Vod, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: OTHERS[name](vod, tmp_path / "made.mp4") if name in OTHERS else vod(name).path


@pytest.mark.parametrize("name", NAMES)
def test_packets_and_times_are_those_of_ffprobe(path_of: Callable[[str], Path], name: str) -> None:
    path = path_of(name)
    movie = open_movie(path)
    video, *audio = movie.all()
    assert_same(packets_of(video), packets(path, "v:0"))
    for track in audio:
        found, wanted = packets_of(track), packets(path, "a:0")
        # What an edit hides after the start of another track is left out.
        assert_same(found, wanted[len(wanted) - len(found) :])
        assert len(wanted) - len(found) <= 1
    stream = DecodedFile(path).stream("video")
    assert stream is not None
    about = video.formats[0]
    assert (about.codec, about.width, about.height) == (stream["codec_name"], 192, 108)
    assert about.is_web == (about.codec == "h264")
    ends = float(stream["start_time"]) + float(stream["duration"])
    assert movie.seconds == pytest.approx(ends, abs=0.05)


def shown(movie: Movie, start: float, end: float, folder: Path) -> list[str]:
    """What a decoder makes of a window's video, each format of it alone."""
    video, *_ = movie.select(start, end)
    hashes: list[str] = []
    for number in sorted({sample.format for sample in video.samples}):
        samples = [each._replace(format=0) for each in video.samples if each.format == number]
        part = replace(video, formats=(video.formats[number],), samples=samples)
        write(folder / "part.mp4", [part], start, end)
        hashes += DecodedFile(folder / "part.mp4").hashes
    return hashes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window", [(0.0, 2.0), (4.3, 7.1), (3.9, 4.05), (10.5, 99.0)])
def test_a_window_holds_what_is_seen_in_it(
    path_of: Callable[[str], Path], tmp_path: Path, name: str, window: tuple[float, float]
) -> None:
    path = path_of(name)
    movie = open_movie(path)
    start, end = window[0], min(window[1], movie.seconds)
    if start >= end:
        pytest.skip("it is not that long")
    seen = shown(movie, start, end, tmp_path)
    wanted = [frame.hash for frame in DecodedFile(path).from_to(start, end)]
    assert seen[len(seen) - len(wanted) :] == wanted
    assert len(seen) - len(wanted) <= 1  # the picture that is on screen at the start


@pytest.fixture
def two_edits(vod: Vod, tmp_path: Path) -> Path:
    """It shows 1 to 4 s and 7 to 12 s of its media: an edit list of two rows in place of one."""
    path = remux(vod("b-frames.mp4").path, tmp_path / "edited.mp4", "-movie_timescale", "1000")
    return edited(path, [(3.0, 1.0), (5.0, 7.0)])


def edited(path: Path, edits: list[tuple[float, float]]) -> Path:
    """Give all tracks of a file, whose index is its last box, these edits (seconds long, from seconds)."""
    data = path.read_bytes()
    start = data.index(b"moov") - 4
    moov = _with_edits(data[start + 8 :], edits)
    path.write_bytes(data[:start] + (len(moov) + 8).to_bytes(4) + b"moov" + moov)
    return path


def _with_edits(content: bytes, edits: list[tuple[float, float]]) -> bytes:
    written, at = b"", 0
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        inner = content[at + 8 : at + size]
        if kind == b"trak":
            scale = int.from_bytes(inner[inner.index(b"mdhd") + 16 :][:4])
            first = int.from_bytes(inner[inner.index(b"elst") + 16 :][:4])
            rows = b"".join(
                round(length * 1000).to_bytes(4) + (first + round(begin * scale)).to_bytes(4) + b"\0\1\0\0"
                for length, begin in edits
            )
            elst = b"elst" + bytes(4) + len(edits).to_bytes(4) + rows
            edts = b"edts" + (len(elst) + 4).to_bytes(4) + elst
            where = inner.index(b"edts") - 4
            old = int.from_bytes(inner[where : where + 4])
            inner = inner[:where] + (len(edts) + 4).to_bytes(4) + edts + inner[where + old :]
        written += (len(inner) + 8).to_bytes(4) + kind + inner
        at += size
    return written


@pytest.mark.parametrize("window", [(1.5, 5.5), (0.0, 8.0), (3.0, 6.0), (0.5, 2.5), (2.95, 3.1)])
def test_of_several_edits_is_seen_what_they_show(
    two_edits: Path, vod: Vod, tmp_path: Path, window: tuple[float, float]
) -> None:
    movie = open_movie(two_edits)
    assert movie.seconds == pytest.approx(8.0, abs=0.002)
    whole = vod("b-frames.mp4").hashes
    edited = [*whole[30:120], *whole[210:360]]
    assert DecodedFile(two_edits).hashes == edited
    first, after = (math.ceil(30 * seconds - 0.001) for seconds in window)
    assert shown(movie, *window, tmp_path) == edited[first:after]
    crosses = window[0] < 2.999 and window[1] > 3.001
    for track in movie.select(*window):
        assert len(track.damages) == (1 if crosses else 0)


def test_an_edited_vod_is_heard_where_a_player_plays_it(two_edits: Path) -> None:
    _, audio = open_movie(two_edits).all()
    times = [audio.seconds(sample.shown) for sample in audio.samples]
    steps = [after - before for before, after in pairwise(times)]
    frame = 1024 / 48_000
    assert all(frame / 2 < step < 1.5 * frame for step in steps)
    assert min(times, key=abs) == pytest.approx(0.0, abs=frame)
    assert times[-1] == pytest.approx(8.0, abs=1.5 * frame)


def test_video_that_changes_its_format_has_both(vod: Vod, tmp_path: Path) -> None:
    """Two VODs of different kinds, one after the other, in one track."""
    second = record(tmp_path / "second.mp4", *h264(b_frames=0), "-vf", "scale=320:180", seconds=4)
    first = remux(vod("b-frames.mp4").path, tmp_path / "first.mp4", "-t", "4")
    videos = [open_movie(path).all()[0] for path in (first, second)]
    both, offset, shift = tmp_path / "media", first.stat().st_size, videos[0].samples[-1].decoded + 512
    both.write_bytes(first.read_bytes() + second.read_bytes())
    joined = replace(
        videos[0],
        media=both,
        formats=(videos[0].formats[0], videos[1].formats[0]),
        samples=[
            *videos[0].samples,
            *(
                each._replace(
                    decoded=each.decoded + shift,
                    shown=each.shown + shift + 1024,
                    offset=each.offset + offset,
                    format=1,
                )
                for each in videos[1].samples
            ),
        ],
    )
    write(tmp_path / "both.mp4", [joined], 0.0, 8.0)
    movie = open_movie(tmp_path / "both.mp4")
    (video,) = movie.select(3.0, 6.0)
    assert [(each.width, each.height) for each in video.formats] == [(192, 108), (320, 180)]
    sizes = packets(tmp_path / "both.mp4", "v:0")
    assert [each.size for each in movie.all()[0].samples] == [each.size for each in sizes]
    assert len(movie.select(5.0, 6.0)[0].formats) == 1


def test_a_fragmented_file_is_for_another_reader(vod: Vod, tmp_path: Path) -> None:
    path = remux(vod("b-frames.mp4").path, tmp_path / "f.mp4", "-movflags", "frag_keyframe+empty_moov")
    with pytest.raises(UnsupportedMedia, match="fragmented"):
        open_movie(path)


@pytest.fixture
def cache(scratch: Scratch) -> IndexCache:
    return IndexCache(scratch)


@pytest.mark.parametrize("layout", ["first", "last"])
async def test_a_small_index_is_read_at_once_and_then_just_samples(
    vod: Vod, tmp_path: Path, job: Job, cache: IndexCache, layout: str
) -> None:
    path = vod("closed-60.mp4").path
    if layout == "first":
        path = remux(path, tmp_path / "v.mp4", "-movflags", "+faststart")
    source = MemorySource(path.read_bytes())
    opened = await open_indexed(source, job, cache)
    assert len(source.asked) == 2
    source.asked.clear()
    found = await opened.excerpt(source, Window(5.3, 8.3), job)
    assert found.audio is not None
    assert found.video is not None
    used = sum(sample.size for track in (found.video, found.audio) for sample in track.samples)
    assert used <= source.pulled < 1.1 * used
    assert (found.remark, {found.video.media, found.audio.media}) == (None, {job.folder / "samples"})
    whole = path.read_bytes()
    there = (job.folder / "samples").read_bytes()
    for has, wanted in zip((found.video, found.audio), open_movie(path).select(5.3, 8.3), strict=True):
        assert [each._replace(offset=0) for each in has.samples] == [
            each._replace(offset=0) for each in wanted.samples
        ]
        for ours, theirs in zip(has.samples, wanted.samples, strict=True):
            assert there[ours.offset :][: ours.size] == whole[theirs.offset :][: theirs.size]


async def test_a_file_that_is_cut_off_says_so_and_ends_there(
    vod: Vod, tmp_path: Path, job: Job, cache: IndexCache
) -> None:
    whole = remux(vod("closed-60.mp4").path, tmp_path / "whole.mp4", "-movflags", "+faststart")
    source = LocalFile.of(cut_out(whole, tmp_path / "half.mp4", whole.stat().st_size * 3 // 4))
    opened = await open_indexed(source, job, cache)
    assert 6 < opened.seconds < 11
    found = await opened.excerpt(source, Window(1.0, 4.0), job)
    assert found.remark is not None
    assert "cut off" in found.remark
    assert found.video is not None
    write(tmp_path / "clip.mp4", [found.video], 1.0, 4.0)
    assert DecodedFile(tmp_path / "clip.mp4").hashes == [
        frame.hash for frame in DecodedFile(whole).from_to(1.0, 4.0)
    ]


async def test_samples_all_over_a_file_are_left_to_ffmpeg(
    vod: Vod, tmp_path: Path, job: Job, cache: IndexCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_cutter.vods.indexed.MAX_RANGES", 1)
    path = vod("closed-60.mp4").path
    audio_last = tmp_path / "v.mp4"
    ffmpeg("-i", str(path), "-c", "copy", "-max_interleave_delta", "0", str(audio_last))
    opened = await open_indexed(source := LocalFile.of(audio_last), job, cache)
    monkeypatch.setattr("clip_cutter.vods.ranges.MAX_GAP_BYTES", 0)
    monkeypatch.setattr("clip_cutter.vods.indexed.merge", list)
    with pytest.raises(UnsupportedMedia, match="scattered"):
        await opened.excerpt(source, Window(1.0, 4.0), job)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0\0\0\x08ftyp" + bytes(100)])
async def test_what_is_no_mp4_is_refused(job: Job, cache: IndexCache, content: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await open_indexed(MemorySource(content), job, cache)


TIMES = 2700  # six hours
WINDOW = Window(0.93 * TIMES * LOOP_SECONDS + 5.3, 0.93 * TIMES * LOOP_SECONDS + 35.3)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> DecodedFile:
    return DecodedFile(record_loop(tmp_path_factory.mktemp("loop")))


@pytest.fixture(scope="module")
def long_vod(loop: DecodedFile) -> LongVod:
    return LongVod(loop.path, TIMES)


async def test_of_a_large_index_only_what_a_window_needs_is_read(
    long_vod: LongVod, loop: DecodedFile, job: Job, cache: IndexCache, tmp_path: Path
) -> None:
    source = MemorySource(long_vod)
    opened = await open_indexed(source, job, cache)
    assert opened.seconds == pytest.approx(TIMES * LOOP_SECONDS, abs=0.1)
    assert source.pulled < 0.5 * long_vod.index_bytes
    assert len(source.asked) < 16
    source.asked.clear()
    found = await opened.excerpt(source, WINDOW, job)
    assert found.video is not None
    assert len(source.asked) < 12
    start = WINDOW.start % LOOP_SECONDS
    write(tmp_path / "clip.mp4", [found.video], WINDOW.start, WINDOW.end)
    first = round(start * 30)
    wanted = [loop.hashes[number % len(loop.hashes)] for number in range(first, first + 900)]
    assert DecodedFile(tmp_path / "clip.mp4").hashes == wanted


async def test_an_index_on_scratch_is_not_read_again(long_vod: LongVod, job: Job, scratch: Scratch) -> None:
    first = await open_indexed(MemorySource(long_vod), job, IndexCache(scratch))
    await first.excerpt(MemorySource(long_vod), WINDOW, job)
    source = MemorySource(long_vod)
    cache = IndexCache(scratch)  # as after a restart
    second = await open_indexed(source, job, cache)
    assert source.asked == []
    found = await second.excerpt(source, WINDOW, job)
    assert found.video is not None
    samples = sum(sample.size for sample in found.video.samples)
    assert samples < source.pulled < 1.05 * samples + MEBIBYTE
    # It is given up while it is in use, and what is needed of it is read again.
    cache.discard()
    again = await second.excerpt(source, WINDOW, job)
    assert again.video == found.video
    assert isinstance(second, IndexedMp4)


async def test_a_large_index_of_a_file_that_is_cut_off(
    long_vod: LongVod, job: Job, cache: IndexCache
) -> None:
    class IndexFirst:
        """As if the index lay first, and the media had ended early: only the head and the index are there."""

        def __len__(self) -> int:
            return len(long_vod) - 1

        def __getitem__(self, wanted: slice) -> bytes:
            return long_vod[wanted]

    with pytest.raises(UnsupportedMedia, match="cut off"):
        await open_indexed(MemorySource(IndexFirst()), job, cache)
