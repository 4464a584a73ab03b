"""Reading a part of an FLV from front to end."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.flv.demuxer import FlvDemuxer
from clip_cutter.containers.flv.stream import FlvStream
from clip_cutter.containers.model import Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.timeline import Timeline, TimelineSegment
from tests.unit.clip_cutter.containers.flv.builders import (
    AAC_44,
    AAC_48,
    AVC_1,
    AVC_2,
    FILE_HEAD,
    HEAD,
    aac_header,
    avc_header,
    picture,
    script,
    sound,
    sounds,
    tag,
)

MEDIA = Path("media")
TIMELINE = Timeline(1000, 2**32, [TimelineSegment(0, 0, 0)])


def demux(
    data: bytes, *, head: bytes = HEAD, step: int = 4096, timeline: Timeline = TIMELINE, offset: int = 0
) -> tuple[list[Track], bytes]:
    output = BytesIO()
    demuxer = FlvStream.read(head + picture(0)).demuxer(output, offset, timeline, [head])
    for at in range(0, len(data), step):
        demuxer.feed(data[at : at + step])
    demuxer.finish()
    return demuxer.tracks(MEDIA), output.getvalue()


def video(data: bytes) -> Track:
    return next(track for track in demux(data)[0] if track.kind is TrackKind.VIDEO)


def audio(data: bytes) -> Track:
    return next(track for track in demux(data)[0] if track.kind is TrackKind.AUDIO)


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_samples_have_their_times_and_bytes(step: int) -> None:
    data = (
        HEAD
        + picture(0, key=True, shift=80)
        + sound(3)
        + picture(40, shift=160)
        + picture(80, shift=40)
        + sound(24)
    )
    (video, audio), media = demux(data, step=step)
    assert [sample[:3] for sample in video.samples] == [(0, 80, 40), (40, 200, 80), (80, 120, 80)]
    assert [sample.is_keyframe for sample in video.samples] == [True, False, False]
    assert media[video.samples[0].offset :][: video.samples[0].size] == b"\0\0\0\4\x65key"
    assert [media[each.offset :][: each.size] for each in audio.samples] == [b"aac", b"aac"]
    assert (video.timescale, video.origin, video.media, video.damages) == (1000, 0.0, MEDIA, ())
    assert (video.formats[0].codec, audio.formats[0].codec) == ("h264", "aac")


def test_times_of_audio_have_the_steps_of_its_rate() -> None:
    found = audio(HEAD + b"".join(sounds(1000, 200, 48_000)))
    assert found.timescale == 48_000
    assert [each.shown for each in found.samples] == [48_000 + 1024 * number for number in range(200)]
    assert {each.length for each in found.samples} == {1024}


def test_jitter_of_the_clock_does_not_move_audio() -> None:
    times = [0, 35, 40, 64, 99, 107, 120]
    found = audio(HEAD + b"".join(map(sound, times)))
    assert [each.shown for each in found.samples] == [1024 * number for number in range(len(times))]


def test_a_missing_frame_leaves_a_gap() -> None:
    found = audio(HEAD + b"".join(sounds(0, 10, 48_000)[:4] + sounds(0, 10, 48_000)[5:]))
    steps = [b.shown - a.shown for a, b in zip(found.samples, found.samples[1:], strict=False)]
    assert steps == [1024] * 3 + [pytest.approx(2048, abs=24)] + [1024] * 4


def test_missing_audio_leaves_a_gap_of_its_length() -> None:
    found = audio(HEAD + b"".join(sounds(0, 10, 48_000) + sounds(5000, 10, 48_000)))
    assert [found.seconds(each.shown) for each in found.samples][10] == 5.0


def test_the_first_picture_is_a_keyframe() -> None:
    found = video(HEAD + picture(0) + picture(40) + picture(80, key=True) + picture(120))
    assert [each.shown for each in found.samples] == [80, 120]


def test_a_second_configuration_of_video_begins_a_second_format() -> None:
    parts = [
        HEAD,
        picture(0, key=True),
        picture(40),
        avc_header(AVC_2, 80),
        picture(80, key=True),
        picture(120),
    ]
    found = video(b"".join(parts))
    assert [each.format for each in found.samples] == [0, 0, 1, 1]
    assert [AVC_1 in found.formats[0].entry, AVC_2 in found.formats[1].entry] == [True, True]


def test_the_same_configuration_again_changes_nothing() -> None:
    found = video(HEAD + picture(0, key=True) + avc_header(AVC_1, 40) + picture(40))
    assert [each.format for each in found.samples] == [0, 0]


def test_pictures_behind_another_configuration_wait_for_a_keyframe() -> None:
    found = video(HEAD + picture(0, key=True) + avc_header(AVC_2, 40) + picture(40) + picture(80, key=True))
    assert [(each.shown, each.format) for each in found.samples] == [(0, 0), (80, 1)]


def test_the_latest_configuration_before_the_part_is_used() -> None:
    output = BytesIO()
    demuxer = FlvStream().demuxer(output, 5000, TIMELINE, [HEAD, avc_header(AVC_2) + aac_header(AAC_44)])
    demuxer.feed(picture(0, key=True) + sound(0))
    demuxer.finish()
    video, audio = demuxer.tracks(MEDIA)
    assert AVC_2 in video.formats[0].entry
    assert audio.formats[0].rate == 44_100


def test_another_rate_of_audio_keeps_its_times() -> None:
    change = b"".join(sounds(0, 45, 44_100)) + aac_header(AAC_48) + b"".join(sounds(1045, 10, 48_000))
    found = audio(FILE_HEAD + script() + aac_header(AAC_44) + change)
    assert [each.rate for each in found.formats] == [44_100, 48_000]
    assert [each.format for each in found.samples] == [0] * 45 + [1] * 10
    assert found.seconds(found.samples[44].shown) == pytest.approx(44 * 1024 / 44_100)
    assert found.seconds(found.samples[45].shown) == 1.045
    assert found.samples[45].length / found.timescale == pytest.approx(1024 / 48_000)


def test_overlapping_samples_are_dropped_when_a_publisher_reconnects() -> None:
    before = [picture(0, key=True), *(picture(at) for at in range(40, 1200, 40)), *sounds(0, 60, 48_000)]
    after = [picture(1000, key=True), picture(1040), *sounds(1000, 10, 48_000)]
    (video, audio), _ = demux(HEAD + b"".join(before + after))
    assert [each.shown for each in video.samples] == [*range(0, 1000, 40), 1000, 1040]
    times = [audio.seconds(each.shown) for each in audio.samples]
    assert times == sorted(times)
    assert 1.0 in times
    assert len(times) == 47 + 10


def test_decoding_times_never_run_backwards() -> None:
    before = [picture(0, key=True, shift=80), picture(40, shift=160), picture(80, shift=0)]
    after = [picture(60, key=True, shift=200), picture(100, shift=160)]
    found = video(HEAD + b"".join(before + after))
    assert [each.decoded for each in found.samples] == [0, 40, 80, 81, 100]
    assert [each.shown for each in found.samples] == [80, 200, 80, 260, 260]


def test_times_that_run_far_back_are_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        demux(HEAD + picture(5000, key=True) + picture(3000, key=True))
    with pytest.raises(UnsupportedMedia):
        demux(HEAD + sound(5000) + sound(3000))


def test_segments_of_the_time_line_join_clocks_that_restart() -> None:
    first = HEAD + picture(5000, key=True) + picture(5040)
    timeline = Timeline(1000, 2**32, [TimelineSegment(0, 5000, 0), TimelineSegment(len(first), 0, 80)])
    (found, *_), _ = demux(first + picture(0, key=True) + picture(40), timeline=timeline)
    assert [each.shown for each in found.samples] == [0, 40, 80, 120]


def test_a_clock_that_wraps_goes_on() -> None:
    timeline = Timeline(1000, 2**32, [TimelineSegment(0, 2**32 - 40, 0)])
    (found, *_), _ = demux(HEAD + picture(-40, key=True) + picture(0) + picture(40), timeline=timeline)
    assert [each.shown for each in found.samples] == [0, 40, 80]


def test_a_truncated_tag_ends_the_part() -> None:
    (found, *_), _ = demux(HEAD + picture(0, key=True) + picture(40) + picture(80)[:-6])
    assert [each.shown for each in found.samples] == [0, 40]
    assert found.damages == ()


@pytest.mark.parametrize("step", [3, 4096])
def test_bytes_that_are_not_tags_are_damage(step: int) -> None:
    before, behind = (
        HEAD + picture(0, key=True) + picture(40) + sound(40),
        picture(80) + picture(120) + sound(64),
    )
    (video, audio), _ = demux(before + b"\x09no tag at all" + behind, step=step)
    assert [each.shown for each in video.samples] == [0, 40, 80, 120]
    (damage,) = video.damages
    assert (round(damage.seconds, 2), damage.why) == (0.06, "bytes between tags are no tags")
    assert audio.damages == video.damages


def test_a_wrong_size_loses_only_its_tag() -> None:
    wrong = bytearray(picture(80))
    wrong[1:4] = b"\x7f\xff\xff"
    (found, *_), _ = demux(
        HEAD + picture(0, key=True) + picture(40) + bytes(wrong) + picture(120) + picture(160)
    )
    assert [each.shown for each in found.samples] == [0, 40, 120, 160]
    assert len(found.damages) == 1


def test_audio_of_another_rate_than_its_configuration_says_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="times do not fit the rate"):
        demux(HEAD + b"".join(sounds(0, 300, 44_100)))


@pytest.mark.parametrize("other", [tag(9, 0, b"\x12h263"), tag(9, 0, b"\x90hvc1"), tag(8, 0, b"\x2fmp3")])
def test_other_codecs_are_refused(other: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        demux(HEAD + picture(0, key=True) + other)


def test_too_many_bytes_without_a_tag_are_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        demux(HEAD + picture(0, key=True) + b"\xff" * (5 * 1024 * 1024), step=256 * 1024)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        demux(HEAD)


def test_reached_is_the_latest_time_of_each_track() -> None:
    demuxer = FlvDemuxer(BytesIO(), 0, TIMELINE, FlvStream().demuxer(BytesIO(), 0, TIMELINE, [HEAD])._known)
    assert set(demuxer.reached.values()) == {-1.0}
    demuxer.feed(picture(1000, key=True, shift=80) + sound(1000) + picture(1040))
    assert demuxer.reached == {TrackKind.VIDEO: 1.08, TrackKind.AUDIO: pytest.approx(1.0 + 1024 / 48_000)}


PIECES = [
    HEAD,
    FILE_HEAD,
    picture(0, key=True),
    picture(40),
    sound(21),
    avc_header(AVC_2),
    aac_header(AAC_44),
    script(),
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=30)), max_size=12), st.data())
def test_any_bytes_are_read_or_refused(parts: list[bytes], data: st.DataObject) -> None:
    content = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(0, 5)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    step = data.draw(st.integers(1, 300))
    with suppress(UnsupportedMedia):
        tracks, media = demux(bytes(content), step=step)
        for track in tracks:
            decoded = [each.decoded for each in track.samples]
            assert decoded == sorted(set(decoded))
            assert all(0 <= each.offset <= each.offset + each.size <= len(media) for each in track.samples)
            assert all(each.format < len(track.formats) for each in track.samples)
