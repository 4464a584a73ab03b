"""H.264 (ITU-T H.264), as MP4 and FLV store it (ISO/IEC 14496-15 §5)."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from clip_cutter.containers.bit_reader import BitReader
from clip_cutter.containers.model import Format, UnsupportedMedia

# nal_unit_type (table 7-1).
NON_IDR, IDR, SEI, SPS, PPS, AUD, END_OF_SEQUENCE, END_OF_STREAM, FILLER, SPS_EXTENSION = 1, 5, *range(6, 14)
PARTITIONS = (2, 3, 4)
TYPE = 0x1F
START_CODE = b"\0\0\1"

BASELINE, MAIN, HIGH = 66, 77, 100
# Profiles whose SPS has a chroma format (§7.3.2.1.1), and those whose configuration record repeats it.
SPS_CHROMA_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
RECORD_CHROMA_PROFILES = frozenset({100, 110, 122, 144, 244, 44})
WEB_PROFILES = frozenset({BASELINE, MAIN, HIGH})

YUV_420, YUV_444 = 1, 3
MACROBLOCK = 16
MAX_SIDE = 16384
WEB_BIT_DEPTH, MAX_BIT_DEPTH = 8, 14
MIN_SPS_BYTES, MAX_SET_BYTES = 5, 16 * 1024
MAX_SPS, MAX_PPS = 31, 255  # in a configuration record
RECORD_HEAD_BYTES = 6
SMALL_LISTS, SMALL, LARGE = 6, 16, 64  # scaling lists: the first 6 have 4x4 numbers, the others 8x8
EXTENDED_SAR = 255
# Sample aspect ratios: width and height of a pixel, by aspect_ratio_idc - 1 (table E-1).
ASPECT_RATIOS = (
    *((1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33)),
    *((18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1)),
)

BOX_HEAD = struct.Struct(">I4s")
ENTRY_HEAD_BYTES = 8 + 78  # of a VisualSampleEntry, before its boxes (ISO/IEC 14496-12 §12.1.3)
RESOLUTION = 72 << 16
DEPTH = 24


@dataclass(frozen=True)
class Colour:
    """How colours are coded (§E.2.1), as codes of ITU-T H.273; 2 means unspecified."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    is_full_range: bool = False


@dataclass(frozen=True)
class Sps:
    """A sequence parameter set (§7.3.2.1.1).

    Args:
        number: seq_parameter_set_id, by which picture parameter sets refer to it.
        profile, constraints, level: its first three bytes.
        chroma_format: chroma_format_idc; 1 is 4:2:0.
        bit_depth: of luma or chroma, whichever is larger.
        width, height: of the cropped picture, in coded pixels.
        is_progressive: whether every picture is a frame, never a field.
        pixel_shape: width and height of a pixel; None if unspecified.
        colour: None if unspecified.
    """

    number: int
    profile: int
    constraints: int
    level: int
    chroma_format: int
    bit_depth: int
    width: int
    height: int
    is_progressive: bool
    pixel_shape: tuple[int, int] | None = None
    colour: Colour | None = None

    @classmethod
    def read(cls, unit: bytes) -> Self:
        """Parse a NAL unit.

        Raises:
            UnsupportedMedia: the unit is not a valid sequence parameter set.
        """
        if not MIN_SPS_BYTES <= len(unit) <= MAX_SET_BYTES:
            raise UnsupportedMedia(
                f"H.264 SPS: {len(unit)} bytes, {MIN_SPS_BYTES} to {MAX_SET_BYTES} are allowed"
            )
        if nal_unit_type(unit) != SPS:
            raise UnsupportedMedia(f"H.264 SPS: NAL unit of type {nal_unit_type(unit)} instead of {SPS}")
        bits = BitReader(_payload(unit))
        profile, constraints, level = bits.read(8), bits.read(8), bits.read(8)
        number = _up_to(bits.exp_golomb(), 31, "seq_parameter_set_id")
        chroma, depth = _read_sampling(bits) if profile in SPS_CHROMA_PROFILES else (YUV_420, 8)
        _skip_picture_order(bits)
        width, height, is_progressive = _read_size(bits, chroma)
        shape, colour = _read_vui(bits) if bits.flag() else (None, None)
        return cls(
            *(number, profile, constraints, level, chroma, depth),
            *(width, height, is_progressive, shape, colour),
        )

    @property
    def is_web(self) -> bool:
        """Return whether every browser plays video with this SPS."""
        return (
            self.profile in WEB_PROFILES and self.chroma_format == YUV_420 and self.bit_depth == WEB_BIT_DEPTH
        )


