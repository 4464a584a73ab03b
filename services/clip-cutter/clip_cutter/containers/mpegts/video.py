"""H.264 in MPEG-TS (§2.14): access units of a byte stream, with their parameter sets among them."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import IO

from clip_cutter.containers import avc
from clip_cutter.containers.bit_reader import BitReader
from clip_cutter.containers.model import Damage, Format, Sample, Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mpegts.pes import TICKS, PesPacket
from clip_cutter.containers.stream import check_sample_count, with_lengths

# What a byte stream's next unit begins with: a start code, the unit's type, and its first byte.
UNIT = re.compile(rb"\0*\0\0\x01(.)(.?)", re.DOTALL)
DELIMITER = re.compile(rb"\0?\0\0\x01[\x09\x29\x49\x69]")
# Units that begin an access unit (ITU-T H.264 §7.4.1.2.3); a slice does, if it is the picture's first one.
BEGINNING = frozenset({avc.AUD, avc.SPS, avc.PPS, avc.SEI, *range(14, 19)})
SLICES = frozenset({avc.NON_IDR, avc.IDR, avc.PARTITIONS[0]})
# Units that MP4 keeps in the sample entry (ISO/IEC 14496-15 §5.3.2), or does without.
STRIPPED = frozenset(
    {avc.AUD, avc.SPS, avc.PPS, avc.SPS_EXTENSION, avc.FILLER, avc.END_OF_SEQUENCE, avc.END_OF_STREAM}
)
FIRST = 0x80  # in the byte after a slice's type: first_mb_in_slice is 0
INTRA = frozenset({2, 4, 7, 9})  # slice_type (table 7-6): I and SI
CONTINUED = 0xFF  # in a number of SEI
RECOVERY_POINT = 6  # a payload of SEI (§D.1.8)
BACK_TICKS = TICKS
FAR_TICKS = 10 * TICKS
USUAL_TICKS = TICKS // 25
MAX_FORMATS = 64
MAX_UNITS = 4096  # of an access unit
MANY_BYTES = 64 * 1024  # what has fewer, has not too many units either
MAX_DAMAGES = 1000
MAX_PICTURE_BYTES = 32 * 1024 * 1024


ParameterSets = dict[tuple[int, int], bytes]  # by type and number


class TransportVideoSamples:
    """Takes samples out of PES packets, and writes them to a file.

    ``find_sets`` is asked for the parameter sets that were sent before, if the first pictures come without.
    """

    def __init__(self, output: IO[bytes], find_sets: Callable[[], ParameterSets]) -> None:
        self._output = output
        self._find_sets: Callable[[], ParameterSets] | None = find_sets
        self._pending: PesPacket | None = None
        self._parts: list[bytes] = []
        self.sets: ParameterSets = {}
        self._places: dict[tuple[bytes, ...], int] = {}  # of formats, by their parameter sets
        self._formats: list[Format] = []
        self._format: int | None = None
        self._samples: list[Sample] = []
        self._damages: list[Damage] = []
        self._has_unknown = False  # pictures before any parameter set

    @property
    def reached(self) -> float:
        """Return when the last picture is decoded, in seconds of the line; below 0 if there is none."""
        return self._samples[-1].decoded / TICKS if self._samples else -1.0

    def add(self, pes: PesPacket) -> None:
        """Read on. An access unit is written when the next one begins.

        Raises:
            UnsupportedMedia: pictures do not lie one to a packet, or are of a kind that MP4 stores otherwise.
        """
        start = _access_unit(pes.data)
        if start < 0 and self._continues(pes):
            start = len(pes.data)
        if start > 0 and self._pending is not None:
            self._parts.append(pes.data[:start])
            if sum(map(len, self._parts)) > MAX_PICTURE_BYTES:
                raise UnsupportedMedia("an MPEG-TS with a picture that does not end")
            self._pending = replace(self._pending, problem=self._pending.problem or pes.problem)
        if start == len(pes.data):
            return
        self.finish()
        if start < 0:
            pes = replace(pes, problem=pes.problem or "a picture without its beginning")
        self._pending, self._parts = pes, [pes.data[start:] if start > 0 else pes.data]

    def finish(self) -> None:
        """Write the access unit that is held back. Raises as :meth:`add`."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._write(pending, b"".join(self._parts))

    def track(self, media: Path) -> Track | None:
        """Return what was read; None if there was nothing.

        Raises:
            UnsupportedMedia: nobody knows how its pictures are coded.
        """
        if not self._samples and self._has_unknown:
            raise UnsupportedMedia("H.264 whose parameter sets are not near")
        if not self._samples:
            return None
        steps = sorted(after.decoded - before.decoded for before, after in pairwise(self._samples))
        return Track(
            kind=TrackKind.VIDEO,
            timescale=TICKS,
            formats=tuple(self._formats),
            samples=with_lengths(self._samples, steps[len(steps) // 2] if steps else USUAL_TICKS),
            media=media,
            damages=tuple(self._damages),
        )

    def _continues(self, pes: PesPacket) -> bool:
        """Whether a packet in which no access unit begins belongs to the one before it."""
        return pes.shown is None or (self._pending is not None and pes.shown == self._pending.shown)

    def _write(self, pes: PesPacket, data: bytes) -> None:
        if pes.shown is None or pes.decoded is None:
            raise UnsupportedMedia("an MPEG-TS with pictures that have no times")
        if len(data) > MANY_BYTES and data.count(avc.START_CODE) > MAX_UNITS:
            raise UnsupportedMedia("a picture of too many units")
        if pes.problem:
            self._note(pes.shown, pes.problem)
            data = data[max(data.find(avc.START_CODE), 0) :]
        units = avc.split_nal_units(data)
        kinds = [unit[0] & avc.TYPE for unit in units]
        if not pes.problem and not _SETS.isdisjoint(kinds):
            self._learn(units)
        pictures = [unit for unit, kind in zip(units, kinds, strict=True) if kind in SLICES]
        if pictures and self._format is None and self._find_sets is not None:
            self.sets, self._find_sets = self._find_sets(), None
            self._format = self._place(self.sets)
        if pictures and self._format is not None:
            self._check(pictures, pes)
            self._store(pes, units, is_keyframe=_is_keyframe(units, pictures[0], pes))
        self._has_unknown |= bool(pictures)

    def _check(self, slices: list[bytes], pes: PesPacket) -> None:
        """See that slices are of one picture."""
        firsts = sum(_is_first(each[1:2]) for each in slices)
        if firsts > 1 and not pes.problem:
            raise UnsupportedMedia("an MPEG-TS with several pictures in a packet")
        if firsts < 1 and not pes.problem and pes.shown is not None:
            self._note(pes.shown, "a picture without its beginning")

    def _store(self, pes: PesPacket, units: list[bytes], *, is_keyframe: bool) -> None:
        decoded, shown = self._in_order(pes.decoded or 0), pes.shown or 0
        if abs(shown - decoded) > FAR_TICKS:
            raise UnsupportedMedia("an MPEG-TS with times that do not fit each other")
        if pes.is_cut and self._samples and not is_keyframe:
            self._note(shown, "pictures are missing before one that refers to them")
        sample = b"".join(
            part
            for unit in units
            if unit[0] & avc.TYPE not in STRIPPED
            for part in (len(unit).to_bytes(4), unit)
        )
        offset = self._output.tell()
        self._output.write(sample)
        check_sample_count(self._samples)
        self._samples.append(Sample(decoded, shown, 0, offset, len(sample), is_keyframe, self._format or 0))

    def _in_order(self, decoded: int) -> int:
        """Return a decoding time behind the last one: where recordings were joined, it may lie before it."""
        if not self._samples or decoded > self._samples[-1].decoded:
            return decoded
        if self._samples[-1].decoded - decoded > BACK_TICKS:
            raise UnsupportedMedia("an MPEG-TS with pictures whose times run backwards")
        self._note(self._samples[-1].shown, "times of pictures run backwards")
        return self._samples[-1].decoded + 1

    def _learn(self, units: list[bytes]) -> None:
        """Take up parameter sets. An access unit with sets of both kinds has all that are in use."""
        found = {
            (avc.nal_unit_type(unit), _number(unit)): unit
            for unit in units
            if avc.nal_unit_type(unit) in _SETS
        }
        is_whole = len({kind for kind, _ in found}) == len(_SETS)
        sets = found if is_whole else {**self.sets, **found}
        if sets != self.sets:
            self.sets = sets
            self._format = self._place(sets)

    def _place(self, sets: ParameterSets) -> int | None:
        """Return the place of the format that parameter sets make up; None where one is missing."""
        sps, pps = (tuple(sets[key] for key in sorted(sets) if key[0] == kind) for kind in (avc.SPS, avc.PPS))
        if not sps or not pps:
            return None
        if (*sps, *pps) not in self._places:
            if len(self._formats) == MAX_FORMATS:
                raise UnsupportedMedia("H.264 whose parameter sets change all the time")
            if not all(avc.Sps.read(unit).is_progressive for unit in sps):
                raise UnsupportedMedia("H.264 that may be interlaced")
            self._formats.append(avc.format_of(avc.record_of(sps, pps)))
            self._places[*sps, *pps] = len(self._formats) - 1
        return self._places[*sps, *pps]

    def _note(self, ticks: int, why: str) -> None:
        if len(self._damages) < MAX_DAMAGES:
            self._damages.append(Damage(ticks / TICKS, why))


_SETS = frozenset({avc.SPS, avc.PPS})


def _access_unit(data: bytes) -> int:
    """Return where in a packet's data the first access unit begins; -1 where none does."""
    unit = UNIT.match(data)
    if unit is not None:
        kind = unit[1][0] & avc.TYPE
        if kind in BEGINNING or (kind in SLICES and _is_first(unit[2])):
            return 0
    delimiter = DELIMITER.search(data)
    return -1 if delimiter is None else delimiter.start()


def _is_first(byte: bytes) -> bool:
    return bool(byte) and bool(byte[0] & FIRST)


def _number(unit: bytes) -> int:
    """Return the number of a parameter set (ITU-T H.264 §7.3.2.1.1, §7.3.2.2)."""
    return BitReader(unit[4 if avc.nal_unit_type(unit) == avc.SPS else 1 :][:8]).exp_golomb()


def _is_keyframe(units: list[bytes], first_slice: bytes, pes: PesPacket) -> bool:
    """Whether decoding can begin with a picture: an IDR picture, or an I picture that is said to be one."""
    if any(avc.nal_unit_type(unit) == avc.IDR for unit in units):
        return True
    is_said = pes.is_random_access or any(_has_recovery_point(unit) for unit in units)
    return is_said and not pes.problem and _is_intra(first_slice)


def _is_intra(unit: bytes) -> bool:
    try:
        bits = BitReader(unit[1:16])
        bits.exp_golomb()
        return bits.exp_golomb() in INTRA
    except UnsupportedMedia:
        return False


def _has_recovery_point(unit: bytes) -> bool:
    """Whether SEI messages (§7.3.2.3.1) say that the pictures from here on are right."""
    if avc.nal_unit_type(unit) != avc.SEI:
        return False
    at = 1
    while at + 2 < len(unit):
        kind, at = _coded(unit, at)
        size, at = _coded(unit, at)
        if kind == RECOVERY_POINT:
            return bool(unit[at : at + 1]) and bool(unit[at] & FIRST)  # recovery_frame_cnt is 0
        at += size
    return False


def _coded(unit: bytes, at: int) -> tuple[int, int]:
    """Return a number that is written as bytes of 255 and a last one, and where it ends."""
    number = 0
    while at < len(unit):
        number += unit[at]
        at += 1
        if unit[at - 1] != CONTINUED:
            break
    return number, at
