"""AAC's configuration and ADTS. The configurations are what ffmpeg, FDK and Apple's encoder write."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers import aac
from clip_cutter.containers.aac import AdtsFrame, AudioSpecificConfig
from clip_cutter.containers.model import UnsupportedMedia

LC_48 = bytes.fromhex("1190")
STEREO_48_ENTRY = bytes.fromhex(
    "0000004e" "6d703461" "000000000000" "0001" "0000000000000000" "0002" "0010" "0000" "0000" "bb800000"
    "0000002a" "65736473" "00000000" "031c" "000000" "0414" "40" "15" "000000" "00000000" "00000000"
    "0505" "119056e500" "060102"
)  # fmt: skip


def bits(*fields: tuple[int, int]) -> bytes:
    """Write numbers, each with how many bits it has."""
    written = "".join(f"{number:0{count}b}" for number, count in fields)
    return int(written.ljust(-(-len(written) // 8) * 8, "0"), 2).to_bytes(-(-len(written) // 8))


def frame(payload: bytes, *, rate: int = 3, channels: int = 2, crc: bytes = b"", blocks: int = 0) -> bytes:
    size = 7 + len(crc) + len(payload)
    head = ((0xFFF, 12), (0, 1), (0, 2), (not crc, 1), (1, 2), (rate, 4), (0, 1), (channels, 3), (0, 4))
    return bits(*head, (size, 13), (0x7FF, 11), (blocks, 2)) + crc + payload


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("1190", AudioSpecificConfig(2, 48000, 48000, 2)),
        ("119056e500", AudioSpecificConfig(2, 48000, 48000, 2)),  # says that it has no SBR
        ("1210", AudioSpecificConfig(2, 44100, 44100, 2)),
        ("120856e500", AudioSpecificConfig(2, 44100, 44100, 1)),
        ("11b056e500", AudioSpecificConfig(2, 48000, 48000, 6)),
        ("11b8", AudioSpecificConfig(2, 48000, 48000, 8)),
        ("126056e500", AudioSpecificConfig(2, 44100, 44100, 8)),
        ("2b118800", AudioSpecificConfig(5, 24000, 48000, 2)),  # SBR, hierarchical
        ("eb098800", AudioSpecificConfig(29, 24000, 48000, 2)),  # SBR and PS of one channel
        ("131056e598", AudioSpecificConfig(5, 24000, 48000, 2)),  # SBR, backward compatible
        ("130856e59d4880", AudioSpecificConfig(29, 24000, 48000, 2)),  # SBR and PS, backward compatible
    ],
)
def test_configurations(config: str, expected: AudioSpecificConfig) -> None:
    assert AudioSpecificConfig.read(bytes.fromhex(config)) == expected
    assert aac.format_of(bytes.fromhex(config)).is_web == (expected.channels <= 6)


def test_a_rate_that_no_table_has() -> None:
    config = bits((2, 5), (15, 4), (47_952, 24), (2, 4), (0, 3))
    assert AudioSpecificConfig.read(config) == AudioSpecificConfig(2, 47_952, 47_952, 2)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([(2, 5), (13, 4), (2, 4), (0, 3)], "rate index 13"),
        ([(2, 5), (15, 4), (0, 24), (2, 4), (0, 3)], "0 samples"),
        ([(2, 5), (3, 4), (0, 4), (0, 3)], "channel configuration 0"),
        ([(2, 5), (3, 4), (2, 4), (1, 1), (0, 2)], "960 samples"),
        ([(31, 5), (10, 6), (3, 4), (2, 4), (0, 16)], "type 42"),
        ([(2, 5)], "4 bits wanted, but only 3 are left"),
    ],
)
def test_unsupported_configurations_are_refused(fields: Sequence[tuple[int, int]], why: str) -> None:
    with pytest.raises(UnsupportedMedia, match=why):
        aac.format_of(bits(*fields))


def test_main_profile_is_read_but_not_for_browsers() -> None:
    assert not aac.format_of(bits((1, 5), (3, 4), (2, 4), (0, 3))).is_web


def test_the_sample_entry_is_that_of_the_standard() -> None:
    found = aac.format_of(bytes.fromhex("119056e500"))
    assert found.entry == STEREO_48_ENTRY
    assert (found.codec, found.rate, found.channels, found.width) == ("aac", 48000, 2, 0)


def test_a_rate_that_an_entry_cannot_write_is_left_open() -> None:
    assert aac.format_of(bytes.fromhex("1008")).entry[32:36] == bytes(4)


def test_adts_frames_are_consecutive() -> None:
    data = frame(b"first") + frame(b"second!", crc=b"cc") + frame(b"mono", rate=4, channels=1)
    first, second, third = aac.adts_frames(data)
    assert (data[first.start : first.end], data[second.start : second.end]) == (b"first", b"second!")
    assert (first.config, third.config, third.end) == (LC_48, bytes.fromhex("1208"), len(data))


@pytest.mark.parametrize(
    "rest", [b"", b"\xff", b"no frame at all", frame(b"cut off")[:-1], b"\xff\xf1" + bytes(9)]
)
def test_frames_end_where_no_whole_frame_begins(rest: bytes) -> None:
    data = frame(b"first") + rest
    assert list(aac.adts_frames(data)) == [AdtsFrame(LC_48, 7, 12)]


@pytest.mark.parametrize("data", [frame(b"x", blocks=1), frame(b"x", channels=0)])
def test_frames_of_a_rare_kind_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        list(aac.adts_frames(data))


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (aac.format_of, lambda data: list(aac.adts_frames(data))):
        with suppress(UnsupportedMedia):
            read(data)


@given(st.binary(max_size=60), st.integers(1, 3))
def test_frames_never_overlap_and_stay_inside(data: bytes, count: int) -> None:
    data = frame(b"a frame") * count + data
    at = 0
    with suppress(UnsupportedMedia):
        for each in aac.adts_frames(data):
            assert at < each.start < each.end <= len(data)
            at = each.end
        assert at >= len(frame(b"a frame")) * count
