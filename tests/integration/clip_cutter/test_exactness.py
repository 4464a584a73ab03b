"""The product: a clip begins with the frame it should begin with, and has every frame up to its end."""

from collections.abc import Callable

import pytest

from clip_cutter.cutter import FinishedClip
from clip_cutter.domain.plan import OPEN_GOP
from clip_shared.contracts.events import CutMode
from local_stack.servers.servers import Addresses
from tests.integration.clip_cutter.conftest import WAYS, Cutting
from tests.integration.clip_cutter.media import DecodedFile, ffmpeg

Vod = Callable[[str], DecodedFile]

COPIED = [
    "b-frames.mp4",
    "b-frames.mkv",
    "b-frames.flv",
    "b-frames.ts",
    "from-an-hour.ts",
    "fragmented.mp4",
    "live.mp4",
    "closed-60.mp4",
    "closed-60.ts",
    "film.mp4",
    "film.ts",
    "pal.mkv",
    "ntsc.mp4",
    "ntsc.flv",
    "silent.ts",
]
CONTAINERS = COPIED[:4]
# Between two keyframes; on one, at the very beginning, and at no frame's time at all.
CASES = [(name, 5.3) for name in COPIED]
CASES += [(name, start) for name in (*CONTAINERS, "live.mp4") for start in (4.0, 0.0, 6.717)]
SECONDS = 3.0
MD5 = ("-f", "framehash", "-hash", "md5", "-")
EDGE_SECONDS = 0.1


@pytest.fixture(params=WAYS)
def cut(request: pytest.FixtureRequest, addresses: Addresses, cut: Cutting) -> Cutting:  # noqa: ARG001 - first
    """Both ways in which VODs are cut: from a file, and from storage."""
    stored: Cutting = request.getfixturevalue("cut_stored")
    return stored if request.param == "service" else cut


@pytest.mark.parametrize(("name", "start"), CASES)
async def test_a_copy_has_exactly_the_frames_of_its_window(
    vod: Vod, cut: Cutting, name: str, start: float
) -> None:
    source = vod(name)
    clip = await cut(source.path, start, start + SECONDS)
    seen = DecodedFile(clip.video)
    wanted = source.from_to(start, start + SECONDS)
    assert (clip.mode, clip.fallback_reason) == (CutMode.COPY, None)
    assert seen.hashes == [frame.hash for frame in wanted]
    assert clip.start == pytest.approx(wanted[0].time, abs=0.002)
    assert seen.frames[0].time == pytest.approx(0, abs=0.002)
    assert clip.start + seen.seconds == pytest.approx(start + SECONDS, abs=0.002)
    assert clip.skew_ms is None or abs(clip.skew_ms) < 1
    if source.stream("audio"):
        assert_sound_fits(source, seen, clip.start)


def assert_sound_fits(source: DecodedFile, clip: DecodedFile, start: float, tolerance: float = 0.003) -> None:
    """Every beep of the window is heard when it should be, and the sound runs from start to end."""
    stream = clip.stream("audio")
    assert stream is not None
    assert float(stream["start_time"]) == pytest.approx(0, abs=0.001)
    assert float(stream["duration"]) == pytest.approx(clip.seconds, abs=0.03)
    expected = [moment - start for moment in source.beeps]
    heard = clip.beeps
    for moment in expected:
        if EDGE_SECONDS < moment < clip.seconds - EDGE_SECONDS:
            assert min(abs(moment - each) for each in heard) < tolerance


async def test_reading_begins_further_back_until_a_keyframe_is_caught(vod: Vod, cut: Cutting) -> None:
    source = vod("long-gop.ts")  # keyframes at 0, 10 and 20 s
    clip = await cut(source.path, 19.5, 22.0)
    assert clip.mode is CutMode.COPY
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in source.from_to(19.5, 22.0)]


async def test_a_copy_that_would_hide_too_much_is_re_encoded_and_says_so(vod: Vod, cut: Cutting) -> None:
    source = vod("far-keyframes.mp4")  # its only keyframe is the first frame
    clip = await cut(source.path, 17.0, 19.0)
    assert clip.mode is CutMode.EXACT
    assert clip.fallback_reason == "the keyframe before the start is 17.0 s away"
    assert DecodedFile(clip.video).numbers() == list(range(510, 570))


@pytest.mark.parametrize("name", ["open-gop.mp4", "open-gop.ts"])
async def test_a_copy_from_the_midst_of_open_gops_is_re_encoded_because_browsers_refuse_it(
    vod: Vod, cut: Cutting, name: str
) -> None:
    source = vod(name)
    clip = await cut(source.path, 5.3, 8.3)
    assert clip.mode is CutMode.EXACT
    assert clip.fallback_reason == OPEN_GOP
    assert DecodedFile(clip.video).numbers() == list(range(159, 249))
    from_the_first = await cut(source.path, 1.0, 4.0)
    assert from_the_first.mode is CutMode.COPY
    assert DecodedFile(from_the_first.video).hashes == [frame.hash for frame in source.from_to(1.0, 4.0)]


