"""Bits and Exp-Golomb numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.bit_reader import BitReader
from clip_cutter.containers.model import UnsupportedMedia


def test_bits_are_read_from_the_most_significant_on() -> None:
    bits = BitReader(bytes([0b1010_0110, 0b1100_0000]))
    assert (bits.flag(), bits.read(3), bits.read(6), bits.left) == (True, 0b010, 0b011011, 6)


def test_exp_golomb_numbers_as_in_table_9_2() -> None:
    bits = BitReader(int("10100110010000111000100000000000", 2).to_bytes(4))
    assert [bits.exp_golomb() for _ in range(6)] == [0, 1, 2, 3, 6, 7]


def test_signed_exp_golomb_numbers_as_in_table_9_3() -> None:
    bits = BitReader(int("101001100100001010000000", 2).to_bytes(3))
    assert [bits.signed_exp_golomb() for _ in range(5)] == [0, 1, -1, 2, -2]


@pytest.mark.parametrize("data", [b"", b"\0", bytes(4), bytes(5), bytes(100)])
def test_a_number_that_does_not_end_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        BitReader(data).exp_golomb()


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=20))
def test_reading_gives_the_bits_in_order(data: bytes, counts: list[int]) -> None:
    written = "".join(f"{byte:08b}" for byte in data)
    bits = BitReader(data)
    for count in counts:
        at = bits.position
        if at + count > len(written):
            with pytest.raises(UnsupportedMedia):
                bits.read(count)
            break
        assert bits.read(count) == int(written[at : at + count] or "0", 2)
