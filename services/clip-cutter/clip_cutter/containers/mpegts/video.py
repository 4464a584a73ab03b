"""H.264 in MPEG-TS (§2.14): access units of a byte stream that includes the parameter sets."""

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

# The start of a NAL unit in a byte stream: start code, the byte with nal_unit_type, and the byte after it.
UNIT = re.compile(rb"\0*\0\0\x01(.)(.?)", re.DOTALL)
DELIMITER = re.compile(rb"\0?\0\0\x01[\x09\x29\x49\x69]")
# NAL units that begin an access unit (ITU-T H.264 §7.4.1.2.3), like the first slice of a picture.
ACCESS_UNIT_STARTS = frozenset({avc.AUD, avc.SPS, avc.PPS, avc.SEI, *range(14, 19)})
SLICES = frozenset({avc.NON_IDR, avc.IDR, avc.PARTITIONS[0]})
# NAL units that MP4 keeps in the sample entry (ISO/IEC 14496-15 §5.3.2), or leaves out.
STRIPPED = frozenset(
    {avc.AUD, avc.SPS, avc.PPS, avc.SPS_EXTENSION, avc.FILLER, avc.END_OF_SEQUENCE, avc.END_OF_STREAM}
)
FIRST = 0x80  # in the byte after nal_unit_type: first_mb_in_slice is 0
INTRA = frozenset({2, 4, 7, 9})  # slice_type (table 7-6): I and SI
CONTINUED = 0xFF  # a number of an SEI message continues in the next byte
RECOVERY_POINT = 6  # payloadType of an SEI message (§D.1.8)
MAX_BACK_TICKS = TICKS
MAX_REORDER_TICKS = 10 * TICKS
DEFAULT_LENGTH_TICKS = TICKS // 25  # of a picture without neighbours
MAX_FORMATS = 64
MAX_UNITS = 4096  # in an access unit
COUNTED_BYTES = 64 * 1024  # units are counted in larger access units only
MAX_DAMAGES = 1000
MAX_PICTURE_BYTES = 32 * 1024 * 1024


ParameterSets = dict[tuple[int, int], bytes]  # by nal_unit_type and id


