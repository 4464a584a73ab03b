"""Reading a part of an MPEG-TS: its samples, and its damages."""

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.model import Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts import TransportStream
from clip_cutter.containers.mpegts.packets import pid_of
from clip_cutter.containers.timeline import Timeline, TimelineSegment
from tests.unit.clip_cutter.containers.mpegts.builders import (
    AAC,
    AUD,
    AUDIO,
    FRAME,
    H264,
    IDR,
    INTER,
    INTRA,
    MAP,
    PICTURE_TICKS,
    SETS,
    VIDEO,
    Mux,
    adts,
    keyframe,
    packet,
    pes,
    pieces,
    program_map,
    units,
)

TIMELINE = Timeline(90_000, 2**33, [TimelineSegment(0, 0, 0)])
SECOND = bytes(Mux().second().data)


def read(
    data: bytes | bytearray, *, timeline: Timeline = TIMELINE, heads: tuple[bytes, ...] = (), size: int = 1000
) -> tuple[dict[TrackKind, Track], bytes]:
    output = BytesIO()
    stream = TransportStream.read(bytes(data))
    demuxer = stream.demuxer(output, 0, timeline, heads)
    for piece in pieces(bytes(data), size):
        demuxer.feed(piece)
    demuxer.finish()
    return {track.kind: track for track in demuxer.tracks(Path("media"))}, output.getvalue()


def packets_of(pid: int) -> list[int]:
    """Where the packets of a track lie."""
    return [at for at in range(0, len(SECOND), 188) if pid_of(SECOND, at + 1) == pid]


def contents(track: Track, media: bytes) -> list[bytes]:
    return [media[each.offset : each.offset + each.size] for each in track.samples]


def lengthened(*each: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4) + unit for unit in each)


def test_a_picture_becomes_a_sample_without_what_mp4_keeps_elsewhere() -> None:
    sei, filler = b"\x06\x05\x01x\x80", b"\x0c\xff\xff\x80"
    data = Mux().tables().picture(units(AUD, *SETS["high"], sei, IDR, filler), 9000, 6000, size=0).data
    tracks, media = read(data)
    (sample,) = tracks[TrackKind.VIDEO].samples
    assert contents(tracks[TrackKind.VIDEO], media) == [lengthened(sei, IDR)]
    assert (sample.decoded, sample.shown, sample.is_keyframe) == (6000, 9000, True)
    assert tracks[TrackKind.VIDEO].formats[0].is_web


def test_pictures_last_until_the_next_one_is_shown() -> None:
    mux = Mux().tables().picture(keyframe(), 0, is_entry=True)
    mux.picture(units(AUD, INTER), 9000, 3000).picture(units(AUD, INTER), 3000, 6000)
    tracks, _ = read(mux.data)
    assert [(each.shown, each.length) for each in tracks[TrackKind.VIDEO].samples] == [
        (0, 3000),
        (9000, 3000),
        (3000, 6000),
    ]


def test_audio_is_counted_from_the_first_time_of_a_run() -> None:
    mux = Mux().tables()
    for number in range(10):  # time stamps that are rounded, as all are
        mux.sound(adts(2), round(number * 2048 * 90_000 / 48_000) + number % 2)
    tracks, media = read(mux.data)
    audio = tracks[TrackKind.AUDIO]
    assert audio.timescale == 48_000
    assert [each.shown for each in audio.samples] == [number * 1024 for number in range(20)]
    assert {each.length for each in audio.samples} == {1024}
    assert set(contents(audio, media)) == {FRAME}


def test_a_gap_in_audio_stays() -> None:
    mux = Mux().tables().sound(adts(2), 0).sound(adts(2), 900_000)
    tracks, _ = read(mux.data)
    assert [each.shown for each in tracks[TrackKind.AUDIO].samples] == [0, 1024, 480_000, 481_024]
    assert tracks[TrackKind.AUDIO].damages == ()


def test_a_frame_of_audio_may_go_on_in_the_next_packet() -> None:
    frames = adts(4)
    mux = Mux().tables().sound(frames[:100], 0).sound(frames[100:], 2 * 1920)
    tracks, media = read(mux.data)
    assert [each.shown for each in tracks[TrackKind.AUDIO].samples] == [0, 1024, 2048, 3072]
    assert set(contents(tracks[TrackKind.AUDIO], media)) == {FRAME}


