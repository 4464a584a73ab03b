"""Build the arguments of ffmpeg and ffprobe. No process is started here."""

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

# "verbose": ffmpeg logs how many bytes it read. "level": each message begins with its level.
LOG = ("-hide_banner", "-loglevel", "level+verbose")
QUIETLY = (*LOG, "-nostdin", "-nostats")

WEB_VIDEO: Mapping[str, Any] = {
    "c:v": "libx264",
    "preset": "veryfast",
    "crf": 20,
    "pix_fmt": "yuv420p",
    # Otherwise ffmpeg rounds time stamps to the frame rate, and video drifts against audio.
    "enc_time_base:v": "1/90000",
    "fps_mode:v": "passthrough",  # a held frame is stored once
}
WEB_AUDIO: Mapping[str, Any] = {"c:a": "aac", "b:a": "160k", "ac": 2}
MP4: Mapping[str, Any] = {
    "f": "mp4",
    "movflags": "+faststart",
    "use_editlist": 1,
    # The time scale of edit lists: that of MPEG-TS, fine enough for every frame rate.
    "movie_timescale": 90_000,
    # Metadata of the VOD may name the streamer's software or machine: it is not copied.
    "map_metadata": -1,
    "map_chapters": -1,
    "dn": None,
    "sn": None,
}
UNSORTED_MP4 = {name: value for name, value in MP4.items() if name != "movflags"}
# Codecs that are copied into an MP4. PCM is not: its index would have a row for each audio sample.
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
    "fps_mode": "passthrough",  # otherwise a frame before the time of the seek is dropped
    "enc_time_base": "1/25",  # any value with which frames have different times
    "c:v": "mjpeg",
    "q:v": 3,
    "pix_fmt": "yuvj420p",
    "threads": 1,
}

# A seek for a frame must aim this far behind the frame: ffmpeg allows for frames that are decoded before they
# are shown, and would otherwise go to the keyframe before.
SEEK_SECONDS = 0.2
# How much later in the file than its successors a frame may be stored.
REORDERED_SECONDS = 2.0


