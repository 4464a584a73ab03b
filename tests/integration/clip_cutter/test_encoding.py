"""A re-encode keeps the times of frames and audio through holes and changes, and its colours are right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clip_cutter.ffmpeg.commands import Encoding
from clip_cutter.ffmpeg.process import ProcessLimits
from clip_cutter.ffmpeg.run import Ffmpeg, FfmpegPrograms
from tests.integration.clip_cutter.conftest import LIMITS
from tests.integration.clip_cutter.media import DecodedFile, ffmpeg, h264, record

Vod = Callable[[str], DecodedFile]
Encode = Callable[..., Any]

GREEN = (0, 255, 0)


@pytest.fixture
def encode(programs: FfmpegPrograms, tmp_path: Path) -> Encode:
    """Encode streams of an MP4, from a start to an end; return the clip."""

    async def encode_window(
        source: Path, start: float, end: float, video: tuple[int, ...] = (0,), audio: tuple[int, ...] = (1,)
    ) -> Path:
        output = tmp_path / "encoded.mp4"
        await tool(programs).encode(Encoding(source, video, audio, start, end), output)
        return output

    return encode_window


def tool(programs: FfmpegPrograms, limits: ProcessLimits = LIMITS) -> Ffmpeg:
    return Ffmpeg(programs, limits=limits, threads=2, on_pulled=lambda _: None)


def shown(path: Path) -> list[float]:
    return [frame.time for frame in DecodedFile(path).frames]


def stream(path: Path, kind: str = "video") -> dict[str, Any]:
    found = DecodedFile(path).stream(kind)
    assert found is not None
    return found


async def test_frames_and_beeps_are_where_they_were(vod: Vod, encode: Encode) -> None:
    source = vod("b-frames.mp4").path
    clip = await encode(source, 5.3, 8.3)
    assert DecodedFile(clip).numbers() == list(range(159, 249))
    assert shown(clip) == pytest.approx([number / 30 for number in range(90)], abs=0.0001)
    assert DecodedFile(clip).beeps == pytest.approx([0.7, 1.7, 2.7], abs=0.003)
    assert float(stream(clip)["duration"]) == pytest.approx(3, abs=0.001)
    assert float(stream(clip, "audio")["duration"]) == pytest.approx(3, abs=0.001)


@pytest.fixture(scope="module")
def holes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s without audio from 3.2 to 15.4 s and after 18.5 s, and without new frames from 5 to 8 s."""
    folder = tmp_path_factory.mktemp("holes")
    whole = record(folder / "whole.mp4", *h264(b_frames=0), "-ar", "44100", seconds=20)
    path = folder / "holes.mp4"
    ffmpeg(
        *("-i", str(whole), "-c", "copy"),
        *("-bsf:a", "noise=drop='between(pts*tb,3.2,15.4)+gt(pts*tb,18.5)'"),
        *("-bsf:v", "noise=drop='between(pts*tb,5.01,7.99)'", str(path)),
    )
    return path


async def test_holes_are_silent_and_frames_are_held(holes: Path, encode: Encode) -> None:
    clip = await encode(holes, 1.3, 19.3)
    assert DecodedFile(clip).beeps == pytest.approx([0.7, 1.7, 14.7, 15.7, 16.7], abs=0.003)
    assert float(stream(clip, "audio")["start_time"]) == pytest.approx(0, abs=0.001)
    assert float(stream(clip, "audio")["duration"]) == pytest.approx(18, abs=0.001)
    numbers = [number for number in range(39, 579) if not 150 < number < 240]
    assert DecodedFile(clip).numbers() == numbers
    assert shown(clip) == pytest.approx([number / 30 - 1.3 for number in numbers], abs=0.0001)


async def test_the_frame_on_screen_comes_first_however_old_it_is(holes: Path, encode: Encode) -> None:
    clip = await encode(holes, 7.5, 10)
    assert DecodedFile(clip).numbers()[:3] == [150, 240, 241]
    assert shown(clip)[:3] == pytest.approx([0, 0.5, 0.5 + 1 / 30], abs=0.0001)