class TransportVideoSamples:
    """Takes the pictures out of PES packets, and writes them to a file.

    Args:
        output: the file.
        find_sets: returns parameter sets from before the part; called if the first picture has none.

    Attributes:
        sets: the current parameter sets.
    """

    def __init__(self, output: IO[bytes], find_sets: Callable[[], ParameterSets]) -> None:
        self._output = output
        self._find_sets: Callable[[], ParameterSets] | None = find_sets
        self._pending: PesPacket | None = None
        self._parts: list[bytes] = []
        self.sets: ParameterSets = {}
        self._places: dict[tuple[bytes, ...], int] = {}  # positions of formats, by their parameter sets
        self._formats: list[Format] = []
        self._format: int | None = None
        self._samples: list[Sample] = []
        self._damages: list[Damage] = []
        self._has_unknown = False  # pictures before any parameter set

    @property
    def reached(self) -> float:
        """Return the last decode time, in seconds of the VOD; -1 without pictures."""
        return self._samples[-1].decoded / TICKS if self._samples else -1.0

    def add(self, pes: PesPacket) -> None:
        """Take the next PES packet. An access unit is written when the next access unit begins.

        Raises:
            UnsupportedMedia: a PES packet has several pictures; pictures are interlaced, too large or without
                time stamps; or times go back by more than a second.
        """
        start = _access_unit(pes.data)
        if start < 0 and self._continues(pes):
            start = len(pes.data)
        if start > 0 and self._pending is not None:
            self._parts.append(pes.data[:start])
            if sum(map(len, self._parts)) > MAX_PICTURE_BYTES:
                raise UnsupportedMedia(
                    f"MPEG-TS video: a picture does not end after {MAX_PICTURE_BYTES} bytes"
                )
            self._pending = replace(self._pending, problem=self._pending.problem or pes.problem)
        if start == len(pes.data):
            return
        self.finish()
        if start < 0:
            pes = replace(pes, problem=pes.problem or "the start of a picture is missing")
        self._pending, self._parts = pes, [pes.data[start:] if start > 0 else pes.data]

    def finish(self) -> None:
        """Write the last access unit. Raises as :meth:`add`."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._write(pending, b"".join(self._parts))

    def track(self, media: Path) -> Track | None:
        """Return the track; None without pictures. ``media`` is the path of the output.

        Raises:
            UnsupportedMedia: no parameter sets were found for the pictures.
        """
        if not self._samples and self._has_unknown:
            raise UnsupportedMedia("MPEG-TS video: no parameter sets near the window")
        if not self._samples:
            return None
        steps = sorted(after.decoded - before.decoded for before, after in pairwise(self._samples))
        return Track(
            kind=TrackKind.VIDEO,
            timescale=TICKS,
            formats=tuple(self._formats),
            samples=with_lengths(self._samples, steps[len(steps) // 2] if steps else DEFAULT_LENGTH_TICKS),
            media=media,
            damages=tuple(self._damages),
        )

    def _continues(self, pes: PesPacket) -> bool:
        """Return whether a PES packet, in which no access unit begins, continues the one before it."""
        return pes.shown is None or (self._pending is not None and pes.shown == self._pending.shown)

    def _write(self, pes: PesPacket, data: bytes) -> None:
        if pes.shown is None or pes.decoded is None:
            raise UnsupportedMedia(f"MPEG-TS video: the picture at offset {pes.offset} has no time stamp")
        if len(data) > COUNTED_BYTES and data.count(avc.START_CODE) > MAX_UNITS:
            raise UnsupportedMedia(f"MPEG-TS video: more than {MAX_UNITS} NAL units in a picture")
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
        """Check that slices are of one picture.

        Raises:
            UnsupportedMedia: several pictures are in the PES packet.
        """
        firsts = sum(_is_first(each[1:2]) for each in slices)
        if firsts > 1 and not pes.problem:
            raise UnsupportedMedia(f"MPEG-TS video: {firsts} pictures in a PES packet, 1 is supported")
        if firsts < 1 and not pes.problem and pes.shown is not None:
            self._note(pes.shown, "the start of a picture is missing")

    def _store(self, pes: PesPacket, units: list[bytes], *, is_keyframe: bool) -> None:
        decoded, shown = self._in_order(pes.decoded or 0), pes.shown or 0
        if abs(shown - decoded) > MAX_REORDER_TICKS:
            raise UnsupportedMedia(
                f"MPEG-TS video: PTS and DTS differ by {abs(shown - decoded) / TICKS:.1f} s"
            )
        if pes.is_cut and self._samples and not is_keyframe:
            self._note(shown, "pictures are missing that a later picture refers to")
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
        """Return a decode time after the last one; where streams were joined, times may go back."""
        if not self._samples or decoded > self._samples[-1].decoded:
            return decoded
        back = self._samples[-1].decoded - decoded
        if back > MAX_BACK_TICKS:
            raise UnsupportedMedia(f"MPEG-TS video: times run backwards by {back / TICKS:.1f} s")
        self._note(self._samples[-1].shown, "times of pictures run backwards")
        return self._samples[-1].decoded + 1

    def _learn(self, units: list[bytes]) -> None:
        """Update the parameter sets. An access unit with SPS and PPS has all sets that are in use."""
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
        """Return the position of the format with these parameter sets; None without SPS or PPS."""
        sps, pps = (tuple(sets[key] for key in sorted(sets) if key[0] == kind) for kind in (avc.SPS, avc.PPS))
        if not sps or not pps:
            return None
        if (*sps, *pps) not in self._places:
            if len(self._formats) == MAX_FORMATS:
                raise UnsupportedMedia(f"MPEG-TS video: more than {MAX_FORMATS} different parameter sets")
            if not all(avc.Sps.read(unit).is_progressive for unit in sps):
                raise UnsupportedMedia(
                    "H.264 SPS: frame_mbs_only_flag is 0: interlaced video is not supported"
                )
            self._formats.append(avc.format_of(avc.record_of(sps, pps)))
            self._places[*sps, *pps] = len(self._formats) - 1
        return self._places[*sps, *pps]

    def _note(self, ticks: int, why: str) -> None:
        if len(self._damages) < MAX_DAMAGES:
            self._damages.append(Damage(ticks / TICKS, why))


_SETS = frozenset({avc.SPS, avc.PPS})


def _access_unit(data: bytes) -> int:
    """Return the position of the first access unit in the data of a PES packet; -1 if none begins."""
    unit = UNIT.match(data)
    if unit is not None:
        kind = unit[1][0] & avc.TYPE
        if kind in ACCESS_UNIT_STARTS or (kind in SLICES and _is_first(unit[2])):
            return 0
    delimiter = DELIMITER.search(data)
    return -1 if delimiter is None else delimiter.start()


def _is_first(byte: bytes) -> bool:
    return bool(byte) and bool(byte[0] & FIRST)


def _number(unit: bytes) -> int:
    """Return the id of a parameter set (ITU-T H.264 §7.3.2.1.1, §7.3.2.2)."""
    return BitReader(unit[4 if avc.nal_unit_type(unit) == avc.SPS else 1 :][:8]).exp_golomb()


def _is_keyframe(units: list[bytes], first_slice: bytes, pes: PesPacket) -> bool:
    """Return whether decoding can begin with a picture.

    It is an IDR picture, or an I picture with a random_access_indicator or a recovery point.
    """
    if any(avc.nal_unit_type(unit) == avc.IDR for unit in units):
        return True
    is_marked = pes.is_random_access or any(_has_recovery_point(unit) for unit in units)
    return is_marked and not pes.problem and _is_intra(first_slice)


def _is_intra(unit: bytes) -> bool:
    try:
        bits = BitReader(unit[1:16])
        bits.exp_golomb()
        return bits.exp_golomb() in INTRA
    except UnsupportedMedia:
        return False


def _has_recovery_point(unit: bytes) -> bool:
    """Return whether an SEI NAL unit (§7.3.2.3.1) has a recovery point at this picture."""
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
    """Return a number that is coded as bytes of 255 and a last byte, and the position of its end."""
    number = 0
    while at < len(unit):
        number += unit[at]
        at += 1
        if unit[at - 1] != CONTINUED:
            break
    return number, at
