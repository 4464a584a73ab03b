"""Fetch from Kafka so that no record can stop its partition, or fill the memory, before a handler sees it.

aiokafka unpacks and parses batches below every handler. There, a header name that is not UTF-8 or a damaged
batch raises again at each fetch, and a batch may unpack to any size. :func:`install` replaces two classes
of aiokafka's fetcher. What cannot be read then arrives as an :class:`UnreadableRecord`, in its place in the
partition, and ends among the dead letters like any other message that can never be handled.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import cramjam
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.codec import has_lz4, has_snappy, has_zstd, snappy_decode
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, KafkaError, TopicAuthorizationFailedError
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint

from clip_shared.errors import ClipsError
from clip_shared.failure_streak import FailureStreak

# A broker takes batches of 1 MiB as they are compressed; producers fill them with a few MiB at most.
MAX_BATCH_BYTES = 32 * 1024 * 1024
# Damage that fetching again does not repair is damage on the broker's disk.
MAX_DAMAGED_FETCHES = 5
_FIRST_RATIO, _GROWTH = 8, 4
MAGIC_2 = 2  # Kafka's message format since 0.11
_COUNT = struct.Struct(">i")
_COUNT_AT = DefaultRecordBase.HEADER_STRUCT.size - _COUNT.size
_CODEC_AT = DefaultRecordBase.ATTRIBUTES_OFFSET + 1  # the lower byte of the attributes
# Each takes memory of its own, however small it is.
MAX_BATCH_RECORDS = 100_000


class Unreadable(ClipsError):
    """A batch does not unpack to ``MAX_BATCH_BYTES``, or holds more than ``MAX_BATCH_RECORDS``."""


@dataclass
class UnreadableRecord(ConsumerRecord):  # type: ignore[misc]  # aiokafka is untyped
    """A record, or a whole batch, that cannot be read; its readable parts are set. ``problem`` says why."""

    problem: str


def install() -> None:
    """Have all consumers of this process fetch in this way. Safe to repeat."""
    if not (has_lz4() and has_snappy() and has_zstd()):
        raise RuntimeError("the codecs of Kafka are not installed: aiokafka[lz4,snappy,zstd]")
    fetcher.MemoryRecords = _Batches
    fetcher.PartitionRecords = _PartitionRecords


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is untyped
    """A consumer that knows for how long fetching has failed, and with which error.

    FastStream logs such an error, waits, and fetches again without end.
    """

    def __init__(self, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **options)
        self.failures = FailureStreak()

    async def getone(self, *partitions: TopicPartition) -> Any:
        """Fetch one record, as aiokafka does."""
        with self._watched():
            return await super().getone(*partitions)

    async def getmany(self, *partitions: TopicPartition, **options: Any) -> Any:
        """Fetch records, as aiokafka does."""
        with self._watched():
            return await super().getmany(*partitions, **options)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            self.failures.failed(error)
            raise
        self.failures.succeeded()

    @property
    def is_refused(self) -> bool:
        """Whether fetching fails because Kafka does not allow us to read: a restart cannot help."""
        return isinstance(self.failures.error, TopicAuthorizationFailedError)


def next_timestamp_ms(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """Return the timestamp of the next message of a partition, or of its batch; None: it is not fetched."""
    fetched = getattr(consumer._fetcher._records.get(partition), "_partition_records", None)
    return fetched.next_timestamp_ms() if isinstance(fetched, _PartitionRecords) else None


class _Batch:
    """A batch that unpacks within a bound. Its header is aiokafka's; its records are read when asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._header = DefaultRecordBatch(data)
        self._records: Iterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._header, name)

    def __iter__(self) -> "_Batch":
        return self

    def __next__(self) -> Any:
        if self._records is None:
            (count,) = _COUNT.unpack_from(self._data, _COUNT_AT)
            if count > MAX_BATCH_RECORDS:
                raise Unreadable(f"it holds {count} records")
            self._records = iter(_records_of(self._unpacked()))
        return next(self._records)

    @property
    def is_exhausted(self) -> bool:
        """Whether all of its records were read."""
        return self._records is not None and not length_hint(self._records)

    def _unpacked(self) -> bytes:
        """Return the same batch, not compressed."""
        codec = self._header.compression_type
        if codec == DefaultRecordBase.CODEC_NONE:
            return self._data
        header = bytearray(self._data[: DefaultRecordBase.HEADER_STRUCT.size])
        header[_CODEC_AT] &= ~DefaultRecordBase.CODEC_MASK & 0xFF
        return bytes(header + _unpack(codec, bytes(self._data[len(header) :])))


