"""Test VODs in which every frame can be told from every other, and what is seen of them.

The picture moves all over, so that each decoded frame has a hash of its own, and carries the frame's
number in binary in its top row, for what was re-encoded: twelfths of the width, the lowest bit on the left.
The sound is a short beep on every second.
"""

import json
from array import array
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from local_stack.processes.ffmpeg import find_tools, run_tool
from tests.integration.clip_cutter.judge import Beep, NumberedFrame, VodContent

WIDTH, HEIGHT = 192, 108
BITS, BOX = 11, 16
SAMPLE_RATE = 48_000
BEEP_SECONDS = 0.05
LOUD = 2_000


def record(
    path: Path,
    *options: str,
    rate: str = "30",
    seconds: float = 12,
    sound: bool = True,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Path:
    """Encode a VOD; ``options`` are ffmpeg's for the output."""
    width, height = size
    box = width // (BITS + 1)
    boxes = ",".join(
        f"drawbox=x={bit * box}:y=0:w={box}:h={box}:color={colour}:t=fill{when}"
        for bit in range(BITS)
        for colour, when in (("black", ""), ("white", f":enable='mod(floor(n/{1 << bit}),2)'"))
    )
    beeps = f"0.8*sin(2*PI*1000*t)*lt(mod(t,1),{BEEP_SECONDS})"
    silence = ["-f", "lavfi", "-i", f"aevalsrc='{beeps}':s={SAMPLE_RATE}:d={seconds}"] if sound else []
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={rate}:duration={seconds},{boxes}"),
        *silence,
        *("-pix_fmt", "yuv420p", *options, str(path)),
    )
    return path


def h264(*, keyframe_every: int = 60, b_frames: int = 3, open_gop: bool = False) -> tuple[str, ...]:
    """x264 with keyframes at known places."""
    fixed = f"keyint={keyframe_every}:min-keyint={keyframe_every}:scenecut=0"
    gops = f"bframes={b_frames}:open-gop={int(open_gop)}"
    return ("-c:v", "libx264", "-preset", "veryfast", "-x264-params", f"{fixed}:{gops}", "-c:a", "aac")


def remux(source: Path, target: Path, *options: str, before: tuple[str, ...] = ()) -> Path:
    """The same packets in another container; ``before``: ffmpeg's options for the source."""
    ffmpeg(*before, "-i", str(source), *options, "-map", "0", "-c", "copy", str(target))
    return target


def ffmpeg(*arguments: str) -> bytes:
    """Run the ffmpeg of the local stack."""
    return run_tool(find_tools().ffmpeg, ["-v", "error", "-y", *arguments])


@dataclass(frozen=True)
class HashedFrame:
    """A decoded frame: when it is shown (seconds from the start of the file), and what it shows."""

    time: float
    hash: str


class DecodedFile:
    """What a player sees and hears of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def about(self) -> dict[str, Any]:
        """The probe of the file."""
        shown = ["-show_format", "-show_streams", "-of", "json"]
        answer: dict[str, Any] = json.loads(
            run_tool(find_tools().ffprobe, ["-v", "error", *shown, self.path])
        )
        return answer

    @property
    def seconds(self) -> float:
        """How long the file says it is."""
        return float(self.about["format"]["duration"])

    def stream(self, kind: str) -> dict[str, Any] | None:
        """The first stream of a kind."""
        return next((each for each in self.about["streams"] if each["codec_type"] == kind), None)

    @cached_property
    def frames(self) -> list[HashedFrame]:
        """Every frame, decoded."""
        answer = ffmpeg(
            *("-copyts", "-i", str(self.path), "-map", "0:v:0", "-fps_mode", "passthrough"),
            *("-enc_time_base", "1/90000", "-f", "framehash", "-hash", "md5", "-"),
        ).decode()
        start = float(self.about["format"]["start_time"])
        lines = answer.splitlines()
        above, below = next(each.split(":")[1] for each in lines if each.startswith("#tb")).split("/")
        rows = [each.split(",") for each in lines if not each.startswith("#")]
        return [HashedFrame(int(row[2]) * int(above) / int(below) - start, row[5].strip()) for row in rows]

    @property
    def hashes(self) -> list[str]:
        """What every frame shows."""
        return [frame.hash for frame in self.frames]

    def from_to(self, start: float, end: float) -> list[HashedFrame]:
        """The frames of a window, beginning as ``ffmpeg -ss`` would: with the first one not before it."""
        return [frame for frame in self.frames if start - 0.001 <= frame.time < end - 1e-5]

    def numbers(self) -> list[int]:
        """The number in the picture of every frame."""
        area = f"crop=iw*{BITS}/{BITS + 1}:ih/20:0:0,scale={BITS}:1:flags=area,format=gray"
        grey = ffmpeg(
            *("-i", str(self.path), "-map", "0:v:0", "-vf", area, "-fps_mode", "passthrough"),
            *("-f", "rawvideo", "-"),
        )
        rows = (grey[at : at + BITS] for at in range(0, len(grey), BITS))
        return [sum(1 << bit for bit in range(BITS) if row[bit] > 127) for row in rows]

    @cached_property
    def pictures(self) -> list[NumberedFrame]:
        """Every frame's number, and when it is shown."""
        frames = zip(self.frames, self.numbers(), strict=True)
        return [NumberedFrame(frame.time, number) for frame, number in frames]

    @cached_property
    def heard(self) -> list[Beep]:
        """When each beep is heard, with silence where the file has no audio, and its pitch."""
        if self.stream("audio") is None:
            return []
        by_time = f"aresample={SAMPLE_RATE}:async=1:min_hard_comp=0.01:first_pts=0"
        sound = _sound(self.path, "-af", by_time)
        return [Beep(at / SAMPLE_RATE, _hertz(sound[at:])) for at in _onsets(sound)]

    @cached_property
    def content(self) -> VodContent:
        """What it shows and says."""
        last = self.pictures[-1].time + self.pictures[-1].time / max(len(self.pictures) - 1, 1)
        return VodContent(self.pictures, self.heard, last)

    @cached_property
    def beeps(self) -> list[float]:
        """When each beep begins, in seconds from the start of the file."""
        stream = self.stream("audio")
        assert stream is not None
        first = float(stream["start_time"]) - float(self.about["format"]["start_time"])
        return [first + at / SAMPLE_RATE for at in _onsets(_sound(self.path))]


def _sound(path: Path, *options: str) -> "array[int]":
    """A file's audio as samples."""
    decoded = ("-map", "0:a:0", *options, "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "s16le", "-")
    return array("h", ffmpeg("-i", str(path), *decoded))


def _onsets(sound: "array[int]") -> list[int]:
    """At which sample each beep begins."""
    loud = [at for at, level in enumerate(sound) if abs(level) > LOUD]
    gap = SAMPLE_RATE // 4
    return [at for before, at in zip([-gap, *loud], loud, strict=False) if at - before >= gap]


def _hertz(beep: "array[int]") -> float:
    """The pitch of a beep, by when it crosses zero; its first and last moments may be smeared."""
    levels = beep[SAMPLE_RATE // 200 : SAMPLE_RATE // 25]
    crossed = [
        at - levels[at] / (levels[at] - levels[at - 1])
        for at in range(1, len(levels))
        if levels[at - 1] < 0 <= levels[at]
    ]
    return SAMPLE_RATE * (len(crossed) - 1) / (crossed[-1] - crossed[0]) if len(crossed) > 1 else 0.0


def cut_out(source: Path, target: Path, size: int) -> Path:
    """The first bytes of a file."""
    target.write_bytes(source.read_bytes()[:size])
    return target
