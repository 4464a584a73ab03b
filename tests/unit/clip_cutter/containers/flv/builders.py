"""Builders of FLV files."""

from tests.unit.clip_cutter.containers.test_avc import BASELINE, HIGH

FILE_HEAD = b"FLV\1\5\0\0\0\x09\0\0\0\0"
AVC_1, AVC_2 = HIGH, BASELINE
AAC_44, AAC_48 = bytes.fromhex("1210"), bytes.fromhex("1190")


def tag(kind: int, time: int, body: bytes, *, size_behind: int | None = None) -> bytes:
    """Make a tag with its size after it."""
    time %= 2**32
    head = (
        bytes([kind]) + len(body).to_bytes(3) + (time & 0xFFFFFF).to_bytes(3) + bytes([time >> 24]) + bytes(3)
    )
    size = len(head) + len(body) if size_behind is None else size_behind
    return head + body + size.to_bytes(4)


def script() -> bytes:
    return tag(18, 0, b"\x02\0\x0aonMetaData")


def avc_header(record: bytes, time: int = 0) -> bytes:
    return tag(9, time, b"\x17\0\0\0\0" + record)


def aac_header(config: bytes, time: int = 0) -> bytes:
    return tag(8, time, b"\xaf\0" + config)


def picture(time: int, *, key: bool = False, shift: int = 0, content: bytes | None = None) -> bytes:
    unit = b"\x65key" if key else b"\x41pic"
    content = len(unit).to_bytes(4) + unit if content is None else content
    return tag(9, time, bytes([0x17 if key else 0x27, 1]) + shift.to_bytes(3, signed=True) + content)


def sound(time: int, content: bytes = b"aac") -> bytes:
    return tag(8, time, b"\xaf\1" + content)


def sounds(start: float, count: int, rate: int) -> list[bytes]:
    """Make consecutive audio frames, with times rounded as every writer does."""
    return [sound(round(start + number * 1024_000 / rate)) for number in range(count)]


HEAD = FILE_HEAD + script() + avc_header(AVC_1) + aac_header(AAC_48)
