"""Fragmented MP4s: where they begin and end, which samples a window has, and through what clock."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clip_cutter.containers.model import Excerpt, Track, TrackKind, UnsupportedMedia
from clip_cutter.domain.policy import Window
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods.fragmented import FragmentedMp4, open_fragmented
from tests.unit.clip_cutter.fragmented_file import (
    LongFile,
    Memory,
    box,
    fragment,
    full_box,
    header,
    media_of,
    numbers_of,
    seconds_of,
)

MINUTE = b"".join(seconds_of(second) for second in range(60))
SIX_HOURS = 6 * 3600


class CountingScratch:
    """A scratch disk that has scratch for everything."""

    def __init__(self) -> None:
        self.reserved = 0

    async def reserve(self, _: Job, size_bytes: int) -> None:
        self.reserved += size_bytes


@pytest.fixture
def scratch() -> CountingScratch:
    return CountingScratch()


@pytest.fixture
def job(tmp_path: Path, scratch: CountingScratch) -> Job:
    return Job(tmp_path, 1.0, cast("Scratch", scratch))


@pytest.fixture
def cut(job: Job) -> Callable[..., Awaitable[tuple[FragmentedMp4, Excerpt]]]:
    async def cut(data: bytes, start: float, end: float) -> tuple[FragmentedMp4, Excerpt]:
        source = Memory(data)
        vod = await open_fragmented(source, job)
        return vod, await vod.excerpt(source, Window(start, end), job)

    return cut


def shown(track: Track | None) -> list[float]:
    """When the samples are shown that a viewer sees, on the VOD's line."""
    assert track is not None
    return [round(track.seconds(sample.shown), 3) for sample in track.samples]


def video_numbers(excerpt: Excerpt) -> list[int]:
    return numbers_of(media_of(excerpt.video))


async def test_a_window_has_the_samples_from_the_keyframe_before_it_to_its_end(cut: Any) -> None:
    vod, excerpt = await cut(header() + MINUTE, 20.5, 23.2)
    assert vod.seconds == 60
    assert video_numbers(excerpt) == list(range(600, 696))
    assert excerpt.video.kind is TrackKind.VIDEO
    assert excerpt.video.formats[0].codec == "h264"
    assert [sample.is_keyframe for sample in excerpt.video.samples[:31]] == [True, *[False] * 29, True]
    heard = numbers_of(media_of(excerpt.audio))
    assert heard == list(range(heard[0], heard[-1] + 1))
    assert 20.2 < heard[0] * 1024 / 48000 < 20.5
    assert 23.2 < (heard[-1] + 1) * 1024 / 48000 < 23.4
    assert excerpt.remark is None


async def test_the_line_begins_where_the_first_track_does(cut: Any) -> None:
    late = b"".join(fragment(number, video=(90 + 30 * number, 120 + 30 * number)) for number in range(10))
    vod, excerpt = await cut(header(audio=False) + late, 4, 6)
    assert vod.seconds == 10
    assert video_numbers(excerpt)[0] == 90 + 120
    assert shown(excerpt.video)[0] == 4


async def test_an_edit_hides_what_lies_before_its_media_time(cut: Any) -> None:
    vod, excerpt = await cut(header(media_times=(1536, 4800)) + MINUTE, 0, 2)
    assert vod.seconds == pytest.approx(59.9)
    assert shown(excerpt.video)[:4] == [-0.1, -0.067, -0.033, 0.0]
    assert shown(excerpt.audio)[0] == pytest.approx(-0.1, abs=0.001)


async def test_tracks_may_lie_in_fragments_of_their_own(cut: Any) -> None:
    alone = b"".join(
        fragment(2 * second, video=(second * 30, second * 30 + 30))
        + fragment(2 * second + 1, audio=(second * 47, second * 47 + 47))
        for second in range(40)
    )
    _, excerpt = await cut(header() + alone, 30.01, 31.5)
    assert video_numbers(excerpt)[0] == 900
    audio = shown(excerpt.audio)
    assert audio[0] < 30.01
    assert audio[-1] > 31.48


async def test_a_fragment_may_begin_without_a_keyframe(cut: Any) -> None:
    groups = b"".join(
        fragment(second, video=(second * 30, second * 30 + 30), is_key=second % 10 == 0)
        for second in range(60)
    )
    _, excerpt = await cut(header(audio=False) + groups, 39.5, 41)
    assert video_numbers(excerpt) == list(range(900, 1230))


