"""An index gives the samples that a window needs, with the times that a player shows."""

import random
from pathlib import Path

import pytest

from clip_cutter.containers.model import Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.index import Movie, find_index, find_tracks, open_movie, visit_tables
from tests.unit.clip_cutter.containers.mp4_file import (
    AAC_CONFIG,
    TrackOf,
    audio_entry,
    box,
    esds,
    full_box,
    movie_of,
    reader,
    video_entry,
)

VIDEO = TrackOf()  # 1 s: ten pictures, keyframes at 0 and 0.5 s
AUDIO = TrackOf(
    handler=b"soun",
    timescale=48_000,
    steps=(4800,) * 10,
    keyframes=None,
    entries=[audio_entry(b"mp4a", 48_000, 2, esds(0x40, AAC_CONFIG))],
)


def movie(*tracks: TrackOf, extra: bytes = b"", cut: int = 0) -> Movie:
    data = movie_of(*tracks, extra=extra)
    read = reader(data)
    return Movie.read(read, find_index(read, len(data)), len(data) - cut)


def shown(track: Track) -> list[float]:
    return [round(track.seconds(sample.shown), 6) for sample in track.samples]


def test_a_window_begins_with_a_keyframe_and_ends_with_what_is_shown() -> None:
    (video,) = movie(VIDEO).select(0.75, 0.9)
    assert (video.kind, shown(video)) == (TrackKind.VIDEO, [0.5, 0.6, 0.7, 0.8])
    assert [sample.is_keyframe for sample in video.samples] == [True, False, False, False]
    assert shown(movie(VIDEO).select(0.4996, 0.6)[0]) == [0.5]


def test_audio_begins_a_little_before_and_ends_a_little_after() -> None:
    _, audio = movie(VIDEO, AUDIO).select(0.75, 0.85)
    assert (audio.kind, shown(audio)) == (TrackKind.AUDIO, [0.5, 0.6, 0.7, 0.8, 0.9])


def test_pictures_that_are_shown_after_the_end_are_left_out_unless_needed() -> None:
    """In decoding order: shown at 0.1, 0.4, 0.2, 0.3, 0.5."""
    reordered = TrackOf(steps=(100,) * 5, shifts=(100, 300, 0, 0, 100), chunks=(5,), keyframes=(1,))
    assert shown(movie(reordered).select(0.0, 0.05)[0]) == [0.0]
    assert shown(movie(reordered).select(0.0, 0.15)[0]) == [0.0, 0.3, 0.1]


def test_a_picture_that_is_held_is_in_the_window() -> None:
    held = TrackOf(steps=(100, 100, 5000, 100), chunks=(4,), keyframes=(1,))
    video = movie(held).select(3.0, 4.0)[0]
    assert shown(video) == [0.0, 0.1, 0.2]
    assert video.samples[2].length == 5000


def test_audio_that_does_not_reach_the_window_is_left_out() -> None:
    short = TrackOf(**{**vars(AUDIO), "steps": (4800,) * 4, "chunks": (4,)})
    assert len(movie(VIDEO, short).select(0.3, 0.9)) == 2
    assert len(movie(VIDEO, short).select(0.4, 0.9)) == 1
    late = TrackOf(**{**vars(AUDIO), "edits": [(800, -1), (1000, 0)]})
    assert len(movie(VIDEO, late).select(0.1, 0.7)) == 1


def test_time_0_is_the_start_of_the_first_track() -> None:
    late = TrackOf(edits=[(500, -1), (1000, 0)])
    early = TrackOf(**{**vars(AUDIO), "edits": [(200, -1), (1000, 1024)]})
    found = movie(late, early)
    assert found.span(TrackKind.VIDEO) == pytest.approx((0.3, 1.3))
    assert found.seconds == pytest.approx(1.3)
    assert found.span(TrackKind.AUDIO) == pytest.approx((0.0, 0.978667), abs=1e-6)
    video, audio = found.all()
    assert shown(video)[0] == pytest.approx(0.3)
    assert shown(audio)[0] == pytest.approx(-0.021333, abs=1e-6)


def test_the_duration_is_known_without_reading_again() -> None:
    data, is_gone = movie_of(VIDEO), False

    def read(offset: int, size: int) -> bytes:
        assert not is_gone
        return data[offset : offset + size]

    found = Movie.read(read, find_index(read, len(data)), len(data))
    is_gone = True
    assert found.seconds == pytest.approx(1.0)


def test_pictures_before_the_edit_are_before_zero() -> None:
    hidden = TrackOf(edits=[(500, 300)])
    found = movie(hidden)
    assert found.span(TrackKind.VIDEO) == pytest.approx((0.0, 0.5))
    assert shown(found.all()[0])[:4] == pytest.approx([-0.3, -0.2, -0.1, 0.0])
    assert shown(found.select(0.0, 0.15)[0]) == pytest.approx([-0.3, -0.2, -0.1, 0.0, 0.1])


def test_a_window_across_an_edit_shows_both_sides() -> None:
    edited = TrackOf(edits=[(200, 100), (300, 700)])
    found = movie(edited)
    assert found.seconds == pytest.approx(0.5)
    (video,) = found.select(0.1, 0.4)
    seen = [video.seconds(each.shown) for each in video.samples if each.length]
    assert seen == pytest.approx([-0.1, 0.0, 0.1, 0.2, 0.3])
    assert [each.offset - video.samples[0].offset for each in video.samples if each.length] == [
        0,
        10,
        20,
        70,
        80,
    ]
    assert [damage.why for damage in video.damages] == ["the VOD is edited here"]
    assert len(video.formats) == 2
    assert video.formats[0] == video.formats[1]
    (alone,) = found.select(0.2, 0.4)
    assert (alone.damages, len(alone.formats)) == ((), 1)
    assert shown(alone) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert {each.length for each in alone.samples} == {100}