@dataclass(frozen=True)
class Encoding:
    """How to re-encode a file that our own writer wrote, with one format in each of its streams.

    Args:
        source: the file.
        video, audio: the indexes of the streams that make up the video and the audio, in order of time. An
            empty tuple: the clip has no such track.
        start, end: the part of the file that becomes the clip, in seconds of the file's time line.
        rate: frames a second, if frames that stay on screen must be repeated; None: they are not repeated.
        is_damaged: whether frames are missing or broken. Then the decoder uses one thread: its output would
            depend on the order of its threads, and the same VOD must give the same clip.
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
    """The part of a VOD to copy into an MP4, in seconds from the start of the VOD."""

    source: FfmpegInput
    media: Media
    start: float
    end: float


def probe_command(ffprobe: str, source: FfmpegInput) -> list[str]:
    """Return the command whose output :func:`clip_cutter.ffmpeg.probe.read_media` reads."""
    options = [part for name, value in source.options().items() for part in (f"-{name}", str(value))]
    return [ffprobe, *LOG, *options, "-show_entries", PROBED, "-of", "json", source.location]


def copies_video(codec: str) -> bool:
    """Tell whether :func:`remux_command` copies video of a codec."""
    return codec in COPIED_VIDEO


def copies_audio(codec: str) -> bool:
    """Tell whether :func:`remux_command` copies audio of a codec."""
    return codec in COPIED_AUDIO


def remux_command(program: str, part: RemuxRange, output: Path, threads: int) -> list[str]:
    """Return the command that copies a part of a VOD into an MP4 whose time line begins with that part.

    The MP4 also holds the keyframe before the part, if the VOD's index lists it. Tracks that an MP4 cannot
    hold are re-encoded with almost no loss.
    """
    media = part.media
    options = {"threads": threads} | part.source.options()
    if part.start > 0:  # a seek to 0 misses the first keyframe of some FLV files
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
        # aresample fills gaps with silence: an encoder with frames of fixed length would close them.
        streams.append(audio if is_copied else audio.filter("aresample", **{"async": 1}))
        # copyinkf: GStreamer's Matroska marks no audio packet as a keyframe, and ffmpeg would wait for one.
        codecs |= {"c:a": "copy", "copyinkf:a": None} if is_copied else {"c:a": "alac"}
    options = {"t": _seconds(part.end - part.start), "threads": threads, "strict": "experimental"}
    return _compile(program, ffmpeg.output(*streams, str(output), **options, **codecs, **UNSORTED_MP4))


def _copied_video(video: Video) -> Mapping[str, Any]:
    if not copies_video(video.codec):
        return NEAR_LOSSLESS
    # Apple's players know HEVC in MP4 by no other tag.
    return {"c:v": "copy", "tag:v": "hvc1"} if video.codec == "hevc" else {"c:v": "copy"}


def video_streams_command(ffprobe: str, encoding: Encoding) -> list[str]:
    """Return the command whose output :func:`clip_cutter.ffmpeg.probe.read_video_streams` reads."""
    source = FfmpegInput.of_file(encoding.source)
    options = [part for name, value in source.options().items() for part in (f"-{name}", str(value))]
    until = f"%{_seconds(encoding.start + REORDERED_SECONDS)}"
    shown = ["-select_streams", "v", "-show_entries", f"{PROBED}:{PACKETS}", "-read_intervals", until]
    return [ffprobe, *LOG, *options, *shown, "-of", "json", source.location]


def encode_command(
    program: str, encoding: Encoding, video_streams: VideoStreams, output: Path, threads: int
) -> list[str]:
    """Return the command that re-encodes video and audio for the web, from ``encoding.start`` on.

    Each stream is read through an input of its own. One shared input would be read to its end for the first
    stream, while the frames of the other streams fill the memory.

    Raises:
        KeyError: the file has no video stream with an index of ``encoding.video``.
    """
    streams: list[Any] = []
    codecs: dict[str, Any] = {}
    if encoding.video:
        streams.append(_encoded_video(encoding, video_streams, threads))
        codecs |= WEB_VIDEO
    if encoding.audio:
        streams.append(_encoded_audio(encoding, threads))
        codecs |= WEB_AUDIO
    # max_error_rate: a damaged file is encoded as far as it can be decoded.
    options = {"threads": threads, "max_error_rate": 1, "t": _seconds(encoding.end - encoding.start)}
    return _compile(program, ffmpeg.output(*streams, str(output), **options, **codecs, **MP4))


def _encoded_video(encoding: Encoding, video_streams: VideoStreams, threads: int) -> Any:
    videos = [video_streams.videos[index] for index in encoding.video]
    size = shown_size(max(videos, key=lambda video: video.seconds or 0.0))
    # The frame that is on screen at the start is shown from the start on, also if it appeared long before.
    on_screen = [time for time in video_streams.shown if time <= encoding.start + ROUNDING_SECONDS]
    first = max(on_screen, default=encoding.start) - ROUNDING_SECONDS
    parts = [
        for_web(_trimmed("trim", encoding, video.index, first, threads), video, size) for video in videos
    ]
    # settb: "interleave" works in microseconds, and does not convert the lengths of frames.
    merged = (
        parts[0]
        if len(parts) == 1
        else ffmpeg.filter([part.filter("settb", "AVTB") for part in parts], "interleave", len(parts))
    )
    placed = merged.filter("setpts", f"if(eq(N,0),0,max(PTS-{_seconds(encoding.start)}/TB,0))")
    if encoding.rate is None:
        return placed
    # trim: otherwise "fps" repeats the last frame without end.
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
    """Return the decoded frames of a stream from ``start`` to ``encoding.end``."""
    source = FfmpegInput.of_file(encoding.source)
    decoders = 1 if encoding.is_damaged else threads
    stream = ffmpeg.input(
        source.location, **{f"threads:{index}": decoders, "copyts": None} | source.options()
    )
    return stream[str(index)].filter(how, start=_seconds(start), end=_seconds(encoding.end))


def _moved(stream: Any, encoding: Encoding) -> Any:
    return stream.filter("asetpts", f"PTS-{_seconds(encoding.start)}/TB")


def decode_command(program: str, path: Path, threads: int) -> list[str]:
    """Return the command that decodes a whole file and discards the result."""
    source = FfmpegInput.of_file(path)
    stream = ffmpeg.input(source.location, threads=threads, **source.options())
    return _compile(program, ffmpeg.output(stream, "-", map=0, f="null", max_error_rate=1))


def poster_command(program: str, clip: Path, output: Path, chosen: PosterFrames) -> list[str]:
    """Return the command that saves frames of a clip as JPEG, and prints their brightness and colours.

    ``output`` has ``%d`` in its name for the number of the frame, from 1. Keyframes are preferred: a frame
    that is no keyframe needs all frames before it decoded, which takes ten times as long.
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
    # The matrix that is assumed for a video that does not name its own.
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
