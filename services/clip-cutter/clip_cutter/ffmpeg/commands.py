"""The arguments of ffmpeg and ffprobe: pure, no process is started here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from clip_cutter.containers.model import ROUNDING_SECONDS
from clip_cutter.domain.media import Media, Video
from clip_cutter.ffmpeg.filters import (
    SAMPLE_RATE,
    continuous,
    for_poster,
    for_usual_poster,
    for_web,
    shown_size,
)
from clip_cutter.ffmpeg.input import FfmpegInput
from clip_cutter.ffmpeg.posters import PosterFrames
from clip_cutter.ffmpeg.probe import PACKETS, PROBED, VideoStreams

# "verbose", because it counts the bytes that were read; "level", so that errors can be told from the rest.
LOG = ("-hide_banner", "-loglevel", "level+verbose")
QUIETLY = (*LOG, "-nostdin", "-nostats")

WEB_VIDEO: Mapping[str, Any] = {
    "c:v": "libx264",
    "preset": "veryfast",
    "crf": 20,
    "pix_fmt": "yuv420p",
    # Else time stamps are rounded to the frame rate, and the picture moves against the sound.
    "enc_time_base:v": "1/90000",
    "fps_mode:v": "passthrough",  # a held frame is stored once
}
WEB_AUDIO: Mapping[str, Any] = {"c:a": "aac", "b:a": "160k", "ac": 2}
MP4: Mapping[str, Any] = {
    "f": "mp4",
    "movflags": "+faststart",
    "use_editlist": 1,
    # The time scale of edit lists: MPEG-TS's own, and fine enough for every frame rate.
    "movie_timescale": 90_000,
    # What a recorder wrote about itself and its owner is nobody's business.
    "map_metadata": -1,
    "map_chapters": -1,
    "dn": None,
    "sn": None,
}
UNSORTED_MP4 = {name: value for name, value in MP4.items() if name != "movflags"}
# What is copied into MP4; PCM would have an index of a row for each sample.
COPIED_VIDEO = frozenset({"h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mpeg4"})
COPIED_AUDIO = frozenset({"aac", "mp2", "mp3", "opus", "vorbis", "ac3", "eac3", "flac", "alac"})
NEAR_LOSSLESS: Mapping[str, Any] = {
    "c:v": "libx264",
    "preset": "ultrafast",
    "crf": 10,
    "enc_time_base:v": "1/90000",
    "fps_mode:v": "passthrough",
}
JPEG: Mapping[str, Any] = {
    "f": "image2",
    "fps_mode": "passthrough",  # else a picture from before the time that was sought is dropped
    "enc_time_base": "1/25",  # any will do, as long as frames have different times
    "c:v": "mjpeg",
    "q:v": 3,
    "pix_fmt": "yuvj420p",
    "threads": 1,
}

# A seek for a picture must aim this far behind it: ffmpeg allows for pictures that are decoded before they
# are shown, and would land on the keyframe before.
SEEK_SECONDS = 0.2
# How much later in a file than its successors a frame may lie.
REORDERED_SECONDS = 2.0


@dataclass(frozen=True)
class Encoding:
    """What becomes of a file by our own writer, each of whose streams has one format.

    Args:
        source: the file.
        video, audio: the streams, by index, that make up the video and the audio, in order of time. An empty
            tuple: the clip has none of that kind.
        start, end: what of it becomes the clip, in seconds of the file's time line.
        rate: pictures a second, where those that stay on screen are to be repeated; None: they are not.
        is_damaged: pictures are missing or broken. What a decoder makes of that depends on its threads, and
            the order in which they run: it gets one, so that the same VOD gives the same clip.
    """

    source: Path
    video: tuple[int, ...]
    audio: tuple[int, ...]
    start: float
    end: float
    rate: Fraction | None = None
    is_damaged: bool = False


@dataclass(frozen=True)
class RemuxRange:
    """A part of a VOD to be copied, in seconds from the start of the VOD."""

    source: FfmpegInput
    media: Media
    start: float
    end: float


def probe_command(ffprobe: str, source: FfmpegInput) -> list[str]:
    """Ask ffprobe for what :func:`clip_cutter.ffmpeg.probe.read_media` reads."""
    options = [part for name, value in source.options().items() for part in (f"-{name}", str(value))]
    return [ffprobe, *LOG, *options, "-show_entries", PROBED, "-of", "json", source.location]


def copies_video(codec: str) -> bool:
    """Tell whether :func:`remux_command` copies video of a codec."""
    return codec in COPIED_VIDEO


def copies_audio(codec: str) -> bool:
    """Tell whether :func:`remux_command` copies audio of a codec."""
    return codec in COPIED_AUDIO


def remux_command(program: str, part: RemuxRange, output: Path, threads: int) -> list[str]:
    """Copy a part into an MP4 whose line begins with it.

    It holds the keyframe before, too, if the container's index knows of it. What MP4 cannot hold is encoded
    with next to no loss.
    """
    media = part.media
    options = {"threads": threads} | part.source.options()
    if part.start > 0:  # a seek to 0 misses the first keyframe of some FLVs
        options["ss"] = _seconds(part.start)
    stream = ffmpeg.input(part.source.location, **options)
    streams: list[Any] = []
    codecs: dict[str, Any] = {}
    if media.video is not None:
        streams.append(stream[str(media.video.index)])
        codecs |= _copied_video(media.video)
    if media.audio is not None:
        audio = stream[str(media.audio.index)]
        is_copied = copies_audio(media.audio.codec)
        # An encoder of fixed frames would close the holes.
        streams.append(audio if is_copied else audio.filter("aresample", **{"async": 1}))
        # GStreamer's Matroska calls no packet of audio a keyframe: ffmpeg would wait for one.
        codecs |= {"c:a": "copy", "copyinkf:a": None} if is_copied else {"c:a": "alac"}
    options = {"t": _seconds(part.end - part.start), "threads": threads, "strict": "experimental"}
    return _compile(program, ffmpeg.output(*streams, str(output), **options, **codecs, **UNSORTED_MP4))


def _copied_video(video: Video) -> Mapping[str, Any]:
    if not copies_video(video.codec):
        return NEAR_LOSSLESS
    # Apple's players know HEVC in MP4 by this tag only.
    return {"c:v": "copy", "tag:v": "hvc1"} if video.codec == "hevc" else {"c:v": "copy"}


def video_streams_command(ffprobe: str, encoding: Encoding) -> list[str]:
    """Ask ffprobe for what :func:`clip_cutter.ffmpeg.probe.read_video_streams` reads."""
    source = FfmpegInput.of_file(encoding.source)
    options = [part for name, value in source.options().items() for part in (f"-{name}", str(value))]
    until = f"%{_seconds(encoding.start + REORDERED_SECONDS)}"
    shown = ["-select_streams", "v", "-show_entries", f"{PROBED}:{PACKETS}", "-read_intervals", until]
    return [ffprobe, *LOG, *options, *shown, "-of", "json", source.location]


def encode_command(
    program: str, encoding: Encoding, video_streams: VideoStreams, output: Path, threads: int
) -> list[str]:
    """Encode video and audio for the web, from ``encoding.start`` on, with their times kept.

    Every stream is read by an input of its own: one input would be read to its end for the first stream, and
    the frames of the others would fill the memory meanwhile.

    Raises:
        KeyError: the file has no video stream of such an index.
    """
    streams: list[Any] = []
    codecs: dict[str, Any] = {}
    if encoding.video:
        streams.append(_encoded_video(encoding, video_streams, threads))
        codecs |= WEB_VIDEO
    if encoding.audio:
        streams.append(_encoded_audio(encoding, threads))
        codecs |= WEB_AUDIO
    # A file that is damaged throughout becomes what can be decoded of it.
    options = {"threads": threads, "max_error_rate": 1, "t": _seconds(encoding.end - encoding.start)}
    return _compile(program, ffmpeg.output(*streams, str(output), **options, **codecs, **MP4))


def _encoded_video(encoding: Encoding, video_streams: VideoStreams, threads: int) -> Any:
    videos = [video_streams.videos[index] for index in encoding.video]
    size = shown_size(max(videos, key=lambda video: video.seconds or 0.0))
    # The frame that is on screen at the start is shown from there on, however long ago it appeared.
    on_screen = [time for time in video_streams.shown if time <= encoding.start + ROUNDING_SECONDS]
    first = max(on_screen, default=encoding.start) - ROUNDING_SECONDS
    parts = [
        for_web(_trimmed("trim", encoding, video.index, first, threads), video, size) for video in videos
    ]
    # "interleave" counts in microseconds, and forgets to convert the lengths of frames.
    merged = (
        parts[0]
        if len(parts) == 1
        else ffmpeg.filter([part.filter("settb", "AVTB") for part in parts], "interleave", len(parts))
    )
    placed = merged.filter("setpts", f"if(eq(N,0),0,max(PTS-{_seconds(encoding.start)}/TB,0))")
    if encoding.rate is None:
        return placed
    # The last one would be repeated for as long as the output takes it.
    length = _seconds(encoding.end - encoding.start)
    return placed.filter("fps", str(encoding.rate), start_time=0).filter("trim", end=length)


def _encoded_audio(encoding: Encoding, threads: int) -> Any:
    silence = ffmpeg.input(
        f"anullsrc=r={SAMPLE_RATE}:cl=stereo", f="lavfi", t=_seconds(encoding.end - encoding.start)
    )
    parts = [
        continuous(_moved(_trimmed("atrim", encoding, index, encoding.start, threads), encoding))
        for index in encoding.audio
    ]
    return ffmpeg.filter([silence, *parts], "amix", inputs=len(parts) + 1, duration="first", normalize=0)


def _trimmed(how: str, encoding: Encoding, index: int, start: float, threads: int) -> Any:
    """Return what is decoded of a stream, from ``start`` to the end."""
    source = FfmpegInput.of_file(encoding.source)
    decoders = 1 if encoding.is_damaged else threads
    stream = ffmpeg.input(
        source.location, **{f"threads:{index}": decoders, "copyts": None} | source.options()
    )
    return stream[str(index)].filter(how, start=_seconds(start), end=_seconds(encoding.end))


def _moved(stream: Any, encoding: Encoding) -> Any:
    return stream.filter("asetpts", f"PTS-{_seconds(encoding.start)}/TB")


def decode_command(program: str, path: Path, threads: int) -> list[str]:
    """Decode all of a file, and keep nothing."""
    source = FfmpegInput.of_file(path)
    stream = ffmpeg.input(source.location, threads=threads, **source.options())
    return _compile(program, ffmpeg.output(stream, "-", map=0, f="null", max_error_rate=1))


def poster_command(program: str, clip: Path, output: Path, chosen: PosterFrames) -> list[str]:
    """Save frames of a clip as JPEG, and say what they show.

    What comes before the first picture, hidden, has to be decoded for it: a keyframe costs a tenth of that.

    ``output`` has ``%d`` in its name for the number of a frame, from 1.
    """
    times: Sequence[float | None] = chosen.times or [None]
    frames = [_one_frame(clip, time, are_keyframes=chosen.are_keyframes) for time in times]
    stream = frames[0] if len(frames) == 1 else ffmpeg.filter(frames, "concat", n=len(frames))
    stream = stream.filter("showinfo", checksum=0)
    stream = for_usual_poster(stream) if chosen.video is None else for_poster(stream, chosen.video)
    stream = stream.filter("signalstats").filter("metadata", "print", file="-").filter("setpts", "N/TB")
    return _compile(program, ffmpeg.output(stream, str(output), **{"frames:v": len(frames)}, **JPEG))


def _one_frame(clip: Path, time: float | None, *, are_keyframes: bool) -> Any:
    source = FfmpegInput.of_file(clip)
    # A video that does not name its matrix has, mostly, this one.
    options: dict[str, Any] = {"threads": 1, "an": None, "colorspace": "bt709"} | source.options()
    if time is not None and are_keyframes:
        options |= {"ss": _seconds(time + SEEK_SECONDS), "noaccurate_seek": None, "skip_frame": "nokey"}
    elif time is not None:
        options |= {"ss": _seconds(time)}
    return ffmpeg.input(source.location, **options).video.filter("trim", end_frame=1)


def _compile(program: str, graph: Any) -> list[str]:
    command: list[str] = ffmpeg.compile(graph, cmd=[program, *QUIETLY], overwrite_output=True)
    return command


def _seconds(value: float) -> str:
    return f"{value:.6f}"