def test_formats_that_no_sample_has_are_left_out() -> None:
    small, large = video_entry(), video_entry(b"avc1", 1280, 720)
    changing = TrackOf(entries=[small, large], entry_of=(1, 2))
    (video,) = movie(changing).select(0.2, 0.9)
    assert [each.width for each in video.formats] == [192, 1280]
    assert [sample.format for sample in video.samples] == [0] * 5 + [1] * 4
    (video,) = movie(changing).select(0.6, 0.9)
    assert [each.width for each in video.formats] == [1280]
    assert {sample.format for sample in video.samples} == {0}
    with pytest.raises(UnsupportedMedia, match="sample entry"):
        movie(TrackOf(entry_of=(1, 3))).select(0.6, 0.9)


def test_the_first_enabled_track_of_a_kind_is_used() -> None:
    commentary = TrackOf(**{**vars(AUDIO), "flags": 0, "timescale": 44_100})
    cover = TrackOf(entries=[video_entry(b"jpeg")], steps=(1,), chunks=(1,), keyframes=None)
    video, audio = movie(cover, VIDEO, commentary, AUDIO).all()
    assert (video.formats[0].codec, audio.timescale) == ("h264", 48_000)
    assert movie(VIDEO, commentary).all()[1].timescale == 44_100


def test_a_track_without_samples_is_left_out() -> None:
    empty = TrackOf(**{**vars(AUDIO), "steps": (), "chunks": ()})
    found = movie(VIDEO, empty)
    assert (len(found.all()), found.span(TrackKind.AUDIO)) == (1, None)
    with pytest.raises(UnsupportedMedia, match="no video"):
        movie(TrackOf(steps=(), chunks=(), keyframes=()), AUDIO)
    with pytest.raises(UnsupportedMedia, match="no video"):
        movie(AUDIO)


def test_a_file_that_is_cut_off_ends_earlier() -> None:
    index = len(movie_of(VIDEO)) - movie_of(VIDEO).index(b"moov") + 4
    found = movie(VIDEO, cut=index + 25)
    assert found.is_cut_off
    assert found.seconds == pytest.approx(0.7)
    assert shown(found.select(0.6, 0.9)[0]) == pytest.approx([0.5, 0.6])
    assert not movie(VIDEO).is_cut_off


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"self_contained": 0}, "another file"),
        ({"timescale": 0}, "damaged"),
        ({"edits": [(10, 0)], "speed": (2, 0)}, "speed"),
        ({"entries": []}, "entries"),
        ({"size": 33 * 1024 * 1024, "steps": (1,), "chunks": (1,), "keyframes": None}, "a sample of"),
    ],
)
def test_unsupported_features_are_named(made: dict[str, object], why: str) -> None:
    with pytest.raises(UnsupportedMedia, match=why):
        movie(TrackOf(**{**vars(VIDEO), **made})).all()


def test_a_fragmented_file_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="fragmented"):
        movie(VIDEO, extra=box(b"mvex"))


@pytest.mark.parametrize(
    "data", [b"", b"RIFF" * 10, box(b"ftyp"), box(b"ftyp") + box(b"moov", bytes(9))[:-1]]
)
def test_a_file_without_an_index_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        find_index(reader(data), len(data))


def test_a_window_without_video_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="no video in the window"):
        movie(TrackOf(edits=[(100, 0), (900, -1), (100, 0)])).select(0.3, 0.8)


def test_tables_that_are_read_whole_are_known_before() -> None:
    data = movie_of(VIDEO, AUDIO)
    read = reader(data)
    asked: list[bytes] = []
    for trak in find_tracks(read, find_index(read, len(data))):
        visit_tables(read, trak, lambda offset, _: asked.append(data[offset + 4 : offset + 8]))
    assert asked == [b"stts", b"stsc", b"stss", b"stts", b"stsc"]


def test_a_file_of_this_machine_is_the_media_of_its_tracks(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(movie_of(VIDEO, AUDIO))
    assert {track.media for track in open_movie(path).all()} == {path}
    path.write_bytes(b"")
    with pytest.raises(UnsupportedMedia):
        open_movie(path)


def test_a_damaged_index_gives_a_track_or_is_refused() -> None:
    whole = movie_of(
        TrackOf(shifts=(100, 300, 0, 0, 100) * 2, edits=[(500, -1), (200, 100), (300, 300)]), AUDIO
    )
    start, dice = whole.index(b"moov") - 4, random.Random(4)  # noqa: S311
    outcomes: list[bool] = []
    for _ in range(800):
        content = bytearray(whole)
        for _ in range(dice.choice([1, 1, 4, 40])):
            at = dice.randrange(start, len(content) - 4)
            content[at : at + 4] = dice.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", dice.randbytes(4)])
        read = reader(bytes(content))
        try:
            found = Movie.read(read, find_index(read, len(content)), len(content))
            tracks = [*found.select(0.1, 0.9), *found.all()]
        except UnsupportedMedia:
            outcomes.append(False)
            continue
        outcomes.append(True)
        for track in tracks:
            assert all(each.offset + each.size <= len(content) for each in track.samples)
            assert all(0 <= each.format < len(track.formats) for each in track.samples)
    assert min(outcomes.count(True), outcomes.count(False)) > 50


def test_display_is_the_rotation_of_the_track_header() -> None:
    (video,) = movie(VIDEO).all()
    assert len(video.display) == 44
    assert full_box(b"tkhd", video.display)[-44:] == video.display