def test_another_rate_is_another_format_in_ticks_that_fit_both() -> None:
    mux = Mux().tables().sound(adts(2, rate=4), 0).sound(adts(2), 90_000)
    audio = read(mux.data)[0][TrackKind.AUDIO]
    assert [each.rate for each in audio.formats] == [44_100, 48_000]
    assert [audio.seconds(each.shown) for each in audio.samples] == pytest.approx(
        [0, 1024 / 44_100, 1, 1 + 1024 / 48_000]
    )
    assert [each.format for each in audio.samples] == [0, 0, 1, 1]


def test_other_parameter_sets_are_another_format() -> None:
    mux = Mux().second().second(90_000, keyframe_with="base").second(180_000)
    video = read(mux.data)[0][TrackKind.VIDEO]
    assert len(video.formats) == 2
    assert [each.format for each in video.samples] == [0] * 30 + [1] * 30 + [0] * 30


def test_tracks_may_move_to_other_pids() -> None:
    mux = Mux().second()
    mux.video, mux.audio = 0x200, 0x201
    mux.second(90_000)
    tracks, _ = read(mux.data)
    assert len(tracks[TrackKind.VIDEO].samples) == 60
    assert [each.shown for each in tracks[TrackKind.VIDEO].samples] == [n * PICTURE_TICKS for n in range(60)]
    assert tracks[TrackKind.VIDEO].damages == ()


def test_tables_are_read_from_the_bytes_before_the_part() -> None:
    early, late = Mux().tables((H264, 0x300)), Mux().tables()
    stretch = Mux().picture(keyframe(), 0, is_entry=True).picture(units(AUD, INTER), 3000)
    tracks, _ = read(stretch.data, heads=(bytes(early.data), b"junk" + bytes(late.data)))
    assert len(tracks[TrackKind.VIDEO].samples) == 2
    with pytest.raises(UnsupportedMedia):
        read(stretch.data, heads=(bytes(early.data),))


def test_the_clock_may_pass_its_end() -> None:
    start = 2**33 - 45_000
    timeline = Timeline(90_000, 2**33, [TimelineSegment(0, start, 0)])
    tracks, _ = read(Mux().second(start).data, timeline=timeline)
    assert [each.shown for each in tracks[TrackKind.VIDEO].samples] == [n * PICTURE_TICKS for n in range(30)]


def test_segments_of_the_clock_are_one_time_line() -> None:
    first, second = Mux().second(5_000_000), Mux().second(77)
    timeline = Timeline(
        90_000, 2**33, [TimelineSegment(0, 5_000_000, 0), TimelineSegment(len(first.data), 77, 90_000)]
    )
    tracks, _ = read(first.data + second.data, timeline=timeline)
    assert [each.shown for each in tracks[TrackKind.VIDEO].samples] == [n * PICTURE_TICKS for n in range(60)]
    assert tracks[TrackKind.VIDEO].damages == tracks[TrackKind.AUDIO].damages == ()


