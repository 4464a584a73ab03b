"""Read ffprobe's JSON output about a file."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from clip_cutter.domain.media import UNKNOWN, Audio, DisplayProperties, Media, Video
from clip_shared.errors import ClipsError

PROBED = (
    "format=format_name,start_time,duration,bit_rate"
    ":stream=index,codec_type,codec_name,pix_fmt,width,height,avg_frame_rate,r_frame_rate,start_time,duration"
    ",color_range,color_space,color_transfer,color_primaries,field_order,sample_aspect_ratio"
    ":stream_disposition=default,attached_pic"
    ":stream_side_data=rotation"
)
INTERLACED = frozenset({"tt", "bb", "tb", "bt"})  # which field is stored first, and which is shown first
QUARTER = 90
MAX_PIXEL_ASPECT = 16  # of a pixel: no camera goes beyond 2
PACKETS = "packet=pts_time"
SLOWEST_FRAME_RATE, FASTEST_FRAME_RATE = 5, 300
DEFAULT_FRAME_SECONDS = 1 / 30


@dataclass(frozen=True)
class VideoStreams:
    """The video streams of a file by their index, and the times at which its first frames are shown."""

    videos: Mapping[int, Video]
    shown: Sequence[float]


class InvalidProbeOutput(ClipsError):
    """ffprobe's output does not describe a media file."""


def read_media(answer: bytes) -> Media:
    """Read ffprobe's JSON (the entries of ``PROBED``).

    Cover art does not count as video. Of several audio streams, the default stream is used, else the first.

    Raises:
        InvalidProbeOutput: the output lacks an entry that every media file has.
    """
    try:
        return _read(json.loads(answer))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidProbeOutput(str(error)) from error


def read_video_streams(answer: bytes) -> VideoStreams:
    """Read ffprobe's JSON (the entries of ``PROBED`` and ``PACKETS``) about a file that our own writer wrote.

    Raises:
        InvalidProbeOutput: the output lacks an entry that every media file has.
    """
    try:
        return _video_streams(json.loads(answer))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidProbeOutput(str(error)) from error


def _video_streams(answer: Mapping[str, Any]) -> VideoStreams:
    videos = {
        int(each["index"]): _read_video(each, 0.0)
        for each in answer["streams"]
        if each.get("codec_type") == "video"
    }
    times = [_number(each.get("pts_time")) for each in answer.get("packets", [])]
    return VideoStreams(videos, tuple(time for time in times if time is not None))


def _read(answer: Mapping[str, Any]) -> Media:
    about, streams = answer["format"], answer.get("streams", [])
    start = _number(about.get("start_time")) or 0.0
    videos = [each for each in streams if each.get("codec_type") == "video" and not _is(each, "attached_pic")]
    audios = [each for each in streams if each.get("codec_type") == "audio" and "codec_name" in each]
    audios.sort(key=lambda each: not _is(each, "default"))
    return Media(
        container=str(about["format_name"]).split(",")[0],
        start=start,
        seconds=_number(about.get("duration")),
        bit_rate=int(_number(about.get("bit_rate")) or 0) or None,
        video=_read_video(videos[0], start) if videos else None,
        audio=_read_audio(audios[0], start) if audios else None,
    )


def _read_video(stream: Mapping[str, Any], file_start: float) -> Video:
    start = _number(stream.get("start_time"))
    return Video(
        index=int(stream["index"]),
        codec=str(stream.get("codec_name", UNKNOWN)),
        pixel_format=str(stream.get("pix_fmt", UNKNOWN)),
        width=int(stream.get("width", 0)),
        height=int(stream.get("height", 0)),
        frame_seconds=_frame_seconds(stream),
        start=file_start if start is None else start,
        seconds=_number(stream.get("duration")),
        display=_read_display(stream),
    )


def _read_display(stream: Mapping[str, Any]) -> DisplayProperties:
    turns = [_number(each.get("rotation")) or 0.0 for each in stream.get("side_data_list", [])]
    return DisplayProperties(
        color_range=str(stream.get("color_range", UNKNOWN)),
        matrix=str(stream.get("color_space", UNKNOWN)),
        transfer=str(stream.get("color_transfer", UNKNOWN)),
        primaries=str(stream.get("color_primaries", UNKNOWN)),
        is_interlaced=stream.get("field_order") in INTERLACED,
        pixel_aspect=read_aspect(str(stream.get("sample_aspect_ratio", "")).replace(":", "/")),
        is_turned=any(round(abs(turn)) % 180 == QUARTER for turn in turns),
    )


def read_aspect(text: str) -> Fraction:
    """Read the aspect ratio of a pixel (``64/45``); 1 if it is missing, or beyond ``MAX_PIXEL_ASPECT``."""
    above, _, below = text.partition("/")
    if not (above.isdecimal() and below.isdecimal() and int(above) and int(below)):
        return Fraction(1)
    aspect = Fraction(int(above), int(below))
    return aspect if Fraction(1, MAX_PIXEL_ASPECT) <= aspect <= MAX_PIXEL_ASPECT else Fraction(1)


def _read_audio(stream: Mapping[str, Any], file_start: float) -> Audio:
    start = _number(stream.get("start_time"))
    return Audio(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        start=file_start if start is None else start,
        seconds=_number(stream.get("duration")),
    )


def _is(stream: Mapping[str, Any], disposition: str) -> bool:
    return bool(stream.get("disposition", {}).get(disposition))


def _frame_seconds(stream: Mapping[str, Any]) -> float:
    for name in ("avg_frame_rate", "r_frame_rate"):
        above, _, below = str(stream.get(name, "0/0")).partition("/")
        if above.isdigit() and below.isdigit() and int(below) > 0:
            rate = Fraction(int(above), int(below))
            if SLOWEST_FRAME_RATE <= rate <= FASTEST_FRAME_RATE:
                return float(1 / rate)
    return DEFAULT_FRAME_SECONDS


def _number(text: object) -> float | None:
    """Return a finite number; None for other values: ffprobe says ``N/A``, and a file may claim anything."""
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
