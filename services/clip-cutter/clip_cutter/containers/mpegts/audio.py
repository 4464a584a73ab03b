"""AAC in MPEG-TS (ISO/IEC 13818-7 §6.2): ADTS frames, each with a head that says how it is coded."""

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
# A time stamp that is so far from where the last frame ended begins a new run; less is taken for rounding.
MAX_DRIFT = FRAME * 9 // 10
MAX_BACK_SECONDS = 1.0
MIN_OVERLAP_SECONDS = 1e-4
MAX_FORMATS = 64
MAX_RESYNCS = 1000
MAX_PES_BYTES = 1024 * 1024
MAX_DAMAGES = 1000


class TransportAudioSamples:
    """Takes samples out of PES packets, and writes them to a file.

    Times of frames are counted from the time stamp with which a run of them begins: those of later ones are
    rounded, and say nothing new.
    """

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._rest = b""  # the beginning of a frame that goes on in the next packet
        self._places: dict[bytes, int] = {}  # of formats, by their configuration
        self._formats: list[Format] = []
        self._frames: list[AacFrame] = []
        self._damages: list[Damage] = []
        self._next: tuple[int, int] | None = (
            None  # the tick at which the next frame of a run begins, and its rate
        )
        self._resyncs = 0

    @property
    def reached(self) -> float:
        """Return when the last frame ends, in seconds of the line; below 0 if there is none."""
        return -1.0 if self._next is None else self._next[0] / self._next[1]

    def add(self, pes: PesPacket) -> None:
        """Read on.

        Raises:
            UnsupportedMedia: it is not AAC in ADTS, or is damaged too much.
        """
        if len(pes.data) > MAX_PES_BYTES:
            raise UnsupportedMedia(f"an MPEG-TS with {len(pes.data)} bytes of audio in a packet")
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
        """Do nothing: a frame that is not whole is not played."""

    def track(self, media: Path) -> Track | None:
        """Return what was read; None if there was nothing."""
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
        """Store frames that lie in a row.

        Returns:
            Where they end, and the time stamp if it still waits for its frame: the first one that begins at
            or behind ``begun``.
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
            return  # nothing says when it is heard
        rate = self._formats[place].rate
        if rate != self._next[1]:
            self._next = round(self._next[0] * rate / self._next[1]), rate
        tick = self._next[0]
        self._next = tick + FRAME, rate
        check_sample_count(self._frames)
        self._frames.append(AacFrame(tick, self._output.tell(), len(frame), place))
        self._output.write(frame)

    def _align(self, stamp: int, rate: int) -> None:
        """Begin a run at a time stamp, unless it says where the current run has come to."""
        tick = round(stamp * rate / TICKS)
        if self._next is not None and stamp / TICKS < self.reached - MAX_BACK_SECONDS:
            raise UnsupportedMedia("an MPEG-TS with audio whose times run backwards")
        if self._next is None or self._next[1] != rate or abs(tick - self._next[0]) > MAX_DRIFT:
            self._next = tick, rate
            self._give_way(tick / rate)

    def _give_way(self, seconds: float) -> None:
        """Drop frames that reach beyond the time at which a run begins: another recording goes on there."""
        count = len(self._frames)
        while self._frames and self._end(self._frames[-1]) > seconds + MIN_OVERLAP_SECONDS:
            self._frames.pop()
        if len(self._frames) < count:
            self._note(seconds, "audio of two recordings overlaps")

    def _end(self, frame: AacFrame) -> float:
        return (frame.tick + FRAME) / self._formats[frame.format].rate

    def _place(self, config: bytes) -> int:
        if config not in self._places:
            if len(self._formats) == MAX_FORMATS:
                raise UnsupportedMedia("AAC whose configuration changes all the time")
            self._formats.append(aac.format_of(config))
            self._places[config] = len(self._formats) - 1
        return self._places[config]

    def _resync(self, data: bytes, at: int, pes: PesPacket) -> int:
        """Return where the next frame may begin behind bytes that are none."""
        self._resyncs += 1
        if self._resyncs > MAX_RESYNCS:
            raise UnsupportedMedia("audio that is not AAC in ADTS")
        if not pes.problem and pes.shown is not None:
            self._note(pes.shown / TICKS, "bytes between frames of audio")
        found = SYNC.search(data, at + 1)
        return len(data) if found is None else found.start()

    def _note(self, seconds: float, why: str) -> None:
        if len(self._damages) < MAX_DAMAGES:
            self._damages.append(Damage(seconds, why))


def _is_begun(data: bytes, at: int) -> bool:
    """Whether a frame begins that is longer than the data."""
    size = int.from_bytes(data[at + 3 : at + 6]) >> 5 & 0x1FFF
    return SYNC.match(data, at) is not None and at + size > len(data)