@dataclass(frozen=True)
class AvcDecoderConfigurationRecord:
    """An AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1).

    The fields after the parameter sets are not read: they repeat the first SPS, or are SPS extensions for
    auxiliary pictures, which no player shows; older muxers leave them out.

    Args:
        length_size: number of bytes of the length before each NAL unit of a sample.
        sps, pps: the parameter sets, as NAL units.
    """

    length_size: int
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Parse the content of an ``avcC`` box, or of FLV's sequence header.

        Raises:
            UnsupportedMedia: the data is not a valid record.
        """
        if len(data) < RECORD_HEAD_BYTES:
            raise UnsupportedMedia(f"avcC: {len(data)} bytes, at least {RECORD_HEAD_BYTES} are needed")
        if data[0] != 1:
            raise UnsupportedMedia(f"avcC: version {data[0]}, 1 is supported")
        length_size = (data[4] & 3) + 1
        if length_size not in (1, 2, 4):
            raise UnsupportedMedia(f"avcC: NAL unit lengths of {length_size} bytes, 1, 2 and 4 are allowed")
        sps, at = _read_units(data, RECORD_HEAD_BYTES, data[5] & TYPE)
        pps, _ = _read_units(data, at + 1, _byte(data, at))
        if not sps or not pps:
            raise UnsupportedMedia(f"avcC: {len(sps)} SPS and {len(pps)} PPS, at least 1 of each is needed")
        return cls(length_size, sps, pps)

    def write(self) -> bytes:
        """Serialize the record."""
        first = Sps.read(self.sps[0])
        head = bytes([1, first.profile, first.constraints, first.level, 0xFC | self.length_size - 1])
        counts = bytes([0xE0 | len(self.sps)]), bytes([len(self.pps)])
        record = head + counts[0] + _write_units(self.sps) + counts[1] + _write_units(self.pps)
        if first.profile not in RECORD_CHROMA_PROFILES:
            return record
        depth = 0xF8 | first.bit_depth - 8
        return record + bytes([0xFC | first.chroma_format, depth, depth, 0])


def format_of(record: bytes) -> Format:
    """Return the format of an AVCDecoderConfigurationRecord, with an ``avc1`` sample entry.

    Raises:
        UnsupportedMedia: the record, or a parameter set in it, is not valid; or its pictures differ in size.
    """
    configuration = AvcDecoderConfigurationRecord.read(record)
    sets = [Sps.read(unit) for unit in configuration.sps]
    first = sets[0]
    if any((sps.width, sps.height) != (first.width, first.height) for sps in sets):
        raise UnsupportedMedia("avcC: pictures of several sizes in one configuration")
    return Format(
        codec="h264",
        entry=_entry(configuration.write(), first),
        width=first.width,
        height=first.height,
        is_web=all(each.is_web for each in sets),
    )


def record_of(sps: Sequence[bytes], pps: Sequence[bytes]) -> bytes:
    """Return an AVCDecoderConfigurationRecord with parameter sets, for NAL unit lengths of 4 bytes.

    Raises:
        UnsupportedMedia: the number or the size of the sets is out of bounds, or the first SPS is not valid.
    """
    if not 0 < len(sps) <= MAX_SPS or not 0 < len(pps) <= MAX_PPS:
        raise UnsupportedMedia(
            f"H.264: {len(sps)} SPS and {len(pps)} PPS, up to {MAX_SPS} and {MAX_PPS} are allowed"
        )
    if any(not 0 < len(unit) <= MAX_SET_BYTES for unit in (*sps, *pps)):
        raise UnsupportedMedia(f"H.264: a parameter set is empty or has more than {MAX_SET_BYTES} bytes")
    return AvcDecoderConfigurationRecord(4, tuple(sps), tuple(pps)).write()


def split_nal_units(annex_b: bytes) -> list[bytes]:
    """Split a byte stream (annex B) into NAL units, without start codes and the zero bytes around them.

    Raises:
        UnsupportedMedia: the byte stream does not begin with a start code.
    """
    before, *units = annex_b.split(START_CODE)
    if before.strip(b"\0"):
        raise UnsupportedMedia(f"H.264 byte stream: {len(before)} bytes before the first start code")
    return [stripped for unit in units if (stripped := unit.rstrip(b"\0"))]


def nal_unit_type(unit: bytes) -> int:
    """Return the nal_unit_type (table 7-1) of a NAL unit with at least one byte."""
    return unit[0] & TYPE


def is_idr(sample: bytes, length_size: int) -> bool:
    """Return whether the picture of a sample is an IDR picture: no later picture refers to an earlier one.

    The first picture of an open GOP is a keyframe, but not an IDR picture. ffmpeg decodes from it; Chromium's
    decoder fails when the pictures after it refer to pictures before it.

    Args:
        sample: a whole sample: NAL units, each after its length.
        length_size: number of bytes of a length.
    """
    for kind in _types(sample, length_size):
        if kind in (IDR, NON_IDR, *PARTITIONS):
            return kind == IDR
    return False


def is_well_formed(sample: bytes, length_size: int) -> bool:
    """Return whether a sample consists of whole NAL units, and one of them is a slice of a picture."""
    at, has_picture = 0, False
    while at + length_size < len(sample):
        has_picture |= sample[at + length_size] & TYPE in (NON_IDR, IDR, *PARTITIONS)
        at += length_size + int.from_bytes(sample[at : at + length_size])
    return has_picture and at == len(sample)


def length_size_of(entry: bytes) -> int:
    """Return the number of bytes of a NAL unit's length, for samples of an ``avc1`` sample entry.

    Raises:
        UnsupportedMedia: the entry has no ``avcC`` box, or that is not valid.
    """
    at = ENTRY_HEAD_BYTES
    while at + BOX_HEAD.size <= len(entry):
        size, kind = BOX_HEAD.unpack_from(entry, at)
        if kind == b"avcC":
            return AvcDecoderConfigurationRecord.read(entry[at + BOX_HEAD.size : at + size]).length_size
        at += max(size, BOX_HEAD.size)
    raise UnsupportedMedia("avc1: no avcC box in the sample entry")


def _types(sample: bytes, length_size: int) -> Iterator[int]:
    at = 0
    while at + length_size < len(sample):
        yield sample[at + length_size] & TYPE
        at += length_size + int.from_bytes(sample[at : at + length_size])


def _payload(unit: bytes) -> bytes:
    """Return a NAL unit's payload: after its first byte, without emulation prevention bytes (§7.4.1)."""
    return unit[1:].replace(b"\0\0\3", b"\0\0")