def _records_of(data: bytes) -> list[Any]:
    try:
        return list(DefaultRecordBatch(data))
    except (CorruptRecordException, ValueError):  # UnicodeDecodeError is one
        return list(_TolerantBatch(data))


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka is untyped
    """A batch that steps over the headers of a record whose header names it cannot read. It is slow."""

    _buffer: bytearray
    _pos: int
    _next_record_index: int

    def __next__(self) -> Any:
        start = self._pos
        try:
            return super().__next__()
        except CorruptRecordException as error:
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
            return self._without_headers(start)

    def _without_headers(self, start: int) -> "_Headless":
        length, at = decode_varint(self._buffer, start)
        self._pos = at + length
        self._next_record_index += 1
        fields = []
        for _ in range(3):  # attributes; timestamp and offset, both relative to the batch's
            field, at = decode_varint(self._buffer, at)
            fields.append(field)
        key, at = self._bytes(at)
        value, _ = self._bytes(at)
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        return _Headless(
            offset=self.base_offset + fields[2],
            timestamp=self.max_timestamp if appended else self.first_timestamp + fields[1],
            timestamp_type=self.timestamp_type,
            key=key,
            value=value,
        )

    def _bytes(self, at: int) -> tuple[bytes | None, int]:
        size, at = decode_varint(self._buffer, at)
        return (None, at) if size < 0 else (bytes(self._buffer[at : at + size]), at + size)