@pytest.mark.parametrize("lost", [20, 21, 22, 60])
def test_lost_packets_are_damage(lost: int) -> None:
    at = packets_of(VIDEO)[lost]
    tracks, _ = read(SECOND[:at] + SECOND[at + 188 :])
    (damage,) = tracks[TrackKind.VIDEO].damages
    assert damage.why == "packets are missing"
    assert damage.seconds == pytest.approx(lost // 3 * PICTURE_TICKS / 90_000, abs=0.05)
    assert len(tracks[TrackKind.VIDEO].samples) in (29, 30)
    assert tracks[TrackKind.AUDIO].damages == ()


def test_a_packet_that_is_sent_twice_is_read_once() -> None:
    for at in range(188 * 2, 188 * 60, 188):
        twice = SECOND[: at + 188] + SECOND[at:]
        tracks, media = read(twice)
        expected, expected_media = read(SECOND)
        assert tracks == expected
        assert media == expected_media


def test_a_packet_without_payload_does_not_count() -> None:
    at = 188 * 20
    pid = (SECOND[at + 1] & 0x1F) << 8 | SECOND[at + 2]
    empty = packet(pid, b"", SECOND[at + 3] & 15)
    assert read(SECOND[:at] + empty + SECOND[at:]) == read(SECOND)


def test_a_marked_discontinuity_is_no_damage() -> None:
    mux = Mux().tables().picture(keyframe(), 0, is_entry=True)
    mux.counters[VIDEO] = 9
    mux.payload(VIDEO, pes(0xE0, keyframe(), 3000), starts=True, field=b"\xc0")
    assert read(mux.data)[0][TrackKind.VIDEO].damages == ()


def test_behind_a_join_a_picture_that_refers_to_others_is_damage() -> None:
    first, second = Mux().second(), Mux()
    second.counters = {0: 3, MAP: 3, VIDEO: 3, AUDIO: 3}
    second.tables().picture(units(AUD, INTER), 90_000).second(93_000)
    (damage,) = read(first.data + second.data)[0][TrackKind.VIDEO].damages
    assert damage.why == "pictures are missing that a later picture refers to"
    assert damage.seconds == 1


def test_behind_a_change_of_pids_a_picture_that_refers_to_others_is_damage() -> None:
    second = Mux(video=0x41, audio=0x42)
    second.tables().picture(units(AUD, INTER), 90_000).second(93_000)
    (damage,) = read(Mux().second().data + second.data)[0][TrackKind.VIDEO].damages
    assert damage.why == "pictures are missing that a later picture refers to"


def test_bytes_that_are_no_packets_are_skipped() -> None:
    at = 188 * 40
    for junk in (b"x", b"\x47", bytes(100), b"\x47" * 300, bytes(range(256)) * 20):
        tracks, _ = read(SECOND[:at] + junk + SECOND[at:])
        assert len(tracks[TrackKind.VIDEO].samples) >= 28
        assert tracks[TrackKind.VIDEO].damages


def test_a_broken_packet_is_damage() -> None:
    data = bytearray(SECOND)
    data[packets_of(VIDEO)[41] + 1] |= 0x80
    tracks, _ = read(data)
    assert [each.why for each in tracks[TrackKind.VIDEO].damages] == ["a transport packet is broken"]


def test_a_picture_may_take_several_packets() -> None:
    slices = [b"\x65\x88one", b"\x65\x40two"]
    mux = Mux().tables()
    mux.payload(VIDEO, pes(0xE0, units(AUD, *SETS["high"], slices[0]), 0), starts=True, field=b"\x40")
    mux.payload(VIDEO, pes(0xE0, units(slices[1]), None), starts=True)
    mux.picture(units(AUD, INTER), 3000)
    tracks, media = read(mux.data)
    assert contents(tracks[TrackKind.VIDEO], media)[0] == lengthened(*slices)
    assert len(tracks[TrackKind.VIDEO].samples) == 2


def test_packets_need_not_begin_with_a_picture() -> None:
    first, second, third = keyframe(), units(AUD, INTER + b"second"), units(AUD, INTER + b"third")
    mux = Mux().tables()
    mux.payload(VIDEO, pes(0xE0, first + second[:9], 0), starts=True, field=b"\x40")
    with pytest.raises(UnsupportedMedia):  # the second picture has no time
        read(mux.payload(VIDEO, pes(0xE0, second[9:] + third, 6000), starts=True).data)
    mux = Mux().tables()
    mux.payload(VIDEO, pes(0xE0, first[:-3], 0), starts=True, field=b"\x40")
    tracks, media = read(mux.payload(VIDEO, pes(0xE0, first[-3:] + third, 6000), starts=True).data)
    assert contents(tracks[TrackKind.VIDEO], media) == [lengthened(IDR), lengthened(INTER + b"third")]


@pytest.mark.parametrize(
    ("unit", "is_said", "expected"),
    [(IDR, False, True), (INTRA, True, True), (INTRA, False, False), (INTER, True, False)],
)
def test_a_keyframe_is_an_idr_picture_or_a_marked_i_picture(
    unit: bytes, is_said: bool, expected: bool
) -> None:
    mux = Mux().tables().picture(units(AUD, *SETS["high"], unit), 0, is_entry=is_said)
    assert read(mux.data)[0][TrackKind.VIDEO].samples[0].is_keyframe is expected


def test_a_recovery_point_makes_a_keyframe() -> None:
    said, gradual = b"\x06\x06\x01\x84\x80", b"\x06\x06\x01\x44\x80"
    for sei, expected in ((said, True), (gradual, False)):
        mux = Mux().tables().picture(units(AUD, *SETS["high"], sei, INTRA), 0)
        assert read(mux.data)[0][TrackKind.VIDEO].samples[0].is_keyframe is expected


@pytest.mark.parametrize("tracks", [((0x24, VIDEO),), ((H264, VIDEO), (0x81, AUDIO)), ((0x06, VIDEO),)])
def test_unsupported_tracks_are_refused(tracks: tuple[tuple[int, int], ...]) -> None:
    mux = Mux().tables(*tracks).picture(keyframe(), 0).sound(adts(), 0)
    with pytest.raises(UnsupportedMedia):
        read(mux.data)


def test_a_track_without_packets_does_not_matter() -> None:
    mux = Mux().tables((H264, VIDEO), (0x81, 0x300)).picture(keyframe(), 0)
    assert list(read(mux.data)[0]) == [TrackKind.VIDEO]


def test_times_that_run_backwards_are_refused() -> None:
    mux = Mux().second(900_000).second(90_000)
    with pytest.raises(UnsupportedMedia, match="backwards"):
        read(mux.data)


def test_a_damaged_table_is_ignored() -> None:
    mux = Mux()
    mux.tables()
    wrong = bytearray(b"\0" + program_map((H264, 0x222), (AAC, 0x223)))
    wrong[12] ^= 1
    mux.payload(MAP, bytes(wrong), starts=True, stuffed=True).second()
    assert len(read(mux.data)[0][TrackKind.VIDEO].samples) == 30


@given(st.integers(1, 700))
def test_the_size_of_the_chunks_does_not_matter(size: int) -> None:
    assert read(SECOND, size=size) == read(SECOND, size=len(SECOND))


@given(
    st.lists(st.tuples(st.integers(0, len(SECOND) - 1), st.integers(0, 255)), max_size=40),
    st.lists(st.tuples(st.integers(0, len(SECOND)), st.integers(0, 400)), max_size=4),
)
def test_any_damage_gives_tracks_or_is_refused(
    changes: list[tuple[int, int]], cuts: list[tuple[int, int]]
) -> None:
    data = bytearray(SECOND)
    for at, value in changes:
        data[at] = value
    for at, size in cuts:
        del data[at : at + size]
    try:
        tracks, media = read(data)
    except UnsupportedMedia:
        return
    for track in tracks.values():
        assert all(each.offset >= 0 and each.offset + each.size <= len(media) for each in track.samples)
        assert all(each.format < len(track.formats) for each in track.samples)
        decoded = [each.decoded for each in track.samples]
        assert decoded == sorted(set(decoded))


@given(st.binary(max_size=2000), st.integers(0, 5000))
def test_sample_starts_never_raise(junk: bytes, at: int) -> None:
    stream = TransportStream.read(SECOND)
    assert stream.sample_starts(junk, 0) is not None
    found = stream.sample_starts(SECOND[:at] + junk + SECOND[at:], 0)
    assert all(0 <= sample.offset < len(SECOND) + len(junk) for sample in found)


def test_sample_starts_are_found_at_any_offset() -> None:
    stream = TransportStream.read(SECOND)
    everywhere = stream.sample_starts(SECOND, 0)
    assert [sample.is_keyframe for sample in everywhere if sample.kind == TrackKind.VIDEO] == [True] + [
        False
    ] * 29
    for start in (1, 187, 188, 1000, 5001):
        expected = [sample for sample in everywhere if sample.offset >= start]
        assert stream.sample_starts(SECOND[start:], start) == expected


@pytest.mark.parametrize(("before", "behind"), [(4, 0), (0, 16)])
def test_packets_may_lie_apart(before: int, behind: int) -> None:
    data = b"".join(
        bytes(before) + SECOND[at : at + 188] + bytes(behind) for at in range(0, len(SECOND), 188)
    )
    tracks, _ = read(data)
    assert [len(tracks[kind].samples) for kind in TrackKind] == [
        len(read(SECOND)[0][kind].samples) for kind in TrackKind
    ]
    assert all(track.damages == () for track in tracks.values())
    assert len(TransportStream.read(data).sample_starts(data, 0)) == len(
        TransportStream.read(SECOND).sample_starts(SECOND, 0)
    )


def test_parameter_sets_are_found_before_the_part() -> None:
    early = Mux().second()
    late = Mux().tables().picture(units(AUD, INTRA), 90_000, is_entry=True).picture(units(AUD, INTER), 93_000)
    tracks, _ = read(late.data, heads=(bytes(early.data), b""))
    assert [each.is_keyframe for each in tracks[TrackKind.VIDEO].samples] == [True, False]
    assert tracks[TrackKind.VIDEO].formats == read(early.data)[0][TrackKind.VIDEO].formats
    with pytest.raises(UnsupportedMedia):
        read(late.data)


def test_audio_that_reaches_into_the_next_stream_is_damage() -> None:
    mux = Mux().tables().sound(adts(20), 0).sound(adts(20), 10 * 1920 - 900)
    audio = read(mux.data)[0][TrackKind.AUDIO]
    ends = [each.shown + each.length for each in audio.samples]
    assert all(end <= after.shown for end, after in zip(ends, audio.samples[1:], strict=False))
    assert [each.why for each in audio.damages] == ["audio of two joined streams overlaps"]
