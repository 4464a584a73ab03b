"""Byte ranges are merged where that is cheaper, and read side by side."""

import errno
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from clip_cutter.containers.model import ByteRange
from clip_cutter.vods import ranges
from clip_cutter.vods.ranges import PlacedRange, merge, read_ranges
from clip_shared.errors import TransientError
from tests.unit.clip_cutter.vods.sources import MemorySource

CONTENT = bytes(range(256)) * 40


def test_ranges_that_are_close_are_one() -> None:
    found = merge([ByteRange(50, 60), ByteRange(0, 10), ByteRange(5, 20), ByteRange(23, 30)], gap=3)
    assert found == [ByteRange(0, 30), ByteRange(50, 60)]
    assert merge([]) == []


def opener(path: Path) -> IO[bytes]:
    return path.open("r+b", buffering=0)


async def test_pieces_go_where_they_belong_a_few_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "MIN_RANGE_BYTES", 100)
    monkeypatch.setattr(ranges, "MAX_RANGE_BYTES", 1000)
    path, source = tmp_path / "file", MemorySource(CONTENT)
    path.touch()
    wanted = [PlacedRange(ByteRange(100, 3100), 7), PlacedRange(ByteRange(5000, 5001), 3007)]
    await read_ranges(source, wanted, partial(opener, path))
    assert path.read_bytes() == bytes(7) + CONTENT[100:3100] + CONTENT[5000:5001]
    assert source.most_at_once == 4
    assert max(each.size for each in source.asked) <= 1000
    await read_ranges(source, [], partial(opener, path))


async def test_the_first_failure_ends_it_and_is_raised_itself(tmp_path: Path) -> None:
    path, source = tmp_path / "file", MemorySource(CONTENT)
    path.touch()

    def fail(wanted: ByteRange) -> None:
        if wanted.start == 100:
            raise TransientError("the storage is out")

    source.before = fail
    wanted = [PlacedRange(ByteRange(100, 200), 0), PlacedRange(ByteRange(300, 400), 100)]
    with pytest.raises(TransientError, match="storage is out"):
        await read_ranges(source, wanted, partial(opener, path))


async def test_a_full_disk_is_an_outage(tmp_path: Path) -> None:
    path, source = tmp_path / "file", MemorySource(CONTENT)
    path.touch()

    def fail(_: ByteRange) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source.before = fail
    with pytest.raises(TransientError, match="No space left"):
        await read_ranges(source, [PlacedRange(ByteRange(0, 10), 0)], partial(opener, path))
    with pytest.raises(TransientError, match="No such file"):
        await read_ranges(source, [PlacedRange(ByteRange(0, 10), 0)], partial(opener, tmp_path / "missing"))