async def test_offsets_may_count_from_the_start_of_the_file(cut: Any) -> None:
    data = header()
    for second in range(20):
        audio = (second * 47, second * 47 + 47)
        data += fragment(second, video=(second * 30, second * 30 + 30), audio=audio, base=len(data))
    _, excerpt = await cut(data, 10.2, 12)
    assert video_numbers(excerpt) == list(range(300, 360))


async def test_offsets_that_were_not_updated_are_those_of_the_fragment(cut: Any) -> None:
    data = header()
    for second in range(20):
        data += fragment(second, video=(second * 30, second * 30 + 30), base=len(data))
    start = len(header())
    moved_file = data[:start] + box(b"free", bytes(40)) + data[start:]
    _, excerpt = await cut(moved_file, 10.2, 12)
    assert video_numbers(excerpt) == list(range(300, 360))


async def test_times_that_are_not_said_are_added_up(cut: Any) -> None:
    untimed = b"".join(
        fragment(
            second, video=(second * 30, second * 30 + 30), audio=(second * 47, second * 47 + 47), timed=False
        )
        for second in range(60)
    )
    vod, excerpt = await cut(header() + untimed, 30.2, 32)
    assert vod.seconds == 60
    assert video_numbers(excerpt) == list(range(900, 960))
    assert shown(excerpt.video)[0] == 30


async def test_a_vod_that_breaks_off_ends_with_its_last_complete_samples(cut: Any) -> None:
    whole = header() + MINUTE
    vod, excerpt = await cut(whole[:-6000], 58, 59.1)
    assert vod.seconds == pytest.approx(59, abs=0.05)
    assert excerpt.remark == "the VOD breaks off at 0:00:59"
    vod, excerpt = await cut(whole[:-6000], 30, 31)
    assert excerpt.remark is None


@pytest.mark.parametrize("cut_bytes", [1, 500, 4_600, 7_000, 7_700, 7_900, 8_000, 40_000])
async def test_a_vod_may_break_off_anywhere(cut: Any, cut_bytes: int) -> None:
    whole = header() + MINUTE
    vod, excerpt = await cut(whole[:-cut_bytes], 50, 52)
    assert 54 < vod.seconds <= 60
    assert video_numbers(excerpt) == list(range(1500, 1560))


async def test_what_is_damaged_in_the_middle_is_said_to_be(cut: Any) -> None:
    fragments = [bytearray(seconds_of(second)) for second in range(60)]
    fragments[30][:200] = bytes(range(200))
    vod, excerpt = await cut(header() + b"".join(fragments), 28.5, 33)
    assert vod.seconds == 60
    assert video_numbers(excerpt) == [*range(840, 900), *range(930, 990)]
    assert [damage.seconds for damage in excerpt.video.damages] == [pytest.approx(30, abs=0.05)]
    assert shown(excerpt.video)[60] == 31


async def test_a_publisher_that_begins_again_goes_on_on_the_line(cut: Any) -> None:
    again = b"".join(seconds_of(second) for second in range(20))
    vod, excerpt = await cut(header() + MINUTE + again, 65.5, 68)
    assert vod.seconds == pytest.approx(80, abs=0.05)
    assert video_numbers(excerpt) == list(range(150, 240))
    assert shown(excerpt.video)[0] == pytest.approx(65, abs=0.05)


async def test_a_clock_that_jumps_ahead_goes_on_on_the_line(cut: Any) -> None:
    ahead = b"".join(seconds_of(second) for second in range(3600, 3660))
    vod, excerpt = await cut(header() + MINUTE + ahead, 57.5, 62)
    assert vod.seconds == pytest.approx(120, abs=0.05)
    numbers = video_numbers(excerpt)
    assert numbers[:90] == list(range(57 * 30, 60 * 30))
    assert numbers[90:] == list(range(108_000, 108_000 + len(numbers) - 90))
    times = shown(excerpt.video)
    assert max(after - before for before, after in pairwise(times)) < 0.06
    audio = shown(excerpt.audio)
    assert max(after - before for before, after in pairwise(audio)) < 0.05


