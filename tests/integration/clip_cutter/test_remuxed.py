"""What ffmpeg copies for us is the window, to the frame, wherever reading began."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clip_cutter.containers.model import Excerpt, TrackKind
from clip_cutter.containers.mp4.writer import write
from clip_cutter.domain.policy import Skipped, Window
from clip_cutter.ffmpeg.run import Ffmpeg, FfmpegPrograms
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods.remuxed import open_remuxed
from clip_cutter.vods.source import LocalFile
from clip_shared.contracts.events import SkipReason
from tests.integration.clip_cutter.conftest import LIMITS
from tests.integration.clip_cutter.media import DecodedFile, h264, record, remux

Vod = Callable[[str], DecodedFile]
START, END = 5.3, 8.3


@dataclass(frozen=True)
class RemuxedReader:
    """Reads windows of VODs as the cutter does where nothing else reads them."""

    ffmpeg: Ffmpeg
    job: Job

    async def read(self, path: Path, start: float, end: float) -> Excerpt:
        source = LocalFile.of(path)
        vod = await open_remuxed(source, self.ffmpeg)
        return await vod.excerpt(source, Window(start, end), self.job)

    async def see(self, path: Path, start: float, end: float) -> DecodedFile:
        """What a player sees of a clip that our writer writes of the excerpt."""
        excerpt = await self.read(path, start, end)
        clip = self.job.folder / "clip.mp4"
        write(clip, [track for track in (excerpt.video, excerpt.audio) if track], start, end)
        return DecodedFile(clip)


@pytest.fixture
def reader(programs: FfmpegPrograms, scratch: Scratch) -> Iterator[RemuxedReader]:
    ffmpeg = Ffmpeg(programs, limits=LIMITS, threads=2, on_pulled=lambda _: None)
    with scratch.job(5) as job:
        yield RemuxedReader(ffmpeg, job)


COPIED = [
    "b-frames.mkv",
    "b-frames.ts",
    "b-frames.flv",
    "from-an-hour.ts",
    "open-gop.ts",
    "film.ts",
    "pal.mkv",
]
COPIED += ["ntsc.flv", "mpeg2.ts", "hevc.mp4", "vp9.mkv", "mp3.ts", "opus.mkv", "silent.ts", "live.mp4"]


@pytest.mark.parametrize("start", [START, 4.0, 0.0, 6.717])
@pytest.mark.parametrize("name", COPIED)
async def test_a_window_is_copied_to_the_frame(
    vod: Vod, reader: RemuxedReader, name: str, start: float
) -> None:
    source = vod(name)
    seen = await reader.see(source.path, start, start + 3)
    wanted = source.from_to(start, start + 3)
    hashes = [frame.hash for frame in seen.frames if frame.time > -0.001]
    assert hashes[-len(wanted) :] == [frame.hash for frame in wanted]
    assert len(hashes) <= len(wanted) + 1  # the one that is on screen at the start may come first
    if source.stream("audio"):
        expected = [moment - start for moment in source.beeps if start + 0.1 < moment < start + 2.9]
        assert [beep for beep in seen.beeps if 0.1 < beep < 2.9] == pytest.approx(expected, abs=0.004)


async def test_reading_begins_further_back_until_a_keyframe_is_caught(
    vod: Vod, reader: RemuxedReader
) -> None:
    source = vod("long-gop.ts")  # keyframes at 0, 10 and 20 s
    excerpt = await reader.read(source.path, 19.5, 22.0)
    assert excerpt.video is not None
    first = excerpt.video.samples[0]
    assert first.is_keyframe
    assert excerpt.video.seconds(first.shown) == pytest.approx(10, abs=0.03)


async def test_a_frame_that_is_held_at_the_start_is_there(vod: Vod, reader: RemuxedReader) -> None:
    excerpt = await reader.read(vod("screencast.mkv").path, 5.03, 8.03)  # between frames 150 and 155
    video = excerpt.video
    assert video is not None
    shown = sorted(video.seconds(sample.shown) for sample in video.samples)
    assert max(time for time in shown if time <= 5.031) == pytest.approx(5.0, abs=0.002)


async def test_a_held_frame_is_found_from_far_behind_it(reader: RemuxedReader, tmp_path: Path) -> None:
    path = record(tmp_path / "held.mkv", "-vf", "select='not(between(t,3,9))'", *h264(), "-fps_mode", "vfr")
    excerpt = await reader.read(path, 8.0, 11.0)
    video = excerpt.video
    assert video is not None
    shown = sorted(video.seconds(sample.shown) for sample in video.samples)
    assert max(time for time in shown if time <= 8) == pytest.approx(3 - 1 / 30, abs=0.002)


FOREIGN = {
    "vp8 vorbis.mkv": ("-c:v", "libvpx", "-deadline", "realtime", "-b:v", "2M", "-c:a", "libvorbis"),
    "h264 pcm_s16le.mkv": (*h264(), "-c:a", "pcm_s16le"),
    "flv1 mp3.flv": ("-c:v", "flv1", "-q:v", "2", "-c:a", "libmp3lame", "-ar", "44100"),
    "mjpeg flac.mkv": ("-c:v", "mjpeg", "-q:v", "2", "-c:a", "flac"),
    "mpeg2video ac3.mkv": ("-c:v", "mpeg2video", "-q:v", "2", "-c:a", "ac3"),
    "mpeg4 mp2.mkv": ("-c:v", "mpeg4", "-q:v", "2", "-c:a", "mp2"),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_what_mp4_cannot_hold_is_read_all_the_same(
    reader: RemuxedReader, tmp_path: Path, name: str
) -> None:
    path = record(tmp_path / f"vod{Path(name).suffix}", *FOREIGN[name])
    excerpt = await reader.read(path, START, END)
    video, audio = excerpt.video, excerpt.audio
    assert video is not None
    assert audio is not None
    assert [video.formats[0].codec, audio.formats[0].codec] == Path(name).stem.split()
    assert not audio.formats[0].is_web
    clip = reader.job.folder / "clip.mp4"
    write(clip, [video, audio], START, END)
    assert DecodedFile(clip).numbers()[-90:] == list(range(159, 249))
    expected = [beep - START for beep in DecodedFile(path).beeps if START < beep < END]
    assert DecodedFile(clip).beeps == pytest.approx(expected, abs=0.01)


async def test_audio_that_begins_late_does_not_keep_us_reading(vod: Vod, reader: RemuxedReader) -> None:
    excerpt = await reader.read(vod("late-sound.mp4").path, 1.0, 4.0)
    audio = excerpt.audio
    assert audio is not None
    assert audio.kind is TrackKind.AUDIO
    assert audio.seconds(audio.samples[0].shown) == pytest.approx(1.5, abs=0.03)


async def test_audio_outside_the_window_is_left_out(vod: Vod, reader: RemuxedReader) -> None:
    audio = (await reader.read(vod("late-sound.mp4").path, 0.0, 1.4)).audio
    assert audio is not None
    assert not audio.samples


async def test_damage_is_told(vod: Vod, reader: RemuxedReader, tmp_path: Path) -> None:
    content = bytearray(vod("b-frames.mkv").path.read_bytes())
    at = len(content) // 2
    content[at : at + 30_000] = bytes(30_000)
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    excerpt = await reader.read(path, START, END)
    assert excerpt.video is not None
    assert excerpt.video.damages


async def test_no_video_there_is_said(vod: Vod, reader: RemuxedReader, tmp_path: Path) -> None:
    path = tmp_path / "half.mkv"
    content = vod("b-frames.mkv").path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Skipped) as skip:
        await reader.read(path, 9.0, 11.0)
    assert skip.value.reason is SkipReason.SOURCE_UNREADABLE
    assert str(skip.value) == "The VOD has no video between 0:00:09 and 0:00:11, so no clip can be cut there."


async def test_what_is_no_video_is_said(reader: RemuxedReader, tmp_path: Path) -> None:
    path = tmp_path / "text.mkv"
    path.write_bytes(b"This is not a video.\n" * 1000)
    with pytest.raises(Skipped, match="damaged, or not a video at all"):
        await reader.read(path, 1.0, 4.0)


async def test_no_other_moment_is_given_where_the_clock_jumps(
    vod: Vod, reader: RemuxedReader, tmp_path: Path
) -> None:
    first = vod("b-frames.ts").path.read_bytes()
    later = remux(vod("b-frames.mp4").path, tmp_path / "later.ts", "-output_ts_offset", "3600").read_bytes()
    path = tmp_path / "jump.ts"
    path.write_bytes(first + later)
    with pytest.raises(Skipped):
        await reader.read(path, 10.0, 14.0)
    with pytest.raises(Skipped):
        await reader.read(path, 14.0, 17.0)
