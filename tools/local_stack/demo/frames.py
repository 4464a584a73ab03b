"""Probe VODs and clips, decode their frames, and compare frames."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from local_stack.processes.ffmpeg import FfmpegFailed, find_tools, run_tool

# Re-encoded frames are never identical: they are compared at this size.
SMALL = (320, 180)
# Matroska and FLV round times to milliseconds.
ROUNDING_SECONDS = 0.001
# Mean difference of two grey frames (0 to 255) up to which one counts as a re-encode of the other.
SIMILAR = 6.0
# Decoding begins _LEAD_SECONDS before a time and ends _REACH_SECONDS after it.
_LEAD_SECONDS, _REACH_SECONDS = 12.0, 0.5


@dataclass(frozen=True)
class ProbedVod:
    """What ffprobe found in a file. ``start``: the timestamp of the file's first second, in seconds."""

    start: float
    seconds: float
    video: str
    pixels: str
    size: str
    audio: str | None
    skew_ms: float | None


@dataclass(frozen=True)
class VodFrame:
    """A decoded frame: the time at which it is shown, a hash of it, and a small grey copy of it."""

    seconds: float
    digest: str
    small: bytes


@dataclass(frozen=True)
class FrameMatch:
    """The most similar frame of a VOD; ``difference`` is 0 when the two are identical."""

    frame: VodFrame
    difference: float


def probe(file: Path) -> ProbedVod:
    """Probe a VOD or clip with ffprobe.

    Raises:
        FfmpegFailed: the file cannot be read, or has no video.
    """
    answer = _ffprobe(file, "-show_format", "-show_streams")
    video = _stream(answer, "video")
    audio = _stream(answer, "audio")
    if video is None:
        raise FfmpegFailed(f"{file} has no video")
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


def frames_around(file: Path, probed: ProbedVod, seconds: float) -> list[VodFrame]:
    """Decode the frames that are shown within half a second of a time, in order.

    Raises:
        FfmpegFailed: no frame is shown at that time.
    """
    window = (seconds - _REACH_SECONDS, seconds + _REACH_SECONDS)
    lead = max(0.0, seconds - _LEAD_SECONDS)
    for begin in (lead, 0.0) if lead else (0.0,):
        frames = _decode(file, probed, begin, window)
        # In a container without an index, ffmpeg may seek too far: then decode from the beginning.
        if frames and (frames[0].seconds <= seconds + ROUNDING_SECONDS or not begin):
            return frames
    raise FfmpegFailed(f"{file} shows no frame at {seconds:g} s")


def first_frame(file: Path) -> VodFrame:
    """Return the first frame that a player shows.

    Raises:
        FfmpegFailed: the file has no frame.
    """
    frames = _decode(file, probe(file), 0.0, (-math.inf, math.inf), "-frames:v", "1")
    if not frames:
        raise FfmpegFailed(f"{file} shows no frame")
    return frames[0]


def shown_at(frames: Sequence[VodFrame], seconds: float) -> list[VodFrame]:
    """Return the frames that a cut may begin with: the frame on screen at a time, and the next frame."""
    on_screen = [frame for frame in frames if frame.seconds <= seconds + ROUNDING_SECONDS][-1:]
    following = [frame for frame in frames if frame.seconds >= seconds - ROUNDING_SECONDS][:1]
    return on_screen + [frame for frame in following if frame not in on_screen]


def find(frame: VodFrame, frames: Sequence[VodFrame], near: float) -> FrameMatch:
    """Return the most similar frame of ``frames``; of equally similar frames, that nearest to a time."""

    def rank(candidate: VodFrame) -> tuple[float, float]:
        return _difference(frame, candidate), abs(candidate.seconds - near)

    best = min(frames, key=rank)
    return FrameMatch(best, _difference(frame, best))


def _difference(one: VodFrame, other: VodFrame) -> float:
    if one.digest == other.digest:
        return 0.0
    total = sum(abs(a - b) for a, b in zip(one.small, other.small, strict=True))
    # Never 0: the frames differ, even where their small copies are equal.
    return max(total / len(one.small), 0.001)


def _decode(
    file: Path, probed: ProbedVod, begin: float, window: tuple[float, float], *limits: str
) -> list[VodFrame]:
    first, last = (probed.start + seconds for seconds in window)
    chosen = "null" if math.isinf(first) else f"select='between(t,{first:.6f},{last:.6f})'"
    small = f"scale={SMALL[0]}:{SMALL[1]}:flags=area,format=gray"
    seek = ["-ss", f"{begin:.6f}"] if begin else []
    until = [] if math.isinf(last) else ["-t", f"{window[1] - begin + 1:.6f}"]
    # Exact times: by default, ffmpeg rounds them to multiples of the usual frame.
    exact_times = ["-fps_mode", "passthrough", "-enc_time_base", "1:90000", *limits]
    with tempfile.TemporaryDirectory(prefix="clips-frames-") as folder:
        hashes, pixels = Path(folder) / "hashes", Path(folder) / "pixels"
        arguments: list[str | Path] = ["-hide_banner", "-loglevel", "error", "-nostdin", "-copyts"]
        arguments += [*seek, *until, "-i", file]
        arguments += ["-filter_complex", f"[0:v:0]{chosen},split[all][some];[some]{small}[small]"]
        arguments += ["-map", "[all]", *exact_times, "-f", "framehash", "-hash", "md5", hashes]
        arguments += ["-map", "[small]", *exact_times, "-f", "rawvideo", pixels]
        run_tool(find_tools().ffmpeg, arguments)
        return _read_frames(hashes.read_text(), pixels.read_bytes(), probed.start)


def _read_frames(hashes: str, pixels: bytes, start: float) -> list[VodFrame]:
    size = SMALL[0] * SMALL[1]
    base = Fraction(1)
    frames: list[VodFrame] = []
    for line in hashes.splitlines():
        if line.startswith("#tb 0:"):
            base = Fraction(line.partition(":")[2].strip())
        if line.startswith("#") or not line:
            continue
        # Stream, decoding time, presentation time, duration, size, hash.
        fields = [field.strip() for field in line.split(",")]
        offset = len(frames) * size
        seconds = float(int(fields[2]) * base) - start
        frames.append(VodFrame(seconds, fields[5], pixels[offset : offset + size]))
    return frames


def _last_packet(file: Path) -> float:
    """Return the last timestamp of a file without a duration, such as a file that was never closed."""
    answer = _ffprobe(file, "-select_streams", "v:0", "-show_entries", "packet=pts_time")
    return max((_number(packet.get("pts_time"), 0.0) for packet in answer["packets"]), default=0.0)


def _ffprobe(file: Path, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        run_tool(find_tools().ffprobe, ["-v", "error", *arguments, "-of", "json", file])
    )
    return answer


def _stream(answer: dict[str, Any], kind: str) -> dict[str, Any] | None:
    return next((stream for stream in answer["streams"] if stream["codec_type"] == kind), None)


def _number(text: str | None, default: float) -> float:
    try:
        return float(text or "")
    except ValueError:
        return default
