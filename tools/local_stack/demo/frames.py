"""Looking at recordings: what they are, and which pictures they show at a moment."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from local_stack.processes.ffmpeg import FfmpegFailed, find_tools, run_tool

# Pictures are compared at this size where they cannot be identical, because they were re-encoded.
SMALL = (320, 180)
# Containers round: Matroska and FLV to milliseconds.
ROUNDING_SECONDS = 0.001
# Mean difference of two grey pictures (0 to 255) up to which one counts as a re-encode of the other.
SIMILAR = 6.0
# Decoding begins so long before the moment that is looked at, and ends so long after it.
_LEAD_SECONDS, _REACH_SECONDS = 12.0, 0.5


@dataclass(frozen=True)
class ProbedVod:
    """What a file says about itself. ``start`` is the time stamp that its zero has, in seconds."""

    start: float
    seconds: float
    video: str
    pixels: str
    size: str
    audio: str | None
    skew_ms: float | None


@dataclass(frozen=True)
class DecodedFrame:
    """A decoded picture: when it is shown, a hash of all of it, and all of it in small and grey."""

    seconds: float
    digest: str
    small: bytes


@dataclass(frozen=True)
class FrameMatch:
    """The frame of a recording that a picture is, ``difference`` being 0 when it is that very frame."""

    frame: DecodedFrame
    difference: float


def probe(file: Path) -> ProbedVod:
    """What a recording is.

    Raises:
        ToolFailed: it cannot be read, or has no picture.
    """
    answer = _ffprobe(file, "-show_format", "-show_streams")
    video = _stream(answer, "video")
    audio = _stream(answer, "audio")
    if video is None:
        raise FfmpegFailed(f"{file} has no picture")
    facts = answer["format"]
    start = _number(facts.get("start_time"), 0.0)
    ends = _number(facts.get("duration"), 0.0)
    return ProbedVod(
        start=start,
        seconds=ends or _last_packet(file) - start,
        video=video["codec_name"],
        pixels=video.get("pix_fmt", ""),
        size=f"{video['width']}x{video['height']}",
        audio=audio["codec_name"] if audio else None,
        skew_ms=1000 * (_number(audio["start_time"], 0.0) - _number(video["start_time"], 0.0))
        if audio
        else None,
    )


def frames_around(file: Path, recording: ProbedVod, seconds: float) -> list[DecodedFrame]:
    """The frames that are shown within half a second of a moment, in order; decoded, never guessed.

    Raises:
        ToolFailed: the recording shows nothing there.
    """
    window = (seconds - _REACH_SECONDS, seconds + _REACH_SECONDS)
    lead = max(0.0, seconds - _LEAD_SECONDS)
    for begin in (lead, 0.0) if lead else (0.0,):
        frames = _decode(file, recording, begin, window)
        # Containers without an index may be entered too late: then decode from the beginning.
        if frames and (frames[0].seconds <= seconds + ROUNDING_SECONDS or not begin):
            return frames
    raise FfmpegFailed(f"{file} shows no picture at {seconds:g} s")


def first_frame(file: Path) -> DecodedFrame:
    """The first picture that a player shows.

    Raises:
        ToolFailed: there is none.
    """
    frames = _decode(file, probe(file), 0.0, (-math.inf, math.inf), "-frames:v", "1")
    if not frames:
        raise FfmpegFailed(f"{file} shows no picture")
    return frames[0]


def shown_at(frames: Sequence[DecodedFrame], seconds: float) -> list[DecodedFrame]:
    """The frames that a cut may begin with: the one on screen at a moment, and the first one from then on."""
    on_screen = [frame for frame in frames if frame.seconds <= seconds + ROUNDING_SECONDS][-1:]
    following = [frame for frame in frames if frame.seconds >= seconds - ROUNDING_SECONDS][:1]
    return on_screen + [frame for frame in following if frame not in on_screen]


def find(picture: DecodedFrame, frames: Sequence[DecodedFrame], near: float) -> FrameMatch:
    """The frame that a picture is, or is a re-encode of; of several alike the one nearest to a moment."""

    def rank(frame: DecodedFrame) -> tuple[float, float]:
        return _difference(picture, frame), abs(frame.seconds - near)

    best = min(frames, key=rank)
    return FrameMatch(best, _difference(picture, best))


def _difference(one: DecodedFrame, other: DecodedFrame) -> float:
    if one.digest == other.digest:
        return 0.0
    total = sum(abs(a - b) for a, b in zip(one.small, other.small, strict=True))
    # Not the same, however alike they look in small.
    return max(total / len(one.small), 0.001)


def _decode(
    file: Path, recording: ProbedVod, begin: float, window: tuple[float, float], *limits: str
) -> list[DecodedFrame]:
    first, last = (recording.start + moment for moment in window)
    chosen = "null" if math.isinf(first) else f"select='between(t,{first:.6f},{last:.6f})'"
    small = f"scale={SMALL[0]}:{SMALL[1]}:flags=area,format=gray"
    seek = ["-ss", f"{begin:.6f}"] if begin else []
    until = [] if math.isinf(last) else ["-t", f"{window[1] - begin + 1:.6f}"]
    # Times as they are: left alone, ffmpeg rounds them to multiples of the usual frame.
    as_they_are = ["-fps_mode", "passthrough", "-enc_time_base", "1:90000", *limits]
    with tempfile.TemporaryDirectory(prefix="clips-frames-") as folder:
        hashes, pictures = Path(folder) / "hashes", Path(folder) / "pictures"
        arguments: list[str | Path] = ["-hide_banner", "-loglevel", "error", "-nostdin", "-copyts"]
        arguments += [*seek, *until, "-i", file]
        arguments += ["-filter_complex", f"[0:v:0]{chosen},split[all][some];[some]{small}[small]"]
        arguments += ["-map", "[all]", *as_they_are, "-f", "framehash", "-hash", "md5", hashes]
        arguments += ["-map", "[small]", *as_they_are, "-f", "rawvideo", pictures]
        run_tool(find_tools().ffmpeg, arguments)
        return _read_frames(hashes.read_text(), pictures.read_bytes(), recording.start)


def _read_frames(hashes: str, pictures: bytes, start: float) -> list[DecodedFrame]:
    size = SMALL[0] * SMALL[1]
    base = Fraction(1)
    frames: list[DecodedFrame] = []
    for line in hashes.splitlines():
        if line.startswith("#tb 0:"):
            base = Fraction(line.partition(":")[2].strip())
        if line.startswith("#") or not line:
            continue
        # Stream, decoding time, presentation time, duration, size, hash.
        fields = [field.strip() for field in line.split(",")]
        place = len(frames) * size
        seconds = float(int(fields[2]) * base) - start
        frames.append(DecodedFrame(seconds, fields[5], pictures[place : place + size]))
    return frames


def _last_packet(file: Path) -> float:
    """The end of a recording that does not say how long it is, as one that was never closed."""
    answer = _ffprobe(file, "-select_streams", "v:0", "-show_entries", "packet=pts_time")
    return max((_number(packet.get("pts_time"), 0.0) for packet in answer["packets"]), default=0.0)


def _ffprobe(file: Path, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        run_tool(find_tools().ffprobe, ["-v", "error", *arguments, "-of", "json", file])
    )
    return answer


def _stream(answer: dict[str, Any], kind: str) -> dict[str, Any] | None:
    return next((stream for stream in answer["streams"] if stream["codec_type"] == kind), None)


def _number(text: str | None, otherwise: float) -> float:
    try:
        return float(text or "")
    except ValueError:
        return otherwise
