"""A poster shows something, with square pixels and the right colours, and costs one run in the usual case."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clip_cutter.ffmpeg import process
from clip_cutter.ffmpeg.run import Ffmpeg, FfmpegPrograms
from tests.integration.clip_cutter.conftest import LIMITS
from tests.integration.clip_cutter.media import DecodedFile, ffmpeg, h264

BARS = "smptehdbars=size=1280x720:rate=10:duration={},setparams=colorspace=bt709"
BLACK = "color=black:size=1280x720:rate=10:duration={},setparams=colorspace=bt709"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that were run."""
    seen: list[str] = []
    run = process.run

    async def count(command: list[str], *rest: Any, **options: Any) -> process.ProcessResult:
        seen.append(command[0])
        return await run(command, *rest, **options)

    monkeypatch.setattr(process, "run", count)
    return seen


@pytest.fixture
def make_poster(programs: FfmpegPrograms, tmp_path: Path, runs: list[str]) -> Callable[..., Any]:  # noqa: ARG001
    async def make(clip: Path, *moments: float) -> Path:
        tool = Ffmpeg(programs, limits=LIMITS, threads=2, on_pulled=lambda _: None)
        await tool.poster(clip, tmp_path / "poster.jpg", moments)
        return tmp_path / "poster.jpg"

    return make


def clip(
    path: Path, *sources: str, filters: str = "null", options: tuple[str, ...] = h264(keyframe_every=20)
) -> Path:
    """A clip that shows sources one after the other."""
    inputs = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
    joined = f"concat=n={len(sources)},{filters}"
    ffmpeg(*inputs, "-filter_complex", joined, "-pix_fmt", "yuv420p", *options, str(path))
    return path


def colour(path: Path, x: float, y: float) -> tuple[int, ...]:
    """The colour at a place of a JPEG (parts of its width and height)."""
    crop = f"format=rgb24,crop=1:1:iw*{x}:ih*{y}"
    return tuple(ffmpeg("-i", str(path), "-vf", crop, "-f", "rawvideo", "-"))


def size(path: Path) -> tuple[int, int, str]:
    about = DecodedFile(path).stream("video")
    assert about is not None
    return about["width"], about["height"], about["sample_aspect_ratio"]


async def test_the_first_keyframe_costs_one_run(make_poster: Any, runs: list[str], tmp_path: Path) -> None:
    poster = await make_poster(clip(tmp_path / "clip.mp4", BARS.format(4)), 0.0, 2.0)
    assert len(runs) == 1
    assert size(poster) == (1280, 720, "1:1")
    # Of SMPTE RP 219: 40 % grey, and 75 % yellow, cyan, green
    assert colour(poster, 0.05, 0.3) == pytest.approx((102, 102, 102), abs=4)
    assert colour(poster, 0.3, 0.3) == pytest.approx((191, 191, 0), abs=6)
    assert colour(poster, 0.5, 0.3) == pytest.approx((0, 191, 0), abs=6)


async def test_a_black_beginning_is_passed_over(make_poster: Any, runs: list[str], tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", BLACK.format(4), BARS.format(6))
    poster = await make_poster(path, 0.0, 2.0, 4.0, 6.0, 8.0)
    assert len(runs) == 2
    assert colour(poster, 0.3, 0.3) == pytest.approx((191, 191, 0), abs=6)


async def test_a_clip_with_one_keyframe_has_other_frames(
    make_poster: Any, runs: list[str], tmp_path: Path
) -> None:
    options = h264(keyframe_every=1000)
    path = clip(tmp_path / "clip.mp4", BLACK.format(2), BARS.format(4), options=options)
    poster = await make_poster(path, 0.0)
    assert len(runs) == 3  # and one that asks how long it is
    assert colour(poster, 0.3, 0.3) == pytest.approx((191, 191, 0), abs=6)


async def test_a_black_clip_has_a_black_poster(make_poster: Any, tmp_path: Path) -> None:
    poster = await make_poster(clip(tmp_path / "clip.mp4", BLACK.format(4)), 0.0, 2.0)
    assert colour(poster, 0.5, 0.5) == (0, 0, 0)


@pytest.mark.parametrize(
    ("aspect", "expected"), [("64/45", (512, 288)), ("8/9", (360, 324)), ("5", (1280, 204))]
)
async def test_pixels_are_square(
    make_poster: Any, tmp_path: Path, aspect: str, expected: tuple[int, int]
) -> None:
    path = clip(tmp_path / "clip.mp4", "testsrc2=size=360x288:duration=2", filters=f"setsar={aspect}")
    assert size(await make_poster(path, 0.0)) == (*expected, "1:1")


SAID = "scale=out_color_matrix={0}:out_range={1},format=yuv420p,setparams=colorspace={0}:range={1}"


@pytest.mark.parametrize(
    ("filters", "dimensions"),
    [
        (SAID.format("bt709", "tv"), "1280x720"),
        (SAID.format("bt709", "pc"), "1280x720"),
        (SAID.format("bt470bg", "tv"), "640x360"),
        (SAID.format("smpte170m", "pc"), "640x360"),
        ("scale=out_color_matrix=bt709,format=yuv420p,setparams=colorspace=unknown", "1280x720"),
        ("scale=out_color_matrix=bt601,format=yuv420p,setparams=colorspace=unknown", "640x360"),
    ],
)
async def test_colours_are_right(make_poster: Any, tmp_path: Path, filters: str, dimensions: str) -> None:
    green = f"color=0x20e040:size={dimensions}:duration=2,format=gbrp"
    poster = await make_poster(clip(tmp_path / "clip.mp4", green, filters=filters), 0.0)
    assert colour(poster, 0.5, 0.5) == pytest.approx((0x20, 0xE0, 0x40), abs=5)


async def test_high_dynamic_range_is_tone_mapped(make_poster: Any, runs: list[str], tmp_path: Path) -> None:
    green = "testsrc2=size=320x180:rate=10:duration=2,drawbox=w=160:h=180:color=0x00c000:t=fill"
    wide = (
        "scale=out_color_matrix=bt709,format=yuv444p,"
        "zscale=p=bt2020:m=2020_ncl:t=smpte2084:npl=100:pin=709:tin=709:min=709:rin=limited,format=yuv420p10"
    )
    hevc = (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none",
        "-pix_fmt",
        "yuv420p10",
    )
    path = clip(tmp_path / "clip.mp4", green, filters=wide, options=hevc)
    red, shown, blue = colour(await make_poster(path, 0.0), 0.2, 0.5)
    assert len(runs) == 2
    assert 150 < shown < 210
    assert max(red, blue) < 60


async def test_of_two_fields_one_is_shown(make_poster: Any, tmp_path: Path) -> None:
    fields = ("-flags", "+ildct+ilme", "-c:v", "mpeg2video", "-q:v", "2")
    moving = "testsrc2=size=320x180:rate=50:duration=2,tinterlace=interleave_top"
    assert size(await make_poster(clip(tmp_path / "clip.mp4", moving, options=fields), 0.0)) == (
        320,
        180,
        "1:1",
    )