async def test_a_sound_that_begins_late_in_the_vod_begins_late_in_the_clip(vod: Vod, cut: Cutting) -> None:
    source = vod("late-sound.mp4")
    clip = await cut(source.path, 1.0, 4.0)
    seen = DecodedFile(clip.video)
    assert clip.mode is CutMode.COPY
    assert seen.hashes == [frame.hash for frame in source.from_to(1.0, 4.0)]
    assert clip.skew_ms == pytest.approx(500, abs=25)
    assert seen.beeps == pytest.approx([0.5, 1.5, 2.5], abs=0.003)


@pytest.mark.parametrize("name", ["late-sound.mp4", "late-sound-fragmented.mp4", "late-sound.mkv"])
async def test_sound_that_lies_outside_the_window_is_left_out(vod: Vod, cut: Cutting, name: str) -> None:
    clip = await cut(vod(name).path, 0.0, 1.4)
    assert DecodedFile(clip.video).stream("audio") is None
    assert clip.skew_ms is None
    assert clip.tracks[1].reason == "the VOD has no audio in this part"


async def test_where_frames_are_far_apart_the_one_on_screen_comes_first(vod: Vod, cut: Cutting) -> None:
    source = vod("screencast.mkv")
    start = 5.03  # between frames 150 and 155
    clip = await cut(source.path, start, start + 3)
    seen = DecodedFile(clip.video)
    assert seen.hashes == [frame.hash for frame in source.from_to(5.0, start + 3)]
    assert clip.start == start  # held from there: nothing is shown, or heard, of before
    following = next(frame.time for frame in source.frames if frame.time > start)
    assert seen.frames[1].time == pytest.approx(following - start, abs=0.002)
    assert clip.skew_ms == pytest.approx(0, abs=1)


@pytest.mark.parametrize("name", ["mp3.ts", "opus.mkv"])
async def test_sound_that_browsers_do_not_play_is_re_encoded_alone(vod: Vod, cut: Cutting, name: str) -> None:
    source = vod(name)
    clip = await cut(source.path, 5.3, 8.3)
    seen = DecodedFile(clip.video)
    sound = seen.stream("audio")
    assert clip.mode is CutMode.COPY
    assert seen.hashes == [frame.hash for frame in source.from_to(5.3, 8.3)]
    assert sound is not None
    assert sound["codec_name"] == "aac"
    assert_sound_fits(source, seen, clip.start, tolerance=0.02)


@pytest.mark.parametrize("name", ["mpeg2.ts", "hevc.mp4", "vp9.mkv", "ten-bit.mp4"])
async def test_a_picture_that_browsers_do_not_play_is_re_encoded(vod: Vod, cut: Cutting, name: str) -> None:
    source = vod(name)
    clip = await cut(source.path, 5.3, 8.3)
    assert_re_encoded(source, DecodedFile(clip.video), clip, 159)


@pytest.mark.parametrize("name", CONTAINERS)
async def test_exact_begins_with_its_frame_wherever_the_edit_list_is_ignored(
    vod: Vod, cut: Cutting, name: str
) -> None:
    source = vod(name)
    clip = await cut(source.path, 5.3, 8.3, "exact")
    assert_re_encoded(source, DecodedFile(clip.video), clip, 159)
    raw = ffmpeg("-ignore_editlist", "1", "-i", str(clip.video), "-frames:v", "1", *MD5)
    assert raw.decode().splitlines()[-1].split(",")[-1].strip() == DecodedFile(clip.video).hashes[0]


def assert_re_encoded(source: DecodedFile, seen: DecodedFile, clip: FinishedClip, first: int) -> None:
    """H.264 and AAC for the web, with every frame of three seconds."""
    picture = seen.stream("video")
    assert picture is not None
    assert (clip.mode, clip.fallback_reason) == (CutMode.EXACT, None)
    assert (picture["codec_name"], picture["pix_fmt"]) == ("h264", "yuv420p")
    assert seen.numbers() == list(range(first, first + 90))
    assert clip.start == pytest.approx(source.frames[first].time, abs=0.002)
    assert_sound_fits(source, seen, clip.start, tolerance=0.02)


async def test_copy_copies_what_mp4_can_hold(vod: Vod, cut: Cutting) -> None:
    source = vod("hevc.mp4")
    clip = await cut(source.path, 5.3, 8.3, "copy")
    picture = DecodedFile(clip.video).stream("video")
    assert picture is not None
    assert (clip.mode, picture["codec_tag_string"]) == (CutMode.COPY, "hvc1")
    assert DecodedFile(clip.video).hashes == [frame.hash for frame in source.from_to(5.3, 8.3)]