@dataclass(frozen=True)
class _Headless:
    """A record whose headers cannot be read."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None


class _Batches(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka is untyped
    """The batches of one fetch; ``latest`` is the one that was begun last."""

    latest: Any = None

    def next_batch(self) -> Any:
        data = self._next_slice
        if self._is_magic_2(data):
            self._cache_next()
            self.latest = _Batch(bytes(data))
        else:
            self.latest = super().next_batch()
        return self.latest

    def next_timestamp_ms(self) -> int | None:
        """Return the timestamp of the first record of the batch that the next record comes from."""
        latest, following = self.latest, self._next_slice
        if isinstance(latest, _Batch) and not latest.is_exhausted:
            return _timestamp_ms(latest)
        return _timestamp_ms(DefaultRecordBatch(bytes(following))) if self._is_magic_2(following) else None

    def _is_magic_2(self, data: Any) -> bool:
        return (
            data is not None
            and len(data) >= DefaultRecordBase.HEADER_STRUCT.size
            and data[self.MAGIC_OFFSET] >= MAGIC_2
        )

    def next_base_offset(self, *, is_damaged: bool) -> int:
        """Return the offset behind the latest batch; -1 where only its own damaged header says it."""
        if self._next_slice is not None:
            return int.from_bytes(self._next_slice[:8], "big")
        return -1 if is_damaged or self.latest is None else int(self.latest.next_offset)


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """The records of one fetch from one partition, which never raise."""

    next_fetch_offset: int
    # How often the batch at an offset was found damaged.
    _damaged: dict[TopicPartition, tuple[int, int]] = {}  # noqa: RUF012 - of all fetches, on purpose

    def __next__(self) -> ConsumerRecord:
        try:
            return super().__next__()
        except StopIteration:
            raise
        except CorruptRecordException as error:
            if not self._is_damaged_for_good():
                raise StopIteration from error  # it is fetched again
            return self._pass_over_batch(error)
        except Exception as error:  # noqa: BLE001 - the partition must go on
            return self._pass_over_batch(error)

    def next_timestamp_ms(self) -> int | None:
        """Return the timestamp of the next record, or of its batch; None: no record is left."""
        return self._records.next_timestamp_ms()  # type: ignore[no-any-return]  # aiokafka is untyped

    def _is_damaged_for_good(self) -> bool:
        offset, times = self._damaged.get(self._tp, (-1, 0))
        times = times + 1 if offset == self.next_fetch_offset else 1
        self._damaged[self._tp] = (self.next_fetch_offset, times)
        return times >= MAX_DAMAGED_FETCHES

    def _pass_over_batch(self, error: Exception) -> UnreadableRecord:
        first = self.next_fetch_offset
        last = max(
            first, self._records.next_base_offset(is_damaged=isinstance(error, CorruptRecordException)) - 1
        )
        self.next_fetch_offset = last + 1
        self._records_iterator = self._unpack_records()
        return UnreadableRecord(
            **_place(self._tp, last, -1, 0),
            key=None,
            value=None,
            problem=f"offsets {first} to {last} cannot be read: {error}",
        )

    def _consumer_record(self, tp: TopicPartition, record: Any) -> ConsumerRecord:
        if not isinstance(record, _Headless):
            return super()._consumer_record(tp, record)
        return UnreadableRecord(
            **_place(tp, record.offset, record.timestamp, record.timestamp_type),
            key=record.key,
            value=record.value,
            problem="the name of a header is not UTF-8",
        )


def _timestamp_ms(batch: Any) -> int:
    appended = batch.timestamp_type == DefaultRecordBase.LOG_APPEND_TIME
    return int(batch.max_timestamp if appended else batch.first_timestamp)


def _place(tp: TopicPartition, offset: int, timestamp: int, timestamp_type: int) -> dict[str, Any]:
    return {
        "topic": tp.topic,
        "partition": tp.partition,
        "offset": offset,
        "timestamp": timestamp,
        "timestamp_type": timestamp_type,
        "checksum": None,
        "serialized_key_size": -1,
        "serialized_value_size": -1,
        "headers": (),
    }


_UNPACK = {
    DefaultRecordBase.CODEC_GZIP: cramjam.gzip.decompress_into,
    DefaultRecordBase.CODEC_LZ4: cramjam.lz4.decompress_into,
    DefaultRecordBase.CODEC_ZSTD: cramjam.zstd.decompress_into,
}


def _unpack(codec: int, packed: bytes) -> bytearray:
    """Unpack a batch.

    Raises:
        Unreadable: the data is damaged, or unpacks to more than MAX_BATCH_BYTES.
    """
    try:
        if codec == DefaultRecordBase.CODEC_SNAPPY:
            return _unpack_snappy(packed)
        return _unpack_into(_UNPACK[codec], packed)
    except (cramjam.DecompressionError, KeyError, ValueError) as error:
        raise Unreadable(f"it does not unpack to {MAX_BATCH_BYTES} bytes or fewer ({error!r})") from error


def _unpack_into(decompress_into: Any, packed: bytes) -> bytearray:
    """Unpack into memory of a likely size, and where that is too small, of a larger one, up to the bound."""
    size = len(packed) * _FIRST_RATIO
    while True:
        size = min(size, MAX_BATCH_BYTES)
        unpacked = bytearray(size)
        try:
            return unpacked[: decompress_into(packed, unpacked)]
        except cramjam.DecompressionError:
            if size == MAX_BATCH_BYTES:
                raise
        size *= _GROWTH


def _unpack_snappy(packed: bytes) -> bytearray:
    """Unpack snappy, which says beforehand how large it becomes, in either of Kafka's framings."""
    blocks = list(_xerial_blocks(packed)) if packed.startswith(_XERIAL) else [packed]
    if sum(cramjam.snappy.decompress_raw_len(each) for each in blocks) > MAX_BATCH_BYTES:
        raise ValueError("snappy: too large")
    return bytearray(snappy_decode(packed))


_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


def _xerial_blocks(packed: bytes) -> Iterator[bytes]:
    at = _XERIAL_HEADER_BYTES
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big")
        yield packed[at + 4 : at + 4 + size]
        at += 4 + size
