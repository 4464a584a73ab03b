"""What arrives of batches that cannot be read."""

import gzip
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.codec import snappy_encode
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from clip_shared.bus import fetching
from clip_shared.bus.fetching import MAX_BATCH_BYTES, MAX_DAMAGED_FETCHES, Unreadable, UnreadableRecord

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
PACK: dict[str, tuple[int, Any]] = {
    "gzip": (GZIP, gzip.compress),
    "snappy": (SNAPPY, lambda data: bytes(snappy_encode(data, xerial_compatible=False))),
    "snappy of Java": (SNAPPY, snappy_encode),
    "lz4": (LZ4, lambda data: bytes(cramjam.lz4.compress(data))),
    "zstd": (ZSTD, lambda data: bytes(cramjam.zstd.compress(data))),
}


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [1, 100, 1_000_000, MAX_BATCH_BYTES])
def test_what_is_within_the_bound_is_unpacked(name: str, size: int) -> None:
    codec, pack = PACK[name]
    data = (b"a highlight " * (size // 12 + 1))[:size]
    assert fetching._unpack(codec, pack(data)) == data


@pytest.mark.parametrize("name", PACK)
def test_what_is_beyond_it_is_not(name: str) -> None:
    codec, pack = PACK[name]
    with pytest.raises(Unreadable):
        fetching._unpack(codec, pack(b" " * (MAX_BATCH_BYTES + 1)))


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD, 5, 6, 7])
def test_nor_is_what_is_damaged(codec: int) -> None:
    with pytest.raises(Unreadable):
        fetching._unpack(codec, b"neither of them" * 3)


def batch(*values: bytes, base_offset: int = 0) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1_000_000)
    for number, value in enumerate(values):
        builder.append(number, timestamp=1000 + number, key=b"k", value=value, headers=[("name", b"x")])
    data = bytearray(builder.build())
    data[:8] = base_offset.to_bytes(8, "big")
    return data


def read(data: bytes | bytearray, *, position: int = 0, topic: str = "t") -> tuple[list[Any], int]:
    """The records of a fetch, and the position after them."""
    records = fetching._PartitionRecords(
        TopicPartition(topic, 0),
        fetching._Batches(bytes(data)),
        [],
        position,
        None,
        None,
        True,
        READ_COMMITTED,
    )
    return list(records), records.next_fetch_offset


def test_what_can_be_read_comes_as_it_is() -> None:
    records, position = read(batch(b"a", b"b") + batch(b"c", base_offset=2))
    assert [(each.offset, each.timestamp, each.key, each.value) for each in records] == [
        (0, 1000, b"k", b"a"),
        (1, 1001, b"k", b"b"),
        (2, 1000, b"k", b"c"),
    ]
    assert records[0].headers == (("name", b"x"),)
    assert position == 3


def test_a_damaged_batch_is_fetched_again_and_then_passed_over() -> None:
    damaged = batch(b"a", b"b")
    damaged[-1] ^= 0xFF
    fetch = damaged + batch(b"c", base_offset=2)
    for _ in range(MAX_DAMAGED_FETCHES - 1):
        assert read(fetch, topic="damaged") == ([], 0)
    (unreadable, good), position = read(fetch, topic="damaged")
    assert isinstance(unreadable, UnreadableRecord)
    assert unreadable.offset == 1  # its last: a commit behind it passes the whole batch over
    assert unreadable.problem.startswith("offsets 0 to 1 cannot be read: ")
    assert (good.value, position) == (b"c", 3)


def test_damage_at_another_place_is_counted_from_the_start() -> None:
    for base_offset in range(0, 40, 2):
        damaged = batch(b"a", b"b", base_offset=base_offset)
        damaged[-1] ^= 0xFF
        assert read(damaged, position=base_offset, topic="elsewhere") == ([], base_offset)


def test_a_batch_of_too_many_records_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes each, gzipped to next to nothing, they would fill the memory."""
    monkeypatch.setattr(fetching, "MAX_BATCH_RECORDS", 2)
    (unreadable, good), position = read(batch(b"a", b"b", b"c") + batch(b"d", base_offset=3))
    assert isinstance(unreadable, UnreadableRecord)
    assert unreadable.problem == "offsets 0 to 2 cannot be read: it holds 3 records"
    assert (good.value, position) == (b"d", 4)


def test_the_end_of_a_damaged_batch_is_not_taken_from_its_header() -> None:
    damaged = batch(b"a", b"b")
    damaged[23:27] = (1_000_000).to_bytes(4, "big")  # its number of offsets
    for _ in range(MAX_DAMAGED_FETCHES - 1):
        read(damaged, topic="header")
    (unreadable,), position = read(damaged, topic="header")
    assert (unreadable.offset, position) == (0, 1)
