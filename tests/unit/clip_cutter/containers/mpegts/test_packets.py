"""Recognizing an MPEG-TS."""

import pytest

from clip_cutter.containers.mpegts import is_transport_stream
from clip_cutter.containers.mpegts.packets import PACKET, stride_of
from tests.unit.clip_cutter.containers.mpegts.builders import Mux

HEAD_BYTES = 2048


@pytest.mark.parametrize(("before", "behind", "stride"), [(0, 0, 188), (4, 0, 192), (0, 16, 204)])
@pytest.mark.parametrize("cut", [0, 77])
def test_packets_may_have_a_time_before_them_or_a_checksum_behind(
    before: int, behind: int, stride: int, cut: int
) -> None:
    data = Mux().second().data
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    head = b"".join(bytes(before) + packet + bytes(behind) for packet in packets)[cut:][:HEAD_BYTES]
    assert is_transport_stream(head)
    assert stride_of(head) == stride


@pytest.mark.parametrize("head", [b"", b"G", b"G" + bytes(500), bytes(HEAD_BYTES), b"RIFF....AVI " * 100])
def test_other_files_are_not_recognized(head: bytes) -> None:
    assert not is_transport_stream(head)
