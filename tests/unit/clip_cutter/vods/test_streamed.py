"""Windows of streams: what is read of the file, and what the excerpt has."""

from pathlib import Path
from typing import cast

import pytest

from clip_cutter.containers.model import Track, UnsupportedMedia
from clip_cutter.domain.policy import Window
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods.source import LocalFile, Source
from clip_cutter.vods.streamed import StreamedVod, _Feed, open_stream
from tests.unit.clip_cutter.containers.mpegts.builders import AUD, INTER, Mux, adts, keyframe, units
from tests.unit.clip_cutter.containers.streams import SECOND_BYTES, LongStream

HOUR = 3600


class RoomyScratch:
    """A disk with room for everything."""

    async def reserve(self, job: Job, size_bytes: int) -> None:
        assert 0 <= size_bytes < 2**32
        assert job.max_wait_seconds > 0


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path, 5, cast("Scratch", RoomyScratch()))


async def opened(source: Source, job: Job) -> StreamedVod:
    return await open_stream(source, job)


def local(data: bytes | bytearray, folder: Path) -> LocalFile:
    path = folder / "vod"
    path.write_bytes(data)
    return LocalFile.of(path)


def times(track: Track | None) -> tuple[float, float]:
    """When the first sample is shown, and until when the last one is."""
    assert track is not None
    ends = [track.seconds(each.shown + each.length) for each in track.samples]
    return track.seconds(track.samples[0].shown), max(ends)


@pytest.mark.parametrize("start", [0.0, 0.5, 1234.5, HOUR - 0.5, HOUR, HOUR + 0.2, 3 * HOUR - 10])
async def test_an_excerpt_has_what_the_window_needs_and_little_more(start: float, job: Job) -> None:
    source = LongStream(3 * HOUR, lambda second: second % HOUR + 5)
    vod = await opened(source, job)
    source.reads.clear()
    excerpt = await vod.excerpt(source, Window(start, start + 10), job)
    assert excerpt.video is not None
    assert excerpt.video.samples[0].is_keyframe
    assert times(excerpt.video) == pytest.approx((int(start + 0.001), start + 10), abs=0.04)
    first, end = times(excerpt.audio)
    assert max(start - 0.6, 0) <= first <= max(start - 0.4, 0.022)
    assert min(start + 10, 3 * HOUR - 0.1) <= end <= start + 10.6
    assert excerpt.video.damages == ()
    assert sum(each.size for each in source.reads) < 20 * SECOND_BYTES + 1024 * 1024
    assert len(source.reads) <= 6
    assert (excerpt.remark is not None) == (start < HOUR < start + 10)


async def test_each_sample_lies_where_it_says(job: Job) -> None:
    source = LongStream(60)
    vod = await opened(source, job)
    excerpt = await vod.excerpt(source, Window(20.5, 22.5), job)
    for track in (excerpt.video, excerpt.audio):
        assert track is not None
        media = track.media.read_bytes()
        contents = [media[each.offset : each.offset + each.size] for each in track.samples]
        assert all(b"picture" in each or b"sound" in each for each in contents)


async def test_in_a_hole_of_video_the_last_picture_is_held(job: Job, tmp_path: Path) -> None:
    mux = Mux().second()
    for second in range(1, 20):
        mux.tables()
        for frame in range(47):
            mux.sound(adts(), second * 90_000 + frame * 1920)
    mux.second(20 * 90_000)
    source = local(mux.data, tmp_path)
    vod = await opened(source, job)
    assert len(vod.survey.timeline.segments) == 1
    excerpt = await vod.excerpt(source, Window(8.5, 10.5), job)
    assert times(excerpt.video) == pytest.approx((0, 10.5))
    assert times(excerpt.audio)[0] == pytest.approx(8, abs=0.03)


async def test_a_window_without_audio_reads_only_a_little_on(job: Job, tmp_path: Path) -> None:
    mux = Mux().second()
    for second in range(1, 60):
        mux.tables().picture(keyframe(), second * 90_000, is_entry=True, size=4000)
        for number in range(1, 30):
            mux.picture(units(AUD, INTER), second * 90_000 + number * 3000, size=4000)
    source = local(mux.data, tmp_path)
    vod = await opened(source, job)
    excerpt = await vod.excerpt(source, Window(20.5, 22.5), job)
    assert times(excerpt.video) == pytest.approx((20, 22.5), abs=0.04)
    assert excerpt.audio is None
    size = (job.folder / "samples").stat().st_size
    assert size < 9 * 30 * 4000  # lead-in, window, and a few seconds in which audio could still come


async def test_video_without_a_keyframe_is_left_to_ffmpeg(job: Job, tmp_path: Path) -> None:
    mux = Mux().tables()
    for number in range(300):
        mux.picture(units(AUD, INTER), number * 3000)
    source = local(mux.data, tmp_path)
    vod = await opened(source, job)
    with pytest.raises(UnsupportedMedia):
        await vod.excerpt(source, Window(3, 5), job)
    assert not list(job.folder.glob("samples"))


@pytest.mark.parametrize("data", [b"", b"G", bytes(1000), b"FLV\1" + bytes(100), b"\x47" * 5000])
async def test_other_files_are_left_to_ffmpeg(data: bytes, job: Job, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia):
        await opened(local(data, tmp_path), job)


async def test_what_a_cancelled_job_still_reads_does_not_reach_the_next_one() -> None:
    taken: list[bytes] = []
    with _Feed(taken.append) as feed:
        feed.write(b"of the job")
    with pytest.raises(ValueError, match="has ended"):
        feed.write(b"behind its end")
    assert taken == [b"of the job"]