async def test_a_window_without_audio_is_silent_to_its_end(holes: Path, encode: Encode) -> None:
    clip = await encode(holes, 4, 8)
    assert DecodedFile(clip).beeps == []
    assert float(stream(clip, "audio")["duration"]) == pytest.approx(4, abs=0.001)


@pytest.fixture(scope="module")
def periods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video and audio of 6 s, then nothing for 12 s, then 6 s of another size and rate."""
    folder = tmp_path_factory.mktemp("periods")
    first = record(folder / "1.mp4", *h264(), "-ar", "44100", seconds=6)
    size = ("-vf", "scale=256:108,setsar=1", "-ar", "48000")
    second = record(folder / "2.mp4", *h264(), *size, seconds=6.5)
    path = folder / "periods.mp4"
    maps = [word for each in ("0:v", "1:v", "0:a", "1:a") for word in ("-map", each)]
    ffmpeg("-i", str(first), "-itsoffset", "18", "-i", str(second), *maps, "-c", "copy", str(path))
    return path


async def test_periods_of_other_formats_become_one_video_and_one_audio(periods: Path, encode: Encode) -> None:
    clip = await encode(periods, 2, 22, (0, 1), (2, 3))
    assert (stream(clip)["width"], stream(clip)["height"]) == (256, 108)  # of the longer one
    times = [number / 30 for number in (*range(120), *range(480, 600))]
    assert shown(clip) == pytest.approx(times, abs=0.0001)
    assert DecodedFile(clip).beeps == pytest.approx([0, 1, 2, 3, 16, 17, 18, 19], abs=0.003)
    assert float(stream(clip)["duration"]) == pytest.approx(20, abs=0.001)
    assert stream(clip, "audio")["sample_rate"] == "48000"


async def test_many_frames_of_two_periods_do_not_fill_the_memory(
    programs: FfmpegPrograms, tmp_path: Path
) -> None:
    parts = []
    for at, size in enumerate(("1280x720", "1280x704")):
        parts.append(tmp_path / f"{at}.mp4")
        source = f"testsrc=size={size}:rate=30:duration=8"
        ffmpeg("-f", "lavfi", "-i", source, "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(parts[-1]))
    path = tmp_path / "both.mp4"
    ffmpeg(
        *("-i", str(parts[0]), "-itsoffset", "8", "-i", str(parts[1])),
        *("-map", "0"),
        *("-map", "1"),
        "-c",
        "copy",
        str(path),
    )
    small = ProcessLimits(60, 120, 1500 * 1024 * 1024, LIMITS.file_bytes)  # 240 frames would take 330 MB
    output = tmp_path / "encoded.mp4"
    await tool(programs, small).encode(Encoding(path, (0, 1), (), 0, 16), output)
    assert len(shown(output)) == 480


def clear_green(path: Path, matrix: str, color_range: str, pixels: str = "yuv420p") -> Path:
    """A green picture that is coded in some way, and says so."""
    filters, codec = "format=gbrp", "libx264rgb"
    if matrix != "gbr":
        converted = f"scale=out_color_matrix={matrix}:out_range={color_range},format={pixels}"
        filters, codec = f"{converted},setparams=colorspace={matrix}:range={color_range}", "libx264"
    green = "color=0x00ff00:size=320x180:rate=10:duration=2"
    ffmpeg("-f", "lavfi", "-i", green, "-vf", filters, "-c:v", codec, str(path))
    return path


def middle(path: Path) -> tuple[int, ...]:
    """The colour in the middle of the first frame, decoded as BT.709 with limited range."""
    decoded = "scale=in_color_matrix=bt709:in_range=tv,format=rgb24,crop=1:1:iw/2:ih/2"
    return tuple(ffmpeg("-i", str(path), "-vf", decoded, "-frames:v", "1", "-f", "rawvideo", "-"))


TAGGED = {
    "pix_fmt": "yuv420p",
    "color_range": "tv",
    "color_space": "bt709",
    "color_transfer": "bt709",
    "color_primaries": "bt709",
    "field_order": "progressive",
    "sample_aspect_ratio": "1:1",
}


def assert_for_web(path: Path) -> None:
    about = stream(path)
    assert {name: about[name] for name in TAGGED} == TAGGED


@pytest.mark.parametrize(
    "source",
    ["smpte170m tv", "bt470bg pc", "bt709 tv", "bt709 pc", "bt709 pc yuv444p", "gbr pc"],
)
async def test_green_stays_green(encode: Encode, tmp_path: Path, source: str) -> None:
    matrix, color_range, *pixels = source.split()
    path = clear_green(tmp_path / "green.mp4", matrix, color_range, *pixels)
    clip = await encode(path, 0.5, 1.5, (0,), ())
    assert middle(clip) == pytest.approx(GREEN, abs=3)
    assert_for_web(clip)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
async def test_high_dynamic_range_is_tone_mapped(encode: Encode, tmp_path: Path, transfer: str) -> None:
    path = tmp_path / "hdr.mp4"
    wide = (
        f"zscale=p=bt2020:m=2020_ncl:t={transfer}:npl=100:pin=709:tin=709:min=709:r=limited,format=yuv420p10"
    )
    bars = "color=0x00c000:size=320x180:rate=10:duration=2,format=yuv444p,setparams=colorspace=bt709:range=tv"
    ffmpeg("-f", "lavfi", "-i", bars, "-vf", wide, "-c:v", "libx264", str(path))
    clip = await encode(path, 0.5, 1.5, (0,), ())
    red, green, blue = middle(clip)
    assert 150 < green < 210
    assert max(red, blue) < 60
    assert_for_web(clip)


async def test_fields_are_woven_into_whole_frames(encode: Encode, tmp_path: Path) -> None:
    path = tmp_path / "fields.mp4"
    moving = "testsrc2=size=192x108:rate=50:duration=4,scroll=h=0.02,tinterlace=interleave_top"
    flags = ("-flags", "+ildct+ilme", "-c:v", "mpeg2video", "-q:v", "2")
    ffmpeg("-f", "lavfi", "-i", moving, *flags, str(path))
    assert stream(path)["field_order"] == "tb"
    clip = await encode(path, 1, 3, (0,), ())
    assert combed(clip) < 0.3 * combed(path)
    assert len(shown(clip)) == 50
    assert_for_web(clip)


def combed(path: Path) -> float:
    """By how much a line differs from the one above, against every second line."""
    grey = ffmpeg("-i", str(path), "-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo", "-")
    rows = [grey[at : at + 192] for at in range(0, len(grey), 192)]

    def apart(step: int) -> int:
        pairs = zip(rows, rows[step:], strict=False)
        return sum(abs(a - b) for above, below in pairs for a, b in zip(above, below, strict=True))

    return max(apart(1) / apart(2) - 1, 0)


async def test_pixels_become_square(encode: Encode, tmp_path: Path) -> None:
    path = record(tmp_path / "wide.mp4", *h264(), "-vf", "setsar=4/3", seconds=3, sound=False)
    clip = await encode(path, 1, 2, (0,), ())
    assert (stream(clip)["width"], stream(clip)["height"]) == (256, 108)
    assert_for_web(clip)


async def test_damage_is_concealed(
    vod: Vod, encode: Encode, programs: FfmpegPrograms, tmp_path: Path
) -> None:
    content = bytearray(vod("b-frames.mp4").path.read_bytes())
    media = slice(1000, content.rindex(b"moov") - 4, 1777)
    content[media] = bytes(255 - each for each in content[media])
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    clip = await encode(path, 5.3, 8.3)
    assert len(shown(clip)) > 80
    assert float(stream(clip, "audio")["duration"]) == pytest.approx(3, abs=0.001)
    assert await tool(programs).decode(clip) == []
    assert await tool(programs).decode(path) != []