def _read_sampling(bits: BitReader) -> tuple[int, int]:
    chroma = _up_to(bits.exp_golomb(), YUV_444, "chroma_format_idc")
    if chroma == YUV_444:
        bits.flag()
    depth = 8 + max(bits.exp_golomb(), bits.exp_golomb())
    bits.flag()  # qpprime_y_zero_transform_bypass_flag
    if bits.flag():
        for number in range(12 if chroma == YUV_444 else 8):
            if bits.flag():
                _skip_scaling(bits, SMALL if number < SMALL_LISTS else LARGE)
    return chroma, _up_to(depth, MAX_BIT_DEPTH, "bit depth")


def _skip_scaling(bits: BitReader, size: int) -> None:
    """Skip a scaling list (§7.3.2.1.1.1)."""
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_exp_golomb()) % 256
        last = following or last


def _skip_picture_order(bits: BitReader) -> None:
    """Skip the fields from log2_max_frame_num to gaps_in_frame_num_value_allowed_flag (§7.3.2.1.1)."""
    bits.exp_golomb()
    kind = _up_to(bits.exp_golomb(), 2, "pic_order_cnt_type")
    if kind == 0:
        bits.exp_golomb()
    elif kind == 1:
        bits.flag()
        bits.signed_exp_golomb()
        bits.signed_exp_golomb()
        for _ in range(_up_to(bits.exp_golomb(), 255, "num_ref_frames_in_pic_order_cnt_cycle")):
            bits.signed_exp_golomb()
    bits.exp_golomb()
    bits.flag()


