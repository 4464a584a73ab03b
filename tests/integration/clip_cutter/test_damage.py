"""Damage that only a decoder sees: a copy that shows a sign of it is decoded to its end, and re-encoded."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from clip_cutter.containers.mp4.index import open_movie
from clip_cutter.cutter import FinishedClip
from clip_cutter.ffmpeg.run import Ffmpeg
from clip_shared.contracts.events import CutMode
from tests.integration.clip_cutter.media import DecodedFile

Vod = Callable[[str], DecodedFile]
Cutting = Callable[..., Awaitable[FinishedClip]]
START, END = 5.0, 9.0


async def test_a_copy_with_a_sign_of_damage_is_decoded_and_re_encoded(
    vod: Vod, cut: Cutting, make_ffmpeg: Callable[..., Ffmpeg], tmp_path: Path
) -> None:
    path = broken(vod("b-frames.mp4").path, tmp_path / "broken.mp4")
    clip = await cut(path, START, END)
    assert clip.mode is CutMode.EXACT
    assert clip.fallback_reason is not None
    assert clip.fallback_reason.startswith("the clip does not decode without errors: ")
    assert await make_ffmpeg().decode(clip.video) == []


async def test_a_sound_copy_shows_none(vod: Vod, cut: Cutting, make_ffmpeg: Callable[..., Ffmpeg]) -> None:
    clip = await cut(vod("b-frames.mp4").path, START, END)
    assert clip.mode is CutMode.COPY
    assert await make_ffmpeg().decode(clip.video) == []


def broken(vod: Path, path: Path) -> Path:
    """Write over the middle of the keyframe before the window: its NAL units stay whole."""
    keyframe = open_movie(vod).select(START, END)[0].samples[0]
    data = bytearray(vod.read_bytes())
    middle = keyframe.offset + keyframe.size // 2
    data[middle : middle + 60] = b"\xa5" * 60
    path.write_bytes(data)
    return path
