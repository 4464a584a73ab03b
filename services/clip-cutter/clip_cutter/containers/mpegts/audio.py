"""AAC in MPEG-TS (ISO/IEC 13818-7 §6.2): ADTS frames, each with its configuration in its header."""

import re
from math import lcm
from pathlib import Path
from typing import IO

from clip_cutter.containers import aac
from clip_cutter.containers.aac import AacFrame
from clip_cutter.containers.model import Damage, Format, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts.pes import TICKS, PesPacket
from clip_cutter.containers.stream import check_sample_count

SYNC = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
FRAME = aac.FRAME_SAMPLES
# A time stamp this far from the end of the last frame starts a new run; smaller differences are rounding.
MAX_DRIFT = FRAME * 9 // 10
MAX_BACK_SECONDS = 1.0
MIN_OVERLAP_SECONDS = 1e-4
MAX_FORMATS = 64
MAX_RESYNCS = 1000
MAX_PES_BYTES = 1024 * 1024
MAX_DAMAGES = 1000


class TransportAudioSamples:
    """Takes the AAC frames out of PES packets, and writes them to a file.

    Within a run, frames follow the first frame's time stamp at the sample rate: later time stamps are
    rounded.

    Args:
        output: the file.
    """

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._rest = b""  # the start of a frame that continues in the next packet
        self._places: dict[bytes, int] = {}  # positions of formats, by AudioSpecificConfig
        self._formats: list[Format] = []
        self._frames: list[AacFrame] = []
        self._damages: list[Damage] = []
        self._next: tuple[int, int] | None = None  # start of the next frame in ticks, and its sample rate
        self._resyncs = 0

    @property
    def reached(self) -> float:
        """Return the end of the last frame, in seconds of the VOD; -1 without frames."""
        return -1.0 if self._next is None else self._next[0] / self._next[1]

    def add(self, pes: PesPacket) -> None:
        """Take the next PES packet.

        Raises:
            UnsupportedMedia: the data is not AAC in ADTS, or is too damaged, or times go back by more than 1
                s.
        """
        if len(pes.data) > MAX_PES_BYTES:
            raise UnsupportedMedia(
                f"MPEG-TS audio: {len(pes.data)} bytes in a PES packet, the limit is {MAX_PES_BYTES}"
            )
        if pes.problem and pes.shown is not None:
            self._note(pes.shown / TICKS, pes.problem)
        data, begun = self._rest + pes.data, len(self._rest)
        stamp, at = pes.shown, 0
        while at < len(data):
            at, stamp = self._read_frames(data, at, stamp, begun, is_damaged=bool(pes.problem))
            if len(data) - at < aac.ADTS_HEAD or (_is_begun(data, at) and not pes.problem):
                break
            at = self._resync(data, at, pes)
        self._rest = b"" if pes.problem else data[at:]

    def finish(self) -> None:
        """Do nothing: an incomplete frame is left out."""

    def track(self, media: Path) -> Track | None:
        """Return the track; None without frames. ``media`` is the path of the output."""
        if not self._frames:
            return None
        timescale = lcm(*(each.rate for each in self._formats))
        ticks = [timescale // each.rate for each in self._formats]
        return Track(
            kind=TrackKind.AUDIO,
            timescale=timescale,
            formats=tuple(self._formats),
            samples=[frame.sample(ticks[frame.format]) for frame in self._frames],
            media=media,
            damages=tuple(self._damages),
        )

    def _read_frames(
        self, data: bytes, at: int, stamp: int | None, begun: int, *, is_damaged: bool
    ) -> tuple[int, int | None]:
        """Store consecutive frames.

        Args:
            data: bytes of frames.
            at: position of the first frame.
            stamp: the time stamp of the first frame that begins at or after ``begun``.
            begun: number of bytes in ``data`` that are of the PES packet before.
            is_damaged: whether data is missing: a frame must then be followed by another frame.

        Returns:
            The position of their end, and the time stamp if its frame was not found yet.
        """
        end = at
        for config, start, stop in aac.adts_frames(data[at:] if at else data):
            if is_damaged and at + stop < len(data) and not SYNC.match(data, at + stop):
                break
            place = self._place(config)
            if stamp is not None and end >= begun:
                self._align(stamp, self._formats[place].rate)
                stamp = None
            self._store(data[at + start : at + stop], place)
            end = at + stop
        return end, stamp

    def _store(self, frame: bytes, place: int) -> None:
        if self._next is None:
            return  # no time stamp yet
        rate = self._formats[place].rate
        if rate != self._next[1]:
            self._next = round(self._next[0] * rate / self._next[1]), rate
        tick = self._next[0]
        self._next = tick + FRAME, rate
        check_sample_count(self._frames)
        self._frames.append(AacFrame(tick, self._output.tell(), len(frame), place))
        self._output.write(frame)

    def _align(self, stamp: int, rate: int) -> None:
        """Start a run at a time stamp, unless the time stamp continues the current run."""
        tick = round(stamp * rate / TICKS)
        if self._next is not None and stamp / TICKS < self.reached - MAX_BACK_SECONDS:
            raise UnsupportedMedia(
                f"MPEG-TS audio: times run backwards from {self.reached:.3f} s to {stamp / TICKS:.3f} s"
            )
        if self._next is None or self._next[1] != rate or abs(tick - self._next[0]) > MAX_DRIFT:
            self._next = tick, rate
            self._drop_overlapping(tick / rate)

    def _drop_overlapping(self, seconds: float) -> None:
        """Drop frames that overlap with a new run: another stream was appended here."""
        count = len(self._frames)
        while self._frames and self._end(self._frames[-1]) > seconds + MIN_OVERLAP_SECONDS:
            self._frames.pop()
        if len(self._frames) < count:
            self._note(seconds, "audio of two joined streams overlaps")

    def _end(self, frame: AacFrame) -> float:
        return (frame.tick + FRAME) / self._formats[frame.format].rate

    def _place(self, config: bytes) -> int:
        if config not in self._places:
            if len(self._formats) == MAX_FORMATS:
                raise UnsupportedMedia(f"MPEG-TS audio: more than {MAX_FORMATS} configurations")
            self._formats.append(aac.format_of(config))
            self._places[config] = len(self._formats) - 1
        return self._places[config]

    def _resync(self, data: bytes, at: int, pes: PesPacket) -> int:
        """Return the position at which the next frame may begin, after bytes that are no frame."""
        self._resyncs += 1
        if self._resyncs > MAX_RESYNCS:
            raise UnsupportedMedia(f"MPEG-TS audio: no ADTS frame at {MAX_RESYNCS} places")
        if not pes.problem and pes.shown is not None:
            self._note(pes.shown / TICKS, "bytes between audio frames are no frames")
        found = SYNC.search(data, at + 1)
        return len(data) if found is None else found.start()

    def _note(self, seconds: float, why: str) -> None:
        if len(self._damages) < MAX_DAMAGES:
            self._damages.append(Damage(seconds, why))


def _is_begun(data: bytes, at: int) -> bool:
    """Return whether a frame begins at position ``at`` and ends after the data."""
    size = int.from_bytes(data[at + 3 : at + 6]) >> 5 & 0x1FFF
    return SYNC.match(data, at) is not None and at + size > len(data)