async def test_a_gap_of_some_seconds_is_one_on_the_line(cut: Any) -> None:
    behind = b"".join(seconds_of(second) for second in range(66, 80))
    vod, excerpt = await cut(header() + MINUTE + behind, 63, 68)
    assert vod.seconds == 80
    assert shown(excerpt.video)[29:31] == [59.967, 66.0]
    assert excerpt.video.samples[29].length / excerpt.video.timescale == pytest.approx(6.033, abs=0.001)


async def test_two_vods_of_one_kind_are_one(cut: Any) -> None:
    vod, excerpt = await cut((header() + MINUTE) * 2, 65.5, 68)
    assert vod.seconds == pytest.approx(120, abs=0.05)
    assert video_numbers(excerpt) == list(range(150, 240))


async def test_two_vods_of_different_kinds_are_left_to_ffmpeg(cut: Any) -> None:
    with pytest.raises(UnsupportedMedia, match="another kind"):
        await cut(header() + MINUTE + header(audio=False) + MINUTE, 50, 70)


async def test_audio_that_ends_is_no_audio_behind_its_end(cut: Any) -> None:
    silent = b"".join(fragment(second, video=(second * 30, second * 30 + 30)) for second in range(60, 120))
    _, excerpt = await cut(header() + MINUTE + silent, 90, 92)
    assert video_numbers(excerpt) == list(range(2700, 2760))
    assert excerpt.audio is not None  # the VOD has some, elsewhere
    assert excerpt.audio.samples == ()


@pytest.mark.parametrize("with_index", [True, False])
async def test_a_window_of_six_hours_takes_few_requests(job: Job, with_index: bool) -> None:
    source = Memory(LongFile(SIX_HOURS, 30_000, with_index=with_index))
    vod = await open_fragmented(source, job)
    assert vod.seconds == SIX_HOURS
    opening = source.requests
    assert opening < 60
    excerpt = await vod.excerpt(source, Window(20_000.5, 20_030), job)
    assert numbers_of(media_of(excerpt.video)) == list(range(600_000, 600_900))
    assert source.requests - opening < 60


async def test_an_index_that_is_wrong_is_not_believed(cut: Any) -> None:
    entries = b"".join(second.to_bytes(8) + (5000 + second).to_bytes(8) + b"\1\1\1" for second in range(60))
    tfra = full_box(b"tfra", (1).to_bytes(4), bytes(4), (60).to_bytes(4), entries, version=1)
    size = len(tfra) + 8 + 16
    mfra = box(b"mfra", tfra, full_box(b"mfro", size.to_bytes(4)))
    vod, excerpt = await cut(header() + MINUTE + mfra, 20.5, 21)
    assert vod.seconds == 60
    assert video_numbers(excerpt) == list(range(600, 630))


async def test_scratch_is_reserved_for_what_is_read(cut: Any, scratch: CountingScratch) -> None:
    await cut(header() + MINUTE, 20.5, 23.2)
    assert scratch.reserved == (await _size(cut))


async def _size(cut: Any) -> int:
    _, excerpt = await cut(header() + MINUTE, 20.5, 23.2)
    return int(excerpt.video.media.stat().st_size)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an MP4 at all, but long enough for a head",
        header(),
        header() + MINUTE[:3],
        MINUTE,
        box(b"ftyp", b"isom") + box(b"moov"),
        header() + bytes(100_000),
    ],
)
async def test_what_is_no_fragmented_mp4_is_left_to_others(cut: Any, data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await cut(data, 1, 2)


SHORT = header(media_times=(512, 1024)) + b"".join(seconds_of(second) for second in range(4))


@given(
    at=st.one_of(st.integers(0, 3200), st.integers(0, len(SHORT) - 1)),
    change=st.binary(min_size=1, max_size=8),
    length=st.one_of(st.just(len(SHORT)), st.integers(0, len(SHORT))),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_changed_the_answer_is_an_excerpt_or_a_refusal(
    job: Job, at: int, change: bytes, length: int
) -> None:
    data = (SHORT[:at] + change + SHORT[at + len(change) :])[:length]
    source = Memory(data)
    try:
        vod = await open_fragmented(source, job)
        excerpt = await vod.excerpt(source, Window(1.0, 2.5), job)
    except UnsupportedMedia:
        return
    size = excerpt.video.media.stat().st_size if excerpt.video else 0
    for track in (excerpt.video, excerpt.audio):
        assert all(each.offset + each.size <= size for each in (track.samples if track else ()))
    assert source.requests < 300
