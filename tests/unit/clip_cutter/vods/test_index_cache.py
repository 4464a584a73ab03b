"""What was read of an index stays on scratch, is believed only if it is whole, and gives way to jobs."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from clip_cutter.containers.model import ByteRange, UnsupportedMedia
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods import index_cache
from clip_cutter.vods.index_cache import LIST_BYTES, CachedIndex, IndexCache, MissingBytes, without
from clip_shared.errors import TransientError
from tests.unit.clip_cutter.vods.sources import MemorySource

CONTENT = os.urandom(300_000)
FIRST, SECOND = ByteRange(1000, 2000), ByteRange(150_000, 250_000)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    scratch = Scratch(tmp_path / "scratch", CutterMetrics(CollectorRegistry()))
    with scratch.opened():
        yield scratch


@pytest.fixture
def job(scratch: Scratch) -> Iterator[Job]:
    with scratch.job(0.0) as job:
        yield job


@pytest.fixture
def source() -> MemorySource:
    return MemorySource(CONTENT)


def files(scratch: Scratch) -> list[Path]:
    return list((scratch.root / "indexes").glob("*"))


def bytes_of(parts: CachedIndex, wanted: ByteRange) -> bytes:
    return parts(wanted.start, wanted.size)


def test_what_is_not_there_is_said_to_be() -> None:
    assert list(without(ByteRange(0, 100), [])) == [ByteRange(0, 100)]
    there = [ByteRange(10, 20), ByteRange(30, 50), ByteRange(90, 200)]
    assert list(without(ByteRange(15, 100), there)) == [ByteRange(20, 30), ByteRange(50, 90)]
    assert list(without(ByteRange(30, 50), there)) == []
    assert list(without(ByteRange(0, 5), there)) == [ByteRange(0, 5)]


async def test_what_was_fetched_is_there_and_not_fetched_again(
    scratch: Scratch, job: Job, source: MemorySource
) -> None:
    parts = await IndexCache(scratch).open(source)
    with pytest.raises(MissingBytes):
        parts(1000, 10)
    await parts.fetch(source, job, [FIRST, SECOND])
    assert bytes_of(parts, FIRST) == CONTENT[1000:2000]
    assert bytes_of(parts, SECOND) == CONTENT[150_000:250_000]
    asked = source.pulled
    await parts.fetch(source, job, [FIRST, ByteRange(1500, 2100)])
    assert source.pulled == asked + 100
    with pytest.raises(MissingBytes) as missing:
        parts(1999, 200)
    assert (missing.value.offset, missing.value.size) == (1999, 200)


async def test_reading_stops_at_the_end_of_the_vod(scratch: Scratch, job: Job, source: MemorySource) -> None:
    parts = await IndexCache(scratch).open(source)
    await parts.fetch(source, job, [ByteRange(299_990, 400_000)])
    assert parts(299_995, 100) == CONTENT[299_995:]
    assert parts(300_000, 10) == parts(500_000, 10) == b""


async def test_it_outlives_a_restart_and_is_shared(scratch: Scratch, job: Job, source: MemorySource) -> None:
    await (await IndexCache(scratch).open(source)).fetch(source, job, [FIRST])
    other = await IndexCache(scratch).open(MemorySource(CONTENT))
    assert bytes_of(other, FIRST) == CONTENT[1000:2000]
    await other.fetch(source, job, [SECOND])
    third = await IndexCache(scratch).open(source)
    assert bytes_of(third, FIRST) + bytes_of(third, SECOND) == CONTENT[1000:2000] + CONTENT[150_000:250_000]
    another = await IndexCache(scratch).open(MemorySource(CONTENT, identity="other bytes"))
    with pytest.raises(MissingBytes):
        another(1000, 10)


@pytest.mark.parametrize("at", [0, 20, 40, LIST_BYTES + 1500, LIST_BYTES + 200_000])
async def test_a_damaged_file_is_thrown_away(
    scratch: Scratch, job: Job, source: MemorySource, at: int
) -> None:
    await (await IndexCache(scratch).open(source)).fetch(source, job, [FIRST, SECOND])
    (path,) = files(scratch)
    with path.open("r+b") as file:
        file.seek(at)
        was = file.read(1)
        file.seek(at)
        file.write(bytes([was[0] ^ 1]))
    parts = await IndexCache(scratch).open(source)
    assert files(scratch) == []
    with pytest.raises(MissingBytes):
        parts(1000, 10)
    await parts.fetch(source, job, [FIRST])
    assert bytes_of(parts, FIRST) == CONTENT[1000:2000]


@pytest.mark.parametrize("size", [0, 10, LIST_BYTES, LIST_BYTES + 200_000])
async def test_a_file_that_is_cut_off_is_thrown_away(
    scratch: Scratch, job: Job, source: MemorySource, size: int
) -> None:
    await (await IndexCache(scratch).open(source)).fetch(source, job, [FIRST, SECOND])
    os.truncate(files(scratch)[0], size)
    parts = await IndexCache(scratch).open(source)
    assert files(scratch) == []
    with pytest.raises(MissingBytes):
        parts(1000, 10)


async def test_indexes_give_way_to_a_job(
    scratch: Scratch, job: Job, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await IndexCache(scratch).open(source)
    await parts.fetch(source, job, [FIRST])
    # As if the index were all that fills the disk.
    monkeypatch.setattr(scratch, "_free_bytes", lambda _: 0 if files(scratch) else 10_000_000)
    await job.reserve(1_000_000)
    assert files(scratch) == []
    with pytest.raises(MissingBytes):
        parts(1000, 10)
    await parts.fetch(source, job, [FIRST])
    assert bytes_of(parts, FIRST) == CONTENT[1000:2000]


async def test_an_index_that_is_given_up_while_it_is_read_is_read_again(
    scratch: Scratch, job: Job, source: MemorySource
) -> None:
    cache = IndexCache(scratch)
    parts = await cache.open(source)
    source.before = lambda _: cache.discard()
    await parts.fetch(source, job, [FIRST])
    with pytest.raises(MissingBytes):
        parts(1000, 10)
    source.before = lambda _: None
    found = await parts.complete(source, job, lambda: bytes_of(parts, FIRST), lambda _: FIRST)
    assert found == CONTENT[1000:2000]


async def test_what_another_worker_removed_is_read_again(
    scratch: Scratch, job: Job, source: MemorySource
) -> None:
    parts = await IndexCache(scratch).open(source)
    await parts.fetch(source, job, [FIRST])
    IndexCache(scratch).discard()
    assert bytes_of(parts, FIRST) == CONTENT[1000:2000]  # this worker has it open
    await parts.fetch(source, job, [SECOND])
    with pytest.raises(MissingBytes):
        bytes_of(parts, FIRST)
    assert bytes_of(parts, SECOND) == CONTENT[150_000:250_000]


async def test_a_file_that_is_removed_while_it_is_written_is_an_outage(
    scratch: Scratch, job: Job, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await IndexCache(scratch).open(source)
    begin = parts._begin

    def begin_and_lose() -> object:
        file = begin()
        files(scratch)[0].unlink()
        return file

    monkeypatch.setattr(parts, "_begin", begin_and_lose)
    with pytest.raises(TransientError):
        await parts.fetch(source, job, [FIRST])


async def test_the_latest_ones_stay_within_the_bound(scratch: Scratch, job: Job) -> None:
    cache = IndexCache(scratch, max_bytes=400_000)
    for number in range(6):
        source = MemorySource(CONTENT, identity=str(number))
        parts = await cache.open(source)
        await parts.fetch(source, job, [SECOND])
        os.utime(files(scratch)[0].parent / parts._path.name, (number, number))
    assert len(files(scratch)) == 3
    with pytest.raises(MissingBytes):
        (await cache.open(MemorySource(CONTENT, identity="0")))(150_000, 10)
    assert (await cache.open(MemorySource(CONTENT, identity="5")))(150_000, 10) == CONTENT[150_000:150_010]


async def test_more_parts_than_the_list_holds_are_known_to_one_worker(
    scratch: Scratch, job: Job, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cache, "MAX_RECORDS", 2)
    parts = await IndexCache(scratch).open(source)
    for start in (0, 100_000, 200_000):
        await parts.fetch(source, job, [ByteRange(start, start + 10)])
    assert parts(200_000, 10) == CONTENT[200_000:200_010]
    other = await IndexCache(scratch).open(source)
    assert other(100_000, 10) == CONTENT[100_000:100_010]
    with pytest.raises(MissingBytes):
        other(200_000, 10)


async def test_work_is_done_when_all_that_it_reads_is_there(
    scratch: Scratch, job: Job, source: MemorySource
) -> None:
    parts = await IndexCache(scratch).open(source)
    found = await parts.complete(
        source,
        job,
        lambda: parts(0, 10) + parts(100_000, 10),
        lambda missing: ByteRange(missing.offset, missing.offset + 500),
    )
    assert found == CONTENT[:10] + CONTENT[100_000:100_010]
    assert [each.size for each in source.asked] == [500, 500]
    with pytest.raises(UnsupportedMedia, match="too many steps"):
        await parts.complete(source, job, lambda: parts(50_000, 10), lambda _: ByteRange(0, 1))


async def test_work_of_several_jobs_is_done_at_once(scratch: Scratch, job: Job, source: MemorySource) -> None:
    parts = await IndexCache(scratch).open(source)

    async def work(start: int) -> bytes:
        around = ByteRange(start, start + 1000)
        return await parts.complete(source, job, lambda: parts(start, 1000), lambda _: around)

    found = await asyncio.gather(*(work(start) for start in range(0, 20_000, 1000)))
    assert b"".join(found) == CONTENT[:20_000]
