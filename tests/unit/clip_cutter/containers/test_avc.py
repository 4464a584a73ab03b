"""H.264 parameter sets, configuration records (as x264 and ffmpeg write them) and byte streams."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers import avc
from clip_cutter.containers.avc import AvcDecoderConfigurationRecord, Colour, Sps
from clip_cutter.containers.model import UnsupportedMedia

MAIN = bytes.fromhex("014d400dffe10018674d400deca0a8cf3cd808800000030080000019078a14cb01000568ebe3cb20")
HIGH = bytes.fromhex(
    "0164000dffe100226764000dacd941519e79bff02d802d96a04040280000030008000003019078a14cb0"
    "01000668ebe3cb22c0fdf8f800"
)
BASELINE = bytes.fromhex(
    "0142c00dffe1001a6742c00dd901519e79b016c80000030008000003019078a1524001000568cb83cb20"
)
INTERLACED = bytes.fromhex(
    "0164001effe100216764001eacd940b424dff80200016b50505054000003000400000300c87c50a65801000668fba3cb22c0fdf8f800"
)
HIGH_10 = bytes.fromhex(
    "016e000dffe1001b676e000da6cd941519e79b011000000300100000030320f142996001000668ebe3cb22c0fdfafa00"
)
HIGH_422 = bytes.fromhex(
    "017a000dffe1001a677a000dbcd941519e78bc0440000003004000000c83c50a658001000668ebe3cb22c0fef8f800"
)
HIGH_444 = bytes.fromhex(
    "01f4000dffe1001b67f4000d919b282a33c6c5e022000003000200000300641e28532c01000668ebe3c44844fff8f800"
)
GREY = bytes.fromhex(
    "0164000dffe1001b6764000df365054678d8bc05b2000003000200000300641e28532c01000668ebe3cb22c0fcf8f800"
)
RECORDS = {
    "main": MAIN,
    "high": HIGH,
    "baseline": BASELINE,
    "interlaced": INTERLACED,
    "high 10": HIGH_10,
    "high 4:2:2": HIGH_422,
    "high 4:4:4": HIGH_444,
    "grey": GREY,
}
WEB = {"main", "high", "baseline", "interlaced"}
# Of the same file: what ffmpeg's muxer writes, without its boxes for bit rates and its name in the middle.
HIGH_ENTRY = bytes.fromhex(
    "000000b8" "61766331" "000000000000" "0001" "00000000000000000000000000000000" "0144" "00b6"
    "00480000" "00480000" "00000000" "0001"
    "0000000000000000000000000000000000000000000000000000000000000000" "0018" "ffff"
    "0000003f" "61766343" "0164000dffe10022"
    "6764000dacd941519e79bff02d802d96a04040280000030008000003019078a14cb0" "01000668ebe3cb22c0fdf8f800"
    "00000010" "70617370" "000002d8000002d9"
    "00000013" "636f6c72" "6e636c78" "0002" "0002" "0001" "00"
)  # fmt: skip


def sps_of(record: bytes) -> Sps:
    return Sps.read(AvcDecoderConfigurationRecord.read(record).sps[0])


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_written_as_it_was_read(name: str) -> None:
    record = AvcDecoderConfigurationRecord.read(RECORDS[name])
    assert record.write() == RECORDS[name]
    assert avc.record_of(record.sps, record.pps) == RECORDS[name]


@pytest.mark.parametrize("name", RECORDS)
def test_browsers_play_8_bits_and_420(name: str) -> None:
    assert avc.format_of(RECORDS[name]).is_web == (name in WEB)


def test_the_format_names_the_cropped_size() -> None:
    found = avc.format_of(HIGH)
    assert (found.codec, found.width, found.height, found.rate, found.channels) == ("h264", 324, 182, 0, 0)


def test_the_sample_entry_is_that_of_the_standard() -> None:
    assert avc.format_of(HIGH).entry == HIGH_ENTRY


def test_an_entry_without_vui_has_no_pixel_shape_and_colours() -> None:
    entry = avc.format_of(MAIN).entry
    assert b"pasp" in entry
    assert b"colr" not in entry


def test_interlaced_anamorphic_pal() -> None:
    found = sps_of(INTERLACED)
    assert (found.width, found.height, found.is_progressive) == (720, 576, False)
    assert (found.pixel_shape, found.colour) == ((64, 45), Colour(5, 5, 5))


def test_full_range_and_depth() -> None:
    assert sps_of(BASELINE).colour == Colour(is_full_range=True)
    assert (sps_of(HIGH_10).bit_depth, sps_of(HIGH_422).chroma_format, sps_of(GREY).chroma_format) == (
        10,
        2,
        0,
    )


def test_sizes_that_differ_within_one_record_are_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="several sizes"):
        avc.format_of(
            avc.record_of(
                [
                    *AvcDecoderConfigurationRecord.read(MAIN).sps,
                    *AvcDecoderConfigurationRecord.read(INTERLACED).sps,
                ],
                [b"\x68\x01"],
            )
        )


@pytest.mark.parametrize(
    ("sps", "pps"),
    [
        ([], [b"h"]),
        (AvcDecoderConfigurationRecord.read(MAIN).sps, []),
        (AvcDecoderConfigurationRecord.read(MAIN).sps, [b""]),
        (AvcDecoderConfigurationRecord.read(MAIN).sps * 32, [b"h"]),
        (AvcDecoderConfigurationRecord.read(MAIN).sps, [b"h"] * 256),
        (AvcDecoderConfigurationRecord.read(MAIN).sps, [b"h" * 70_000]),
    ],
)
def test_sets_that_a_record_cannot_hold_are_refused(sps: list[bytes], pps: list[bytes]) -> None:
    with pytest.raises(UnsupportedMedia):
        avc.record_of(sps, pps)


def test_the_size_of_lengths_is_found_in_the_entry() -> None:
    assert avc.length_size_of(avc.format_of(MAIN).entry) == 4
    short = MAIN[:4] + b"\xfd" + MAIN[5:]
    assert avc.length_size_of(avc.format_of(short).entry) == 2
    with pytest.raises(UnsupportedMedia):
        avc.format_of(MAIN[:4] + b"\xfe" + MAIN[5:])
    with pytest.raises(UnsupportedMedia):
        avc.length_size_of(HIGH_ENTRY[:86])


def test_units_of_a_byte_stream() -> None:
    stream = b"\0\0\0\1\x09\xf0\0\0\0\1\x67a\0\0\3\0b\0\0\1\x68c\0\0\0\0\0\1\x65picture\0\0"
    units = avc.split_nal_units(stream)
    assert units == [b"\x09\xf0", b"\x67a\0\0\3\0b", b"\x68c", b"\x65picture"]
    assert [avc.nal_unit_type(unit) for unit in units] == [avc.AUD, avc.SPS, avc.PPS, avc.IDR]
    assert avc.split_nal_units(b"") == []
    with pytest.raises(UnsupportedMedia):
        avc.split_nal_units(b"tail of a unit\0\0\1\x65picture")


@given(st.lists(st.binary(min_size=1).filter(lambda unit: b"\0\0" not in unit and unit[-1]), max_size=5))
def test_units_are_found_as_they_were_joined(units: list[bytes]) -> None:
    assert avc.split_nal_units(b"".join(b"\0\0\0\1" + unit for unit in units)) == units


@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_idr_picture_is_the_first_picture_of_its_sample(size: int) -> None:
    def sample(*kinds: int) -> bytes:
        return b"".join((3).to_bytes(size) + bytes([0x60 | kind, 1, 2]) for kind in kinds)

    assert avc.is_idr(sample(avc.AUD, avc.SEI, avc.IDR), size)
    assert avc.is_idr(sample(avc.IDR, avc.NON_IDR), size)
    assert not avc.is_idr(sample(avc.NON_IDR, avc.IDR), size)
    assert not avc.is_idr(sample(avc.SEI), size)
    assert not avc.is_idr(b"", size)


@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_a_record_that_was_changed_is_read_or_refused(name: str, data: st.DataObject) -> None:
    record = bytearray(RECORDS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UnsupportedMedia):
        found = avc.format_of(bytes(record[: data.draw(st.integers(0, len(record)))]))
        assert 0 < found.width <= avc.MAX_SIDE
        assert 0 < found.height <= avc.MAX_SIDE
        assert avc.length_size_of(found.entry) in (1, 2, 4)


@given(st.binary(max_size=200), st.sampled_from([1, 2, 4]))
def test_any_bytes_are_read_or_refused(data: bytes, size: int) -> None:
    avc.is_idr(data, size)
    for read in (avc.format_of, avc.split_nal_units, avc.length_size_of, Sps.read):
        with suppress(UnsupportedMedia):
            read(data)
    with suppress(UnsupportedMedia):
        Sps.read(b"\x67\x64" + data)