def _read_size(bits: BitReader, chroma: int) -> tuple[int, int, bool]:
    """Read width and height of the cropped picture (§7.4.2.1.1), and whether it is progressive."""
    wide, high = bits.exp_golomb() + 1, bits.exp_golomb() + 1
    is_progressive = bits.flag()
    fields = 1 if is_progressive else 2
    if not is_progressive:
        bits.flag()
    bits.flag()
    width, height = wide * MACROBLOCK, high * MACROBLOCK * fields
    if bits.flag():
        left, right, top, bottom = (bits.exp_golomb() for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma == YUV_420 else 1) * fields
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise UnsupportedMedia(f"H.264 SPS: {width} by {height} pixels, up to {MAX_SIDE} are supported")
    return width, height, is_progressive


def _read_vui(bits: BitReader) -> tuple[tuple[int, int] | None, Colour | None]:
    """Read the shape of a pixel, and the colour coding (§E.1.1)."""
    shape = _read_shape(bits) if bits.flag() else None
    if bits.flag():
        bits.flag()  # overscan_appropriate_flag
    return shape, _read_colour(bits) if bits.flag() else None


def _read_shape(bits: BitReader) -> tuple[int, int] | None:
    kind = bits.read(8)
    if kind == EXTENDED_SAR:
        shape = bits.read(16), bits.read(16)
        return shape if all(shape) else None
    return ASPECT_RATIOS[kind - 1] if 0 < kind <= len(ASPECT_RATIOS) else None


def _read_colour(bits: BitReader) -> Colour:
    bits.read(3)
    is_full_range = bits.flag()
    if not bits.flag():
        return Colour(is_full_range=is_full_range)
    return Colour(bits.read(8), bits.read(8), bits.read(8), is_full_range)


def _up_to(number: int, limit: int, name: str) -> int:
    if number > limit:
        raise UnsupportedMedia(f"H.264 SPS: {name} is {number}, at most {limit} is supported")
    return number


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise UnsupportedMedia(f"avcC: byte {at} is missing, it has {len(data)} bytes")
    return data[at]


def _read_units(data: bytes, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    """Read ``count`` NAL units, each after a length of two bytes; return them, and where they end."""
    units = []
    for _ in range(count):
        size = _byte(data, at) << 8 | _byte(data, at + 1)
        at += 2 + size
        if not 0 < size <= MAX_SET_BYTES or at > len(data):
            raise UnsupportedMedia(f"avcC: parameter set of {size} bytes in {len(data)} bytes")
        units.append(data[at - size : at])
    return tuple(units), at


def _write_units(units: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(unit)) + unit for unit in units)


def _entry(record: bytes, sps: Sps) -> bytes:
    """Return a visual sample entry (ISO/IEC 14496-12 §12.1.3)."""
    head = struct.pack(">6xH16xHHII4xH32xHh", 1, sps.width, sps.height, RESOLUTION, RESOLUTION, 1, DEPTH, -1)
    return _box(b"avc1", head, _box(b"avcC", record), *_extras(sps))


def _extras(sps: Sps) -> Iterator[bytes]:
    """Yield the boxes for pixel shape and colour coding (§12.1.4, §12.1.5), if the SPS has them."""
    if sps.pixel_shape:
        yield _box(b"pasp", struct.pack(">II", *sps.pixel_shape))
    if (colour := sps.colour) not in (None, Colour()):
        codes = colour.primaries, colour.transfer, colour.matrix
        yield _box(b"colr", struct.pack(">4sHHHB", b"nclx", *codes, colour.is_full_range << 7))


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return BOX_HEAD.pack(BOX_HEAD.size + len(body), kind) + body
